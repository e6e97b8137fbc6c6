"""Calibration of P(success): temperature scaling, reliability, calibration error, Brier score."""

from collections.abc import Sequence
from typing import NamedTuple, TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from grasp_success_detector.labels import Label

if TYPE_CHECKING:   # takes a second, and labelling does without it
    import torch

#: Bins of P(success) of equal width, as many as Guo et al. take.
BINS = 15
#: Lowest and highest temperature.
_TEMPERATURES = .05, 20.


def fit_temperature(logits: 'torch.Tensor', labels: 'torch.Tensor') -> float:
    """
    Return the temperature that minimises the cross entropy on held-out frames.

    Guo et al., On Calibration of Modern Neural Networks, ICML 2017, section 4.2.

    :param logits: float (N, 2).
    :param labels: int (N,).
    :returns: divisor of the logits, 0.05 to 20.
    """
    logits, labels = logits.detach().double(), labels.long()
    true = logits.gather(1, labels[:, None]).sum()
    # The cross entropy is convex in 1 / temperature, so its slope changes sign once: bisection of
    # the logarithm. (torch.optim takes seconds to import.)
    low, high = np.log(_TEMPERATURES)
    for _ in range(50):
        middle = (low + high) / 2
        said = (logits / np.exp(middle)).softmax(1)
        if (said * logits).sum() > true:  # too sure of itself
            low = middle
        else:
            high = middle
    # If all frames are right, the optimum is 0; the bound keeps P(success) below 1.
    return float(np.exp((low + high) / 2))


class ReliabilityBins(NamedTuple):
    """
    Mean P(success) and share of successes of the frames in each bin of P(success).

    :ivar edges: limits of the bins, float64 (BINS + 1,), 0 to 1; the upper limit is included.
    :ivar counts: number of frames in each bin, int64 (BINS,).
    :ivar said: mean P(success) of each bin's frames, float64 (BINS,); NaN without frames.
    :ivar true: share of successes among each bin's frames, float64 (BINS,); NaN without frames.
    """

    edges: NDArray[np.float64]
    counts: NDArray[np.int64]
    said: NDArray[np.float64]
    true: NDArray[np.float64]


def reliability(probabilities: ArrayLike, labels: Sequence[Label]) -> ReliabilityBins:
    """
    Count and average frames in 15 bins of P(success) of equal width.

    :param probabilities: P(success) of each frame (N,).
    """
    values = np.asarray(probabilities, np.float64)
    success = (np.asarray(labels) == Label.SUCCESS).astype(np.float64)
    edges = np.linspace(0, 1, BINS + 1, dtype=np.float64)
    # (m - 1) / M < p <= m / M, as in the paper
    bins = np.clip(np.searchsorted(edges, values, 'left') - 1, 0, BINS - 1)
    counts = np.bincount(bins, minlength=BINS)
    with np.errstate(invalid='ignore'):
        said, true = (np.bincount(bins, weights, BINS) / counts for weights in (values, success))
    return ReliabilityBins(edges, counts, said, true)


def expected_calibration_error(probabilities: ArrayLike, labels: Sequence[Label]) -> float | None:
    """
    Return how far P(success) is from the share of successes, on average over frames.

    The sum over 15 equal bins of P(success) of the share of all frames that are in the bin, times
    ``abs(mean P(success) - share of successes)``. C. Guo et al., On Calibration of Modern Neural
    Networks, ICML 2017, equations 2 to 5, bin the probability of the predicted class; here it is
    always that of success, since that is what is published.

    :returns: 0 to 1; None without frames.
    """
    _, counts, said, true = reliability(probabilities, labels)
    total = int(counts.sum())
    if not total:
        return None
    filled = counts > 0
    return float((counts * np.abs(said - true))[filled].sum() / total)


def brier_score(probabilities: ArrayLike, labels: Sequence[Label]) -> float | None:
    """
    Return the mean of (P(success) - truth)^2, where truth is 1 for success and 0 for failure.

    G. W. Brier, Verification of forecasts expressed in terms of probability, Monthly Weather
    Review 78 (1950), 1-3, adds the same term for failure, which doubles it.

    :returns: 0 to 1; None without frames.
    """
    values = np.asarray(probabilities, np.float64)
    if not len(values):
        return None
    return float(np.mean((values - (np.asarray(labels) == Label.SUCCESS)) ** 2))
