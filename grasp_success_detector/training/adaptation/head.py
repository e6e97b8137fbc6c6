"""The last layer of a network, fitted to few frames by regularised logistic regression."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from grasp_success_detector.labels import Label

#: Added to the standard deviation of every feature, so that one which hardly varies in few frames
#: does not count more than the others.
_FLOOR = .05
#: The most steps of Newton's method; about 8 are needed.
_STEPS = 30
#: Square of the constant feature that is the bias, and lowest slope of a step's quadratic loss.
_BIAS = 100.
_FLATTEST = 1e-3


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

    def mixed(self, other: 'Head', share: float) -> 'Head':
        """Return the head whose margin is the mean of both, of which the other has a share."""
        return Head(self.weight.lerp(other.weight, share), self.bias.lerp(other.bias, share))

    def write_to(self, layer: nn.Linear) -> None:
        """Make a layer of two logits compute this margin; the mean of the logits stays."""
        with torch.no_grad():
            weight, bias = layer.weight.mean(0), layer.bias.mean()
            for label, sign in ((Label.SUCCESS, .5), (Label.FAILURE, -.5)):
                layer.weight[label] = weight + sign * self.weight
                layer.bias[label] = bias + sign * self.bias


def head_of(layer: nn.Linear) -> Head:
    """Return the margin that a layer of two logits computes."""
    weight, bias = layer.weight.detach(), layer.bias.detach()
    return Head(weight[Label.SUCCESS] - weight[Label.FAILURE],
                bias[Label.SUCCESS] - bias[Label.FAILURE])


@contextmanager
def one_thread() -> Iterator[int]:
    """
    Compute on one thread: small matrices take longer on several, far longer on busy cores.

    Yields how many threads there were.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield before
    finally:
        torch.set_num_threads(before)


@one_thread()
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
    rows, target, share = features.double(), labels.double(), weights.double()
    mean = share @ rows
    deviation = (share @ (rows - mean) ** 2).sqrt() + _FLOOR
    scaled = (rows - mean) / deviation
    penalty = strength / features.shape[1] ** .5
    # Far fewer rows than features: Newton's method on the rows' inner products, where the
    # weights are scaled.T @ dual. The constant is the bias, which is hardly penalised.
    inner = scaled @ scaled.T + _BIAS
    dual = torch.zeros(len(rows), dtype=torch.double)
    for _ in range(_STEPS):
        margins = inner @ dual
        said = torch.sigmoid(margins)
        slope = share * (said * (1 - said)).clamp(min=_FLATTEST)
        wanted = margins + share * (target - said) / slope
        following = torch.linalg.solve(inner + torch.diag(penalty / slope), wanted)
        moved = float((following - dual).abs().max())
        dual = following
        if moved < 1e-7 * float(dual.abs().max()):
            break
    weight = (scaled.T @ dual) / deviation
    return Head(weight.float(), (_BIAS * dual.sum() - mean @ weight).float())
