"""
The one decode path: image message, bytes or file -> RGB uint8 (H, W, 3).

Training, evaluation and the node all read their frames here, so they see the same pixels. Messages
are taken by their fields, not by their class: those of rclpy and of rosbags both work.
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
from grasp_success_detector.images.headers import inspect, PNG_MAGIC

RgbImage: TypeAlias = NDArray[np.uint8]
HalfSuffices: TypeAlias = Callable[[int, int], bool]
Decoder: TypeAlias = Callable[[Any, HalfSuffices | None], RgbImage]

#: Larger pictures are refused before any memory is taken for them.
MAX_PIXELS = 100_000_000


class ImageFault(str, Enum):
    """Why a frame was refused; ``ImageDecodeError.reason`` is one of these values."""

    NOT_AN_IMAGE = 'not_an_image'          #: no image message, or a field of a wrong type
    UNKNOWN_ENCODING = 'unknown_encoding'  #: Image.encoding is none of ENCODINGS
    BAD_SIZE = 'bad_size'                  #: zero, or a size that the encoding cannot have
    TOO_LARGE = 'too_large'                #: more than MAX_PIXELS
    BAD_STEP = 'bad_step'                  #: Image.step is smaller than one row of pixels
    SHORT_DATA = 'short_data'              #: fewer than height * step bytes
    EMPTY_DATA = 'empty_data'              #: no byte at all
    UNKNOWN_FORMAT = 'unknown_format'      #: compressed, but neither jpeg nor png
    DEPTH_IMAGE = 'depth_image'            #: compressedDepth: distances, no colours
    TRUNCATED = 'truncated'                #: the jpeg or png ends too early
    BROKEN_DATA = 'broken_data'            #: the jpeg or png is damaged
    UNREADABLE_FILE = 'unreadable_file'    #: no such file, or no permission
    CV_BRIDGE = 'cv_bridge'                #: cv_bridge, where selected, could not decode it


class _Encoding(NamedTuple):
    pixel_bytes: int
    to_rgb: int | None     # code for cv2.cvtColor; None: is RGB already
    smallest: int = 1      # fewest rows and columns
    pairs: bool = False    # two neighbouring pixels share their colour: even widths only


_UYVY = _Encoding(2, cv2.COLOR_YUV2RGB_UYVY, pairs=True)
_YUYV = _Encoding(2, cv2.COLOR_YUV2RGB_YUY2, pairs=True)

# OpenCV names a Bayer order by the second and third pixel of the SECOND row, ROS by the first two
# of both rows: ROS's rggb is OpenCV's BG. Below 3x3 OpenCV answers with black.
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
    'bayer_rggb8': _Encoding(1, cv2.COLOR_BayerBG2RGB, smallest=3),
    'bayer_bggr8': _Encoding(1, cv2.COLOR_BayerRG2RGB, smallest=3),
    'bayer_gbrg8': _Encoding(1, cv2.COLOR_BayerGR2RGB, smallest=3),
    'bayer_grbg8': _Encoding(1, cv2.COLOR_BayerGB2RGB, smallest=3),
    'yuv422': _UYVY,
    'uyvy': _UYVY,
    'yuv422_yuy2': _YUYV,
    'yuyv': _YUYV,
}
_SIXTEEN_BIT = ('mono16', '16UC1')

#: Every value of Image.encoding that can be decoded.
ENCODINGS = tuple(_ENCODINGS)

# Before OpenCV 4.11 only BGR can be had of it.
_DIRECTLY_RGB = getattr(cv2, 'IMREAD_COLOR_RGB', None)

_JPEG_OR_PNG = 'expected a jpeg (ff d8 ff ...) or png (89 50 4e 47 ...)'


def decode_message(msg: Any, half_suffices: HalfSuffices | None = None) -> RgbImage:
    """
    Decode a ``sensor_msgs/Image`` or ``sensor_msgs/CompressedImage``.

    ``8UC1`` is taken as grey and ``8UC3`` as BGR, as OpenCV has it. 16 bits (``mono16``,
    ``16UC1``, 16-bit png) become 8 by ``value >> 8``: the full range 0..65535 becomes 0..255,
    whatever part of it the camera uses. YUV is BT.601, limited range. Alpha is dropped.

    :param msg: message of rclpy or rosbags, or any object with the same fields.
    :param half_suffices: says of a height and width whether half of them is enough, as
        ``Preprocessing.half_suffices`` does. Of a jpeg libjpeg then makes that picture, of
        (H + 1) // 2 rows and (W + 1) // 2 columns, in half of the time. None: always all of it.
    :return: RGB uint8 (H, W, 3), C-contiguous. For an unpadded ``rgb8`` it is a view of the
        message's data, which may be read-only: don't write into it.
    :raises ImageDecodeError: with one of :class:`ImageFault`.
    """
    if hasattr(msg, 'encoding'):
        return _decode_raw(msg)
    if hasattr(msg, 'format') and hasattr(msg, 'data'):
        return _decode_compressed(_as_bytes(msg.data).tobytes(), msg.format, half_suffices)
    raise _error(ImageFault.NOT_AN_IMAGE, f'{type(msg).__name__} is no image message; '
                 'expected a sensor_msgs/Image or sensor_msgs/CompressedImage')


def decode_bytes(data: Any, half_suffices: HalfSuffices | None = None) -> RgbImage:
    """
    Decode the bytes of a jpeg or png: grey or colour, 8 or 16 bit, with or without alpha.

    EXIF orientation is ignored.

    :param data: bytes, bytearray, memoryview, array.array or uint8 array.
    :param half_suffices: as of :func:`decode_message`.
    :return: RGB uint8 (H, W, 3), C-contiguous.
    :raises ImageDecodeError: with one of :class:`ImageFault`.
    """
    return _decode_compressed(_as_bytes(data).tobytes(), None, half_suffices)


def read_image(path: Path | str) -> RgbImage:
    """
    Read a jpeg or png file, told by its content and not by its name.

    :return: RGB uint8 (H, W, 3), C-contiguous.
    :raises ImageDecodeError: with one of :class:`ImageFault`; the text begins with the path.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise _error(ImageFault.UNREADABLE_FILE, f'{path}: cannot be read ({error.strerror}); '
                     'expected a jpeg or png file') from error
    try:
        return decode_bytes(data)
    except ImageDecodeError as error:
        raise ImageDecodeError(error.reason, f'{path}: {error}') from error


def encode_jpeg(rgb: RgbImage, quality: int = 95) -> bytes:
    """
    Encode RGB uint8 (H, W, 3) as jpeg.

    :param quality: 1 (small) to 100 (good).
    :raises ValueError: no such image, or one that a jpeg cannot hold (over 65,500 wide or high).
    """
    if not 1 <= quality <= 100:
        raise ValueError(f'jpeg quality {quality}; expected 1 to 100')
    return _encode('.jpg', rgb, [cv2.IMWRITE_JPEG_QUALITY, quality])


def encode_png(rgb: RgbImage) -> bytes:
    """
    Encode RGB uint8 (H, W, 3) as png, without loss.

    :raises ValueError: no such image.
    """
    return _encode('.png', rgb, [])


def _error(reason: ImageFault, text: str) -> ImageDecodeError:
    return ImageDecodeError(reason.value, text)


def _shown(value: object) -> str:
    # Fields of a broken message may be long or hold line ends; errors stay one short line.
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
    _check_size(height, width, encoding, layout)
    row_bytes = width * layout.pixel_bytes
    if step < row_bytes:
        raise _error(ImageFault.BAD_STEP, f'step {step} is too small; {width} pixels of '
                     f'{encoding} need at least {row_bytes} bytes')
    if data.size < height * step:
        raise _error(ImageFault.SHORT_DATA, f'data has {data.size} bytes; expected '
                     f'{height * step} ({height} rows with step {step})')
    # The padding, of any width, is cut off as bytes: a step need not be whole pixels.
    rows = data[:height * step].reshape(height, step)[:, :row_bytes]
    pixels = rows.reshape(height, width, layout.pixel_bytes)
    if encoding in _SIXTEEN_BIT:
        pixels = pixels[:, :, 0 if bigendian else 1]  # the high byte is value >> 8
    elif layout.pixel_bytes == 1:
        pixels = pixels[:, :, 0]
    return _to_rgb(pixels, layout.to_rgb)


def _check_size(height: int, width: int, encoding: str, layout: _Encoding) -> None:
    given = f'image of {width} x {height} (width x height) in {encoding}'
    if min(height, width) < layout.smallest:
        raise _error(ImageFault.BAD_SIZE, f'{given}; expected at least '
                     f'{layout.smallest} x {layout.smallest}')
    if layout.pairs and width % 2:
        raise _error(ImageFault.BAD_SIZE, f'{given}; expected an even width')
    _check_pixels(height, width)


def _check_pixels(height: int, width: int) -> None:
    if height * width > MAX_PIXELS:
        raise _error(ImageFault.TOO_LARGE, f'image of {width} x {height} (width x height); '
                     f'expected at most {MAX_PIXELS // 1_000_000} megapixels')


def _to_rgb(pixels: NDArray[np.uint8], code: int | None) -> RgbImage:
    if code is None:
        return np.ascontiguousarray(pixels)
    rgb: Any = cv2.cvtColor(pixels, code)  # copes with padded rows itself
    return np.asarray(rgb, np.uint8)


def _decode_compressed(payload: bytes, declared: str | None,
                       half_suffices: HalfSuffices | None) -> RgbImage:
    """
    Decode by content.

    :param declared: ``CompressedImage.format``, such as ``'rgb8; jpeg compressed bgr8'``. Only
        what the content cannot tell is taken from it: that a grey png is a Bayer mosaic.
    """
    given = '' if declared is None else f' (format {_shown(declared)})'
    if not payload:
        raise _error(ImageFault.EMPTY_DATA, f'no data{given}; {_JPEG_OR_PNG}')
    found = inspect(payload)
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
    # image_transport compresses a Bayer image to png as it is: a grey mosaic, of 8 or 16 bit.
    source = str(declared).split(';')[0].replace('16', '8')
    mosaic = found.grey and source in ENCODINGS and 'bayer' in source
    encoding = source if mosaic else 'bgr8' if _DIRECTLY_RGB is None else 'rgb8'
    pixels: Any = None
    height, width = found.height, found.width
    if height and width:
        _check_size(height, width, encoding, _ENCODINGS[encoding])
        half = (found.kind == 'jpeg' and half_suffices is not None
                and half_suffices(height, width))
        if half:
            height, width = (height + 1) // 2, (width + 1) // 2
        try:
            pixels = cv2.imdecode(np.frombuffer(payload, np.uint8), _flags(mosaic, half))
        except cv2.error:
            pass  # like None, what it mostly answers to damage
    if pixels is None or pixels.shape[:2] != (height, width):
        raise _error(ImageFault.BROKEN_DATA, f'{size} is damaged and cannot be decoded; '
                     f'expected a whole, undamaged {found.kind}')
    return _to_rgb(pixels, _ENCODINGS[encoding].to_rgb)


def _flags(mosaic: bool, half: bool) -> int:
    # The camera may say in EXIF that it hung upside down; its raw topic isn't turned.
    flags = cv2.IMREAD_IGNORE_ORIENTATION
    if half:
        flags |= cv2.IMREAD_REDUCED_GRAYSCALE_2     # the bit of the size alone
    if mosaic:
        return flags | cv2.IMREAD_GRAYSCALE
    return flags | (cv2.IMREAD_COLOR if _DIRECTLY_RGB is None else _DIRECTLY_RGB)


def _encode(suffix: str, rgb: RgbImage, options: list[int]) -> bytes:
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or 0 in rgb.shape:
        raise ValueError(f'{rgb.dtype} array of shape {rgb.shape}; expected RGB uint8 (H, W, 3)')
    try:
        done, data = cv2.imencode(suffix, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), options)
    except cv2.error as error:
        raise ValueError(f'no {suffix} of an image of shape {rgb.shape} ({error.err})') from error
    if not done:
        raise ValueError(f'OpenCV could not make a {suffix} of an image of shape {rgb.shape}')
    return bytes(data)
