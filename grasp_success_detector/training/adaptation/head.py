"""The last layer of a network, fitted to few frames by regularised logistic regression."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from grasp_success_detector.labels import Label

#: Added to the standard deviation of every feature, so that one which hardly varies in few frames
#: does not count more than the others.
_FLOOR = .05
#: Steps of L-BFGS; the loss is convex and smooth.
_STEPS = 60


@dataclass(frozen=True)
class Head:
    """
    A linear function of pooled features: the margin, logit of success minus logit of failure.

    :ivar weight: float32 (C,).
    :ivar bias: float32 ().
    """

    weight: torch.Tensor
    bias: torch.Tensor

    def margins(self, features: torch.Tensor) -> torch.Tensor:
        """Return the margin, float32 (N,), of features (N, C)."""
        margins: torch.Tensor = features @ self.weight + self.bias
        return margins

    def write_to(self, layer: nn.Linear) -> None:
        """Make a layer of two logits compute this margin, half of it in each logit."""
        with torch.no_grad():
            for label, sign in ((Label.SUCCESS, .5), (Label.FAILURE, -.5)):
                layer.weight[label] = sign * self.weight
                layer.bias[label] = sign * self.bias


def head_of(layer: nn.Linear) -> Head:
    """Return the margin that a layer of two logits computes."""
    weight, bias = layer.weight.detach(), layer.bias.detach()
    return Head(weight[Label.SUCCESS] - weight[Label.FAILURE],
                bias[Label.SUCCESS] - bias[Label.FAILURE])


def fit_head(features: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor,
             strength: float) -> Head:
    """
    Fit a head by logistic regression on standardised features.

    The penalty keeps the margin small where few frames say little: it is what makes P(success) of
    a head from a dozen frames cautious.

    :param features: float32 (N, C).
    :param labels: float32 (N,), 1 for success.
    :param weights: weight of each frame (N,), which add up to 1.
    :param strength: of the penalty: half the squared length of the standardised weights, divided
        by their number, times this, is added to the mean loss.
    """
    mean = weights @ features
    deviation = (weights @ (features - mean) ** 2).sqrt() + _FLOOR
    scaled = (features - mean) / deviation
    weight = torch.zeros(features.shape[1], requires_grad=True)
    bias = torch.zeros((), requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=_STEPS, history_size=10, line_search_fn='strong_wolfe')
    penalty = strength / features.shape[1] ** .5

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = (weights * F.binary_cross_entropy_with_logits(
            scaled @ weight + bias, labels, reduction='none')).sum()
        value = value + penalty / 2 * (weight @ weight)
        value.backward()
        total: torch.Tensor = value
        return total

    optimizer.step(loss)
    weight, bias = weight.detach() / deviation, bias.detach()
    return Head(weight, bias - mean @ weight)
