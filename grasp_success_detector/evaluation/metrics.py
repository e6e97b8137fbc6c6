"""Accuracies by frame and by attempt with 95 % intervals, confusion counts, and their summary."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
import math
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from grasp_success_detector.datasets.splits import outcomes
from grasp_success_detector.decision import DecisionConfig, WindowedDecider
from grasp_success_detector.errors import ConfigError
from grasp_success_detector.evaluation.calibration import brier_score, expected_calibration_error
from grasp_success_detector.evaluation.predictions import Prediction
from grasp_success_detector.evaluation.threshold import average_precision, roc_auc
from grasp_success_detector.labels import Label, Verdict

#: Counts by truth, then by answer: ``confusion['failure']['success']`` failures were taken for
#: successes.
Confusion = dict[str, dict[str, int]]


def wilson_interval(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """
    Return Wilson's score interval of a proportion.

    Unlike the normal approximation it says something honest at 0 or n successes: 32 right of 32
    may still be 89 %. Source: E. B. Wilson, Probable inference, the law of succession, and
    statistical inference, Journal of the American Statistical Association 22 (1927), 209-212.

    :param n: number of trials; with 0 nothing is known, and the interval is (0, 1).
    :param confidence: probability that such intervals cover the true proportion, between 0 and 1.
    :returns: lower and upper bound, 0 to 1.
    :raises ConfigError: the counts or the confidence are impossible.
    """
    if not 0 <= successes <= n:
        raise ConfigError(f'wilson_interval: {successes} successes of {n}; expected 0 to {n}')
    if not 0 < confidence < 1:
        raise ConfigError(f'wilson_interval: confidence is {confidence}; expected between 0 and 1')
    if n == 0:
        return 0., 1.
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    proportion = successes / n
    centre = proportion + z * z / (2 * n)
    margin = z * math.sqrt(proportion * (1 - proportion) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    # At the ends one bound is exact; rounding must not push it past.
    low = 0. if successes == 0 else (centre - margin) / scale
    high = 1. if successes == n else (centre + margin) / scale
    return low, high


@dataclass(frozen=True)
class Accuracy:
    """A share of right answers with its Wilson 95 % interval."""

    correct: int
    total: int

    @property
    def value(self) -> float:
        """Return the share of right answers; NaN without any."""
        return self.correct / self.total if self.total else math.nan

    def __str__(self) -> str:
        if not self.total:
            return 'none (0/0)'
        low, high = wilson_interval(self.correct, self.total)
        return (f'{self.value:.1%} ({self.correct}/{self.total}, 95 % interval '
                f'{low:.1%} to {high:.1%})')

    def to_json(self) -> dict[str, Any]:
        """Return value (null for no answers), counts and interval as JSON holds them."""
        return {'value': self.value if self.total else None,
                'correct': self.correct, 'total': self.total,
                'wilson_95': list(wilson_interval(self.correct, self.total))}


def accuracy_text(accuracy: Mapping[str, Any]) -> str:
    """Return what ``Accuracy.to_json`` gave as text, with counts and interval."""
    return str(Accuracy(accuracy['correct'], accuracy['total']))


def frame_accuracy(probabilities: ArrayLike, labels: Sequence[Label],
                   threshold: float) -> Accuracy:
    """
    Return the accuracy by frame.

    :param probabilities: P(success) (N,).
    """
    right = (np.asarray(probabilities) >= threshold) == (np.asarray(labels) == Label.SUCCESS)
    return Accuracy(int(right.sum()), len(right))


def class_accuracy(probabilities: ArrayLike, labels: Sequence[Label],
                   threshold: float) -> dict[str, Accuracy]:
    """Return the accuracy by frame for each label."""
    truth = np.asarray(labels)
    return {label.name.lower(): frame_accuracy(
        np.asarray(probabilities)[truth == label], truth[truth == label].tolist(), threshold)
        for label in Label}


def frame_confusion(probabilities: ArrayLike, labels: Sequence[Label],
                    threshold: float) -> Confusion:
    """Count frames by label and by answer."""
    positive = np.asarray(probabilities) >= threshold
    truth = np.asarray(labels)
    return {label.name.lower(): {
        answer.name.lower(): int((positive[truth == label] == (answer is Label.SUCCESS)).sum())
        for answer in Label} for label in Label}


def attempt_verdicts(probabilities: ArrayLike, stamps_ns: Sequence[int],
                     attempts: Sequence[str], config: DecisionConfig) -> dict[str, Verdict]:
    """
    Return the verdict of each attempt that the node would give at its last frame.

    :param probabilities: P(success) of each frame (N,).
    :param stamps_ns: stamp of each frame, rising within an attempt.
    :param attempts: attempt of each frame.
    """
    deciders: dict[str, WindowedDecider] = {}
    newest: dict[str, int] = {}
    for probability, stamp_ns, attempt in zip(
            np.asarray(probabilities), stamps_ns, attempts, strict=True):
        decider = deciders.setdefault(attempt, WindowedDecider(config))
        # Recorded frames count as received when they were taken.
        decider.observe(stamp_ns, float(probability), received_ns=stamp_ns)
        newest[attempt] = stamp_ns
    return {attempt: decider.decide(newest[attempt]).verdict
            for attempt, decider in deciders.items()}


def attempt_accuracy(verdicts: Mapping[str, Verdict], outcomes: Mapping[str, Label]) -> Accuracy:
    """Return the accuracy by attempt; UNKNOWN counts as wrong."""
    right = sum(verdicts[attempt].name == outcome.name for attempt, outcome in outcomes.items())
    return Accuracy(right, len(outcomes))


def attempt_confusion(verdicts: Mapping[str, Verdict], outcomes: Mapping[str, Label],
                      ) -> Confusion:
    """Count attempts by outcome and by verdict, ``unknown`` included."""
    counts = Counter((outcome, verdicts[attempt]) for attempt, outcome in outcomes.items())
    return {label.name.lower(): {verdict.value: counts[label, verdict] for verdict in Verdict}
            for label in Label}


def verdicts_and_outcomes(predictions: Iterable[Prediction], decision: DecisionConfig,
                          ) -> tuple[dict[str, Verdict], dict[str, Label]]:
    """
    Return for each attempt the verdict and the label at its last frame.

    :param predictions: in any order.
    """
    rows = sorted(predictions, key=lambda row: (row.attempt, row.stamp_ns))
    attempts = [row.attempt for row in rows]
    verdicts = attempt_verdicts([row.probability for row in rows],
                                [row.stamp_ns for row in rows], attempts, decision)
    return verdicts, outcomes(attempts, [row.label for row in rows])


def summarize(predictions: Sequence[Prediction], threshold: float,
              decision: DecisionConfig) -> dict[str, Any]:
    """
    Return all metrics of predictions; what cannot be measured is null, never NaN.

    :param predictions: of one split, in any order.
    :param threshold: a frame, or the window of an attempt, is a success from this P(success) on.
    :param decision: how an attempt is decided, but for its threshold.
    :returns: for JSON: ``frames``, ``attempts`` and each of ``classes`` as
        ``Accuracy.to_json``; ``confusion`` of ``frames`` and ``attempts``; ``roc_auc``,
        ``average_precision``, ``brier``, ``ece``, the last two also ``_uncalibrated``, all by
        frame; ``threshold``, ``window_s`` and ``min_frames`` as used.
    """
    decision = replace(decision, threshold=threshold)
    labels = [row.label for row in predictions]
    probabilities = np.array([row.probability for row in predictions], np.float64)
    uncalibrated = np.array([row.uncalibrated for row in predictions], np.float64)
    verdicts, truth = verdicts_and_outcomes(predictions, decision)
    return {
        'frames': frame_accuracy(probabilities, labels, threshold).to_json(),
        'classes': {name: accuracy.to_json() for name, accuracy in class_accuracy(
            probabilities, labels, threshold).items()},
        'attempts': attempt_accuracy(verdicts, truth).to_json(),
        'confusion': {'frames': frame_confusion(probabilities, labels, threshold),
                      'attempts': attempt_confusion(verdicts, truth)},
        'roc_auc': roc_auc(probabilities, labels),
        'average_precision': average_precision(probabilities, labels),
        'brier': brier_score(probabilities, labels),
        'brier_uncalibrated': brier_score(uncalibrated, labels),
        'ece': expected_calibration_error(probabilities, labels),
        'ece_uncalibrated': expected_calibration_error(uncalibrated, labels),
        'threshold': threshold, 'window_s': decision.window_s,
        'min_frames': decision.min_frames}
