"""Encode RGB pixels as jpeg or png; with isal, png is 2 to 4 times as fast as with OpenCV."""

import struct
from zlib import crc32

import cv2
import numpy as np

from grasp_success_detector.images.decoding import RgbImage
from grasp_success_detector.images.message_fields import PNG_MAGIC

try:
    from isal import isal_zlib  # Intel's, also for ARM
except ImportError:
    isal_zlib = None  # type: ignore[assignment]

_FILTER_UP, _COLOUR_RGB = 2, 2

_ZLIB_HEADER = b'\x78\x01'
_STORED_BYTES = 64


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
    if isal_zlib is None:
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
    pixels = _zlib_stream(rows.reshape(-1).data)
    return b''.join([PNG_MAGIC, _chunk(b'IHDR', header), _chunk(b'IDAT', pixels),
                     _chunk(b'IEND', b'')])


def _zlib_stream(data: memoryview) -> bytes:
    """
    Compress bytes to a zlib stream that depends on them alone.

    ISA-L (2.32.1) hashes the third byte of a stream by what a register held before
    (`write_first_byte` in its igzip_icf_body_h1_gr_bt.asm: `tmp2` is not set), so that one picture
    in some thousands gets other bytes in another process. After a dictionary that code is not run:
    the first bytes are stored, and are the dictionary of the rest. Source of the format: RFC 1950
    and 1951.
    """
    stored, rest = data[:_STORED_BYTES], data[_STORED_BYTES:]
    lengths = struct.pack('<HH', len(stored), len(stored) ^ 0xFFFF)
    deflate = isal_zlib.compressobj(1, wbits=-15, zdict=stored)
    return b''.join([_ZLIB_HEADER, b'\x00', lengths, stored, deflate.compress(rest),
                     deflate.flush(), struct.pack('>I', isal_zlib.adler32(data))])


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
