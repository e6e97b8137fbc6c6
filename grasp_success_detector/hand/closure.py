"""Closure of the fingers: how far each is bent, and how much it lacks to its closed position."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grasp_success_detector.errors import HandStateError
from grasp_success_detector.hand.drivers import FINGERS, JOINTS_PER_FINGER

#: Joints that bend a finger (columns of a finger's four, base to tip). The first joint of a finger
#: spreads it; the first two of the thumb turn it.
_BENDING = {'thumb': (2, 3)}
_BENDING_DEFAULT = (1, 2, 3)


def flexion(positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """
    Return how far each finger is bent: the sum of the angles of the joints that bend it.

    :param positions: angles of the joints in radians, (joints,) or (N, joints), in the order of
        :data:`~.drivers.FINGERS`; 16 or 20 joints.
    :returns: radians, (fingers,) or (N, fingers).
    """
    by_finger = positions.reshape(*positions.shape[:-1], -1, JOINTS_PER_FINGER)
    return np.stack([by_finger[..., i, list(_BENDING.get(finger, _BENDING_DEFAULT))].sum(-1)
                     for i, finger in enumerate(FINGERS[:by_finger.shape[-2]])], -1)


@dataclass(frozen=True)
class HandReference:
    """
    A rig's own open hand and its closes on nothing, from ``calibrate_hand``.

    :ivar opened: angles of the open hand, radians, in the order of FINGERS.
    :ivar closed: mean angles after a close on nothing; as long as ``opened``.
    :ivar spread: standard deviation of each angle between closes on nothing.
    :ivar closes: number of closes on nothing that were averaged.
    :raises HandStateError: the lengths differ, or the closed hand is not more bent than the open.
    """

    opened: tuple[float, ...]
    closed: tuple[float, ...]
    spread: tuple[float, ...]
    closes: int

    def __post_init__(self) -> None:
        lengths = {len(self.opened), len(self.closed), len(self.spread)}
        if lengths not in ({16}, {20}):
            raise HandStateError(f'reference of a hand with {sorted(lengths)} angles '
                                 '(expected 16, or 20 for five fingers)')
        values = np.array([self.opened, self.closed, self.spread], np.float64)
        if not np.isfinite(values).all() or np.abs(values).max() > 2 * np.pi or (
                values[2] < 0).any() or self.closes < 1:
            raise HandStateError('reference of a hand with values that are no angles')
        if self.travel() <= 0:
            raise HandStateError('reference of a hand whose closed position is not more bent than '
                                 'its open one; was the hand closed in the bag?')

    def travel(self) -> float:
        """Return the mean flexion between open and closed hand, radians."""
        return float((flexion(np.array(self.closed)) - flexion(np.array(self.opened))).mean())

    def closed_share(self, positions: NDArray[np.float64]) -> float:
        """Return how far the hand is closed: 0 as ``opened``, 1 as ``closed``; may lie beyond."""
        bent = (flexion(positions) - flexion(np.array(self.opened))).mean()
        return float(bent / self.travel())

    def to_json(self) -> dict[str, Any]:
        """Return the fields with angles rounded to 0.1 mrad, for a YAML or JSON file."""
        return {'opened': [round(v, 4) for v in self.opened],
                'closed': [round(v, 4) for v in self.closed],
                'spread': [round(v, 4) for v in self.spread], 'closes': self.closes}


def closure_deficit(measured: NDArray[np.float64], closed: NDArray[np.float64],
                    ) -> NDArray[np.float64]:
    """
    Return the closure deficit of each finger: closed position minus measured one, in radians.

    An object between the fingers keeps them from closing, so the deficit of a finger that holds
    something is positive.

    :param measured: measured angles (joints,), radians, in the order of FINGERS.
    :param closed: angles that the hand was told to reach, or reaches when it closes on nothing.
    :returns: radians (fingers,).
    """
    return flexion(closed) - flexion(measured)
