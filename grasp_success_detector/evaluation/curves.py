"""What a threshold trades: ROC and precision-recall curves, and the numbers that sum them up."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from grasp_success_detector.labels import Label

Floats = NDArray[np.float64]


class Curve(NamedTuple):
    """
    A curve with a point for each threshold that changes an answer, the strictest first.

    :ivar x: float64 (N,).
    :ivar y: float64 (N,).
    :ivar thresholds: P(success) from which on a frame counts as success, falling; the first one
        is infinite: nothing counts as success.
    """

    x: Floats
    y: Floats
    thresholds: Floats


class Counts(NamedTuple):
    """
    How many count as success at each threshold that changes an answer, the strictest first.

    :ivar thresholds: as of :class:`Curve`.
    :ivar true_positives: successes among them, float64 (N,).
    :ivar false_positives: failures among them, float64 (N,).
    """

    thresholds: Floats
    true_positives: Floats
    false_positives: Floats


def count_positives(probabilities: ArrayLike, labels: Sequence[Label]) -> Counts:
    """
    Count what is at or above each value.

    :param probabilities: P(success) (N,).
    """
    values = np.asarray(probabilities, np.float64)
    positive = np.asarray(labels) == Label.SUCCESS
    order = np.argsort(-values, kind='stable')
    values, positive = values[order], positive[order]
    ends = np.flatnonzero(np.diff(values, append=-np.inf))  # the last of equal values
    return Counts(np.append(np.inf, values[ends]),
                   np.append(0., np.cumsum(positive)[ends]),
                   np.append(0., np.cumsum(~positive)[ends]))


def roc_curve(probabilities: ArrayLike, labels: Sequence[Label]) -> Curve | None:
    """
    Return the receiver operating characteristic: x false-positive rate, y true-positive rate.

    :param probabilities: P(success) (N,).
    :returns: None unless there are frames of both labels.
    """
    thresholds, right, wrong = count_positives(probabilities, labels)
    if not right[-1] or not wrong[-1]:
        return None
    return Curve(wrong / wrong[-1], right / right[-1], thresholds)


def precision_recall_curve(probabilities: ArrayLike, labels: Sequence[Label]) -> Curve | None:
    """
    Return x recall, y precision; the first point, where nothing is said, has precision 1.

    :param probabilities: P(success) (N,).
    :returns: None unless there are frames of both labels.
    """
    thresholds, right, wrong = count_positives(probabilities, labels)
    if not right[-1] or not wrong[-1]:
        return None
    said = np.maximum(right + wrong, 1.)
    return Curve(right / right[-1], np.append(1., (right / said)[1:]), thresholds)


def roc_auc(probabilities: ArrayLike, labels: Sequence[Label]) -> float | None:
    """
    Return the area under the ROC curve, by trapezoids.

    It is the probability that a success scores higher than a failure, ties counted half: Hanley
    and McNeil, The meaning and use of the area under a ROC curve, Radiology 143 (1982), 29-36.

    :returns: None unless there are frames of both labels.
    """
    curve = roc_curve(probabilities, labels)
    if curve is None:
        return None
    return float((np.diff(curve.x) * (curve.y[1:] + curve.y[:-1]) / 2).sum())


def average_precision(probabilities: ArrayLike, labels: Sequence[Label]) -> float | None:
    """
    Return the precision at each threshold, weighted by the recall that it adds.

    Steps, no interpolation, as scikit-learn's ``average_precision_score``.

    :returns: None unless there are frames of both labels.
    """
    curve = precision_recall_curve(probabilities, labels)
    if curve is None:
        return None
    return float((np.diff(curve.x) * curve.y[1:]).sum())
