"""How good the answers are: by frame and by attempt, each with its 95 % interval."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grasp_success_detector.decision import DecisionConfig, WindowedDecider
from grasp_success_detector.evaluation.intervals import wilson_interval
from grasp_success_detector.labels import Label, Verdict


@dataclass(frozen=True)
class Accuracy:
    """A share of right answers with its Wilson 95 % interval."""

    correct: int
    total: int

    @property
    def value(self) -> float:
        """Share of right answers; NaN for none asked."""
        return self.correct / self.total if self.total else float('nan')

    def __str__(self) -> str:
        if not self.total:
            return 'none (0/0)'
        low, high = wilson_interval(self.correct, self.total)
        return (f'{self.value:.1%} ({self.correct}/{self.total}, 95 % interval '
                f'{low:.1%} to {high:.1%})')

    def to_json(self) -> dict[str, Any]:
        """Return value (null for none asked), counts and interval as JSON holds them."""
        return {'value': self.value if self.total else None,
                'correct': self.correct, 'total': self.total,
                'wilson_95': list(wilson_interval(self.correct, self.total))}


def frame_accuracy(probabilities: NDArray[np.floating], labels: Sequence[Label],
                   threshold: float) -> Accuracy:
    """
    Judge each frame by itself.

    :param probabilities: P(success) (N,).
    """
    right = (np.asarray(probabilities) >= threshold) == (np.asarray(labels) == Label.SUCCESS)
    return Accuracy(int(right.sum()), len(right))


def class_accuracy(probabilities: NDArray[np.floating], labels: Sequence[Label],
                   threshold: float) -> dict[str, Accuracy]:
    """Judge each frame by itself, each class for itself."""
    truth = np.asarray(labels)
    return {label.name.lower(): frame_accuracy(
        np.asarray(probabilities)[truth == label], truth[truth == label].tolist(), threshold)
        for label in Label}


def attempt_verdicts(probabilities: NDArray[np.floating], stamps_ns: Sequence[int],
                     attempts: Sequence[str], config: DecisionConfig) -> dict[str, Verdict]:
    """
    Let each attempt be decided as the node would at its last frame.

    :param stamps_ns: stamp of each frame, rising within an attempt.
    """
    deciders: dict[str, WindowedDecider] = {}
    newest: dict[str, int] = {}
    for probability, stamp_ns, attempt in zip(probabilities, stamps_ns, attempts, strict=True):
        decider = deciders.setdefault(attempt, WindowedDecider(config))
        # Recorded frames count as received when they were taken.
        decider.observe(stamp_ns, float(probability), received_ns=stamp_ns)
        newest[attempt] = stamp_ns
    return {attempt: decider.decide(newest[attempt]).verdict
            for attempt, decider in deciders.items()}


def attempt_accuracy(verdicts: dict[str, Verdict], outcomes: dict[str, Label]) -> Accuracy:
    """Count attempts whose verdict at the end is the outcome; UNKNOWN counts as wrong."""
    right = sum(verdicts[attempt].name == outcome.name for attempt, outcome in outcomes.items())
    return Accuracy(right, len(outcomes))


def frame_confusion(probabilities: NDArray[np.floating], labels: Sequence[Label],
                    threshold: float) -> dict[str, dict[str, int]]:
    """
    Count frames by truth and by answer.

    :returns: ``confusion['failure']['success']`` failures were taken for successes.
    """
    said = np.asarray(probabilities) >= threshold
    truth = np.asarray(labels)
    return {label.name.lower(): {
        answer.name.lower(): int((said[truth == label] == (answer is Label.SUCCESS)).sum())
        for answer in Label} for label in Label}


def attempt_confusion(verdicts: dict[str, Verdict], outcomes: dict[str, Label],
                      ) -> dict[str, dict[str, int]]:
    """
    Count attempts by outcome and by verdict at the end.

    :returns: as :func:`frame_confusion`, with ``unknown`` as a third verdict.
    """
    counts = Counter((outcome, verdicts[attempt]) for attempt, outcome in outcomes.items())
    return {label.name.lower(): {verdict.value: counts[label, verdict] for verdict in Verdict}
            for label in Label}
