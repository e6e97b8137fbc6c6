"""Read the frames of video files (.mp4, .webm, .avi, .mkv), with their times."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from grasp_success_detector.errors import BagError
from grasp_success_detector.images.decoding import RgbImage

VIDEO_SUFFIXES = ('.mp4', '.webm', '.avi', '.mkv')

_FALLBACK_FPS = 30.


class VideoFrame(NamedTuple):
    """
    One frame of a video.

    :ivar number: from 0, counted over all frames that the decoder gives.
    :ivar stamp_ns: time since the start of the video.
    :ivar guessed: the file has no usable time for it; one frame period was added.
    """

    number: int
    stamp_ns: int
    guessed: bool


def video_frames(path: Path, damage: Counter[str]) -> Iterator[VideoFrame]:
    """
    Yield the times of all frames, without turning them into pictures.

    :param damage: gets ``'frames missing at the end'``, as far as the file says their number.
    :raises BagError: no video that can be opened.
    """
    with _open(path) as capture:
        fps = capture.get(cv2.CAP_PROP_FPS)
        period = round(1e9 / (fps if 0 < fps < 10_000 else _FALLBACK_FPS))
        declared = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        index, previous = 0, -period
        while capture.grab():
            stamp_ns = round(capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6)
            guessed = stamp_ns <= previous and index > 0
            if guessed:
                stamp_ns = previous + period
            yield VideoFrame(index, stamp_ns, guessed)
            index, previous = index + 1, stamp_ns
        # Containers without an index only estimate the number, hence the slack.
        if declared > index * 1.05 + 2:
            damage['frames missing at the end'] += round(declared) - index


def decode_frames(path: Path, wanted: frozenset[int]) -> Iterator[tuple[int, RgbImage | None]]:
    """
    Yield index and RGB uint8 (H, W, 3) of the wanted frames; None where one cannot be decoded.

    :raises BagError: no video that can be opened.
    """
    left = len(wanted)
    with _open(path) as capture:
        index = 0
        while left and capture.grab():
            if index in wanted:
                left -= 1
                done, pixels = capture.retrieve()
                yield index, (np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), np.uint8)
                              if done and pixels is not None and pixels.ndim == 3 else None)
            index += 1


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    try:
        if not capture.isOpened():
            raise BagError(f'{path}: cannot be read as a video; is it whole, and does OpenCV '
                           'have the decoder (FFmpeg)?')
        yield capture
    finally:
        capture.release()
