"""Intervals for numbers that are no shares of independent trials: resample whole attempts."""


from collections.abc import Callable, Sequence
import math
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from grasp_success_detector.errors import ConfigError
from grasp_success_detector.evaluation.attempts import AttemptResult
from grasp_success_detector.labels import Label


def wilson_interval(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """
    Return Wilson's score interval of a proportion.

    Unlike the normal approximation it says something honest at 0 or n successes: 32 right of 32
    may still be 89 %. Source: E. B. Wilson, Probable inference, the law of succession, and
    statistical inference, Journal of the American Statistical Association 22 (1927), 209-212.

    :param successes: how many were right, 0 to n.
    :param n: how many there were; with 0 nothing is known, and the answer is (0, 1).
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


#: Resamples; with fewer the ends of the intervals waver.
RESAMPLES = 1000

#: The same data always give the same intervals.
_SEED = 0

#: Given how often each attempt was drawn, int64 (attempts,), a number; NaN where there is none.
Measure = Callable[[NDArray[np.int64]], float]


def bootstrap_interval(measure: Measure, attempts: int) -> tuple[float, float] | None:
    """
    Return the 95 % percentile interval of a measure over resampled attempts.

    Attempts are drawn with replacement, since frames of one attempt resemble each other: B. Efron
    and R. Tibshirani, An Introduction to the Bootstrap, Chapman and Hall 1993, chapter 13.

    :param attempts: how many there are.
    :returns: None with less than two attempts, or where the measure often cannot be taken.
    """
    if attempts < 2:
        return None
    rng = np.random.default_rng(_SEED)
    values = np.array([measure(np.bincount(rng.integers(0, attempts, attempts),
                                           minlength=attempts)) for _ in range(RESAMPLES)])
    values = values[np.isfinite(values)]
    if len(values) < RESAMPLES / 2:
        return None
    low, high = np.quantile(values, (.025, .975))
    return float(low), float(high)


def mean_of(values: Sequence[float | None]) -> Measure:
    """Return the measure that is the mean of a value of each attempt, of those that have one."""
    numbers = np.array([np.nan if value is None else value for value in values], np.float64)
    known = np.isfinite(numbers)

    def measure(times: NDArray[np.int64]) -> float:
        weight = times[known].sum()
        return float((numbers[known] * times[known]).sum() / weight) if weight else float('nan')
    return measure


def share_of(right: Sequence[int], total: Sequence[int]) -> Measure:
    """Return the measure that is a share of frames, of the counts of each attempt."""
    rights, totals = np.array(right, np.float64), np.array(total, np.float64)

    def measure(times: NDArray[np.int64]) -> float:
        weight = (totals * times).sum()
        return float((rights * times).sum() / weight) if weight else float('nan')
    return measure


def roc_auc_of(attempts: Sequence[AttemptResult]) -> Measure:
    """Return the measure that is the area under the ROC curve of all frames."""
    rows = [(frame.probability, frame.label is Label.SUCCESS, i)
            for i, attempt in enumerate(attempts) for frame in attempt.frames
            if frame.label is not None and frame.probability is not None]
    rows.sort(key=lambda row: row[0])
    values = np.array([row[0] for row in rows], np.float64)
    success = np.array([row[1] for row in rows], bool)
    owner = np.array([row[2] for row in rows], np.int64)
    # Equal values are one step: ties count half, as in evaluation.curves.
    step = np.cumsum(np.diff(values, prepend=np.nan) != 0) - 1 if len(rows) else owner

    def measure(times: NDArray[np.int64]) -> float:
        weight = times[owner].astype(np.float64)
        up, down = (np.bincount(step, weight * chosen) for chosen in (success, ~success))
        below = np.cumsum(down) - down
        pairs = up.sum() * down.sum()
        return float((up * (below + down / 2)).sum() / pairs) if pairs else float('nan')
    return measure
