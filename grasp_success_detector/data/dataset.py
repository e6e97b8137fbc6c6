"""Labelled frames as a PyTorch data set: decoded and cropped as the node does it."""

from collections.abc import Callable, Sequence

import torch
from torch.utils.data import Dataset

from grasp_success_detector.data.recordings import LabelledFrame
from grasp_success_detector.image import decode_message
from grasp_success_detector.preprocessing import Preprocessing

Augmentation = Callable[[torch.Tensor], torch.Tensor]


class FrameDataset(Dataset[tuple[torch.Tensor, int]]):
    """
    Items are an RGB uint8 tensor (h, w, 3) at the classifier's input size, and the label.

    Frames are decoded when asked for, so that memory holds them compressed only.

    :param augmentation: maps uint8 (3, h, w) to the same, or None; for training frames only.
    """

    def __init__(self, frames: Sequence[LabelledFrame], preprocessing: Preprocessing,
                 augmentation: Augmentation | None = None) -> None:
        self._frames = frames
        self._preprocessing = preprocessing
        self._augmentation = augmentation

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        frame = self._frames[index]
        image = torch.from_numpy(
            self._preprocessing.crop_and_resize(decode_message(frame.message)))
        if self._augmentation is not None:
            chw = image.permute(2, 0, 1)  # (3, h, w)
            image = self._augmentation(chw).permute(1, 2, 0).contiguous()
        return image, int(frame.label)
