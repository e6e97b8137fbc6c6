"""The ways of adapting that are compared, from the simplest to the most complex."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
import torch

from grasp_success_detector.training.adaptation.backbone import Backbone
from grasp_success_detector.training.adaptation.blocks import fine_tune, FineTuning
from grasp_success_detector.training.adaptation.cross_validation import Grouping, Score
from grasp_success_detector.training.adaptation.features import FeatureCache
from grasp_success_detector.training.adaptation.head import fit_head, Head, head_of

#: Share of the loss that simulated frames have where they are mixed in.
_SIMULATED_SHARE = .25


@dataclass(frozen=True)
class SimulatedFrames:
    """Pooled features of simulated frames, float32 (N, C), and their labels, float32 (N,)."""

    pooled: torch.Tensor
    labels: torch.Tensor


@dataclass(frozen=True)
class Candidate:
    """
    One way of adapting.

    :ivar name: identifier in the report.
    :ivar text: what it is, in words.
    :ivar backbone: network that it starts from.
    :ivar view: which part of a frame it looks at.
    :ivar simulated: frames that are mixed in, if any.
    :ivar blocks: whether the last blocks learn as well as the head.
    :ivar keep: share of the network's own head in the margin.
    """

    name: str
    text: str
    backbone: Backbone
    view: str
    simulated: SimulatedFrames | None = None
    blocks: bool = False
    keep: float = 0.


@dataclass(frozen=True)
class Learning:
    """What all candidates learn from: features, labels and attempts of the labelled frames."""

    features: FeatureCache
    grouping: Grouping
    strength: float
    recipe: FineTuning
    seed: int

    def head(self, candidate: Candidate, places: NDArray[np.int64]) -> Head:
        """Return a head that was fitted to some frames and their copies."""
        pooled = self.features.pooled(candidate.backbone, candidate.view)[places]
        each = pooled.shape[1]
        rows = pooled.flatten(0, 1)
        labels = torch.from_numpy(self.grouping.labels[places]).repeat_interleave(each)
        weights = torch.from_numpy(self.grouping.weights(places)).repeat_interleave(each) / each
        if extra := candidate.simulated:
            rows, labels = torch.cat([rows, extra.pooled]), torch.cat([labels, extra.labels])
            share = torch.full((len(extra.labels),), _SIMULATED_SHARE / len(extra.labels))
            weights = torch.cat([weights * (1 - _SIMULATED_SHARE), share])
        fitted = fit_head(rows, labels, weights, self.strength)
        return fitted.mixed(head_of(candidate.backbone.head), candidate.keep)

    def tuned(self, candidate: Candidate, places: NDArray[np.int64]) -> Backbone:
        """Return a network whose last blocks were fine-tuned on some frames and their copies."""
        return fine_tune(
            candidate.backbone, self.head(candidate, places),
            self.features.trunk(candidate.backbone, candidate.view)[places],
            torch.from_numpy(self.grouping.labels[places]),
            torch.from_numpy(self.grouping.weights(places)), self.seed, self.recipe)

    def margins(self, candidate: Candidate, learnt: NDArray[np.int64],
                judged: NDArray[np.int64]) -> NDArray[np.float32]:
        """Learn from some frames, and return the margins of others, without their copies."""
        if not candidate.blocks:
            pooled = self.features.pooled(candidate.backbone, candidate.view)[judged, 0]
            return np.asarray(self.head(candidate, learnt).margins(pooled).numpy())
        tuned = self.tuned(candidate, learnt)
        with torch.no_grad():
            logits = tuned.parts[1](
                self.features.trunk(candidate.backbone, candidate.view)[judged, 0].float())
        return np.asarray((logits[:, 1] - logits[:, 0]).numpy())

    def model(self, candidate: Candidate) -> Backbone:
        """Return the network that the candidate makes of all labelled frames."""
        everything = np.arange(len(self.grouping.labels))
        if candidate.blocks:
            return self.tuned(candidate, everything)
        adapted = candidate.backbone.copy()
        self.head(candidate, everything).write_to(adapted.head)
        return adapted


def choose(scores: Sequence[Score]) -> int:
    """
    Return the index of the simplest candidate that is not clearly worse than the best.

    It is clearly worse if its loss is more than one standard error of the difference above the
    lowest: the rule of L. Breiman et al., Classification and Regression Trees, 1984, section
    3.4.3, on differences of the same attempts.

    :param scores: of the candidates, the simplest first.
    """
    best = min(range(len(scores)), key=lambda i: scores[i].loss)
    for i, own in enumerate(scores[:best]):
        difference = own.losses - scores[best].losses
        if difference.mean() <= difference.std(ddof=1) / len(difference) ** .5:
            return i
    return best
