"""
Decode image messages, bytes and files to RGB uint8 (H, W, 3): raw (also Bayer, YUV), jpeg, png.

Training, evaluation and the node all read their frames here, so that they get the same pixels.
Messages are read by their fields, not by their class: those of rclpy and of rosbags both work.
"""

from collections.abc import Callable
from enum import Enum
import operator
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from grasp_success_detector.errors import ImageDecodeError
from grasp_success_detector.files import check_regular
from grasp_success_detector.images.message_fields import (
    PictureHeader,
    PNG_MAGIC,
    read_picture_header,
)

RgbImage: TypeAlias = NDArray[np.uint8]
HalfSuffices: TypeAlias = Callable[[int, int], bool]
Decoder: TypeAlias = Callable[[Any, HalfSuffices | None], RgbImage]

#: Larger pictures are refused before memory is allocated for them.
MAX_PIXELS = 100_000_000

#: A jpeg or png that would take longer to decode is refused before it is decoded.
MAX_DECODE_S = 1.

# Upper bounds of what OpenCV needs, in ns per pixel, measured with blurred pictures and noise on
# one core of an AMD EPYC: png 33, jpeg 13, and at most 3 for each further scan of a jpeg.
_NS_PER_PIXEL = {'jpeg': 16, 'png': 40}
_NS_PER_PIXEL_AND_SCAN = 4
# Each scan also costs some microseconds in a picture of a few pixels. Encoders write about 10.
_MAX_SCANS = 200
# A jpeg has at least one bit for each block of 8 x 8 pixels (ITU-T T.81, F.1.2); deflate shrinks
# data to no less than 1/1032 (RFC 1951), and a pixel of a png has at least one bit.
_MAX_PIXELS_PER_BYTE = {'jpeg': 8 * 8 * 8, 'png': 8 * 1032}


class ImageFault(str, Enum):
    """Why a frame was refused; ``ImageDecodeError.reason`` is one of these values."""

    NOT_AN_IMAGE = 'not_an_image'          #: not an image message, or a field of a wrong type
    UNKNOWN_ENCODING = 'unknown_encoding'  #: Image.encoding is not in ENCODINGS
    BAD_SIZE = 'bad_size'                  #: zero, or a size that the encoding cannot have
    TOO_LARGE = 'too_large'                #: more than MAX_PIXELS, or than can be decoded in 1 s
    TOO_MANY_SCANS = 'too_many_scans'      #: progressive jpeg that cannot be decoded in 1 s
    BAD_STEP = 'bad_step'                  #: Image.step is smaller than one row of pixels
    SHORT_DATA = 'short_data'              #: fewer than height * step bytes
    EMPTY_DATA = 'empty_data'              #: compressed data of 0 bytes
    UNKNOWN_FORMAT = 'unknown_format'      #: compressed, but neither jpeg nor png
    DEPTH_IMAGE = 'depth_image'            #: compressedDepth: distances instead of colours
    TRUNCATED = 'truncated'                #: the jpeg or png ends too early
    BROKEN_DATA = 'broken_data'            #: the jpeg or png is damaged
    UNREADABLE_FILE = 'unreadable_file'    #: the file is missing or may not be read
    CV_BRIDGE = 'cv_bridge'                #: cv_bridge was selected and cannot decode it


class _Encoding(NamedTuple):
    pixel_bytes: int
    to_rgb: int | None     # code for cv2.cvtColor; None: is RGB already
    smallest: int = 1      # fewest rows and columns
    pairs: bool = False    # two neighbouring pixels share their colour: even widths only


# Bayer: OpenCV demosaics bilinearly, and returns black below 3 x 3 pixels. It names an order by
# the second and third pixel of the SECOND row, ROS by the first two of both rows: ROS's rggb is
# OpenCV's BG.
_BAYER = {
    f'bayer_{order}8': _Encoding(1, code, smallest=3) for order, code in (
        ('rggb', cv2.COLOR_BayerBG2RGB), ('bggr', cv2.COLOR_BayerRG2RGB),
        ('gbrg', cv2.COLOR_BayerGR2RGB), ('grbg', cv2.COLOR_BayerGB2RGB))}
_UYVY = _Encoding(2, cv2.COLOR_YUV2RGB_UYVY, pairs=True)
_YUYV = _Encoding(2, cv2.COLOR_YUV2RGB_YUY2, pairs=True)
_ENCODINGS = {
    'rgb8': _Encoding(3, None),
    'bgr8': _Encoding(3, cv2.COLOR_BGR2RGB),
    'rgba8': _Encoding(4, cv2.COLOR_RGBA2RGB),
    'bgra8': _Encoding(4, cv2.COLOR_BGRA2RGB),
    'mono8': _Encoding(1, cv2.COLOR_GRAY2RGB),
    'mono16': _Encoding(2, cv2.COLOR_GRAY2RGB),
    '8UC1': _Encoding(1, cv2.COLOR_GRAY2RGB),
    '8UC3': _Encoding(3, cv2.COLOR_BGR2RGB),
    '16UC1': _Encoding(2, cv2.COLOR_GRAY2RGB),
    **_BAYER,
    **dict.fromkeys(('yuv422', 'uyvy'), _UYVY),
    **dict.fromkeys(('yuv422_yuy2', 'yuyv'), _YUYV),
}
_SIXTEEN_BIT = ('mono16', '16UC1')
#: Every value of Image.encoding that can be decoded.
ENCODINGS = tuple(_ENCODINGS)

# OpenCV before 4.11 decodes to BGR only.
_DIRECTLY_RGB = getattr(cv2, 'IMREAD_COLOR_RGB', None)

_JPEG_OR_PNG = 'expected a jpeg (ff d8 ff ...) or png (89 50 4e 47 ...)'


def decode_message(msg: Any, half_suffices: HalfSuffices | None = None) -> RgbImage:
    """
    Decode a ``sensor_msgs/Image`` or ``sensor_msgs/CompressedImage``.

    ``8UC1`` is read as grey and ``8UC3`` as BGR, as in OpenCV. 16 bits (``mono16``, ``16UC1``,
    16-bit png) become 8 by ``value >> 8``: the full range 0..65535 becomes 0..255, whatever part
    of it the camera uses. YUV is BT.601, limited range. Alpha is dropped.

    :param msg: message of rclpy or rosbags, or any object with the same fields.
    :param half_suffices: function of height and width, such as ``Preprocessing.half_suffices``.
        Where it returns True, a jpeg is decoded at half its size, (H + 1) // 2 rows and
        (W + 1) // 2 columns, in half the time. None: always at full size.
    :returns: RGB uint8 (H, W, 3), C-contiguous. For an unpadded ``rgb8`` it is a view of the
        message's data, which may be read-only: don't write into it.
    :raises ImageDecodeError: with one of :class:`ImageFault` as its reason.
    """
    if hasattr(msg, 'encoding'):
        return _decode_raw(msg)
    if hasattr(msg, 'format') and hasattr(msg, 'data'):
        return _decode_compressed(_as_bytes(msg.data).tobytes(), msg.format, half_suffices)
    raise _error(ImageFault.NOT_AN_IMAGE, f'{type(msg).__name__} is no image message; '
                 'expected a sensor_msgs/Image or sensor_msgs/CompressedImage')


def decode_bytes(data: Any, half_suffices: HalfSuffices | None = None) -> RgbImage:
    """
    Decode a jpeg or png of 8 or 16 bits per channel; EXIF orientation is ignored.

    :param data: bytes, bytearray, memoryview, array.array or uint8 array.
    :param half_suffices: the same parameter as that of :func:`decode_message`.
    :returns: RGB uint8 (H, W, 3), C-contiguous.
    :raises ImageDecodeError: with one of :class:`ImageFault` as its reason.
    """
    return _decode_compressed(_as_bytes(data).tobytes(), None, half_suffices)


def read_image(path: Path | str) -> RgbImage:
    """
    Read a jpeg or png file; the format is found from its content, whatever its name.

    :returns: RGB uint8 (H, W, 3), C-contiguous.
    :raises ImageDecodeError: it cannot be read or decoded; the text begins with the path.
    """
    try:
        check_regular(path)
        return decode_bytes(Path(path).read_bytes())
    except OSError as error:
        raise _error(ImageFault.UNREADABLE_FILE, f'{path}: cannot be read ({error.strerror}); '
                     'expected a jpeg or png file') from error
    except ImageDecodeError as error:
        raise ImageDecodeError(error.reason, f'{path}: {error}') from error


def _error(reason: ImageFault, text: str) -> ImageDecodeError:
    return ImageDecodeError(reason.value, text)


def _shown(value: object) -> str:
    # Fields of a broken message may be long or hold line ends; an error is one short line.
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + '...'


def _as_bytes(data: Any) -> NDArray[np.uint8]:
    """Return a flat uint8 view of any buffer, without a copy."""
    try:
        return np.frombuffer(data, np.uint8)
    except (TypeError, ValueError, BufferError) as error:
        raise _error(ImageFault.NOT_AN_IMAGE, f'data is {_shown(type(data).__name__)}, not '
                     'readable as bytes; expected bytes, array.array or uint8 array') from error


def _decode_raw(msg: Any) -> RgbImage:
    try:
        height, width, step = (operator.index(x) for x in (msg.height, msg.width, msg.step))
        encoding, bigendian = str(msg.encoding), bool(msg.is_bigendian)
        data = _as_bytes(msg.data)
    except (AttributeError, TypeError, ValueError) as error:
        raise _error(ImageFault.NOT_AN_IMAGE, f'{type(msg).__name__} is no image message '
                     f'({_shown(str(error))}); expected a sensor_msgs/Image') from error
    if encoding not in _ENCODINGS:
        raise _error(ImageFault.UNKNOWN_ENCODING, f'unknown encoding {_shown(encoding)}; '
                     f'supported: {", ".join(ENCODINGS)}')
    layout = _ENCODINGS[encoding]
    _check_size(height, width, encoding)
    row_bytes = width * layout.pixel_bytes
    if step < row_bytes:
        raise _error(ImageFault.BAD_STEP, f'step {step} is too small; {width} pixels of '
                     f'{encoding} need at least {row_bytes} bytes')
    if data.size < height * step:
        raise _error(ImageFault.SHORT_DATA, f'data has {data.size} bytes; expected '
                     f'{height * step} ({height} rows with step {step})')
    # The padding is cut off in bytes: a step need not be a multiple of a pixel's size.
    rows = data[:height * step].reshape(height, step)[:, :row_bytes]
    pixels: NDArray[np.uint8] = rows.reshape(height, width, layout.pixel_bytes)
    if encoding in _SIXTEEN_BIT:
        pixels = pixels[:, :, 0 if bigendian else 1]  # the high byte is value >> 8
    elif layout.pixel_bytes == 1:
        pixels = pixels[:, :, 0]
    return _to_rgb(pixels, layout.to_rgb)


def _check_size(height: int, width: int, encoding: str) -> None:
    layout = _ENCODINGS[encoding]
    given = f'image of {width} x {height} (width x height) in {encoding}'
    if min(height, width) < layout.smallest:
        raise _error(ImageFault.BAD_SIZE, f'{given}; expected at least '
                     f'{layout.smallest} x {layout.smallest}')
    if layout.pairs and width % 2:
        raise _error(ImageFault.BAD_SIZE, f'{given}; expected an even width')
    if height * width > MAX_PIXELS:
        raise _error(ImageFault.TOO_LARGE, f'{given}; expected at most '
                     f'{MAX_PIXELS // 1_000_000} megapixels')


def check_cost(header: PictureHeader, size: int) -> None:
    """
    Refuse a jpeg or png that takes longer than ``MAX_DECODE_S`` to decode, or lacks most data.

    :param size: bytes of the whole jpeg or png.
    :raises ImageDecodeError: it is refused; nothing was decoded.
    """
    pixels = header.height * header.width
    given = f'{header.kind} of {header.width} x {header.height} (width x height)'
    if pixels > size * _MAX_PIXELS_PER_BYTE[header.kind]:
        raise _error(ImageFault.TRUNCATED, f'{given} has only {size} bytes; expected at least '
                     f'{pixels // _MAX_PIXELS_PER_BYTE[header.kind] + 1}')
    largest = int(MAX_DECODE_S * 1e9) // _NS_PER_PIXEL[header.kind]
    if pixels > largest:
        raise _error(ImageFault.TOO_LARGE, f'{given} takes too long to decode; expected at most '
                     f'{largest // 1_000_000} megapixels')
    cost_ns = pixels * (_NS_PER_PIXEL[header.kind] + (header.scans - 1) * _NS_PER_PIXEL_AND_SCAN)
    if header.scans > _MAX_SCANS or cost_ns > MAX_DECODE_S * 1e9:
        raise _error(ImageFault.TOO_MANY_SCANS, f'{given} with {header.scans} scans takes too '
                     'long to decode; expected a baseline jpeg, or fewer scans')


def _to_rgb(pixels: NDArray[np.uint8], code: int | None) -> RgbImage:
    rgb: Any = pixels if code is None else cv2.cvtColor(pixels, code)  # reads padded rows too
    return np.asarray(rgb, np.uint8, 'C')


def _decode_compressed(payload: bytes, declared: str | None,
                       half_suffices: HalfSuffices | None) -> RgbImage:
    """
    Decode a jpeg or png; its first bytes, not the message, say which it is.

    :param declared: ``CompressedImage.format``, such as ``'rgb8; jpeg compressed bgr8'``.
    """
    given = '' if declared is None else f' (format {_shown(declared)})'
    if not payload:
        raise _error(ImageFault.EMPTY_DATA, f'no data{given}; {_JPEG_OR_PNG}')
    found = read_picture_header(payload)
    if found is None:
        if 'compressedDepth' in str(declared) or payload[12:].startswith(PNG_MAGIC):
            raise _error(ImageFault.DEPTH_IMAGE, f'compressedDepth{given} holds distances, no '
                         'colours; expected the compressed topic of a colour or grey camera')
        raise _error(ImageFault.UNKNOWN_FORMAT, f'data begins with {payload[:4].hex(" ")}{given}; '
                     f'{_JPEG_OR_PNG}')
    size = f'{found.kind} of {len(payload)} bytes'
    if not found.complete:
        raise _error(ImageFault.TRUNCATED, f'{size} ends too early (no end-of-image mark); '
                     f'expected a whole {found.kind}')
    # image_transport stores a Bayer image as a png of its mosaic: grey, 8 or 16 bits.
    source = str(declared).split(';')[0].replace('16', '8')
    mosaic = found.grey and source in _BAYER
    encoding = source if mosaic else 'bgr8' if _DIRECTLY_RGB is None else 'rgb8'
    pixels: Any = None
    height, width = found.height, found.width
    if height and width:
        _check_size(height, width, encoding)
        check_cost(found, len(payload))
        half = found.kind == 'jpeg' and half_suffices is not None and half_suffices(height, width)
        if half:
            height, width = (height + 1) // 2, (width + 1) // 2
        # EXIF may say that the camera hung upside down, but its raw topic is not turned either.
        flags = (cv2.IMREAD_IGNORE_ORIENTATION
                 | (cv2.IMREAD_REDUCED_GRAYSCALE_2 if half else 0)  # the flag for half the size
                 | (cv2.IMREAD_GRAYSCALE if mosaic else _DIRECTLY_RGB or cv2.IMREAD_COLOR))
        try:
            pixels = cv2.imdecode(np.frombuffer(payload, np.uint8), flags)
        except cv2.error:
            pass  # as where it returns None, which it mostly does where the data is damaged
    if pixels is None or pixels.shape[:2] != (height, width):
        raise _error(ImageFault.BROKEN_DATA, f'{size} is damaged and cannot be decoded; '
                     f'expected a whole, undamaged {found.kind}')
    return _to_rgb(pixels, _ENCODINGS[encoding].to_rgb)
