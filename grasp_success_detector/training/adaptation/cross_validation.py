"""Cross-validation over whole attempts: folds, margins of frames that were not learnt, scores."""

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
import torch

from grasp_success_detector.evaluation.calibration import fit_temperature
from grasp_success_detector.evaluation.metrics import Accuracy
from grasp_success_detector.training.adaptation.head import one_thread

#: Learns from some frames and returns the margins of others, float (M,); both by their indexes.
Learner = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.float32]]


@dataclass(frozen=True)
class Grouping:
    """
    The attempts of labelled frames.

    :ivar labels: 1 for success, float32 (N,).
    :ivar attempts: index of each frame's attempt, int64 (N,).
    :ivar units: index of each frame's unit, int64 (N,): the frames of one label of an attempt.
    """

    labels: NDArray[np.float32]
    attempts: NDArray[np.int64]
    units: NDArray[np.int64]

    @classmethod
    def of(cls, labels: NDArray[np.float32], attempts: Sequence[str]) -> 'Grouping':
        """Build from labels and names of attempts."""
        _, numbers = np.unique(np.array(attempts), return_inverse=True)
        _, units = np.unique(numbers * 2 + labels.astype(np.int64), return_inverse=True)
        return cls(labels, numbers, units)

    def weights(self, places: NDArray[np.int64]) -> NDArray[np.float32]:
        """
        Return weights of some frames that add up to 1.

        Both labels count the same, and so do all attempts of a label, however many frames they
        have.
        """
        units, labels = self.units[places], self.labels[places]
        frames_of = Counter(units.tolist())
        units_of = {label: len(set(units[labels == label].tolist())) for label in (0., 1.)}
        return np.array([.5 / (frames_of[unit] * units_of[label]) for unit, label in zip(
            units.tolist(), labels.tolist(), strict=True)], np.float32)

    def folds(self, count: int, seed: int) -> list[NDArray[np.int64]]:
        """
        Divide the attempts into folds, of both labels as evenly as possible.

        Both labels stay in the other folds, if each occurs in two attempts or more.

        :param count: number of folds; there are fewer if there are too few attempts.
        :returns: the frames of each fold.
        """
        generator = np.random.default_rng(seed)
        kinds: dict[tuple[bool, bool], list[int]] = {}
        for attempt in range(self.attempts.max() + 1):
            given = self.labels[self.attempts == attempt]
            kinds.setdefault((bool(given.all()), bool(given.any())), []).append(attempt)
        # Attempts with a success frame follow each other, and so do those with a failure frame:
        # dealt in turn, two of them never lie in the same fold alone.
        ordered = [attempt for kind in ((True, True), (False, True), (False, False))
                   for attempt in generator.permutation(kinds.get(kind, [])).tolist()]
        rarest = min(len({a for a, given in zip(self.attempts.tolist(), self.labels, strict=True)
                          if given == label}) for label in (0., 1.))
        count = max(2, min(count, rarest))
        return [np.flatnonzero(np.isin(self.attempts, ordered[start::count]))
                for start in range(count)]


@dataclass(frozen=True)
class Score:
    """
    How well a way of learning judges attempts that it has not learnt.

    :ivar margins: margin of each frame, float32 (N,), by a model that has not learnt its attempt.
    :ivar losses: Brier score of each unit, after the temperature that suits all of them.
    :ivar accuracy: units on the right side of 0, which is P(success) 0.5 at every temperature.
    """

    margins: NDArray[np.float32]
    losses: NDArray[np.float64]
    accuracy: Accuracy

    @property
    def loss(self) -> float:
        """Return the mean loss of a unit."""
        return float(self.losses.mean())


def out_of_fold(learner: Learner, grouping: Grouping,
                folds: Sequence[NDArray[np.int64]]) -> NDArray[np.float32]:
    """
    Return the margin of each frame, by a model that learnt from the other folds.

    As many folds are learnt at a time as there are threads for computing: the layers are too
    small to be shared among them.
    """
    margins = np.empty(len(grouping.labels), np.float32)
    everything = np.arange(len(margins))
    with one_thread() as threads, ThreadPoolExecutor(threads) as pool:
        for fold, own in zip(folds, pool.map(
                lambda fold: learner(np.setdiff1d(everything, fold), fold), folds), strict=True):
            margins[fold] = own
    return margins


def score(margins: NDArray[np.float32], grouping: Grouping) -> Score:
    """Return the score of margins: a unit is judged by its frames' mean margin."""
    count = grouping.units.max() + 1
    frames = np.bincount(grouping.units, minlength=count)
    mean = np.bincount(grouping.units, margins, count) / frames
    labels = np.bincount(grouping.units, grouping.labels, count) / frames
    temperature = fit_temperature(logits_of_margins(mean), torch.from_numpy(labels))
    losses = (1 / (1 + np.exp(-np.clip(mean / max(temperature, .25), -50, 50))) - labels) ** 2
    return Score(margins, losses, Accuracy(int(((mean > 0) == (labels > .5)).sum()), int(count)))


def logits_of_margins(margins: NDArray[np.floating]) -> torch.Tensor:
    """Return logits, float64 (N, 2), whose difference is the margin."""
    half = torch.from_numpy(np.asarray(margins, np.float64)) / 2
    return torch.stack([-half, half], 1)
