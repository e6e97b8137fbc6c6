"""What joints say about the grasp: from closure deficits, torques and distances of fingers."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grasp_success_detector.errors import HandStateError
from grasp_success_detector.hand.closure import closure_deficit, flexion, HandReference
from grasp_success_detector.hand.drivers import JOINTS_PER_FINGER
from grasp_success_detector.hand.kinematics import finger_distances, Geometry, PAIRS
from grasp_success_detector.hand.logistic import LARGEST_LOG_ODDS, Logistic

#: A hand whose fingers all lie within this many standard deviations of a close on nothing, and
#: within this angle (rad), is closed on nothing. The angle covers rigs that were calibrated with
#: few closes, whose spread is underestimated.
_EMPTY_DEVIATIONS, _EMPTY_ANGLE = 3., .15

#: Fingers whose deficits are features: those that every hand has.
_FINGERS = 4
_JOINTS = _FINGERS * JOINTS_PER_FINGER

#: Number of features of each kind, in the order of the features.
FEATURES = {'deficits': 3 * _FINGERS + _JOINTS, 'torques': 3 * _FINGERS + _JOINTS,
            'distances': 3 * len(PAIRS)}

#: Sets of features that are judged by a regression of their own, as the others may be missing;
#: those that tell most come first.
FEATURE_SETS = ('deficits torques distances', 'deficits torques', 'deficits distances', 'deficits')

#: Distance of the axes of two fingers (m) from which these cannot touch: their links are 20 to 28
#: mm thick. By cross-validation 25 mm is worse, and 40 mm no better.
NEAR = .03

#: Largest log-odds of the joints (P(success) of 99 %): beyond it they err more often on other
#: attempts than they say (by cross-validation; 4 and 6 are hardly worse).
SUREST_JOINTS = 5.


@dataclass(frozen=True)
class JointModel:
    """
    P(success) from joints, as learned on attempts of a rig or in simulation.

    :ivar regressions: log-odds of success from each of FEATURE_SETS that was there.
    :ivar attempts: number of attempts that it was learned on.
    :ivar farthest: largest distance of a feature from the mean, in units of its regression's
        scale, that it was learned on; the joints beyond it are unfamiliar.
    :ivar empty: largest deficit of a finger (rad) of a hand that closes on nothing.
    :ivar travel: mean flexion (rad) from the open to the closed hand.
    :ivar opening: log-odds of success while the hand opens.
    :raises HandStateError: a value is out of range.
    """

    regressions: Mapping[str, Logistic]
    attempts: int
    farthest: float
    empty: float
    travel: float
    opening: float

    def __post_init__(self) -> None:
        if not {'deficits'} <= set(self.regressions) <= set(FEATURE_SETS):
            raise HandStateError(f'joints: regressions of {", ".join(self.regressions)}; expected '
                                 f'deficits, or any of {", ".join(FEATURE_SETS)}')
        for name, regression in self.regressions.items():
            expected = sum(FEATURES[kind] for kind in name.split())
            if len(regression.weights) != expected:
                raise HandStateError(f'joints: {len(regression.weights)} weights of {name}; '
                                     f'expected {expected}')
        if not (0 < self.farthest < 1e3 and 0 < self.empty < 2 and 0 < self.travel < 10
                and self.attempts >= 0 and abs(self.opening) < LARGEST_LOG_ODDS):
            raise HandStateError('joints: farthest, empty, travel, opening or attempts are out of '
                                 'range')

    def log_odds(self, measured: NDArray[np.float64], closed: NDArray[np.float64],
                 effort: NDArray[np.float64] | None = None, geometry: Geometry | None = None,
                 ) -> float | None:
        """
        Return the log-odds of success of a closed hand; None if such joints are unfamiliar.

        :param measured: angles (joints,) in radians, in the order of FINGERS.
        :param closed: angles that it was told to reach, or reaches when it closes on nothing.
        :param effort: torques of the joints, as the driver publishes them; None without any.
        :param geometry: of the hand; None: unknown.
        """
        parts = grasp_features(measured, closed, effort, geometry)
        name = next(name for name in FEATURE_SETS if name in self.regressions
                    and set(name.split()) <= set(parts))
        features = np.concatenate([parts[kind] for kind in name.split()])[None]
        if farthest(features, self.regressions[name]) > self.farthest:
            return None
        return float(joint_log_odds(features, self.regressions[name])[0])

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
                   effort: NDArray[np.float64] | None = None, geometry: Geometry | None = None,
                   ) -> dict[str, NDArray[np.float64]]:
    """
    Return the features of each kind in FEATURES that can be told.

    ``deficits`` are the closure deficits of index, middle, ring and thumb, the same ones sorted,
    their roots, and what each joint lacks, in radians. ``torques`` are those that bend these
    fingers, in the same way, in the driver's unit.

    Which fingers hold an object differs from grasp to grasp; how many of them do says more. That
    a finger is stopped at all says more than how far, hence the roots. Single joints tell an
    object from fingers that stop each other: it also pushes them aside, and stops other joints.

    ``distances`` tell more of fingers that stop each other, as these touch: for each pair, how
    much farther apart it is than if the hand had closed, and up to NEAR how far apart it is, and
    would then be; in metres. They are not told of a hand of five fingers.
    """
    rows = {'deficits': closed - measured} | ({} if effort is None else {'torques': effort})
    parts = {
        name: np.concatenate([row, np.sort(row), np.sqrt(np.maximum(row, 0)), joints[:_JOINTS]])
        for name, joints in rows.items() for row in [flexion(joints)[:_FINGERS]]}
    if geometry is not None and len(measured) == _JOINTS:
        now, then = finger_distances(np.stack([measured, closed]), geometry)
        parts['distances'] = np.concatenate(
            [now - then, np.minimum(now, NEAR), np.minimum(then, NEAR)])
    return parts


def closed_on_nothing(measured: NDArray[np.float64], reference: HandReference) -> bool:
    """Return whether every finger lies where it does when the hand closes on nothing."""
    deficit = closure_deficit(measured, np.array(reference.closed))
    # The flexion is a sum of angles, whose variances add up.
    spread = np.sqrt(flexion(np.array(reference.spread) ** 2))
    return bool((deficit < np.maximum(_EMPTY_DEVIATIONS * spread, _EMPTY_ANGLE)).all())
