"""Procedural textures, so that no picture has to be shipped or downloaded."""

import cv2
import mujoco
import numpy as np
from numpy.typing import NDArray

_SIZE = 128


def noise_texture(rng: np.random.Generator, varied: bool) -> NDArray[np.uint8]:
    """
    Draw octaves of smooth noise between two colours; stretched noise looks like wood grain.

    :param varied: any hue; else wood and greys.
    :returns: RGB uint8 (128, 128, 3).
    """
    stretch = int(rng.choice([1, 1, 6]))
    field = np.zeros((_SIZE, _SIZE), np.float32)
    for octave, cells in enumerate((4, 8, 16, 32, 64)):
        grid = rng.random((max(1, cells // stretch) + 1, cells + 1), dtype=np.float32)
        field += .6 ** octave * cv2.resize(grid, (_SIZE, _SIZE), interpolation=cv2.INTER_LINEAR)
    field = (field - field.min()) / np.ptp(field)
    tint = rng.normal(0, .12, 3) if varied else rng.uniform(0, .12) * np.array([1., 0., -1.])
    light = np.clip(rng.uniform(.3, .85) + tint, 0, 1)
    dark = np.clip(light * rng.uniform(.55, 1.1), 0, 1)
    mixed = field[..., None] * light + (1 - field[..., None]) * dark  # (128, 128, 3)
    return np.asarray(mixed * 255, np.uint8)


def add_material(spec: mujoco.MjSpec, name: str, rng: np.random.Generator, repeat: float,
                 varied: bool) -> None:
    """Add a material with a texture of its own; ``repeat`` tiles per metre or face."""
    image = noise_texture(rng, varied)
    texture = spec.add_texture()
    texture.name, texture.type = name, mujoco.mjtTexture.mjTEXTURE_2D
    texture.height, texture.width, texture.nchannel = image.shape
    texture.data = image.tobytes()
    material = spec.add_material()
    material.name = name
    material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = name
    material.texrepeat = [repeat, repeat]
    material.specular, material.shininess = rng.uniform(0, .5), rng.uniform(0, .8)
    if varied and name == 'object':  # plain, strongly coloured things are common on tables
        material.rgba = [*rng.uniform(.3, 1., 3), 1.]
