"""Pictures of single frames, read again for a report."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from grasp_success_detector.data.frame_reader import RefusedFrame
from grasp_success_detector.evaluation.attempts import FrameVerdict
from grasp_success_detector.evaluation.recordings import Recording
from grasp_success_detector.image import RgbImage

Made = TypeVar('Made')

#: Source and number of a frame.
FrameKey = tuple[str, int]


def key_of(frame: FrameVerdict) -> FrameKey:
    """Return what a frame is found by."""
    return frame.source, frame.number


def read_pictures(recordings: Sequence[Recording], wanted: Iterable[FrameVerdict],
                  make: Callable[[RgbImage], Made]) -> Mapping[FrameKey, Made]:
    """
    Read each wanted frame once; those that cannot be decoded are left out.

    :param make: what is kept of a picture, RGB uint8 (H, W, 3).
    """
    keys = {key_of(frame) for frame in wanted}
    made: dict[FrameKey, Made] = {}
    for recording in recordings:
        frames = [frame for frame in recording.frames if (recording.name, frame.number) in keys]
        for frame, result in recording.read(frames, make) if frames else ():
            if not isinstance(result, RefusedFrame):
                made[recording.name, frame.number] = result
    return made
