"""What more labels would bring, and which attempts to label next."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
import torch

from grasp_success_detector.evaluation.metrics import Accuracy, wilson_interval
from grasp_success_detector.training.adaptation.backbone import Backbone
from grasp_success_detector.training.adaptation.candidates import Candidate, Learning
from grasp_success_detector.training.adaptation.frames import RigFrames

#: Attempts from which the steps of the curve learn, as shares of a training fold.
_SHARES = (.25, .5, .75, 1.)
#: Draws of attempts for each step.
_DRAWS = 2
_MOST_NEXT = 20


class StepOfCurve(NamedTuple):
    """Accuracy at P(success) 0.5 on held-out attempts, after learning from this number of them."""

    attempts: int
    accuracy: Accuracy

    def to_json(self) -> dict[str, Any]:
        """Return the step's entry in adaptation.json."""
        low, high = wilson_interval(self.accuracy.correct, self.accuracy.total)
        return {'attempts': self.attempts, 'accuracy': self.accuracy.value,
                'low': low, 'high': high}


class LabelNext(NamedTuple):
    """
    An attempt without a label that is worth labelling.

    :ivar start_s: seconds from the recording's first frame to the attempt's.
    :ivar probability: mean P(success) of its frames.
    """

    source: str
    attempt: str
    start_s: float
    end_s: float
    probability: float


def learning_curve(learning: Learning, candidate: Candidate, folds: int, seed: int,
                   ) -> tuple[tuple[StepOfCurve, ...], tuple[int, float] | None]:
    """
    Measure the accuracy after learning from fewer attempts, and extend it to twice as many.

    Blocks are not learnt anew for this, as that takes too long: the curve is that of a head alone
    on the features of the same view.

    :returns: the steps, with intervals for one answer for each unit, whatever the number of draws;
        and twice the number of attempts with the accuracy that a power law gives there, None where
        the curve does not rise.
    """
    grouping = learning.grouping
    alone = Candidate('head', '', candidate.backbone, candidate.view, candidate.simulated)
    everything = np.arange(len(grouping.labels))
    generator = np.random.default_rng(seed)
    right = dict.fromkeys(_SHARES, 0.0)
    total = dict.fromkeys(_SHARES, 0.0)
    learnt_from: dict[float, list[int]] = {share: [] for share in _SHARES}
    for draw in range(_DRAWS):
        for fold in grouping.folds(folds, seed + 1 + draw):
            others = np.setdiff1d(everything, fold)
            for share in _SHARES:
                places = _some_attempts(grouping.attempts, grouping.labels, others, share,
                                        generator)
                if places is None:
                    continue
                margins = learning.margins(alone, places, fold)
                units = grouping.units[fold]
                for unit in set(units.tolist()):
                    mine = units == unit
                    said = margins[mine].mean() > 0
                    right[share] += said == (grouping.labels[fold][mine][0] > .5)
                    total[share] += 1
                learnt_from[share].append(len(set(grouping.attempts[places].tolist())))
    steps: list[StepOfCurve] = []
    count = int(grouping.units.max()) + 1
    for share in _SHARES:
        if total[share]:
            attempts = round(float(np.mean(learnt_from[share])))
            value = right[share] / total[share]
            if not steps or attempts > steps[-1].attempts:
                steps.append(StepOfCurve(attempts, Accuracy(round(value * count), count)))
    return tuple(steps), _forecast(steps, len(set(grouping.attempts.tolist())))


def _some_attempts(attempts: NDArray[np.int64], labels: NDArray[np.float32],
                   places: NDArray[np.int64], share: float, generator: np.random.Generator,
                   ) -> NDArray[np.int64] | None:
    """Return the frames of a share of the attempts, with both labels; None if there are none."""
    names = np.unique(attempts[places])
    wanted = max(2, round(share * len(names)))
    for _ in range(20):
        drawn = generator.permutation(names)[:wanted]
        chosen = places[np.isin(attempts[places], drawn)]
        if 0 < labels[chosen].sum() < len(chosen):
            return chosen
    return None


def _forecast(steps: Sequence[StepOfCurve], attempts: int) -> tuple[int, float] | None:
    """Fit error = a * attempts ** -b to the steps, and return accuracy at twice the attempts."""
    if len(steps) < 3 or steps[-1].accuracy.correct == steps[-1].accuracy.total:
        return None
    x = np.log([step.attempts for step in steps])
    y = np.log([max(1 - step.accuracy.value, .5 / step.accuracy.total) for step in steps])
    slope, offset = np.polyfit(x, y, 1)
    if slope >= 0:
        return None
    return 2 * attempts, float(1 - np.exp(offset + max(slope, -1.) * np.log(2 * attempts)))


def next_to_label(adapted: Backbone, frames: RigFrames, view: str, known: torch.Tensor,
                  temperature: float) -> tuple[LabelNext, ...]:
    """
    Return the attempts without labels that would teach most: doubtful, and unlike each other.

    Each time the attempt is taken whose doubt (1 at P(success) 0.5, 0 at 0 and 1) times the
    distance of its features to those already known or taken is largest.

    :param frames: frames without labels.
    :param known: input of the last layer for the labelled frames, float32 (N, C).
    """
    if not frames.origins:
        return ()
    pooled = adapted.pooled(frames.views[view], frames.preprocessings[view])
    with torch.no_grad():
        logits = adapted.head(pooled)
    probability = torch.sigmoid((logits[:, 1] - logits[:, 0]) / temperature).numpy()
    rows: dict[tuple[str, str], list[int]] = {}
    for i, at in enumerate(frames.origins):
        rows.setdefault((at.source, at.attempt), []).append(i)
    means = torch.stack([pooled[places].mean(0) for places in rows.values()])
    said = np.array([probability[places].mean() for places in rows.values()])
    doubt = .1 + 1 - 2 * np.abs(said - .5)
    distance = torch.cdist(means, known).min(1).values.numpy()
    chosen: list[int] = []
    while len(chosen) < min(_MOST_NEXT, len(said)):
        worth = doubt * distance
        worth[chosen] = -1
        chosen.append(int(worth.argmax()))
        distance = np.minimum(distance, torch.cdist(means, means[chosen[-1:]])[:, 0].numpy())
    names = list(rows)
    return tuple(LabelNext(*names[i], *frames.spans[names[i]], float(said[i])) for i in chosen)
