"""Several trainings on the same test attempts, and whether they differ by more than luck."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

from grasp_success_detector.decision import DecisionConfig
from grasp_success_detector.errors import RunError
from grasp_success_detector.evaluation.predictions import Prediction
from grasp_success_detector.evaluation.summary import verdicts_and_outcomes
from grasp_success_detector.labels import Label

#: Attempt and stamp (ns) of a frame.
FrameKey = tuple[str, int]


@dataclass(frozen=True)
class Contestant:
    """
    A trained classifier and its predictions for the test frames.

    :ivar name: unique among the contestants.
    :ivar predictions: one for each test frame.
    :ivar metrics: ``metrics.json`` of its training.
    :ivar summary: ``run.json`` of its training.
    :ivar checkpoint: path of its checkpoint.
    :ivar test_dataset: folder of the test frames at the time of the training; None if they were
        no files.
    """

    name: str
    predictions: tuple[Prediction, ...]
    metrics: Mapping[str, Any]
    summary: Mapping[str, Any]
    checkpoint: Path
    test_dataset: Path | None

    @cached_property
    def attempts(self) -> Mapping[str, bool]:
        """Return whether the final verdict of each test attempt is its outcome."""
        test = self.metrics['test']
        verdicts, outcomes = verdicts_and_outcomes(self.predictions, DecisionConfig(
            threshold=test['threshold'], window_s=test['window_s'],
            min_frames=test['min_frames']))
        return {attempt: verdicts[attempt].name == outcome.name
                for attempt, outcome in outcomes.items()}

    @cached_property
    def frames(self) -> Mapping[FrameKey, bool]:
        """Return whether each test frame is on the right side of the threshold."""
        threshold = self.metrics['test']['threshold']
        return {(row.attempt, row.stamp_ns): (row.probability >= threshold)
                == (row.label is Label.SUCCESS) for row in self.predictions}

    @cached_property
    def labels(self) -> Mapping[FrameKey, Label]:
        """Return the label of each test frame."""
        return {(row.attempt, row.stamp_ns): row.label for row in self.predictions}


@dataclass(frozen=True)
class Duel:
    """
    Two contestants on the same attempts or frames.

    :ivar both: how many both got right.
    :ivar neither: how many neither got right.
    """

    first: str
    second: str
    both: int
    only_first: int
    only_second: int
    neither: int

    @property
    def p_value(self) -> float:
        """Return McNemar's exact p-value."""
        return mcnemar_exact(self.only_first, self.only_second)


@dataclass(frozen=True)
class Comparison:
    """
    What was found.

    :ivar by_attempt: each pair of contestants, by attempt.
    :ivar by_frame: each pair of contestants, by frame.
    """

    contestants: tuple[Contestant, ...]
    by_attempt: tuple[Duel, ...]
    by_frame: tuple[Duel, ...]


def mcnemar_exact(only_first: int, only_second: int) -> float:
    """
    Return how probable so uneven a count of disagreements is if both are equally good.

    Two-sided binomial test of the discordant pairs with p = 1/2: Q. McNemar, Note on the sampling
    error of the difference between correlated proportions or percentages, Psychometrika 12
    (1947), 153-157, in its exact form.

    :param only_first: how many only the first got right.
    :param only_second: how many only the second got right.
    :returns: above 0, at most 1; 1 without disagreement.
    """
    n = only_first + only_second
    # In whole numbers: 2 ** n is beyond a float where frames are counted.
    ways, tail = 1, 0
    for k in range(min(only_first, only_second) + 1):
        tail += ways  # n over k
        ways = ways * (n - k) // (k + 1)
    return float(min(1., 2 * tail / 2 ** n))


def compare(contestants: Sequence[Contestant]) -> Comparison:
    """
    Compare classifiers on the test attempts that they share.

    :param contestants: two or more.
    :raises RunError: their test attempts or frames differ, or there are none.
    """
    _check_same(contestants)
    pairs = list(combinations(contestants, 2))
    return Comparison(
        tuple(contestants),
        tuple(_duel(a.name, a.attempts, b.name, b.attempts) for a, b in pairs),
        tuple(_duel(a.name, a.frames, b.name, b.frames) for a, b in pairs))


def _check_same(contestants: Sequence[Contestant]) -> None:
    first = contestants[0]
    if not first.attempts:
        raise RunError(f'{first.name}: has no test attempts to compare on')
    for other in contestants[1:]:
        if differ := first.attempts.keys() ^ other.attempts.keys():
            raise RunError(
                f'{first.name} and {other.name} were tested on different attempts: '
                f'{len(first.attempts.keys() - other.attempts.keys())} only in {first.name}, '
                f'{len(other.attempts.keys() - first.attempts.keys())} only in {other.name}, such '
                f'as {min(differ)}; train both on the same data set, or with the same --test')
        if changed := first.labels.items() ^ other.labels.items():
            attempts = {attempt for (attempt, _), _ in changed}
            raise RunError(
                f'{first.name} and {other.name} were tested on the same attempts, but '
                f'{len({key for key, _ in changed})} frames of {len(attempts)} of them differ or '
                f'are labelled differently, such as of {min(attempts)}; train both on the same '
                'data set')


def _duel(first: str, a: Mapping[str, bool] | Mapping[FrameKey, bool], second: str,
          b: Mapping[str, bool] | Mapping[FrameKey, bool]) -> Duel:
    counts = Counter((right, b[key]) for key, right in a.items())  # type: ignore[index]
    return Duel(first, second, counts[True, True], counts[True, False], counts[False, True],
                counts[False, False])
