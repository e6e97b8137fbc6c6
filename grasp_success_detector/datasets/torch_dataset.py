"""Labelled frames as a PyTorch data set, decoded and cropped in the same way as by the node."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
import torch
from torch.utils.data import Dataset

from grasp_success_detector.datasets.dataset import LabelledFrame
from grasp_success_detector.errors import DatasetError, ImageDecodeError
from grasp_success_detector.images.decoding import decode_message
from grasp_success_detector.images.preprocessing import Preprocessing
from grasp_success_detector.inference.hand_finder import look

Augmentation = Callable[[torch.Tensor], torch.Tensor]


class AugmentedFrame(NamedTuple):
    """
    Index of a frame and the seed of its random augmentation.

    The seed belongs to the sample, so that the augmentation depends neither on the number of
    loading processes nor on whether the training was interrupted.
    """

    frame: int
    seed: int


class FrameDataset(Dataset[tuple[torch.Tensor, int]]):
    """
    Data set of (RGB uint8 tensor (h, w, 3) at the classifier's input size, value of the label).

    Indexing with a number gives the unchanged frame, with an :class:`AugmentedFrame` an augmented
    one. Frames are decoded on access; a DatasetError is raised for one that cannot be.

    :param preprocessing: crop and input size of the classifier.
    :param augmentation: maps uint8 (3, h, w) to the same shape, drawing from torch's generator.
    :param keep: keep each image in memory once it was decoded and cropped, in each process.
    """

    def __init__(self, frames: Sequence[LabelledFrame], preprocessing: Preprocessing,
                 augmentation: Augmentation | None = None, keep: bool = False) -> None:
        self._frames = frames
        self._preprocessing = preprocessing
        self._augmentation = augmentation
        self._kept: dict[int, torch.Tensor] | None = {} if keep else None

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, key: int | AugmentedFrame) -> tuple[torch.Tensor, int]:
        number = key.frame if isinstance(key, AugmentedFrame) else key
        image = self._image(number)
        if self._augmentation is not None and isinstance(key, AugmentedFrame):
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(key.seed)
                image = self._augmentation(image.permute(2, 0, 1))  # (3, h, w)
            image = image.permute(1, 2, 0).contiguous()
        return image, int(self._frames[number].label)

    def _image(self, number: int) -> torch.Tensor:
        if self._kept is not None and number in self._kept:
            return self._kept[number]
        image = torch.from_numpy(prepare(self._frames[number], self._preprocessing))
        if self._kept is not None:
            self._kept[number] = image
        return image


def prepare_message(message: Any, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """
    Decode, crop and resize an image message as the node does.

    :returns: RGB uint8 (h, w, 3), at the classifier's input size.
    :raises ImageDecodeError: the message cannot be decoded.
    """
    return look(decode_message(message, preprocessing.half_suffices), preprocessing).image


def prepare(frame: LabelledFrame, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Decode, crop and resize a frame; raise DatasetError with its name if it is damaged."""
    try:
        return prepare_message(frame.message, preprocessing)
    except (ImageDecodeError, OSError) as error:
        name = getattr(frame.message, 'path', f'{frame.attempt} at {frame.stamp_ns}')
        raise DatasetError(f'{name}: this frame cannot be read ({error}); extract the data set '
                           'again') from error
