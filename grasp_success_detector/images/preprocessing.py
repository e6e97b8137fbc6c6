"""Turn a frame into a network's input: crop, resize and normalize it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from grasp_success_detector.errors import ConfigError, ImageDecodeError
from grasp_success_detector.settings import check_settings, setting

if TYPE_CHECKING:
    import torch  # takes a second, and a converted network does not need it

Triple = tuple[float, float, float]

#: Smallest width and height of a region of interest, as fractions of the frame.
SMALLEST_ROI = 0.01

#: Where the hand is looked for, the least height and width of a frame that was decoded at half.
HALVED_SIDE = 240

#: Left, top, right and bottom edge of a box, as fractions of a frame's width and height.
Edges = tuple[float, float, float, float]


@dataclass(frozen=True)
class Preprocessing:
    """
    How a camera frame becomes a classifier's input.

    :ivar height: height of the input, in pixels.
    :ivar width: width of the input, in pixels.
    :ivar roi: region of interest ``(x, y, width, height)`` as fractions of the frame, from its top
        left corner.
    :ivar mean: mean of the red, green and blue channel, for pixel values from 0 to 1.
    :ivar std: standard deviation of the three channels, in the same scale.
    :ivar hand: side of the square around the hand that is cut out, as a multiple of the longer
        side of the hand's box; 0: the region of interest is used and no hand is looked for.
    :raises ConfigError: a field has an invalid value.
    """

    height: int = setting(lowest=1, highest=4096)
    width: int = setting(lowest=1, highest=4096)
    roi: tuple[float, float, float, float] = setting((0., 0., 1., 1.), lowest=0., highest=1.)
    mean: Triple = setting((0.5, 0.5, 0.5), lowest=0., highest=1.)
    std: Triple = setting((0.5, 0.5, 0.5), lowest=0.001, highest=10.)
    hand: float = setting(0., lowest=0., highest=10.)

    def __post_init__(self) -> None:
        """Check every field."""
        check_settings(self, ConfigError, 'preprocessing:', _roi_checks(self))
        for name in ('roi', 'mean', 'std'):  # an int is the same number, but other JSON
            object.__setattr__(self, name, tuple(map(float, getattr(self, name))))

    def crop_and_resize(self, frame: NDArray[np.uint8], box: Edges | None = None,
                        ) -> NDArray[np.uint8]:
        """
        Cut the region of interest, or the hand, out of a frame and resize it to the input's size.

        To keep the aspect ratio, only the largest centred rectangle of the region with the input's
        aspect ratio is used.

        :param frame: RGB uint8 (H, W, 3).
        :param box: the hand's edges, where ``hand`` is not 0; None: the region of interest.
        :returns: RGB uint8 (height, width, 3), contiguous, never a view of the frame.
        :raises ImageDecodeError: reason ``'not_rgb'``: other type or shape, or no pixels.
        """
        check_rgb(frame)
        top, left, height, width = self.region(frame.shape[0], frame.shape[1], box)
        return self._resized(frame[top:top + height, left:left + width])

    def squeeze(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Resize a whole frame, RGB uint8 (H, W, 3), to the input's size, whatever its shape."""
        check_rgb(frame)
        return self._resized(frame)

    def _resized(self, part: NDArray[np.uint8]) -> NDArray[np.uint8]:
        shrinking = part.shape[0] * part.shape[1] > self.height * self.width
        return np.asarray(cv2.resize(
            np.ascontiguousarray(part), (self.width, self.height),
            interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR), np.uint8)

    def half_suffices(self, height: int, width: int) -> bool:
        """
        Return whether a frame of this size may be decoded at half of it, which is faster.

        It may if the region of interest at half size is at least as large as the input; where the
        hand is yet to be found, if the halved frame is as large as those of the simulation that
        the networks learn from. A quarter is not used: decisions begin to differ, and little more
        time is saved.
        """
        if self.hand:
            return min(height, width) >= 2 * HALVED_SIDE
        _, _, halved_height, halved_width = self.region((height + 1) // 2, (width + 1) // 2)
        return halved_height >= self.height and halved_width >= self.width

    def normalize(self, images: 'torch.Tensor') -> 'torch.Tensor':
        """
        Scale images to 0..1, subtract the mean and divide by the standard deviation.

        :param images: RGB uint8 (B, H, W, 3), on any device.
        :returns: float32 (B, 3, H, W) on the same device, in torch.channels_last, the layout in
            which convolutions on CPUs are fastest.
        :raises ConfigError: the images have another type or shape.
        """
        import torch

        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[-1] != 3:
            raise ConfigError(f'normalize: got {images.dtype} {tuple(images.shape)}; expected '
                              'torch.uint8 (B, H, W, 3), RGB')
        # Whole rows instead of pixels of three values: long loops are fast on processors.
        batch, height, width, _ = images.shape
        factor, offset = (torch.from_numpy(each).to(images.device).repeat(width)
                          for each in self.factor_and_offset())
        rows = images.reshape(batch, height, 3 * width).float()
        pixels = torch.addcmul(offset, rows, factor).view(batch, height, width, 3)
        return pixels.permute(0, 3, 1, 2)  # (B, 3, H, W)

    def factor_and_offset(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return float32 (3,) each; ``v * factor + offset`` equals ``(v / 255 - mean) / std``."""
        mean, std = np.array(self.mean, np.float32), np.array(self.std, np.float32)
        return np.reciprocal(std * np.float32(255)), -mean / std

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any]) -> 'Preprocessing':
        """
        Build from a dict of all fields, as read from JSON; ConfigError if one is wrong.

        Files that were written before there was ``hand`` lack it.
        """
        names = {declared.name for declared in fields(cls)}
        if not isinstance(metadata, Mapping) or {*metadata, 'hand'} != names:
            given = sorted(metadata) if isinstance(metadata, Mapping) else metadata
            raise ConfigError(f'preprocessing: got {given!r}; expected {sorted(names)}')
        return cls(**metadata)

    def region(self, height: int, width: int, box: Edges | None = None,
               ) -> tuple[int, int, int, int]:
        """
        Return top, left, height and width, in pixels, of the crop of a frame of this size.

        :param box: the hand's edges; the crop is the square around it, moved and shrunk as far as
            it must be to lie in the frame.
        """
        if box is not None and self.hand:
            wide = high = self.hand * max(
                (box[2] - box[0]) * width, (box[3] - box[1]) * height, 1.)
            start_x, start_y = ((box[0] + box[2]) * width - wide) / 2, (
                (box[1] + box[3]) * height - high) / 2
        else:
            x, y, roi_width, roi_height = self.roi
            wide, high = roi_width * width, roi_height * height
            start_x, start_y = x * width, y * height
        scale = min(wide / self.width, high / self.height,
                    width / self.width, height / self.height)
        crop_width = min(max(round(scale * self.width), 1), width)
        crop_height = min(max(round(scale * self.height), 1), height)
        left = round(start_x + (wide - crop_width) / 2)
        top = round(start_y + (high - crop_height) / 2)
        return (min(max(top, 0), height - crop_height), min(max(left, 0), width - crop_width),
                crop_height, crop_width)


def check_rgb(frame: NDArray[np.uint8]) -> None:
    """Raise an ImageDecodeError, reason ``'not_rgb'``, unless a frame is RGB uint8 (H, W, 3)."""
    if (not isinstance(frame, np.ndarray) or frame.dtype != np.uint8 or frame.ndim != 3
            or frame.shape[2] != 3 or frame.size == 0):
        given = (f'{frame.dtype} {frame.shape}' if isinstance(frame, np.ndarray)
                 else type(frame).__name__)
        raise ImageDecodeError(
            'not_rgb', f'frame: got {given}; expected an RGB array, uint8 (H, W, 3)')


def _roi_checks(given: Preprocessing) -> Iterator[tuple[str, bool, str]]:
    x, y, width, height = given.roi
    # The sums may exceed 1 by rounding: 0.7 + 0.3 of decimal fractions is not exactly 1.
    yield ('roi', min(width, height) >= SMALLEST_ROI and max(x + width, y + height) <= 1 + 1e-9,
           'x, y, width and height inside the frame, as fractions of it, width and height of '
           f'{SMALLEST_ROI} or more')
