"""Several trainings on the same test attempts, and whether they differ by more than luck."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from grasp_success_detector.decision import DecisionConfig
from grasp_success_detector.errors import RunError
from grasp_success_detector.evaluation.summary import verdicts_and_outcomes
from grasp_success_detector.labels import Label
from grasp_success_detector.training.run_folder import read_run, Run

#: Attempt and stamp (ns) of a frame.
FrameKey = tuple[str, int]


@dataclass(frozen=True)
class Contestant:
    """
    One of the trainings.

    :ivar name: told apart from the others'.
    :ivar attempts: whether the verdict at the end of each test attempt is right.
    :ivar frames: whether each test frame is on the right side of the threshold.
    :ivar labels: of the same frames.
    """

    name: str
    run: Run
    attempts: Mapping[str, bool]
    frames: Mapping[FrameKey, bool]
    labels: Mapping[FrameKey, Label]


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


def compare(folders: Sequence[Path]) -> Comparison:
    """
    Compare finished trainings on the test attempts that they share.

    :param folders: run folders, two or more.
    :raises RunError: less than two, the same one twice, one that is no finished run, or test
        attempts or frames that differ.
    """
    if len(folders) < 2:
        raise RunError(f'{len(folders)} run folder to compare; expected two or more')
    repeated = [str(folder) for folder, times in Counter(
        folder.resolve() for folder in folders).items() if times > 1]
    if repeated:
        raise RunError(f'{", ".join(repeated)}: given more than once; expected different runs')
    contestants = tuple(_contestant(name, read_run(folder))
                        for name, folder in zip(_names(folders), folders, strict=True))
    _check_same(contestants)
    pairs = list(combinations(contestants, 2))
    return Comparison(
        contestants,
        tuple(_duel(a.name, a.attempts, b.name, b.attempts) for a, b in pairs),
        tuple(_duel(a.name, a.frames, b.name, b.frames) for a, b in pairs))


def _names(folders: Sequence[Path]) -> list[str]:
    """Return each folder's own name, or its whole path where that is not enough."""
    own = [folder.resolve().name for folder in folders]
    return [name if own.count(name) == 1 else str(folder)
            for name, folder in zip(own, folders, strict=True)]


def _contestant(name: str, run: Run) -> Contestant:
    test, summary = run.of('test'), run.metrics['test']
    verdicts, outcomes = verdicts_and_outcomes(test, DecisionConfig(
        threshold=summary['threshold'], window_s=summary['window_s'],
        min_frames=summary['min_frames']))
    return Contestant(
        name, run,
        {attempt: verdicts[attempt].name == outcome.name
         for attempt, outcome in outcomes.items()},
        {(row.attempt, row.stamp_ns): (row.probability >= summary['threshold'])
         == (row.label is Label.SUCCESS) for row in test},
        {(row.attempt, row.stamp_ns): row.label for row in test})


def _check_same(contestants: Sequence[Contestant]) -> None:
    first = contestants[0]
    if not first.attempts:
        raise RunError(f'{first.run.folder}: has no test attempts to compare on')
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
