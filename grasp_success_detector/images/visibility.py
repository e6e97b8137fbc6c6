"""Whether a frame shows anything: too dark, saturated, or the same picture again and again."""

from dataclasses import dataclass
from math import isfinite, isqrt
from typing import NamedTuple
from zlib import crc32

import cv2
import numpy as np
from numpy.typing import NDArray

from grasp_success_detector.decision import NS_PER_S, Reason
from grasp_success_detector.errors import check_fields, ConfigError

#: A pixel is black when its brightest channel is at most this: black level of video, 8 bit.
BLACK = 16

#: A pixel is white when its darkest channel is at least this.
WHITE = 250

#: Pixels that are looked at, about, whatever the frame's size.
SAMPLES = 16_000


@dataclass(frozen=True)
class VisibilityConfig:
    """
    From when on a camera counts as blind; docs/decision.md says where the defaults come from.

    :ivar max_black: share of black pixels above which a frame is too dark; 1 never is.
    :ivar max_white: share of white pixels above which a frame is saturated; 1 never is.
    :ivar frozen_after_s: time, by the frames' stamps, over which every pixel stays the same, from
        which the camera is frozen, in seconds; 0 never is. A sensor's noise makes even two equal
        frames unlikely, but a simulator or a replay may show a still scene.
    """

    max_black: float = 0.98
    max_white: float = 0.9
    frozen_after_s: float = 1.

    def __post_init__(self) -> None:
        """
        Check the values.

        :raises ConfigError: naming every value that is out of its range.
        """
        check_fields(self, ConfigError, 'visibility:', (
            ('max_black', 0. <= self.max_black <= 1., '0 to 1'),
            ('max_white', 0. <= self.max_white <= 1., '0 to 1'),
            ('frozen_after_s', isfinite(self.frozen_after_s) and self.frozen_after_s >= 0.,
             '0 or more seconds')))


class Appearance(NamedTuple):
    """
    What is to be known of a frame.

    :ivar black: share of black pixels, of a regular sample.
    :ivar white: share of white pixels, likewise.
    :ivar checksum: of all pixels; those of different pictures are equal once in four billion.
    """

    black: float
    white: float
    checksum: int


class VisibilityCheck:
    """Look at one frame after the other; less than 1 ms for 640 x 480 pixels."""

    def __init__(self, config: VisibilityConfig) -> None:
        self.config = config
        self._still: int | None = None      # the picture that may be frozen
        self._still_since_ns = 0

    def look(self, frame: NDArray[np.uint8], stamp_ns: int) -> Reason | None:
        """
        Say why nothing can be seen on a frame, None where something can.

        :param frame: RGB uint8 (H, W, 3).
        :param stamp_ns: its own time in ns; one before that of the frame before starts anew.
        :return: one of ``decision.BLIND``.
        """
        return self.judge(appearance(frame), stamp_ns)

    def judge(self, seen: Appearance, stamp_ns: int) -> Reason | None:
        """Say the same of a frame that is gone; ``seen`` is all that is needed of it."""
        still_ns = self._still_for(seen.checksum, stamp_ns)
        if seen.black > self.config.max_black:
            return Reason.TOO_DARK
        if seen.white > self.config.max_white:
            return Reason.SATURATED
        if 0. < self.config.frozen_after_s * NS_PER_S <= still_ns:
            return Reason.FROZEN
        return None

    def _still_for(self, checksum: int, stamp_ns: int) -> int:
        """Return for how long, in ns, every frame has been equal to this one."""
        if self._still != checksum or stamp_ns < self._still_since_ns:
            self._still, self._still_since_ns = checksum, stamp_ns
        return stamp_ns - self._still_since_ns


def appearance(frame: NDArray[np.uint8]) -> Appearance:
    """
    Look at a frame; this is what takes time, and needs no other frame.

    :param frame: RGB uint8 (H, W, 3).
    """
    return Appearance(*black_and_white(frame), crc32(np.ascontiguousarray(frame).data))


def black_and_white(frame: NDArray[np.uint8]) -> tuple[float, float]:
    """
    Return the shares of black and of white pixels, of a regular sample.

    :param frame: RGB uint8 (H, W, 3).
    """
    step = max(1, isqrt(frame.shape[0] * frame.shape[1] // SAMPLES))
    sample = np.ascontiguousarray(frame[::step, ::step])
    count = sample.shape[0] * sample.shape[1]
    black, white = (cv2.countNonZero(cv2.inRange(sample, (low,) * 3, (high,) * 3)) / count
                    for low, high in ((0, BLACK), (WHITE, 255)))
    return black, white
