"""Encode RGB pixels as jpeg or png; with isal, png is 2 to 4 times as fast as with OpenCV."""

from collections.abc import Callable
import struct
from zlib import crc32

import cv2
import numpy as np

from grasp_success_detector.images.decoding import RgbImage
from grasp_success_detector.images.message_fields import PNG_MAGIC

_deflate: Callable[[bytes, int], bytes] | None
try:
    from isal.isal_zlib import compress as _deflate  # Intel's, also for ARM
except ImportError:
    _deflate = None

_FILTER_UP, _COLOUR_RGB = 2, 2


def encode_jpeg(rgb: RgbImage, quality: int = 95) -> bytes:
    """
    Encode RGB uint8 (H, W, 3) as jpeg.

    :param quality: jpeg quality from 1 (smallest file) to 100 (best picture).
    :raises ValueError: not an RGB uint8 image, or one that a jpeg cannot hold (over 65,500 pixels
        wide or high).
    """
    if not 1 <= quality <= 100:
        raise ValueError(f'jpeg quality {quality}; expected 1 to 100')
    return _encode('.jpg', rgb, [cv2.IMWRITE_JPEG_QUALITY, quality])


def encode_png(rgb: RgbImage) -> bytes:
    """
    Encode RGB uint8 (H, W, 3) as png, without loss; ValueError for any other array.

    Source of the format: PNG specification, sections 5, 9 and 10.
    """
    if _deflate is None:
        return _encode('.png', rgb, [])
    check_rgb(rgb)
    height, width, _ = rgb.shape
    flat = rgb.reshape(height, 3 * width)
    # Each row as its difference from the one above, which compresses better.
    rows = np.empty((height, 1 + 3 * width), np.uint8)
    rows[:, 0] = _FILTER_UP
    rows[0, 1:] = flat[0]
    np.subtract(flat[1:], flat[:-1], out=rows[1:, 1:])
    header = struct.pack('>IIBBBBB', width, height, 8, _COLOUR_RGB, 0, 0, 0)
    return b''.join([PNG_MAGIC, _chunk(b'IHDR', header),
                     _chunk(b'IDAT', _deflate(rows, 1)), _chunk(b'IEND', b'')])  # type: ignore


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', crc32(data, crc32(kind)))


def _encode(suffix: str, rgb: RgbImage, options: list[int]) -> bytes:
    check_rgb(rgb)
    try:
        done, data = cv2.imencode(suffix, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), options)
    except cv2.error as error:
        raise ValueError(f'no {suffix} of an image of shape {rgb.shape} ({error.err})') from error
    if not done:
        raise ValueError(f'OpenCV could not make a {suffix} of an image of shape {rgb.shape}')
    return bytes(data)


def check_rgb(rgb: RgbImage) -> None:
    """Raise a ValueError if an array is not RGB uint8 (H, W, 3)."""
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or 0 in rgb.shape:
        raise ValueError(f'{rgb.dtype} array of shape {rgb.shape}; expected RGB uint8 (H, W, 3)')
