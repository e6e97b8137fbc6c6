"""Decoding and making image messages with cv_bridge where it is wanted and installed."""

from array import array
from functools import lru_cache
from importlib import import_module
from typing import Any

import numpy as np
from sensor_msgs.msg import Image

from grasp_success_detector.errors import ConfigError, ImageDecodeError, one_line
from grasp_success_detector.images.decoding import (
    decode_message,
    Decoder,
    HalfSuffices,
    ImageFault,
    RgbImage,
)
from grasp_success_detector.images.message_fields import read_picture_header

NATIVE = 'native'
CV_BRIDGE = 'cv_bridge'

#: Values of the parameter ``image_decoder``; the first is the default.
DECODERS = (NATIVE, CV_BRIDGE)


def select_decoder(name: str) -> Decoder:
    """
    Return the function that turns Image and CompressedImage messages into RGB uint8 (H, W, 3).

    ``native`` is :func:`grasp_success_detector.images.decoding.decode_message`. ``cv_bridge``
    is for those who must have the very pixels that other nodes get from it, always all of
    them; what it cannot decode is an error (docs/images.md has the list). Padding is taken off
    for it, as it gets that wrong.

    :param name: one of DECODERS.
    :return: callable(msg, half_suffices); raises ImageDecodeError and nothing else.
    :raises ConfigError: unknown name, or cv_bridge cannot be imported.
    """
    if name == NATIVE:
        return decode_message
    if name != CV_BRIDGE:
        raise ConfigError(f'image_decoder {name!r} is unknown; expected {" or ".join(DECODERS)}')
    bridge = _cv_bridge()
    if isinstance(bridge, Exception):
        raise ConfigError(
            f'image_decoder cv_bridge: cannot be imported ({one_line(bridge)}); install '
            'ros-$ROS_DISTRO-cv-bridge or set image_decoder to native') from bridge

    def decode(msg: Any, half_suffices: HalfSuffices | None = None) -> RgbImage:
        return _decode_with(bridge, msg)
    return decode


def to_image_message(rgb: RgbImage, header: Any) -> Image:
    """
    Make a sensor_msgs/Image in rgb8 without padding.

    cv_bridge makes it where it is installed, a few lines here where it isn't or fails; the
    messages are equal.

    :param rgb: RGB uint8 (H, W, 3).
    :param header: std_msgs/Header, taken as it is.
    :raises ValueError: no such image.
    """
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or 0 in rgb.shape:
        raise ValueError(f'{rgb.dtype} array of shape {rgb.shape}; expected RGB uint8 (H, W, 3)')
    bridge = _cv_bridge()
    if not isinstance(bridge, Exception):
        try:
            message: Image = bridge.cv2_to_imgmsg(rgb, encoding='rgb8', header=header)
            return message
        except Exception:  # noqa: BLE001 - cv_bridge before 3.x with numpy 2.3 or later
            pass
    height, width, _ = rgb.shape
    message = Image(header=header, height=height, width=width, encoding='rgb8', step=3 * width)
    # An array of type B is the one type that the setter takes without looking at each byte.
    message.data = array('B', rgb.tobytes())
    return message


@lru_cache(maxsize=1)
def _cv_bridge() -> Any:
    """Return the one CvBridge, or the exception that says why there is none."""
    try:
        # The compiled half first: cv_bridge itself would miss it only at the first frame.
        import_module('cv_bridge.boost.cv_bridge_boost')
        return import_module('cv_bridge').CvBridge()
    except Exception as error:  # noqa: BLE001 - one built for another numpy fails in many ways
        return error


def _decode_with(bridge: Any, msg: Any) -> RgbImage:
    compressed = hasattr(msg, 'format')
    try:
        if compressed:
            found = read_picture_header(bytes(msg.data))
            if found and not found.complete:  # older OpenCV fills what is missing with grey
                raise ValueError(f'{found.kind} of {len(msg.data)} bytes ends too early')
            rgb = bridge.compressed_imgmsg_to_cv2(msg, desired_encoding='rgb8')
        else:
            rgb = bridge.imgmsg_to_cv2(_without_padding(bridge, msg), desired_encoding='rgb8')
    except Exception as error:  # TypeError, cv2.error, RuntimeError, ...
        raise _cv_bridge_error(msg, one_line(error)) from error
    if rgb is None:
        raise _cv_bridge_error(msg, 'it returned None')
    if not isinstance(rgb, np.ndarray) or rgb.dtype != np.uint8 or rgb.shape[2:] != (3,):
        raise _cv_bridge_error(msg, 'what it returned is no RGB image')
    if 0 in rgb.shape or (not compressed and rgb.shape[:2] != (msg.height, msg.width)):
        raise _cv_bridge_error(msg, f'it returned {rgb.shape[1]} x {rgb.shape[0]} pixels')
    return np.ascontiguousarray(rgb)


def _without_padding(bridge: Any, msg: Any) -> Any:
    """
    Return the message with no bytes between its rows, itself where there are none.

    cv_bridge 1.x takes no notice of step, 3.x rounds it down to whole pixels, and both answer
    with a sheared picture and no error.
    """
    depth, channels = bridge.encoding_to_dtype_with_channels(msg.encoding)
    row_bytes = msg.width * channels * np.dtype(depth).itemsize
    data = np.frombuffer(msg.data, np.uint8)
    if msg.step < row_bytes or data.size < msg.height * msg.step:
        raise ValueError(f'{data.size} bytes and step {msg.step}; expected {msg.height} rows of '
                         f'{row_bytes} bytes or more')
    if msg.step == row_bytes:
        return msg
    rows = data[:msg.height * msg.step].reshape(msg.height, msg.step)[:, :row_bytes]
    tight = Image(height=msg.height, width=msg.width, encoding=msg.encoding, step=row_bytes,
                  is_bigendian=msg.is_bigendian)
    tight.data = array('B', rows.tobytes())
    return tight


def _cv_bridge_error(msg: Any, what: str) -> ImageDecodeError:
    given = getattr(msg, 'format', None) or getattr(msg, 'encoding', type(msg).__name__)
    return ImageDecodeError(ImageFault.CV_BRIDGE.value, f'cv_bridge cannot decode {given!r:.60}: '
                            f'{what}; image_decoder native may')
