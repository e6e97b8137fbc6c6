"""Accuracies by frame and by attempt with 95 % intervals, confusion counts, and their summary."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
import math
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from grasp_success_detector.console import counted
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

    Unlike the normal approximation it has a width even at 0 or n successes: for 32 of 32 it is
    89 % to 100 %. Source: E. B. Wilson, Probable inference, the law of succession, and
    statistical inference, Journal of the American Statistical Association 22 (1927), 209-212.

    :param n: number of trials; for 0 trials the interval is (0, 1).
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


def few_attempts(total: int) -> str | None:
    """Return what a small number of attempts means for the interval; None from 30 on."""
    if not 0 < total < 30:
        return None
    low, _ = wilson_interval(total, total)
    return (f'judged by {counted(total, "attempt")} only: even if all are right, the 95 % '
            f'interval begins at {low:.0%}; label more for a narrower one')


def accuracy_text(accuracy: Mapping[str, Any]) -> str:
    """Return an accuracy of metrics.json as text, with counts and interval."""
    return str(Accuracy(accuracy['correct'], accuracy['total']))


def frame_confusion(probabilities: ArrayLike, labels: Sequence[Label],
                    threshold: float) -> Confusion:
    """
    Count frames by label and by answer, which is success where P(success) >= ``threshold``.

    :param probabilities: P(success) of each frame (N,).
    """
    positive = np.asarray(probabilities) >= threshold
    truth = np.asarray(labels)
    return {label.name.lower(): {
        answer.name.lower(): int((positive[truth == label] == (answer is Label.SUCCESS)).sum())
        for answer in Label} for label in Label}


def attempt_confusion(attempts: Iterable[tuple[Label, Verdict]]) -> Confusion:
    """Count attempts by outcome and by verdict, ``unknown`` included."""
    counts = Counter(attempts)
    return {label.name.lower(): {verdict.value: counts[label, verdict] for verdict in Verdict}
            for label in Label}


def attempt_results(confusion: Confusion) -> dict[str, int]:
    """Return the numbers of ``correct``, ``wrong`` and ``unknown`` attempts of a confusion."""
    unknown = sum(verdicts[Verdict.UNKNOWN.value] for verdicts in confusion.values())
    right = accuracy(confusion)
    return {'correct': right.correct, 'wrong': right.total - right.correct - unknown,
            'unknown': unknown}


def attempts_text(metrics: Mapping[str, Any]) -> str:
    """Return how many attempts of :func:`summarize` were correct, wrong and unknown, as text."""
    results = attempt_results(metrics['confusion']['attempts'])
    return (', '.join(f'{count} {name}' for name, count in results.items())
            + f'; right {accuracy_text(metrics["attempts"])}')


def accuracy(confusion: Confusion) -> Accuracy:
    """Return the share of right answers; UNKNOWN counts as wrong."""
    return Accuracy(sum(answers[label] for label, answers in confusion.items()),
                    sum(sum(answers.values()) for answers in confusion.values()))


def accuracy_by_class(confusion: Confusion) -> dict[str, Any]:
    """Return the share of right answers for each label, for JSON."""
    return {label: accuracy({label: answers}).to_json() for label, answers in confusion.items()}


def last_verdicts(predictions: Iterable[Prediction], decision: DecisionConfig,
                  ) -> dict[str, tuple[Label, Verdict]]:
    """
    Return for each attempt, by name, its last frame's label and the node's verdict after it.

    :param predictions: in any order.
    """
    deciders: dict[str, WindowedDecider] = {}
    last: dict[str, Prediction] = {}
    for row in sorted(predictions, key=lambda row: (row.attempt, row.stamp_ns)):
        decider = deciders.setdefault(row.attempt, WindowedDecider(decision))
        # Recorded frames count as received when they were taken.
        decider.observe(row.stamp_ns, row.probability, received_ns=row.stamp_ns)
        last[row.attempt] = row
    return {attempt: (row.label, deciders[attempt].decide(row.stamp_ns).verdict)
            for attempt, row in last.items()}


def summarize(predictions: Sequence[Prediction], threshold: float,
              decision: DecisionConfig) -> dict[str, Any]:
    """
    Return all metrics of predictions; what cannot be measured is None, never NaN.

    :param predictions: of one split, in any order.
    :param threshold: a frame, or the window of an attempt, is a success from this P(success) on.
    :param decision: how an attempt is decided, except for its threshold.
    :returns: for JSON: accuracies (``Accuracy.to_json``) ``frames``, ``attempts`` and, by label,
        ``classes``; ``confusion`` of ``frames`` and ``attempts``; by frame ``roc_auc``,
        ``average_precision``, ``brier``, ``brier_uncalibrated``, ``ece``, ``ece_uncalibrated``;
        and ``threshold``, ``window_s`` and ``min_frames`` as they were used.
    """
    labels = [row.label for row in predictions]
    probabilities = np.array([row.probability for row in predictions], np.float64)
    uncalibrated = np.array([row.uncalibrated for row in predictions], np.float64)
    frames = frame_confusion(probabilities, labels, threshold)
    attempts = attempt_confusion(
        last_verdicts(predictions, replace(decision, threshold=threshold)).values())
    return {
        'frames': accuracy(frames).to_json(), 'classes': accuracy_by_class(frames),
        'attempts': accuracy(attempts).to_json(),
        'confusion': {'frames': frames, 'attempts': attempts},
        'roc_auc': roc_auc(probabilities, labels),
        'average_precision': average_precision(probabilities, labels),
        'brier': brier_score(probabilities, labels),
        'brier_uncalibrated': brier_score(uncalibrated, labels),
        'ece': expected_calibration_error(probabilities, labels),
        'ece_uncalibrated': expected_calibration_error(uncalibrated, labels),
        'threshold': threshold, 'window_s': decision.window_s,
        'min_frames': decision.min_frames}
