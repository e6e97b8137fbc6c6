"""Follow an array of tactile sensors: which of them are pressed more than on the open hand."""

from collections import deque

import numpy as np
from numpy.typing import NDArray

from grasp_success_detector.decision import NS_PER_S

#: Readings of this time are averaged (s).
_MEAN_S = .25

#: A sensor is pressed when it reads more than at rest by this many standard deviations of its
#: noise, and by this share of the hardest pressed one, against crosstalk.
_DEVIATIONS, _SHARE = 6., .05


class TouchFollower:
    """
    Tell from readings in any unit which sensors are pressed; not thread-safe.

    Rest is the least reading of each sensor since the hand last opened, so that zero errors and
    their drift do not count. Noise is what successive readings of the open hand differ by.
    """

    def __init__(self) -> None:
        self._recent: deque[tuple[int, NDArray[np.float64]]] = deque()
        self._forget()

    def _forget(self) -> None:
        self._recent.clear()
        self._opened = False
        self._rest: NDArray[np.float64] | None = None
        self._squares, self._count = np.zeros(0), 0     # of the differences

    def observe(self, time_ns: int, values: NDArray[np.float64], is_open: bool) -> None:
        """
        Take one message.

        :param time_ns: in order, by the clock of ``features``.
        :param values: readings (sensors,), which grow with the pressure.
        :param is_open: whether the hand is open.
        """
        if not len(values) or not np.isfinite(values).all():
            return      # damaged: the next one comes soon
        if self._recent and (len(values) != len(self._recent[-1][1]) or not (
                0 <= time_ns - self._recent[-1][0] < NS_PER_S)):
            self._forget()
        if is_open and not self._opened:
            self._recent.clear()
            self._rest, self._squares, self._count = None, np.zeros(len(values)), 0
        elif is_open and self._recent:
            self._squares = self._squares + (values - self._recent[-1][1]) ** 2
            self._count += 1
        self._opened = is_open
        self._recent.append((time_ns, values))
        while time_ns - self._recent[0][0] > _MEAN_S * NS_PER_S:
            self._recent.popleft()
        if is_open or self._rest is not None:   # at first only the open hand is known to rest
            now = self._reading()
            self._rest = now if self._rest is None else np.minimum(self._rest, now)

    def features(self, now_ns: int, stale_after_s: float) -> NDArray[np.float64] | None:
        """
        Return the share of the sensors that are pressed, and its root; None if it is not known.

        A hand that was not seen open since the start has no known rest.
        """
        if self._rest is None or not self._count or (
                now_ns - self._recent[-1][0] > stale_after_s * NS_PER_S):
            return None
        more = self._reading() - self._rest
        noise = np.sqrt(self._squares / self._count / 2)
        share = float((more > np.maximum(_DEVIATIONS * noise, _SHARE * more.max())).mean())
        return np.array([share, share ** .5])

    def _reading(self) -> NDArray[np.float64]:
        return np.asarray(np.mean([values for _, values in self._recent], 0))
