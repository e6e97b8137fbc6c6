"""Convert image messages to RGB arrays (by this package or cv_bridge) and back, without rclpy."""

from array import array
from enum import Enum
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from grasp_success_detector.errors import ConfigError, ImageDecodeError, one_line
from grasp_success_detector.images import decoding
from grasp_success_detector.images.encoding import check_rgb
from grasp_success_detector.images.message_fields import read_picture_header


class ImageDecoder(Enum):
    """Decoder of image messages: this package's own, or cv_bridge."""

    NATIVE = 'native'
    CV_BRIDGE = 'cv_bridge'


def select_decoder(decoder: ImageDecoder) -> decoding.Decoder:
    """
    Return the function that turns Image and CompressedImage messages into RGB uint8 (H, W, 3).

    ``native`` is :func:`grasp_success_detector.images.decoding.decode_message`. ``cv_bridge``
    gives the same pixels as in other nodes, always at full size; docs/images.md lists encodings
    that it cannot decode. The returned function raises ImageDecodeError only.

    :raises ConfigError: cv_bridge cannot be imported.
    """
    if decoder is ImageDecoder.NATIVE:
        return decoding.decode_message
    try:
        # The compiled part first: cv_bridge itself imports it only at the first frame.
        import_module('cv_bridge.boost.cv_bridge_boost')
        bridge = import_module('cv_bridge').CvBridge()
    except Exception as error:  # one built for another numpy fails in many ways
        raise ConfigError(
            f'image_decoder cv_bridge: cannot be imported ({one_line(error)}); install '
            'ros-$ROS_DISTRO-cv-bridge or set image_decoder to native') from error
    return partial(_decode_with, bridge)


def _decode_with(bridge: Any, msg: Any, _: decoding.HalfSuffices | None = None,
                 ) -> decoding.RgbImage:
    compressed = hasattr(msg, 'format')
    try:
        if compressed:
            found = read_picture_header(bytes(msg.data))
            if found and not found.complete:  # older OpenCV fills what is missing with grey
                raise ValueError(f'{found.kind} of {len(msg.data)} bytes ends too early')
            if found:
                decoding.check_cost(found, len(msg.data))
            rgb = bridge.compressed_imgmsg_to_cv2(msg, desired_encoding='rgb8')
        else:
            rgb = bridge.imgmsg_to_cv2(_without_padding(bridge, msg), desired_encoding='rgb8')
    except Exception as error:
        raise _cv_bridge_error(msg, one_line(error)) from error
    if rgb is None:
        raise _cv_bridge_error(msg, 'it returned None')
    if not isinstance(rgb, np.ndarray) or rgb.dtype != np.uint8 or rgb.shape[2:] != (3,):
        raise _cv_bridge_error(msg, 'what it returned is no RGB image')
    if 0 in rgb.shape or (not compressed and rgb.shape[:2] != (msg.height, msg.width)):
        raise _cv_bridge_error(msg, f'it returned {rgb.shape[1]} x {rgb.shape[0]} pixels')
    return np.ascontiguousarray(rgb)


def _without_padding(bridge: Any, msg: Any) -> Any:
    """Return the message without padding between its rows, which cv_bridge reads wrongly."""
    # cv_bridge 1.x ignores step, 3.x rounds it down to whole pixels: a sheared picture, no error.
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
    return ImageDecodeError(
        decoding.ImageFault.CV_BRIDGE.value,
        f'cv_bridge cannot decode {given!r:.60}: {what}; image_decoder native may')


def to_image_message(rgb: NDArray[np.uint8], header: Header) -> Image:
    """
    Return an array, RGB uint8 (H, W, 3), as an Image message in rgb8 with unpadded rows.

    :raises ValueError: the array has another shape or dtype.
    """
    check_rgb(rgb)
    height, width, _ = rgb.shape
    message = Image(header=header, height=height, width=width, encoding='rgb8', step=3 * width)
    # An array of type B is the one type that the setter takes without checking each byte.
    message.data = array('B', rgb.tobytes())
    return message
