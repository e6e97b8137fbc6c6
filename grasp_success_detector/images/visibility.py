"""Detect frames that show nothing: too dark, saturated or frozen pictures."""

from dataclasses import dataclass
from math import isqrt
from typing import NamedTuple
from zlib import crc32

import cv2
import numpy as np
from numpy.typing import NDArray

from grasp_success_detector.decision import NS_PER_S, Reason
from grasp_success_detector.errors import ConfigError
from grasp_success_detector.settings import check_settings, setting

#: A pixel is black when its brightest channel is at most this: black level of video, 8 bit.
BLACK = 16
#: A pixel is white when its darkest channel is at least this.
WHITE = 250
#: Approximate number of pixels that are sampled, whatever the frame's size.
SAMPLES = 16_000


@dataclass(frozen=True)
class VisibilityConfig:
    """
    When a camera counts as blind; docs/decision.md explains the defaults.

    A sensor's noise makes even two equal frames unlikely, but a simulator or a replay may show a
    still scene.
    """

    max_black: float = setting(
        0.98, lowest=0., highest=1., help='Fraction of black pixels above which the camera counts '
        'as blind (UNKNOWN, false); 1: never.')
    max_white: float = setting(
        0.9, lowest=0., highest=1., help='Fraction of white pixels above which the camera counts '
        'as blind (UNKNOWN, false); 1: never.')
    frozen_after_s: float = setting(
        1., lowest=0., help='Seconds over which all frames show the same picture, after which the '
        'camera counts as frozen (UNKNOWN, false); 0: never, for noiseless simulators.')

    def __post_init__(self) -> None:
        """Check every field."""
        check_settings(self, ConfigError, 'visibility:')


class Appearance(NamedTuple):
    """Properties of a frame by which its visibility is judged."""

    black: float   # share of black pixels in a regular sample
    white: float   # share of white pixels in it
    checksum: int  # CRC-32 of all pixels


class VisibilityCheck:
    """Checks the frames of one camera in their order, each in less than 1 ms (640 x 480)."""

    def __init__(self, config: VisibilityConfig) -> None:
        self.config = config
        self._still: int | None = None      # checksum of the picture that may be frozen
        self._still_since_ns = 0

    def look(self, frame: NDArray[np.uint8], stamp_ns: int) -> Reason | None:
        """
        Return why a frame shows nothing, one of ``decision.BLIND``; None if the picture is usable.

        :param frame: RGB uint8 (H, W, 3).
        :param stamp_ns: time of the frame in ns. If it is before that of the last frame, the time
            without a change of the picture is counted from 0 again.
        """
        return self.judge(appearance(frame), stamp_ns)

    def judge(self, seen: Appearance, stamp_ns: int) -> Reason | None:
        """Return what :meth:`look` returns for a frame with this appearance."""
        if self._still != seen.checksum or stamp_ns < self._still_since_ns:
            self._still, self._still_since_ns = seen.checksum, stamp_ns
        if seen.black > self.config.max_black:
            return Reason.TOO_DARK
        if seen.white > self.config.max_white:
            return Reason.SATURATED
        if 0. < self.config.frozen_after_s * NS_PER_S <= stamp_ns - self._still_since_ns:
            return Reason.FROZEN
        return None


def appearance(frame: NDArray[np.uint8]) -> Appearance:
    """Return the appearance of an RGB uint8 frame (H, W, 3): most of the check's time."""
    return Appearance(*black_and_white(frame), crc32(np.ascontiguousarray(frame).data))


def black_and_white(frame: NDArray[np.uint8]) -> tuple[float, float]:
    """Return the shares of black and of white pixels in a regular sample of an RGB frame."""
    step = max(1, isqrt(frame.shape[0] * frame.shape[1] // SAMPLES))
    sample = np.ascontiguousarray(frame[::step, ::step])
    count = sample.shape[0] * sample.shape[1]
    black, white = (cv2.countNonZero(cv2.inRange(sample, (low,) * 3, (high,) * 3)) / count
                    for low, high in ((0, BLACK), (WHITE, 255)))
    return black, white
