"""How much the picture of a recording changes from frame to frame."""

from collections.abc import Callable, Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from grasp_success_detector.images.decoding import decode_message, RgbImage
from grasp_success_detector.labelling.cutting import cut_by_changes, Cuts
from grasp_success_detector.labelling.material import Material
from grasp_success_detector.recordings.reader import read_frames, RefusedFrame

#: Width and height of the small grey pictures: motion of a hand is seen, noise is averaged out.
_SIZE = 32, 24


def cut_by_pictures(material: Material, on_frame: Callable[[], bool]) -> Cuts:
    """
    Cut a recording by changes in its pictures, or not at all.

    :param on_frame: called for each frame; returns whether to stop early.
    """
    differences = np.zeros(len(material.frames))
    before: NDArray[np.int16] | None = None
    for number, picture in _small_pictures(material):
        if on_frame():
            break
        if picture is not None and before is not None:
            differences[number] = np.abs(picture - before).mean()
        before = before if picture is None else picture
    return cut_by_changes(np.array(material.elapsed_ns) / 1e9, differences) or Cuts()


def _small_pictures(material: Material) -> Iterator[tuple[int, NDArray[np.int16] | None]]:
    def small(rgb: RgbImage) -> NDArray[np.int16]:
        grey = cv2.resize(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), _SIZE,
                          interpolation=cv2.INTER_AREA)
        return np.asarray(cv2.GaussianBlur(grey, (3, 3), 0), np.int16)

    for frame, picture in read_frames(
            material.files, material.topic, material.frames,
            lambda message: small(decode_message(message)), small):
        yield frame.number, None if isinstance(picture, RefusedFrame) else picture
