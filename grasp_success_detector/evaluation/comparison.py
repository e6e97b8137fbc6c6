"""Compare classifiers with each other or a baseline by McNemar's test on the same attempts."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path
import platform
from statistics import median
import time
from typing import Any, TypeVar

import torch

from grasp_success_detector.decision import DecisionConfig
from grasp_success_detector.errors import DatasetError, one_line, RunError
from grasp_success_detector.evaluation.metrics import last_verdicts
from grasp_success_detector.evaluation.predictions import Prediction
from grasp_success_detector.files import read_json
from grasp_success_detector.images.decoding import RgbImage
from grasp_success_detector.inference.classifier import GraspClassifier
from grasp_success_detector.labels import Label

Key = TypeVar('Key')

#: Level of significance: a difference counts if its p-value is lower.
SIGNIFICANCE = 0.05

#: The classifiers take turns, so that a busy moment of the machine hits all of them.
_ROUNDS, _FRAMES_PER_ROUND = 5, 10


def mcnemar_exact(only_first: int, only_second: int) -> float:
    """
    Return the p-value of McNemar's exact test of whether two classifiers are equally good.

    Two-sided binomial test of the discordant pairs with p = 1/2: Q. McNemar, Note on the sampling
    error of the difference between correlated proportions or percentages, Psychometrika 12
    (1947), 153-157, in its exact form.

    :param only_first: number of cases that only the first classifier got right.
    :param only_second: number of cases that only the second one got right.
    :returns: above 0, at most 1; 1 without disagreement.
    """
    n = only_first + only_second
    # In whole numbers: 2 ** n is beyond a float where frames are counted.
    ways, tail = 1, 0
    for k in range(min(only_first, only_second) + 1):
        tail += ways  # n over k
        ways = ways * (n - k) // (k + 1)
    return float(min(1., 2 * tail / 2 ** n))


@dataclass(frozen=True)
class Contestant:
    """
    A trained classifier and its predictions for the test frames.

    :ivar name: unique among the contestants.
    :ivar metrics: content of ``metrics.json`` in its run folder.
    :ivar summary: content of ``run.json`` in its run folder.
    :ivar test_dataset: folder of the test frames at the time of the training; None if they were
        not files.
    """

    name: str
    predictions: tuple[Prediction, ...]
    metrics: Mapping[str, Any]
    summary: Mapping[str, Any]
    checkpoint: Path
    test_dataset: Path | None

    @cached_property
    def attempts(self) -> Mapping[str, bool]:
        """Return for each test attempt, by name, whether its final verdict is right."""
        test = self.metrics['test']
        decision = DecisionConfig(**{
            name: test[name] for name in ('threshold', 'window_s', 'min_frames')})
        return {attempt: verdict.name == outcome.name for attempt, (outcome, verdict)
                in last_verdicts(self.predictions, decision).items()}

    @cached_property
    def frames(self) -> Mapping[tuple[str, int, Label], bool]:
        """Return whether each test frame was judged right, by attempt, stamp (ns) and label."""
        threshold = self.metrics['test']['threshold']
        return {(row.attempt, row.stamp_ns, row.label):
                (row.probability >= threshold) == (row.label is Label.SUCCESS)
                for row in self.predictions}


@dataclass(frozen=True)
class Duel:
    """
    How many of the same cases (attempts or frames) two classifiers judged right.

    :ivar both: number of cases that both got right.
    :ivar only_first: number of cases that only the first got right.
    :ivar only_second: number of cases that only the second got right.
    """

    first: str
    second: str
    both: int
    only_first: int
    only_second: int
    neither: int

    @property
    def cases(self) -> int:
        """Return the number of attempts or frames."""
        return self.both + self.only_first + self.only_second + self.neither

    @property
    def p_value(self) -> float:
        """Return McNemar's exact p-value."""
        return mcnemar_exact(self.only_first, self.only_second)


def _duel(first: str, a: Mapping[Key, bool], second: str, b: Mapping[Key, bool]) -> Duel:
    counts = Counter((right, b[key]) for key, right in a.items())
    return Duel(first, second, counts[True, True], counts[True, False], counts[False, True],
                counts[False, False])


@dataclass(frozen=True)
class Comparison:
    """Several classifiers, and the counts of each pair of them by attempt and by frame."""

    contestants: tuple[Contestant, ...]
    by_attempt: tuple[Duel, ...]
    by_frame: tuple[Duel, ...]


def compare(contestants: Sequence[Contestant]) -> Comparison:
    """
    Compare classifiers on the test attempts that they share.

    :param contestants: two or more.
    :raises RunError: their test attempts or frames differ, or there are none.
    """
    first, *others = contestants
    if not first.attempts:
        raise RunError(f'{first.name}: has no test attempts to compare on')
    for other in others:
        if differ := first.attempts.keys() ^ other.attempts.keys():
            raise RunError(
                f'{first.name} and {other.name} were tested on different attempts: '
                f'{len(first.attempts.keys() - other.attempts.keys())} only in {first.name}, '
                f'{len(other.attempts.keys() - first.attempts.keys())} only in {other.name}, such '
                f'as {min(differ)}; train both on the same data set, or with the same --test')
        if changed := first.frames.keys() ^ other.frames.keys():
            attempts = {attempt for attempt, _, _ in changed}
            raise RunError(
                f'{first.name} and {other.name} were tested on the same attempts, but '
                f'{len({frame[:2] for frame in changed})} frames of {len(attempts)} of them '
                f'differ or are labelled differently, such as of {min(attempts)}; train both on '
                'the same data set')
    pairs = list(combinations(contestants, 2))
    return Comparison(
        tuple(contestants),
        tuple(_duel(a.name, a.attempts, b.name, b.attempts) for a, b in pairs),
        tuple(_duel(a.name, a.frames, b.name, b.frames) for a, b in pairs))


def measure_latency(classifiers: Sequence[GraspClassifier], frame: RgbImage) -> list[float]:
    """
    Measure how long ``GraspClassifier.predict`` takes for a single frame.

    :param frame: RGB uint8 (H, W, 3).
    :returns: for each classifier the median of 50 frames after warm-up, in milliseconds.
    """
    for classifier in classifiers:
        classifier.warm_up()
    times: list[list[float]] = [[] for _ in classifiers]
    for _ in range(_ROUNDS):
        for classifier, taken in zip(classifiers, times, strict=True):
            classifier.predict([frame])  # brings its weights back into the cache
            for _ in range(_FRAMES_PER_ROUND):
                start = time.perf_counter()
                classifier.predict([frame])
                taken.append(1000 * (time.perf_counter() - start))
    return [median(taken) for taken in times]


def describe_timing(frame: RgbImage, device: str) -> str:
    """Return a phrase on what :func:`measure_latency` measures, and on which hardware."""
    height, width, _ = frame.shape
    threads = torch.get_num_threads()
    where = (torch.cuda.get_device_name(device) if device.startswith('cuda') else
             f'{_cpu()}, {device}, {threads} thread{"s" if threads > 1 else ""}')
    return (f'median of {_ROUNDS * _FRAMES_PER_ROUND} frames of {width} x {height} pixels after '
            f'warm-up, from picture to P(success), on {where}')


def _cpu() -> str:
    try:
        for line in Path('/proc/cpuinfo').read_text(encoding='utf-8').splitlines():
            if line.startswith('model name'):
                return line.partition(':')[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


@dataclass(frozen=True)
class Gate:
    """
    Whether a new checkpoint is worse than a baseline, judged by attempt.

    :ivar duel: counts of right attempts, first of the baseline, second of the new checkpoint.
    :ivar max_drop: by how much the share of right attempts may fall.
    """

    duel: Duel
    max_drop: float

    @property
    def drop(self) -> float:
        """Return by how much the share of right attempts fell; negative if it rose."""
        return (self.duel.only_first - self.duel.only_second) / self.duel.cases

    @property
    def failed(self) -> bool:
        """Return whether the drop is larger than ``max_drop`` and significant."""
        return self.drop > self.max_drop and self.duel.p_value < SIGNIFICANCE

    def __str__(self) -> str:
        return (f'{"" if self.failed else "not "}significantly worse than the baseline: '
                f'{self.duel.only_first} attempts lost, {self.duel.only_second} won of '
                f'{self.duel.cases}, a drop of {self.drop:.1%} (allowed {self.max_drop:.1%}), '
                f"McNemar's exact test p = {self.duel.p_value:.3g}")


def compare_with_baseline(baseline: Path, attempts: Sequence[Mapping[str, Any]],
                          max_drop: float) -> Gate:
    """
    Compare an evaluation with an earlier one of the same sources.

    :param baseline: metrics.json of the earlier evaluation.
    :param attempts: the list ``attempts`` of the new metrics.json.
    :raises DatasetError: attempts or labels differ, or the baseline cannot be read.
    """
    before, now = read_baseline(baseline), _labelled(attempts)
    if not now:
        raise DatasetError(f'{baseline}: nothing to compare with, as no attempt here has a label')
    if differ := before.keys() ^ now.keys():
        raise DatasetError(
            f'{baseline}: {len(before.keys() - now.keys())} of its attempts are not here, and '
            f'{len(now.keys() - before.keys())} of those here not in it, such as {min(differ)}; '
            'expected an evaluation of the same sources')
    if changed := [name for name in now if now[name][0] != before[name][0]]:
        raise DatasetError(f'{baseline}: {len(changed)} attempts had another label then, such as '
                           f'{changed[0]}; evaluate the baseline again')
    return Gate(_duel('baseline', {name: right for name, (_, right) in before.items()},
                      'new', {name: right for name, (_, right) in now.items()}), max_drop)


def read_baseline(path: Path) -> dict[str, tuple[str, bool]]:
    """
    Return for each labelled attempt of a metrics.json its outcome and whether it was right.

    :raises DatasetError: the file is no metrics.json of evaluate_classifier.
    """
    try:
        return _labelled(read_json(path)['attempts'])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(f'{path}: no metrics.json of evaluate_classifier '
                           f'({type(error).__name__}: {one_line(error)})') from error


def _labelled(attempts: Sequence[Mapping[str, Any]]) -> dict[str, tuple[str, bool]]:
    return {str(attempt['attempt']): (attempt['outcome'], attempt['result'] == 'correct')
            for attempt in attempts if attempt['result'] is not None}
