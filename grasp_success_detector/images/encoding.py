"""Write png two to four times as fast as OpenCV does, where the package isal is installed."""

from collections.abc import Callable
import struct
from zlib import crc32

import numpy as np

from grasp_success_detector.images.decoding import encode_png as encode_with_opencv, RgbImage

_deflate: Callable[[bytes, int], bytes] | None
try:
    from isal.isal_zlib import compress as _deflate  # Intel's, also for ARM
except ImportError:
    _deflate = None

_FILTER_UP = 2
_COLOUR_RGB = 2


def encode_png(rgb: RgbImage) -> bytes:
    """
    Encode RGB uint8 (H, W, 3) as png, without loss (PNG specification, sections 5, 9 and 10).

    :raises ValueError: no such image.
    """
    if _deflate is None or rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or (
            0 in rgb.shape):
        return encode_with_opencv(rgb)
    height, width, _ = rgb.shape
    flat = rgb.reshape(height, 3 * width)
    # Each row as its difference from the one above, which compresses better.
    rows = np.empty((height, 1 + 3 * width), np.uint8)
    rows[:, 0] = _FILTER_UP
    rows[0, 1:] = flat[0]
    np.subtract(flat[1:], flat[:-1], out=rows[1:, 1:])
    header = struct.pack('>IIBBBBB', width, height, 8, _COLOUR_RGB, 0, 0, 0)
    return b''.join([b'\x89PNG\r\n\x1a\n', _chunk(b'IHDR', header),
                     _chunk(b'IDAT', _deflate(rows, 1)), _chunk(b'IEND', b'')])  # type: ignore


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', crc32(data, crc32(kind)))
