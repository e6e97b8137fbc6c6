"""How sure an accuracy can be, measured on few samples."""

import math
from statistics import NormalDist

from grasp_success_detector.errors import ConfigError


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
