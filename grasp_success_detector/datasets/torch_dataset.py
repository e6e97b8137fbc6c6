"""Labelled frames as a PyTorch data set, decoded and cropped in the same way as by the node."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
import torch
from torch.utils.data import Dataset, get_worker_info

from grasp_success_detector.datasets.cores import one_opencv_thread, usable_cores
from grasp_success_detector.datasets.dataset import LabelledFrame
from grasp_success_detector.errors import DatasetError, ImageDecodeError
from grasp_success_detector.images.decoding import decode_message
from grasp_success_detector.images.preprocessing import Preprocessing
from grasp_success_detector.inference.hand_finder import look, View
from grasp_success_detector.labels import Label

Given = TypeVar('Given')
Made = TypeVar('Made')

Augmentation = Callable[[NDArray[np.uint8], np.random.Generator], NDArray[np.uint8]]

#: In place of a label: the image shows no hand.
WITHOUT_HAND = len(Label)


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

    :ivar frames: the frames.
    :param preprocessing: crop and input size of the classifier.
    :param augmentation: maps RGB uint8 (h, w, 3) to the same shape, drawing from a generator.
    :param keep: keep each image in memory once it was decoded and cropped, in each process.
    :param without_hand: images that show no hand, RGB uint8 (h, w, 3), which follow the frames.
    """

    def __init__(self, frames: Sequence[LabelledFrame], preprocessing: Preprocessing,
                 augmentation: Augmentation | None = None, keep: bool = False,
                 without_hand: Sequence[NDArray[np.uint8]] = ()) -> None:
        self.frames = frames
        self._without_hand = without_hand
        self._preprocessing = preprocessing
        self._augmentation = augmentation
        self._kept: dict[int, View] | None = {} if keep else None

    def __len__(self) -> int:
        return len(self.frames) + len(self._without_hand)

    @property
    def labels(self) -> list[int]:
        """Return the value of each item's label."""
        return ([int(frame.label) for frame in self.frames]
                + [WITHOUT_HAND] * len(self._without_hand))

    def __getitem__(self, key: int | AugmentedFrame) -> tuple[torch.Tensor, int]:
        number = key.frame if isinstance(key, AugmentedFrame) else key
        image = self._image(number)
        if self._augmentation is not None and isinstance(key, AugmentedFrame):
            image = self._augmentation(image, np.random.default_rng(key.seed))
        return torch.from_numpy(image), (
            int(self.frames[number].label) if number < len(self.frames) else WITHOUT_HAND)

    def __getitems__(self, keys: Sequence[int | AugmentedFrame]) -> list[tuple[torch.Tensor, int]]:
        """Return the items of a batch; all cores make them, unless they belong to loaders."""
        if get_worker_info() is not None:
            return [self[key] for key in keys]
        return _on_all_cores(self.__getitem__, keys)

    def views(self, numbers: Sequence[int]) -> list[View]:
        """Return what a classifier is shown of unchanged frames; all cores make it."""
        return _on_all_cores(self._view, numbers)

    def _image(self, number: int) -> NDArray[np.uint8]:
        return (self._view(number).image if number < len(self.frames) else
                self._without_hand[number - len(self.frames)])

    def _view(self, number: int) -> View:
        if self._kept is not None and number in self._kept:
            return self._kept[number]
        seen = view(self.frames[number], self._preprocessing)
        if self._kept is not None:
            self._kept[number] = seen
        return seen


def view_message(message: Any, preprocessing: Preprocessing) -> View:
    """
    Decode, crop and resize an image message as the node does.

    :returns: the image at the classifier's input size, and the hand that was found.
    :raises ImageDecodeError: the message cannot be decoded.
    """
    return look(decode_message(message, preprocessing.half_suffices), preprocessing)


def _on_all_cores(work: Callable[[Given], Made], items: Sequence[Given]) -> list[Made]:
    with one_opencv_thread(), ThreadPoolExecutor(usable_cores()) as threads:
        return list(threads.map(work, items))


def view(frame: LabelledFrame, preprocessing: Preprocessing) -> View:
    """Do what :func:`view_message` does; raise DatasetError with the name of a damaged frame."""
    try:
        return view_message(frame.message, preprocessing)
    except (ImageDecodeError, OSError) as error:
        name = getattr(frame.message, 'path', f'{frame.attempt} at {frame.stamp_ns}')
        raise DatasetError(f'{name}: this frame cannot be read ({error}); extract the data set '
                           'again') from error
