"""What the joints of a hand say about the grasp: from closure deficits and torques."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grasp_success_detector.errors import HandStateError
from grasp_success_detector.hand.closure import closure_deficit, flexion, HandReference
from grasp_success_detector.hand.drivers import JOINTS_PER_FINGER
from grasp_success_detector.hand.logistic import LARGEST_LOG_ODDS, Logistic

#: A hand whose fingers all lie within this many standard deviations of a close on nothing, and
#: within this angle (rad), is closed on nothing. The angle covers rigs that were calibrated with
#: few closes, whose spread is underestimated.
_EMPTY_DEVIATIONS, _EMPTY_ANGLE = 3., .15

#: Fingers whose deficits are features: those that every hand has.
_FINGERS = 4
_JOINTS = _FINGERS * JOINTS_PER_FINGER

#: Largest log-odds of the joints (P(success) of 99 %): beyond it they err more often on other
#: attempts than they say (by cross-validation; 4 and 6 are hardly worse).
SUREST_JOINTS = 5.


@dataclass(frozen=True)
class JointModel:
    """
    P(success) from joints, as learned on attempts of a rig or in simulation.

    :ivar logistic: of the closure deficits, for a driver that publishes no effort.
    :ivar with_effort: of deficits and torques; None where no attempt had torques.
    :ivar attempts: number of attempts that it was learned on.
    :ivar farthest: largest distance of a feature from the mean, in units of ``logistic.scale``,
        that it was learned on; the joints beyond it are unfamiliar.
    :ivar empty: largest deficit of a finger (rad) of a hand that closes on nothing.
    :ivar travel: mean flexion (rad) from the open to the closed hand.
    :ivar opening: log-odds of success while the hand opens.
    :raises HandStateError: a value is out of range.
    """

    logistic: Logistic
    with_effort: Logistic | None
    attempts: int
    farthest: float
    empty: float
    travel: float
    opening: float

    def __post_init__(self) -> None:
        for logistic, expected in ((self.logistic, 3 * _FINGERS + _JOINTS),
                                   (self.with_effort, 6 * _FINGERS + 2 * _JOINTS)):
            if logistic is not None and len(logistic.weights) != expected:
                raise HandStateError(f'joints: {len(logistic.weights)} weights; expected '
                                     f'{expected}')
        if not (0 < self.farthest < 1e3 and 0 < self.empty < 2 and 0 < self.travel < 10
                and self.attempts >= 0 and abs(self.opening) < LARGEST_LOG_ODDS):
            raise HandStateError('joints: farthest, empty, travel, opening or attempts are out of '
                                 'range')

    def log_odds(self, measured: NDArray[np.float64], closed: NDArray[np.float64],
                 effort: NDArray[np.float64] | None = None) -> float | None:
        """
        Return the log-odds of success of a closed hand; None if such joints are unfamiliar.

        :param measured: angles (joints,) in radians, in the order of FINGERS.
        :param closed: angles that it was told to reach, or reaches when it closes on nothing.
        :param effort: torques of the joints, as the driver publishes them; None without any.
        """
        logistic = self.logistic
        if effort is not None and self.with_effort is not None:
            logistic = self.with_effort
        else:
            effort = None
        features = grasp_features(measured, closed, effort)
        if farthest(features[None], logistic) > self.farthest:
            return None
        return float(joint_log_odds(features[None], logistic)[0])

    def to_json(self) -> dict[str, Any]:
        """Return the fields, for a JSON file."""
        return asdict(self)


def joint_log_odds(features: NDArray[np.float64], logistic: Logistic) -> NDArray[np.float64]:
    """Return the log-odds of success (N,) of features (N, F), within SUREST_JOINTS."""
    return np.clip(logistic.log_odds(features), -SUREST_JOINTS, SUREST_JOINTS)


def farthest(features: NDArray[np.float64], logistic: Logistic) -> float:
    """Return the largest distance of a feature (N, F) from the mean, in units of the scale."""
    apart = np.abs(features - np.array(logistic.mean)) / np.array(logistic.scale)
    return float(apart.max())


def grasp_features(measured: NDArray[np.float64], closed: NDArray[np.float64],
                   effort: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """
    Return closure deficits of index, middle, ring and thumb, from low to high, roots, and joints.

    These are the deficits in this order, the same ones sorted, their roots, and what each joint
    lacks. With ``effort`` the torques that bend these fingers follow in the same way.

    Which fingers hold an object differs from grasp to grasp; how many of them do says more. That
    a finger is stopped at all says more than how far, hence the roots. Single joints tell an
    object from fingers that stop each other: it also pushes them aside, and stops other joints.

    :returns: radians (28,), or radians and the driver's unit of effort (56,).
    """
    rows = [closed - measured] if effort is None else [closed - measured, effort]
    return np.concatenate([part for joints in rows for row in [flexion(joints)[:_FINGERS]]
                           for part in (row, np.sort(row), np.sqrt(np.maximum(row, 0)),
                                        joints[:_JOINTS])])


def closed_on_nothing(measured: NDArray[np.float64], reference: HandReference) -> bool:
    """Return whether every finger lies where it does when the hand closes on nothing."""
    deficit = closure_deficit(measured, np.array(reference.closed))
    # The flexion is a sum of angles, whose variances add up.
    spread = np.sqrt(flexion(np.array(reference.spread) ** 2))
    return bool((deficit < np.maximum(_EMPTY_DEVIATIONS * spread, _EMPTY_ANGLE)).all())
