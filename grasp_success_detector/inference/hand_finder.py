"""Find the hand in a frame, and cut it out as a classifier wants to see it."""

from functools import cache
import os
from threading import Lock
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from grasp_success_detector.files import share_path
from grasp_success_detector.images.preprocessing import check_rgb, Preprocessing
from grasp_success_detector.inference.engine import Engine, Precision
from grasp_success_detector.inference.opencv_engine import OpenCvEngine
from grasp_success_detector.inference.openvino_engine import OpenVinoEngine
from grasp_success_detector.inference.torch_engine import TorchEngine
from grasp_success_detector.networks.checkpoint import Checkpoint, HandFinderMetadata
from grasp_success_detector.networks.hand_boxes import HandBox, read_box

#: The hand finder that ships with the package, below its share folder.
FINDER_FILE = 'models/hand_finder.safetensors'


_making_finder = Lock()


class View(NamedTuple):
    """
    What a classifier is shown of a frame.

    :ivar image: RGB uint8 (height, width, 3), of the classifier's input size.
    :ivar box: the hand in the frame; None where none was looked for, or found.
    :ivar no_hand: whether a hand was looked for and none found; then the image is the whole
        region of interest.
    """

    image: NDArray[np.uint8]
    box: HandBox | None
    no_hand: bool


class HandFinder:
    """
    Finds the hand in frames; may be called from several threads.

    :ivar threshold: confidence below which there is no hand.
    """

    def __init__(self, kind: type[Engine], precision: Precision = Precision.FP32,
                 device: str = 'cpu') -> None:
        """
        Prepare the shipped network on an engine, such as the classifier's.

        :param precision: in place of int8 it is bf16 where the device can, else fp32.
        :raises ConfigError: the engine cannot run it; CheckpointError: the file is damaged.
        """
        checkpoint = Checkpoint.open(share_path(FINDER_FILE), HandFinderMetadata)
        self.threshold = checkpoint.metadata.threshold
        self._size = checkpoint.metadata.preprocessing
        if precision is Precision.INT8:
            precision = Precision.BF16 if kind.unsupported(
                Precision.BF16, device) is None else Precision.FP32
        self.engine = kind(checkpoint, precision, device)
        self._lock = Lock()     # engines are for one thread

    def find(self, frame: NDArray[np.uint8],
             within: tuple[float, float, float, float] = (0., 0., 1., 1.)) -> HandBox | None:
        """
        Return the hand of a frame, in fractions of the frame; None if there is none.

        :param frame: RGB uint8 (H, W, 3).
        :param within: region of interest ``(x, y, width, height)`` in which it is looked for.
        :raises ImageDecodeError: the frame is not RGB uint8 (H, W, 3).
        """
        check_rgb(frame)
        height, width, _ = frame.shape
        x, y, wide, high = within
        left, top = int(x * width), int(y * height)
        right, bottom = (max(round((x + wide) * width), left + 1),
                         max(round((y + high) * height), top + 1))
        small = self._size.squeeze(frame[top:bottom, left:right])
        with self._lock:
            values = self.engine.logits(small[None])[0]
        found = read_box(values, self._size)
        if not found.confidence >= self.threshold:      # also refuses NaN
            return None
        wide, high = (right - left) / width, (bottom - top) / height
        return HandBox(left / width + wide * found.left, top / height + high * found.top,
                       left / width + wide * found.right, top / height + high * found.bottom,
                       found.confidence)


def look(frame: NDArray[np.uint8], preprocessing: Preprocessing,
         finder: HandFinder | None = None, box: HandBox | None = None) -> View:
    """
    Cut out of a frame what a classifier is shown: the region of interest, or the hand in it.

    :param frame: RGB uint8 (H, W, 3).
    :param finder: of the classifier's engine; None: this process's own, in fp32.
    :param box: the hand, where it is known already.
    :raises ImageDecodeError: the frame is not RGB uint8 (H, W, 3).
    """
    if not preprocessing.hand:
        return View(preprocessing.crop_and_resize(frame), None, False)
    if box is None:
        box = (finder or _own_finder()).find(frame, preprocessing.roi)
    return View(preprocessing.crop_and_resize(frame, box.edges if box else None), box, box is None)


def _own_finder() -> HandFinder:
    with _making_finder:    # threads that come first all want one
        return _finder_of(os.getpid())


@cache
def _finder_of(process: int) -> HandFinder:
    """Return a finder for this process: a forked one must not use the threads of its parent."""
    kinds: tuple[type[Engine], ...] = (OpenVinoEngine, TorchEngine)
    return HandFinder(next((kind for kind in kinds if not kind.unsupported(
        Precision.FP32, 'cpu')), OpenCvEngine))
