"""What the joints of a closed hand say about the grasp: P(success) from closure deficits."""

from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from grasp_success_detector.hand.closure import closure_deficit, flexion, HandReference
from grasp_success_detector.hand.logistic import Logistic

#: A hand whose fingers all lie within this many standard deviations of a close on nothing, and
#: within this angle (rad), is closed on nothing. The angle covers rigs that were calibrated with
#: few closes, whose spread is underestimated.
_EMPTY_DEVIATIONS, _EMPTY_ANGLE = 3., .15


class ClosedPosition(str, Enum):
    """Where the closed position comes from, to which the measured one is compared."""

    COMMAND = 'command'         #: the angles that the driver was told to reach
    REFERENCE = 'reference'     #: the rig's own closes on nothing


@dataclass(frozen=True)
class JointModel:
    """
    P(success) from joints, as learned on attempts of a rig or in simulation.

    :ivar closed_position: which closed position the features need.
    :ivar logistic: of :func:`grasp_features`.
    :ivar attempts: number of attempts that it was learned on.
    """

    closed_position: ClosedPosition
    logistic: Logistic
    attempts: int

    def log_odds(self, measured: NDArray[np.float64], closed: NDArray[np.float64]) -> float:
        """
        Return the log-odds of success of a closed hand.

        :param measured: angles (joints,) in radians, in the order of FINGERS.
        :param closed: the closed position of ``closed_position`` (joints,).
        """
        return float(self.logistic.log_odds(grasp_features(measured, closed)[None])[0])


def grasp_features(measured: NDArray[np.float64], closed: NDArray[np.float64],
                   ) -> NDArray[np.float64]:
    """
    Return the closure deficit of each finger, and the same values from lowest to highest.

    Which fingers hold an object differs from grasp to grasp; how many of them do says more.

    :returns: radians, (2 * fingers,).
    """
    deficit = closure_deficit(measured, closed)
    return np.concatenate([deficit, np.sort(deficit)])


def closed_on_nothing(measured: NDArray[np.float64], reference: HandReference) -> bool:
    """Return whether every finger lies where it does when the hand closes on nothing."""
    deficit = closure_deficit(measured, np.array(reference.closed))
    # The flexion is a sum of angles, whose variances add up.
    spread = np.sqrt(flexion(np.array(reference.spread) ** 2))
    return bool((deficit < np.maximum(_EMPTY_DEVIATIONS * spread, _EMPTY_ANGLE)).all())

