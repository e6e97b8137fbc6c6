"""One probability from cameras and joints."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grasp_success_detector.errors import HandStateError
from grasp_success_detector.hand.logistic import (
    fit_logistic,
    log_odds_of,
    Logistic,
    probability_of,
)

#: Largest log-odds of a camera (P(success) of 95 %): beyond it, even a calibrated camera errs more
#: often on new attempts than it says.
SUREST = 3.


@dataclass(frozen=True)
class Fusion:
    """
    Logistic fusion: log-odds of success = bias + weight * log-odds of each part.

    Several cameras are one part: the mean of their log-odds times ``cameras ** independence``.
    A camera's log-odds are cut at ``SUREST``, so that one that errs is overruled by the others.

    Independent, calibrated parts would have weights of 1. Those learned on attempts are smaller
    where parts err together. N. Brümmer et al., Fusion of heterogeneous speaker recognition
    systems, IEEE Transactions on Audio, Speech, and Language Processing 15 (2007), section IV.

    :ivar logistic: of the log-odds of the camera and of the joints, in this order.
    :ivar attempts: number of attempts that it was learned on.
    :ivar independence: 0 where all cameras err together, 1 where each errs by itself.
    """

    logistic: Logistic
    attempts: int
    independence: float = .5

    def probability(self, cameras: Sequence[float], joints: float | None) -> float:
        """
        Return P(success) from all parts; a part that is missing counts for nothing.

        :param cameras: P(success) from each camera that can tell.
        :param joints: log-odds of success from the joints, or None.
        :raises HandStateError: no part is there.
        """
        if not cameras and joints is None:
            raise HandStateError('nothing to fuse')
        if not cameras:
            return float(probability_of(np.array(joints)))
        camera = _together(cameras, self.independence)
        if joints is None:
            return cameras[0] if len(cameras) == 1 else float(probability_of(np.array(camera)))
        return float(probability_of(self.logistic.log_odds(np.array([[camera, joints]])))[0])

    def to_json(self) -> dict[str, Any]:
        """Return the fields, for a JSON file."""
        return {'logistic': self.logistic.to_json(), 'attempts': self.attempts,
                'independence': self.independence}


def fit_fusion(cameras: Sequence[Sequence[float]], joints: NDArray[np.float64],
               labels: NDArray[np.bool_], attempts: NDArray[np.str_],
               independence: float = .5) -> Fusion:
    """
    Learn the fusion from frames of attempts whose cameras and joints were judged out of fold.

    :param cameras: P(success) from each camera that could tell, one row for each frame (N rows).
    :param joints: log-odds (N,). Both must come from models that did not learn from these
        attempts, else the fusion trusts them too much.
    :param labels: (N,), True for success.
    :param attempts: attempt of each frame (N,); each attempt counts once.
    :raises HandStateError: frames of only one label.
    """
    names, numbers, counts = np.unique(attempts, return_inverse=True, return_counts=True)
    features = np.column_stack([[_together(row, independence) for row in cameras], joints])
    return Fusion(fit_logistic(features, labels, 1 / counts[numbers]), len(names), independence)


def _together(cameras: Sequence[float], independence: float) -> float:
    """Return the log-odds of several cameras as of one part."""
    log_odds = np.clip([log_odds_of(p) for p in cameras], -SUREST, SUREST)
    return float(log_odds.mean() * len(cameras) ** independence)
