"""Open, closing, closed or opening: the hand's motion from its joints over time."""

from collections import deque
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from grasp_success_detector.decision import NS_PER_S
from grasp_success_detector.errors import HandStateError
from grasp_success_detector.hand.closure import flexion

#: Time over which the fingers' speed is measured (s): longer than the period of a driver at 10 Hz.
_SPAN_S = .2

#: Mean speed of the flexion (rad/s) from which the hand counts as moving. A full close takes about
#: 3 rad in 0.5 to 2 s; noise of an encoder (5 mrad) over the span stays below a tenth of this.
_MOVING = .3

#: Flexion (rad) from the most open position since the last opening, from which a hand that stands
#: still counts as closed.
_CLOSED = .6

#: Share of the way from closed to open, from which an opening hand counts as open; one that
#: opens less has loosened its grip and is still closed.
_OPENED = .7


class Phase(Enum):
    """What the hand does."""

    OPEN = 'open'
    CLOSING = 'closing'
    CLOSED = 'closed'
    OPENING = 'opening'


class MotionTracker:
    """
    Tell the phase of the hand from its joint states, and when an attempt begins.

    An attempt begins when an open hand starts to close, or is told to. A jump of time begins anew
    as a start does.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all joint states."""
        self._recent: deque[tuple[int, float]] = deque()    # (stamp_ns, mean flexion)
        self._most_open, self._most_closed = np.inf, -np.inf
        self.phase = Phase.OPEN
        self.attempts = 0

    @property
    def has_opened(self) -> bool:
        """Whether the hand is open and was seen to open, so that it can hold nothing."""
        return self.phase is Phase.OPEN and self._most_closed - self._most_open > _CLOSED

    @property
    def opened_flexion(self) -> float:
        """Mean flexion (rad) of the hand at its most open since it last opened."""
        return self._most_open

    @property
    def stands_still(self) -> bool:
        """Whether the fingers have not moved in the last moment."""
        if not self._recent:
            return False
        elapsed_s = (self._recent[-1][0] - self._recent[0][0]) / NS_PER_S
        return elapsed_s >= _SPAN_S / 2 and (
            abs(self._recent[-1][1] - self._recent[0][1]) < _MOVING * elapsed_s)

    def told(self, closes: bool) -> None:
        """Take a command that closes or opens the hand, before any motion can be measured."""
        if closes and self.phase in (Phase.OPEN, Phase.OPENING):
            self._begin()
        elif not closes and self.phase is not Phase.OPEN:
            self.phase = Phase.OPENING

    def _begin(self) -> None:
        self.attempts += 1
        self.phase = Phase.CLOSING
        bent = self._recent[-1][1] if self._recent else -np.inf
        self._most_closed, self._most_open = bent, min(self._most_open, bent)

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
        self._most_open, self._most_closed = (
            min(self._most_open, bent), max(self._most_closed, bent))
        elapsed_s = (stamp_ns - self._recent[0][0]) / NS_PER_S
        # Over a shorter time, noise alone would look like motion.
        if elapsed_s >= _SPAN_S / 2:
            self.phase = self._next((bent - self._recent[0][1]) / elapsed_s, bent)
        return self.phase

    def _next(self, speed: float, bent: float) -> Phase:
        if speed > _MOVING:
            if self.phase is Phase.OPEN or (self.phase is Phase.OPENING and self._is_open(bent)):
                self._begin()
            return Phase.CLOSING
        if speed < -_MOVING:
            return Phase.OPENING
        if self.phase is Phase.OPEN:
            return Phase.OPEN
        if self.phase is Phase.OPENING and self._is_open(bent):
            self._most_open = bent
            return Phase.OPEN
        loosened = self.phase is Phase.OPENING
        return Phase.CLOSED if loosened or bent - self._most_open > _CLOSED else self.phase

    def _is_open(self, bent: float) -> bool:
        return self._most_closed - bent >= _OPENED * (self._most_closed - self._most_open)
