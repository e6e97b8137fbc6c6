"""Open, closing, closed or opening: the hand's motion from its joints over time."""

from collections import deque
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from grasp_success_detector.errors import HandStateError
from grasp_success_detector.hand.closure import flexion

NS_PER_S = 1_000_000_000

#: Time over which the fingers' speed is measured (s): longer than the period of a driver at 10 Hz.
_SPAN_S = .2

#: Mean speed of the flexion (rad/s) from which the hand counts as moving. A full close takes about
#: 3 rad in 0.5 to 2 s; noise of an encoder (5 mrad) over the span stays below a tenth of this.
_MOVING = .3

#: Flexion (rad) from the most open position since the last opening, from which a hand that stands
#: still counts as closed.
_CLOSED = .6


class Phase(Enum):
    """What the hand does."""

    OPEN = 'open'
    CLOSING = 'closing'
    CLOSED = 'closed'
    OPENING = 'opening'


class MotionTracker:
    """
    Tell the phase of the hand from its joint states, and when an attempt begins.

    An attempt begins when the hand starts to close. A jump of time, or of the joints, begins
    anew as a start does.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all joint states."""
        self._recent: deque[tuple[int, float]] = deque()    # (stamp_ns, mean flexion)
        self._most_open = np.inf
        self.phase = Phase.OPEN
        self.attempts = 0

    def observe(self, stamp_ns: int, positions: NDArray[np.float64]) -> Phase:
        """
        Add one joint state and return the phase.

        :param stamp_ns: stamp of the message, nanoseconds.
        :param positions: angles in radians (16,) or (20,), in the order of FINGERS.
        :raises HandStateError: the stamp lies before the last one by less than a second, so that
            the message came out of order; it is left out.
        """
        bent = float(flexion(positions).mean())
        if self._recent:
            step_s = (stamp_ns - self._recent[-1][0]) / NS_PER_S
            if -1 < step_s < 0:
                raise HandStateError(f'a joint state came {-step_s:.3f} s out of order')
            if not 0 <= step_s < 1:
                attempts = self.attempts
                self.reset()
                self.attempts = attempts
        self._recent.append((stamp_ns, bent))
        while len(self._recent) > 2 and stamp_ns - self._recent[1][0] >= _SPAN_S * NS_PER_S:
            self._recent.popleft()
        self._most_open = min(self._most_open, bent)
        elapsed_s = (stamp_ns - self._recent[0][0]) / NS_PER_S
        # Over a shorter time, noise alone would look like motion.
        if elapsed_s >= _SPAN_S / 2:
            self.phase = self._next((bent - self._recent[0][1]) / elapsed_s, bent)
        return self.phase

    def _next(self, speed: float, bent: float) -> Phase:
        if speed > _MOVING:
            if self.phase in (Phase.OPEN, Phase.OPENING):
                self.attempts += 1
                self._most_open = min(self._most_open, bent)
            return Phase.CLOSING
        if speed < -_MOVING:
            return Phase.OPENING
        if self.phase in (Phase.OPENING, Phase.OPEN):
            self._most_open = bent if self.phase is Phase.OPENING else self._most_open
            return Phase.OPEN
        return Phase.CLOSED if bent - self._most_open > _CLOSED else self.phase
