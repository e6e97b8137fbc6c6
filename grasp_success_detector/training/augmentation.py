"""Random changes of training frames: what a camera and its mounting may change, no more."""

from collections.abc import Callable, Sequence

import torch
from torchvision.transforms import v2

#: By the names that the configuration lists. No mirror image: a mirrored right hand is a left one.
AUGMENTATIONS: dict[str, Callable[[], v2.Transform]] = {
    'shift_turn_zoom': lambda: v2.RandomAffine(
        degrees=5, translate=(.06, .06), scale=(.9, 1.12),
        interpolation=v2.InterpolationMode.BILINEAR),
    'light_and_colour': lambda: v2.ColorJitter(
        brightness=.3, contrast=.3, saturation=.3, hue=.03),
    'sensor_noise': lambda: v2.RandomApply([v2.Lambda(_sensor_noise)], p=.3),
}


def camera_augmentation(names: Sequence[str] = tuple(AUGMENTATIONS)) -> v2.Transform:
    """
    Return the changes of these names, one after the other.

    :param names: keys of ``AUGMENTATIONS``.
    :return: maps uint8 (3, h, w) to the same.
    """
    return v2.Compose([AUGMENTATIONS[name]() for name in names])


def _sensor_noise(image: torch.Tensor) -> torch.Tensor:
    noisy = image.to(torch.float32) + 5. * torch.randn(image.shape)
    return noisy.clamp_(0, 255).to(torch.uint8)
