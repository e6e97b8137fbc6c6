"""From a rendered picture to a photograph: what stands behind, lens, sensor, file, captions."""

import cv2
import numpy as np
from numpy.typing import NDArray

from grasp_success_detector.simulation.assets import read_photograph
from grasp_success_detector.simulation.studio import Studio

Image = NDArray[np.uint8]

_WORDS = ('Learned Policy', '5x', 'x2', 'Demo', 'Ours', 'trial 3', 'Task: grasp', 'camera 1')


def background(rng: np.random.Generator, studio: Studio) -> Image:
    """Return what stands behind, RGB uint8 (H, W, 3): a photograph of the assets, or patches."""
    width, height = studio.width, studio.height
    photographs = studio.assets.photographs
    if photographs and rng.random() < .75:
        image = read_photograph(photographs[rng.integers(len(photographs))], rng, width, height)
    else:
        left, right = rng.uniform(20, 250, (2, 3))
        across = np.linspace(left, right, width)       # (W, 3)
        image = np.broadcast_to(across, (height, width, 3)).astype(np.uint8).copy()
        for _ in range(rng.integers(0, 25)):
            x, y = rng.integers(0, width), rng.integers(0, height)
            size = rng.integers(4, max(width // 3, 5), 2)
            cv2.rectangle(image, (int(x), int(y)), (int(x + size[0]), int(y + size[1])),
                          [int(c) for c in rng.integers(0, 256, 3)], -1)
    if (sigma := rng.uniform(-1.5, 3.)) > 0:    # out of focus
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), sigma + .3), np.uint8)
    return image


def composite(image: Image, distances: NDArray[np.float64], behind: Image) -> Image:
    """Return the image with ``behind`` where nothing was drawn."""
    empty = np.isinf(distances)
    return np.where(empty[..., None], behind, image)


def expose(rng: np.random.Generator, image: Image) -> Image:
    """Return the image as a random camera would store it; RGB uint8 (H, W, 3) both."""
    height, width, _ = image.shape
    x = image.astype(np.float32) / 255
    x = x ** np.float32(rng.uniform(.55, 1.25)) * np.float32(rng.uniform(.75, 1.4))
    x = x * rng.normal(1, .05, 3).astype(np.float32)
    grey = x.mean(2, keepdims=True)
    x = grey + (x - grey) * np.float32(rng.uniform(.5, 1.5))
    if rng.random() < .2:       # haze, or light that falls into the lens
        x = x * np.float32(.75) + np.float32(rng.uniform(.05, .25))
    if rng.random() < .35:
        x = np.asarray(cv2.GaussianBlur(x, (0, 0), rng.uniform(.4, 1.4)), np.float32)
    if rng.random() < .15:      # motion
        length = int(rng.integers(3, 9))
        kernel = np.zeros((length, length), np.float32)
        cv2.line(kernel, (0, int(rng.integers(length))), (length - 1, int(rng.integers(length))),
                 1.)
        x = np.asarray(cv2.filter2D(x, -1, kernel / max(kernel.sum(), 1e-6)), np.float32)
    if rng.random() < .3:       # a picture that was small once
        factor = rng.uniform(.4, .9)
        small = cv2.resize(x, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        x = np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR))
    x = x + rng.standard_normal(x.shape, np.float32) * np.float32(rng.choice([0, .01, .03]))
    out = np.asarray(np.clip(x * 255, 0, 255), np.uint8)
    if rng.random() < .12:
        _caption(rng, out)
    if rng.random() < .06:      # letterbox
        bar, shade = int(height * rng.uniform(.03, .12)), int(rng.choice([0, 0, 255]))
        out[:bar] = out[height - bar:] = shade
    if rng.random() < .6:
        quality = int(rng.integers(25, 90))
        _, data = cv2.imencode('.jpg', out, [cv2.IMWRITE_JPEG_QUALITY, quality])
        out = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
    return out


def _caption(rng: np.random.Generator, image: Image) -> None:
    height, width, _ = image.shape
    place = (int(rng.uniform(.02, .6) * width), int(rng.choice([.1, .95]) * height))
    cv2.putText(image, _WORDS[rng.integers(len(_WORDS))], place, cv2.FONT_HERSHEY_SIMPLEX,
                height / 500, [int(c) for c in rng.choice([0, 255], 3)], 1, cv2.LINE_AA)
