"""
Decode picture files of any common kind: jpeg, png, webp, bmp, tiff; upright, as EXIF says.

Recordings hold jpeg and png only, which :mod:`.decoding` reads, and a camera's EXIF orientation is
not looked at there. A photograph is turned as its EXIF orientation says.
"""

import io
from typing import Final
import warnings

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from grasp_success_detector.errors import ImageDecodeError, one_line
from grasp_success_detector.images.decoding import (
    decode_bytes,
    HalfSuffices,
    ImageFault,
    MAX_PIXELS,
    RgbImage,
)
from grasp_success_detector.images.message_fields import read_picture_header

_ORIENTATION: Final = 0x0112    #: EXIF's and TIFF's tag; 1: upright

#: Pillow's modes with more than 8 bits a channel whose high byte is taken, as of 16-bit png.
_SIXTEEN_BIT: Final = ('I;16', 'I;16L', 'I;16B', 'I;16N')

#: Pixels that take at most 1 s of CPU time, where MAX_PIXELS would take longer: of 6 megapixels of
#: noise, a webp took 0.06 s a megapixel, a tiff (of jpeg) 0.025 s (one core of an AMD EPYC).
_MOST_PIXELS: Final = {'webp': 16_000_000, 'tiff': 40_000_000}

#: Run-length encoded bmp are decoded in Python: 2 MB of short runs took 0.55 s.
_LARGEST_RLE: Final = 3 << 20

#: Pillow's modes without a range that could be mapped to 0..255: 32-bit integers, floats.
_NO_RANGE: Final = ('I', 'F')


def decode_picture(data: bytes, half_suffices: HalfSuffices | None = None) -> RgbImage:
    """
    Decode a jpeg, png, webp, bmp or tiff, the first page of several, and turn it upright.

    16 bits become 8 by ``value >> 8``, alpha is dropped, CMYK, palettes and grey become RGB.

    :param half_suffices: the same parameter as that of
        :func:`~grasp_success_detector.images.decoding.decode_message`; used for jpeg that is not
        turned.
    :returns: RGB uint8 (H, W, 3), C-contiguous.
    :raises ImageDecodeError: with one of :class:`~.decoding.ImageFault` as its reason.
    """
    if read_picture_header(data) is None:
        return _by_pillow(data)
    orientation = exif_orientation(data)
    rgb = decode_bytes(data, half_suffices if orientation == 1 else None)
    return _turned(rgb, orientation)


def exif_orientation(data: bytes) -> int:
    """Return the EXIF orientation of a jpeg or png, 1 to 8; 1 (upright) where it has none."""
    if b'Exif' not in data and b'eXIf' not in data:
        return 1
    found = read_picture_header(data)
    if found is None or found.height * found.width > MAX_PIXELS:
        return 1    # decoding refuses it
    try:
        with Image.open(io.BytesIO(data), formats=('JPEG', 'PNG')) as picture:
            orientation: int = picture.getexif().get(_ORIENTATION, 1)
    except Exception:   # noqa: BLE001 - damaged metadata raise errors of any kind
        return 1
    return orientation if orientation in range(1, 9) else 1


def _turned(rgb: RgbImage, orientation: int) -> RgbImage:
    """Turn a picture upright (CIPA DC-008, Exif 2.32, 4.6.4: orientation)."""
    if orientation >= 5:    # rows and columns are swapped
        rgb = rgb.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        rgb = rgb[::-1]
    if orientation in (2, 3, 6, 7):
        rgb = rgb[:, ::-1]
    return np.ascontiguousarray(rgb)


def _by_pillow(data: bytes) -> RgbImage:
    """Decode a webp, bmp or tiff."""
    if not data:
        raise ImageDecodeError(ImageFault.EMPTY_DATA.value, 'an empty file; expected a picture')
    try:
        with warnings.catch_warnings():
            # Of large pictures, which are refused below.
            warnings.simplefilter('ignore', Image.DecompressionBombWarning)
            picture = Image.open(io.BytesIO(data), formats=('WEBP', 'BMP', 'TIFF'))
        with picture:
            width, height = picture.size
            kind, mode = str(picture.format).lower(), picture.mode
            most = _MOST_PIXELS.get(kind, MAX_PIXELS)
            packed = bool(picture.tile) and picture.tile[0][0] == 'bmp_rle'
            if width * height > most:
                raise ImageDecodeError(
                    ImageFault.TOO_LARGE.value, f'a {kind} of {width} x {height} (width x height) '
                    f'takes too long to decode; expected at most {most // 1_000_000} megapixels')
            if packed and len(data) > _LARGEST_RLE:
                raise ImageDecodeError(
                    ImageFault.TOO_LARGE.value, f'a run-length encoded bmp of {len(data)} bytes '
                    f'takes too long to decode; expected at most {_LARGEST_RLE >> 20} MiB, or one '
                    'without compression')
            if mode in _NO_RANGE:
                raise ImageDecodeError(
                    ImageFault.UNKNOWN_FORMAT.value, f'a {kind} of 32-bit numbers; expected 8 or '
                    '16 bits a channel')
            picture.load()  # tiff is turned here already, and says so from then on
            upright = ImageOps.exif_transpose(picture)
            if mode in _SIXTEEN_BIT:
                grey = (np.asarray(upright).astype(np.uint16) >> 8).astype(np.uint8)
                return np.repeat(grey[:, :, None], 3, 2)
            return np.ascontiguousarray(np.asarray(upright.convert('RGB'), np.uint8))
    except Image.DecompressionBombError as error:
        raise ImageDecodeError(
            ImageFault.TOO_LARGE.value, 'the picture is too large; expected at most '
            f'{MAX_PIXELS // 1_000_000} megapixels') from error
    except UnidentifiedImageError as error:
        raise ImageDecodeError(
            ImageFault.UNKNOWN_FORMAT.value, f'data begins with {data[:4].hex(" ")}; expected a '
            'jpeg, png, webp, bmp or tiff') from error
    except ImageDecodeError:
        raise
    except Exception as error:  # damaged files raise errors of any kind
        raise ImageDecodeError(
            ImageFault.BROKEN_DATA.value, f'the picture is damaged ({one_line(error)})'
            ) from error
