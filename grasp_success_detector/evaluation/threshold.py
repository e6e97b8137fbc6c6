"""The choice of the threshold on P(success); ROC and precision-recall curves, their areas."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from grasp_success_detector.errors import ConfigError, DatasetError
from grasp_success_detector.labels import Label

Floats = NDArray[np.float64]


def choose_threshold(probabilities: ArrayLike, labels: Sequence[Label],
                     max_false_positive_rate: float) -> float:
    """
    Return the threshold that finds the most successes within a limit on false positives.

    If several find as many, it has the fewest false positives. It lies midway
    between the lowest P(success) that reaches it and the highest one below it. It is 1 if even the
    highest P(success) below 1 would exceed the limit.

    :param probabilities: P(success) of validation frames (N,).
    :param max_false_positive_rate: share of failure frames that may count as success, 0 to 1.
    :returns: above 0, at most 1; a frame counts as success from this P(success) on.
    :raises ConfigError: ``max_false_positive_rate`` is not between 0 and 1.
    :raises DatasetError: there are no failure frames.
    """
    if not 0 <= max_false_positive_rate <= 1:
        raise ConfigError(f'max_false_positive_rate is {max_false_positive_rate}; expected a '
                          'share of the failure frames, 0 to 1')
    values, found, wrong = count_positives(probabilities, labels)
    if not wrong[-1]:
        raise DatasetError('no threshold can be chosen for a false-positive rate: there are no '
                           'failure frames to validate on')
    # At a threshold of 0 every frame would be a success.
    allowed = (wrong <= max_false_positive_rate * wrong[-1] + 1e-9) & (values > 0)
    best = int(np.argmax(np.where(allowed, found, -1)))
    lowest, held_back = map(float, np.append(np.minimum(values, 1.), 0.)[best:best + 2])
    middle = (lowest + held_back) / 2
    return middle if held_back < middle else lowest


class Counts(NamedTuple):
    """
    Number of frames at or above each threshold that changes an answer, the highest first.

    :ivar thresholds: in falling order, float64 (N,); the first is infinite.
    :ivar true_positives: number of success frames at or above each, float64 (N,).
    :ivar false_positives: number of failure frames at or above each, float64 (N,).
    """

    thresholds: Floats
    true_positives: Floats
    false_positives: Floats


class Curve(NamedTuple):
    """
    A curve with a point for each threshold of :class:`Counts`; all float64 (N,).

    :ivar x: false-positive rate, or recall.
    :ivar y: true-positive rate, or precision.
    """

    x: Floats
    y: Floats
    thresholds: Floats


def count_positives(probabilities: ArrayLike, labels: Sequence[Label]) -> Counts:
    """
    Count successes and failures at or above each P(success).

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

    :returns: None unless there are frames of both labels.
    """
    thresholds, right, wrong = count_positives(probabilities, labels)
    if not right[-1] or not wrong[-1]:
        return None
    return Curve(wrong / wrong[-1], right / right[-1], thresholds)


def precision_recall_curve(probabilities: ArrayLike, labels: Sequence[Label]) -> Curve | None:
    """
    Return the precision-recall curve: x recall; y precision, 1 where nothing counts as success.

    :returns: None unless there are frames of both labels.
    """
    thresholds, right, wrong = count_positives(probabilities, labels)
    if not right[-1] or not wrong[-1]:
        return None
    positive = np.maximum(right + wrong, 1.)
    return Curve(right / right[-1], np.append(1., (right / positive)[1:]), thresholds)


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

    The curve is not interpolated, as in scikit-learn's ``average_precision_score``.

    :returns: None unless there are frames of both labels.
    """
    curve = precision_recall_curve(probabilities, labels)
    if curve is None:
        return None
    return float((np.diff(curve.x) * curve.y[1:]).sum())
