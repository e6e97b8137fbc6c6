"""One probability from camera and joints."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from grasp_success_detector.hand.logistic import (
    fit_logistic,
    log_odds_of,
    Logistic,
    probability_of,
)


@dataclass(frozen=True)
class Fusion:
    """
    Logistic fusion: log-odds of success = bias + weight * log-odds of each part.

    Independent, calibrated parts would have weights of 1. Those learned on attempts are smaller
    where parts err together. N. Brümmer et al., Fusion of heterogeneous speaker recognition
    systems, IEEE Transactions on Audio, Speech, and Language Processing 15 (2007), section IV.

    :ivar logistic: of the log-odds of the camera and of the joints, in this order.
    :ivar attempts: number of attempts that it was learned on.
    """

    logistic: Logistic
    attempts: int

    def probability(self, camera: float | None, joints: float | None) -> float | None:
        """
        Return P(success) from both parts; a part that is missing counts for nothing.

        :param camera: P(success) from the camera, or None.
        :param joints: log-odds of success from the joints, or None.
        :returns: None if both are missing.
        """
        if camera is None:
            return None if joints is None else float(probability_of(np.array(joints)))
        if joints is None:
            return camera
        parts = np.array([[log_odds_of(camera), joints]])
        return float(probability_of(self.logistic.log_odds(parts))[0])


def fit_fusion(camera: NDArray[np.float64], joints: NDArray[np.float64],
               labels: NDArray[np.bool_], attempts: NDArray[np.str_]) -> Fusion:
    """
    Learn the fusion from frames of attempts whose camera and joints were judged out of fold.

    :param camera: P(success) (N,). ``joints``: log-odds (N,). Both must come from models that did
        not learn from these attempts, else the fusion trusts them too much.
    :param labels: (N,), True for success.
    :param attempts: attempt of each frame (N,); each attempt counts once.
    :raises HandStateError: frames of only one label.
    """
    names, numbers, counts = np.unique(attempts, return_inverse=True, return_counts=True)
    features = np.column_stack([[log_odds_of(p) for p in camera.tolist()], joints])
    return Fusion(fit_logistic(features, labels, 1 / counts[numbers]), len(names))
