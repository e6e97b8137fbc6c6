"""Random changes of training frames: what a camera and its mounting may change, no more."""

import torch
from torchvision.transforms import v2


def camera_augmentation() -> v2.Transform:
    """
    Return small shifts, turns and zooms, and changes of light and colour.

    No mirror image: a mirrored right hand is a left hand. Maps uint8 (3, h, w) to the same.
    """
    return v2.Compose([
        v2.RandomAffine(degrees=5, translate=(.06, .06), scale=(.9, 1.12),
                        interpolation=v2.InterpolationMode.BILINEAR),
        v2.ColorJitter(brightness=.3, contrast=.3, saturation=.3, hue=.03),
        v2.RandomApply([v2.Lambda(_sensor_noise)], p=.3)])


def _sensor_noise(image: torch.Tensor) -> torch.Tensor:
    noisy = image.to(torch.float32) + 5. * torch.randn(image.shape)
    return noisy.clamp_(0, 255).to(torch.uint8)
