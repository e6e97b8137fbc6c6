"""Random changes of training images, as cameras and mounts make them."""

from collections.abc import Callable, Sequence

import torch
from torchvision.transforms import v2

from grasp_success_detector.training.recipe import Augmentation, TrainingConfig

AUGMENTATIONS: dict[Augmentation, Callable[[], v2.Transform]] = {
    Augmentation.SHIFT_TURN_ZOOM: lambda: v2.RandomAffine(
        degrees=5, translate=(.06, .06), scale=(.9, 1.12),
        interpolation=v2.InterpolationMode.BILINEAR),
    Augmentation.LIGHT_AND_COLOUR: lambda: v2.ColorJitter(
        brightness=.3, contrast=.3, saturation=.3, hue=.03),
    Augmentation.SENSOR_NOISE: lambda: v2.RandomApply([v2.Lambda(_sensor_noise)], p=.3),
    Augmentation.MIRROR: v2.RandomHorizontalFlip,
}


def camera_augmentation(changes: Sequence[Augmentation] = TrainingConfig.augmentation,
                        ) -> v2.Transform:
    """Return a transform of uint8 images (3, h, w) that applies these changes in order."""
    return v2.Compose([AUGMENTATIONS[change]() for change in changes])


def _sensor_noise(image: torch.Tensor) -> torch.Tensor:
    noisy = image.to(torch.float32) + 5. * torch.randn(image.shape)
    return noisy.clamp_(0, 255).to(torch.uint8)
