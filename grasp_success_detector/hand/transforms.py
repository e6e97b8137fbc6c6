"""
Where frames are, by the transforms of /tf and /tf_static.

As few rules of tf2 as the hand's place needs: of each frame the transform nearest in time is
taken, none is interpolated.
"""

from collections import deque
from threading import Lock
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from grasp_success_detector.decision import NS_PER_S, Reason
from grasp_success_detector.errors import HandPlaceError

#: Span of stamps, and most transforms, that are kept of each frame.
_SPAN_NS: Final = NS_PER_S
_MOST: Final = 1000

#: Frames from one to the root of its tree, beyond which the tree is a ring.
_DEEPEST: Final = 1000


class Transform(NamedTuple):
    """
    Place of a frame in its parent.

    :ivar parent: name of the parent.
    :ivar stamp_ns: time for which it holds, by the ROS clock.
    :ivar received_ns: monotonic time of reception.
    :ivar translation: x, y, z, in metres.
    :ivar rotation: quaternion x, y, z, w.
    """

    parent: str
    stamp_ns: int
    received_ns: int
    translation: tuple[float, float, float]
    rotation: tuple[float, float, float, float]

    def matrix(self) -> NDArray[np.float64]:
        """Return the rotation (3, 3) from the frame to its parent."""
        x, y, z, w = np.array(self.rotation) / np.linalg.norm(self.rotation)
        return np.array([
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)]])


class Moment(NamedTuple):
    """
    Time of a frame of the camera.

    :ivar stamp_ns: its stamp by the ROS clock; None if it has none.
    :ivar now_ns: monotonic time, by which transforms are judged where there is no stamp.
    :ivar longest_s: most seconds between the frame and a transform.
    """

    stamp_ns: int | None
    now_ns: int
    longest_s: float


class TransformTree:
    """The newest transforms of all frames; thread-safe."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._static: dict[str, Transform] = {}
        self._moving: dict[str, deque[Transform]] = {}

    def add(self, child: str, transform: Transform, static: bool = False) -> bool:
        """Take note of the place of a frame; False: the values are no transform."""
        child, parent = plain(child), plain(transform.parent)
        values = np.array([*transform.translation, *transform.rotation])
        # The limits of tf2 for the length of a quaternion.
        if not (child and parent and child != parent and np.isfinite(values).all()
                and abs(values[3:] @ values[3:] - 1) < .1):
            return False
        transform = transform._replace(parent=parent)
        with self._lock:
            if static:
                self._static[child] = transform
                return True
            known = self._moving.setdefault(child, deque(maxlen=_MOST))
            if known and transform.stamp_ns < known[-1].stamp_ns:
                known.clear()       # a clock that was set back, a recording that begins again
            known.append(transform)
            while known[-1].stamp_ns - known[0].stamp_ns > _SPAN_NS:
                known.popleft()
        return True

    def origin(self, of: str, seen_from: str, moment: Moment) -> NDArray[np.float64]:
        """
        Return the origin of a frame in another one (3,), in metres.

        :raises HandPlaceError: the two are not connected, or a transform is too old.
        """
        of, seen_from = plain(of), plain(seen_from)
        with self._lock:
            up, down = self._chain(of, moment), self._chain(seen_from, moment)
        rising = [of, *(transform.parent for _, transform in up)]
        falling = [seen_from, *(transform.parent for _, transform in down)]
        common = next((name for name in rising if name in falling), None)
        if common is None:
            missing = [name for name in (of, seen_from) if not self._knows(name)]
            raise _no_transform(f'no transform from {seen_from} to {of}: ' + (
                f'/tf and /tf_static do not name {" and ".join(missing)}' if missing else
                'they are not connected'))
        up, down = up[:rising.index(common)], down[:falling.index(common)]
        for name, transform in (*up, *down):
            if name in self._moving:
                _check_age(name, transform, moment)
        point = np.zeros(3)
        for _, transform in up:
            point = transform.matrix() @ point + transform.translation
        for _, transform in reversed(down):
            point = transform.matrix().T @ (point - transform.translation)
        return point

    def _knows(self, name: str) -> bool:
        with self._lock:
            return name in self._static or name in self._moving or any(
                transform.parent == name for transform in self._static.values()) or any(
                known[-1].parent == name for known in self._moving.values())

    def _chain(self, name: str, moment: Moment) -> list[tuple[str, Transform]]:
        """Return the transforms from a frame to its root, each with the name of its frame."""
        chain: list[tuple[str, Transform]] = []
        while name in self._moving or name in self._static:
            transform = (_nearest(self._moving[name], moment.stamp_ns) if name in self._moving
                         else self._static[name])
            chain.append((name, transform))
            name = transform.parent
            if len(chain) > _DEEPEST:
                raise _no_transform(f'the transforms above {name} go in a ring')
        return chain


def plain(name: str) -> str:
    """Return the name of a frame without the slash that ROS 1 put before it."""
    return name.lstrip('/')


def _nearest(known: deque[Transform], stamp_ns: int | None) -> Transform:
    """Return the transform nearest to a stamp; the newest without one."""
    best = known[-1]
    if stamp_ns is not None:
        for transform in reversed(known):
            if abs(transform.stamp_ns - stamp_ns) > abs(best.stamp_ns - stamp_ns):
                break
            best = transform
    return best


def _check_age(name: str, transform: Transform, moment: Moment) -> None:
    stamped = moment.stamp_ns is not None
    age_s = ((moment.stamp_ns or 0) - transform.stamp_ns if stamped
             else moment.now_ns - transform.received_ns) / NS_PER_S
    if abs(age_s) > moment.longest_s:
        raise _no_transform(
            f'the transform from {transform.parent} to {name} is {abs(age_s):.1f} s '
            + ('older' if age_s > 0 else 'newer') + ' than the frame')


def _no_transform(text: str) -> HandPlaceError:
    return HandPlaceError(Reason.NO_TRANSFORM.value, text)
