"""Random changes of training images, as cameras and mounts make them."""

from collections.abc import Callable, Sequence
import math

import cv2
import numpy as np
from numpy.typing import NDArray

from grasp_success_detector.training.recipe import Augmentation, TrainingConfig

Image = NDArray[np.uint8]
Change = Callable[[Image, np.random.Generator], Image]

#: RGB to YIQ: brightness, and two axes of colour (NTSC).
_YIQ = np.array([[.299, .587, .114], [.596, -.274, -.322], [.211, -.523, .312]])


def camera_augmentation(changes: Sequence[Augmentation] = TrainingConfig.augmentation) -> Change:
    """
    Return a function that applies these changes in order.

    It takes RGB uint8 (h, w, 3) and the generator that it draws from, and returns the same shape.
    """
    def change(image: Image, rng: np.random.Generator) -> Image:
        for name in changes:
            image = AUGMENTATIONS[name](image, rng)
        return np.ascontiguousarray(image)

    return change


def _shift_turn_zoom(image: Image, rng: np.random.Generator) -> Image:
    height, width, _ = image.shape
    matrix = cv2.getRotationMatrix2D(
        ((width - 1) / 2, (height - 1) / 2), rng.uniform(-5., 5.), rng.uniform(.9, 1.12))
    matrix[:, 2] += rng.uniform(-.06, .06, 2) * np.array([width, height])
    return np.asarray(cv2.warpAffine(image, matrix, (width, height)), np.uint8)


def _light_and_colour(image: Image, rng: np.random.Generator) -> Image:
    """Change brightness, contrast, saturation and hue, all in one linear map of the colours."""
    light, contrast, colour = rng.uniform(.7, 1.3, 3)
    hue = 2 * math.pi * rng.uniform(-.03, .03)
    changed = np.eye(3)     # of YIQ
    changed[1:, 1:] = colour * np.array([[math.cos(hue), -math.sin(hue)],
                                         [math.sin(hue), math.cos(hue)]])
    matrix = light * contrast * np.linalg.inv(_YIQ) @ changed @ _YIQ
    grey = light * (1 - contrast) * (_YIQ[0] @ cv2.mean(image)[:3])
    return np.asarray(cv2.transform(image, np.column_stack([matrix, [grey] * 3])), np.uint8)


def _sensor_noise(image: Image, rng: np.random.Generator) -> Image:
    if rng.random() >= .3:
        return image
    noise = 5 * rng.standard_normal(image.shape, np.float32)
    return np.asarray(np.rint(np.clip(image + noise, 0, 255)), np.uint8)


def _mirror(image: Image, rng: np.random.Generator) -> Image:
    return image[:, ::-1] if rng.random() < .5 else image


AUGMENTATIONS: dict[Augmentation, Change] = {
    Augmentation.SHIFT_TURN_ZOOM: _shift_turn_zoom,
    Augmentation.LIGHT_AND_COLOUR: _light_and_colour,
    Augmentation.SENSOR_NOISE: _sensor_noise,
    Augmentation.MIRROR: _mirror,
}
