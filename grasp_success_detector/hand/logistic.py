"""Logistic regression on few features, fitted and evaluated with NumPy alone."""

from dataclasses import dataclass
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grasp_success_detector.errors import HandStateError

#: Steps of Newton's method; with the penalty it converges in about ten.
_STEPS = 50
#: Largest change of a weight at which the fit counts as converged.
_CONVERGED = 1e-9
#: Log-odds beyond this (0.01 % of a probability) are cut: no single measurement is surer.
LARGEST_LOG_ODDS = math.log(.9999 / .0001)


@dataclass(frozen=True)
class Logistic:
    """
    P(success) = sigmoid(bias + sum(weights * (features - mean) / scale)).

    :ivar weights: one for each feature; ``mean`` and ``scale`` are as long.
    :raises HandStateError: the lengths differ, or a value is not finite or no scale.
    """

    weights: tuple[float, ...]
    bias: float
    mean: tuple[float, ...]
    scale: tuple[float, ...]

    def __post_init__(self) -> None:
        if not len(self.weights) == len(self.mean) == len(self.scale):
            raise HandStateError('weights, mean and scale of different lengths')
        values = (*self.weights, self.bias, *self.mean, *self.scale)
        if not all(math.isfinite(value) for value in values) or min(self.scale, default=1) <= 0:
            raise HandStateError('weights that are not finite, or a scale that is not above 0')

    def log_odds(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the log-odds of success (N,) of features (N, F), within LARGEST_LOG_ODDS."""
        scaled = (features - np.array(self.mean)) / np.array(self.scale)
        return np.asarray(np.clip(scaled @ np.array(self.weights) + self.bias,
                          -LARGEST_LOG_ODDS, LARGEST_LOG_ODDS))

    def to_json(self) -> dict[str, Any]:
        """Return the fields, for a YAML or JSON file."""
        return {'weights': list(self.weights), 'bias': self.bias,
                'mean': list(self.mean), 'scale': list(self.scale)}


def fit_logistic(features: NDArray[np.float64], labels: NDArray[np.bool_],
                 weights: NDArray[np.float64] | None = None, penalty: float = 1.) -> Logistic:
    """
    Fit by Newton's method with a penalty on the squared weights (not on the bias).

    C. Bishop, Pattern Recognition and Machine Learning (2006), section 4.3.3.

    :param features: (N, F).
    :param labels: (N,), True for success; both labels must be there.
    :param weights: how much each row counts (N,); None: 1. Frames of one attempt are best given
        weights that add up to 1.
    :param penalty: half of it times the squared length of the standardised weights is added to
        the sum of the losses.
    :raises HandStateError: rows of only one label.
    """
    if labels.all() or not labels.any():
        raise HandStateError('only one label; expected rows of success and of failure')
    counts = np.ones(len(labels)) if weights is None else weights
    mean = np.average(features, 0, counts)
    scale = np.sqrt(np.average((features - mean) ** 2, 0, counts)) + 1e-6
    rows = np.column_stack([(features - mean) / scale, np.ones(len(labels))])  # (N, F + 1)
    penalties = np.full(rows.shape[1], penalty)
    penalties[-1] = 1e-6
    found = np.zeros(rows.shape[1])
    for _ in range(_STEPS):
        probability = probability_of(rows @ found)
        gradient = rows.T @ (counts * (probability - labels)) + penalties * found
        spread = counts * probability * (1 - probability)
        step = np.linalg.solve((rows.T * spread) @ rows + np.diag(penalties), gradient)
        # Damped: far from the optimum a whole step may overshoot.
        found -= step / max(1., float(np.abs(step).max()) / 4)
        if np.abs(step).max() < _CONVERGED:
            break
    return Logistic(tuple(found[:-1].tolist()), float(found[-1]), tuple(mean.tolist()),
                    tuple(scale.tolist()))


def probability_of(log_odds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the probability of log-odds (natural logarithm), without overflow."""
    return np.asarray(.5 * (1 + np.tanh(log_odds / 2)))


def log_odds_of(probability: float) -> float:
    """Return the log-odds of a probability, within LARGEST_LOG_ODDS."""
    lowest = 1 / (1 + math.exp(LARGEST_LOG_ODDS))
    bounded = min(max(probability, lowest), 1 - lowest)
    return math.log(bounded / (1 - bounded))
