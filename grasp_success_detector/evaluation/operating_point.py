"""Temperature and threshold of a checkpoint, from frames of attempts that it has not learnt."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
import torch

from grasp_success_detector.console import counted
from grasp_success_detector.evaluation.calibration import fit_temperature
from grasp_success_detector.evaluation.threshold import choose_threshold
from grasp_success_detector.labels import Label
from grasp_success_detector.networks.architectures import success_probabilities

#: With fewer attempts of either label, P(success) is not made more extreme than the network's own.
LEAST_TO_SHARPEN = 20
#: The lowest temperature for even fewer: 2 gave the lowest Brier score on real rigs, of 1 to 3.
_CAUTIOUS_TEMPERATURE = 2.
#: With fewer attempts of either label, the threshold is not chosen.
LEAST_TO_CHOOSE = 20
#: The threshold that is kept then: as likely a success as not.
CAUTIOUS_THRESHOLD = .5


class OperatingPoint(NamedTuple):
    """
    How a checkpoint's logits become answers.

    :ivar temperature: divisor of the logits.
    :ivar threshold: lowest P(success) that counts as success.
    :ivar notes: what was not calibrated or not chosen, and why; a sentence each.
    """

    temperature: float
    threshold: float
    notes: tuple[str, ...]


def least_temperature(attempts: int) -> float:
    """
    Return the lowest temperature that may be taken from so few attempts.

    A classifier that is right on all of a few frames would be given the temperature 0, as if it
    could never err; with this bound it becomes surer only as attempts add up. After n attempts
    without an error the chance of one may still be 3 / n (J. A. Hanley and A. Lippman-Hand, If
    nothing goes wrong, is everything all right?, JAMA 249 (1983), 1743-1745), so that the bound
    falls as 1 / n.

    :param attempts: number of attempts of the rarer label.
    :returns: 2 for 10 attempts or fewer, then 20 / attempts.
    """
    return min(_CAUTIOUS_TEMPERATURE, LEAST_TO_SHARPEN / max(attempts, 1))


def attempts_by_label(labels: Sequence[Label], attempts: Sequence[str]) -> dict[Label, int]:
    """Return the number of attempts that have frames of each label."""
    return {label: len({attempt for attempt, given in zip(attempts, labels, strict=True)
                        if given == label}) for label in Label}


def operating_point(logits: NDArray[np.float32], labels: Sequence[Label], attempts: Sequence[str],
                    max_false_positive_rate: float) -> OperatingPoint:
    """
    Choose temperature and threshold on frames that were not learnt, as far as there are enough.

    :param logits: float32 (N, 2), index = Label, before temperature scaling.
    :param labels: label of each frame (N,).
    :param attempts: attempt of each frame (N,).
    :param max_false_positive_rate: share of failure frames that may count as success, 0 to 1.
    :raises DatasetError: there are no failure frames.
    """
    counts = attempts_by_label(labels, attempts)
    fewest = min(counts.values())
    found = ' and '.join(f'{counted(count, "attempt")} with {label.name.lower()} frames'
                         for label, count in sorted(counts.items(), reverse=True))
    notes = []
    fitted = fit_temperature(torch.from_numpy(logits), torch.tensor([int(it) for it in labels]))
    lowest = least_temperature(fewest)
    if fitted < lowest:
        notes.append(f'temperature {lowest:.2f} instead of {fitted:.2f}, which {found} are too '
                     'few for: P(success) stays cautious')
    temperature = max(fitted, lowest)
    if fewest < LEAST_TO_CHOOSE:
        notes.append(f'threshold not chosen but {CAUTIOUS_THRESHOLD:g}: {found}; expected '
                     f'{LEAST_TO_CHOOSE} of each')
        return OperatingPoint(temperature, CAUTIOUS_THRESHOLD, tuple(notes))
    threshold = choose_threshold(
        success_probabilities(logits, temperature), labels, max_false_positive_rate)
    needed = round(1 / max_false_positive_rate) if max_false_positive_rate else float('inf')
    if threshold < CAUTIOUS_THRESHOLD and counts[Label.FAILURE] < needed:
        notes.append(
            f'threshold {CAUTIOUS_THRESHOLD:g} instead of {threshold:.3f}: '
            f'{counts[Label.FAILURE]} attempts with failure frames cannot show a rate of '
            f'{max_false_positive_rate:.1%}; expected {needed:g}')
        threshold = CAUTIOUS_THRESHOLD
    return OperatingPoint(temperature, threshold, tuple(notes))
