"""Pictures without an Allegro hand, made from what packages ship and from random numbers."""

from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import matplotlib
import mujoco
import numpy as np
from numpy.typing import NDArray
import skimage
import sklearn

from grasp_success_detector.images.decoding import read_image
from grasp_success_detector.simulation.presets import Preset, RANGES
from grasp_success_detector.simulation.rendering import Sensor, SimulatedCamera
from grasp_success_detector.simulation.scene import build_scene, HAND_PREFIX

#: RGB uint8 (240, 320, 3).
Picture = NDArray[np.uint8]

WIDTH, HEIGHT = 320, 240

#: Share of each kind of picture.
SHARES = {'photographs': .35, 'simulated scene without hand': .2, 'simulated other gripper': .1,
          'noise': .1, 'textures': .1, 'gradients and plain': .05, 'drawings': .1}

_FOLDERS = (Path(skimage.__file__).parent / 'data',
            Path(sklearn.__file__).parent / 'datasets/images',
            Path(matplotlib.__file__).parent / 'mpl-data/sample_data')
_SUFFIXES = ('.png', '.jpg')


def make_pictures(count: int, seed: int) -> Iterator[tuple[str, Picture]]:
    """Yield kind and picture; the same ``count`` and ``seed`` give the same pictures."""
    makers: dict[str, Callable[[np.random.Generator], Picture]] = {
        'photographs': _photographs(), 'noise': _noise, 'textures': _texture,
        'gradients and plain': _gradient, 'drawings': _drawing}
    for kind, share in SHARES.items():
        rng = np.random.default_rng([seed, *kind.encode()])
        number = round(share * count)
        if kind.startswith('simulated'):
            for picture in _scenes(rng, number, gripper=kind.endswith('gripper')):
                yield kind, picture
        else:
            for _ in range(number):
                yield kind, makers[kind](rng)


def folder_pictures(folder: Path, count: int, seed: int) -> Iterator[tuple[str, Picture]]:
    """Yield ``count`` randomly chosen pictures of a folder and its subfolders."""
    files = sorted(file for file in folder.rglob('*') if file.suffix.lower() in _SUFFIXES)
    chosen = np.random.default_rng(seed).permutation(len(files))[:count]
    for number in sorted(chosen):
        yield folder.name, _fitted(read_image(files[number]))


def _fitted(image: NDArray[np.uint8]) -> Picture:
    return np.asarray(cv2.resize(image, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA), np.uint8)


def _photographs() -> Callable[[np.random.Generator], Picture]:
    """Return a maker of random crops, also mirrored and turned, of the packages' pictures."""
    images = [read_image(file) for folder in _FOLDERS for file in sorted(folder.iterdir())
              if file.suffix in _SUFFIXES and file.stat().st_size > 10_000]

    def make(rng: np.random.Generator) -> Picture:
        image = images[rng.integers(len(images))]
        most = min(image.shape[0] / HEIGHT, image.shape[1] / WIDTH)
        scale = most * rng.uniform(.35, 1.)
        height, width = max(round(scale * HEIGHT), 1), max(round(scale * WIDTH), 1)
        top = rng.integers(image.shape[0] - height + 1)
        left = rng.integers(image.shape[1] - width + 1)
        crop = image[top:top + height, left:left + width]
        if rng.random() < .5:
            crop = crop[:, ::-1]
        if rng.random() < .25:
            crop = np.rot90(crop, int(rng.integers(1, 4)))
        if rng.random() < .25:
            crop = np.clip(crop * rng.uniform(.4, 1.6, 3), 0, 255).astype(np.uint8)
        return _fitted(np.ascontiguousarray(crop))
    return make


def _noise(rng: np.random.Generator) -> Picture:
    """Return noise of a random grain around a random colour."""
    grain = int(rng.choice([1, 1, 2, 4, 16, 64]))
    shape = (-(-HEIGHT // grain), -(-WIDTH // grain), int(rng.choice([1, 3])))
    values = rng.uniform(0, 255, 3) + rng.uniform(10, 120) * rng.standard_normal(shape)
    small = np.clip(np.broadcast_to(values, (*shape[:2], 3)), 0, 255).astype(np.uint8)
    how = cv2.INTER_CUBIC if rng.random() < .5 else cv2.INTER_NEAREST
    return np.asarray(cv2.resize(small, (WIDTH, HEIGHT), interpolation=how), np.uint8)


def _texture(rng: np.random.Generator) -> Picture:
    """Return stripes, checks, waves or a mosaic, turned and in two or more colours."""
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    angle, period = rng.uniform(0, np.pi), rng.uniform(4, 80)
    along = (x * np.cos(angle) + y * np.sin(angle)) / period
    across = (y * np.cos(angle) - x * np.sin(angle)) / period
    colours = rng.uniform(0, 255, (16, 3))
    kind = rng.integers(4)
    if kind == 0:
        pattern = np.floor(along).astype(int) % 2
    elif kind == 1:
        pattern = (np.floor(along) + np.floor(across)).astype(int) % 2
    elif kind == 2:
        share = (np.sin(2 * np.pi * along + np.sin(across)) + 1) / 2
        return (colours[0] + share[..., None] * (colours[1] - colours[0])).astype(np.uint8)
    else:
        centres = rng.uniform(0, 1, (int(rng.integers(8, 120)), 2)) * (HEIGHT, WIDTH)
        far = (y[..., None] - centres[:, 0]) ** 2 + (x[..., None] - centres[:, 1]) ** 2
        pattern = far.argmin(-1) % len(colours)
    return colours[pattern].astype(np.uint8)


def _gradient(rng: np.random.Generator) -> Picture:
    """Return one colour, or a passage between two, with a little noise."""
    y, x = np.mgrid[:HEIGHT, :WIDTH] / np.float32(HEIGHT)
    angle = rng.uniform(0, 2 * np.pi)
    way = x * np.cos(angle) + y * np.sin(angle)
    share = (way - way.min()) / (way.max() - way.min())
    first, second = rng.uniform(0, 255, (2, 3))
    image = first + (rng.random() < .6) * share[..., None] * (second - first)
    noise = rng.uniform(0, 6) * rng.standard_normal(image.shape)
    return np.asarray(np.clip(image + noise, 0, 255), np.uint8)


def _drawing(rng: np.random.Generator) -> Picture:
    """Return discs, bars, lines and writing on a plain ground, as on a screen."""
    image = np.full((HEIGHT, WIDTH, 3), rng.uniform(0, 255, 3).astype(np.uint8))
    for _ in range(rng.integers(3, 25)):
        colour = [int(value) for value in rng.integers(0, 256, 3)]
        first, second = ([int(rng.integers(WIDTH)), int(rng.integers(HEIGHT))] for _ in range(2))
        kind = rng.integers(4)
        if kind == 0:
            cv2.circle(image, first, int(rng.integers(3, 70)), colour, cv2.FILLED, cv2.LINE_AA)
        elif kind == 1:
            cv2.rectangle(image, first, second, colour, cv2.FILLED)
        elif kind == 2:
            cv2.line(image, first, second, colour, int(rng.integers(1, 14)), cv2.LINE_AA)
        else:
            cv2.putText(image, 'no hand', first, cv2.FONT_HERSHEY_SIMPLEX,
                        float(rng.uniform(.4, 3)), colour, int(rng.integers(1, 6)), cv2.LINE_AA)
    return image


def _scenes(rng: np.random.Generator, count: int, gripper: bool) -> Iterator[Picture]:
    """Yield simulated scenes of the ``rig`` preset, arm and hand hidden or with a gripper."""
    ranges = RANGES[Preset.RIG]
    camera = SimulatedCamera(WIDTH, HEIGHT)
    try:
        for _ in range(count):
            model = build_scene(rng, ranges).model
            _hide_hand(model, arm=not gripper)
            if gripper:
                _add_gripper(model, rng)
            camera.load(model)
            yield Sensor(rng, ranges).expose(camera.render(model.qpos0))
    finally:
        camera.close()


def _hide_hand(model: mujoco.MjModel, arm: bool) -> None:
    for geom in range(model.ngeom):
        body = model.body(model.geom_bodyid[geom]).name
        if body.startswith(HAND_PREFIX) or (arm and body == 'mount'):
            model.geom_matid[geom], model.geom_rgba[geom, 3] = -1, 0


def _add_gripper(model: mujoco.MjModel, rng: np.random.Generator) -> None:
    """Turn hidden parts of the hand into a gripper: two or three jaws, or a suction cup."""
    palm = model.body(f'{HAND_PREFIX}palm').id
    free = iter(np.flatnonzero(model.geom_rgba[:, 3] == 0))
    colour = rng.uniform(.1, .9) * np.ones(3) if rng.random() < .6 else rng.uniform(.1, .9, 3)

    def place(kind: mujoco.mjtGeom, size: list[float], position: list[float]) -> None:
        geom = next(free)
        model.geom_bodyid[geom], model.geom_type[geom] = palm, kind
        model.geom_size[geom], model.geom_pos[geom] = size, position
        model.geom_quat[geom], model.geom_dataid[geom] = [1, 0, 0, 0], -1
        model.geom_rgba[geom] = [*colour * rng.uniform(.7, 1.), 1]
        model.geom_rbound[geom] = 0     # 0: never left out as being outside the picture

    box, cylinder = mujoco.mjtGeom.mjGEOM_BOX, mujoco.mjtGeom.mjGEOM_CYLINDER
    place(box, [.03, rng.uniform(.04, .08), .025], [0, 0, -.06])
    jaws = int(rng.integers(1, 4))
    if jaws == 1:
        place(cylinder, [.012, .05, 0], [0, 0, .0])
        place(cylinder, [rng.uniform(.02, .04), .012, 0], [0, 0, .055])
        return
    opening, length = rng.uniform(.02, .06), rng.uniform(.04, .08)
    for jaw in range(jaws):
        angle = 2 * np.pi * jaw / jaws + np.pi / 2
        x, y = opening * np.cos(angle), opening * np.sin(angle)
        place(box, [.008, .008, length], [x, y, length - .035])
        place(box, [.01, .01, .014], [.8 * x, .8 * y, 2 * length - .04])
