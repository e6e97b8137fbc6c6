"""
The native decoder against the real cv_bridge, where cv_bridge is right.

Runs where cv_bridge and sensor_msgs can be imported; ``test/cv_bridge_env.sh`` makes such a place.
"""

from array import array

import cv2
import numpy as np
import pytest

from grasp_success_detector.errors import ImageDecodeError
from grasp_success_detector.images.decoding import decode_message, ENCODINGS
from grasp_success_detector.images.encoding import encode_jpeg, encode_png

WHERE = ('needs ROS 2 with cv_bridge: install ros-$ROS_DISTRO-cv-bridge, or run '
         'test/cv_bridge_env.sh DIR and then DIR/python -m pytest')
messages = pytest.importorskip('sensor_msgs.msg', reason=WHERE)
Header = pytest.importorskip('std_msgs.msg', reason=WHERE).Header
CvBridge = pytest.importorskip('cv_bridge', reason=WHERE).CvBridge

# Known to be of use only now.
from grasp_success_detector.ros.node.image_conversion import (  # noqa: E402
    ImageDecoder,
    select_decoder,
    to_image_message,
)

HEIGHT, WIDTH = 10, 14
#: Greatest difference to native where cv_bridge is right; it rounds 16 bit to value / 257.
TOLERANCE = {
    'rgb8': 0, 'bgr8': 0, 'rgba8': 0, 'bgra8': 0, 'mono8': 0, 'mono16': 1, 'yuv422': 0,
    'bayer_rggb8': 0, 'bayer_bggr8': 0, 'bayer_gbrg8': 0, 'bayer_grbg8': 0}
#: Not colours to cv_bridge: it will not convert them to rgb8.
REFUSED = ['8UC1', '8UC3', '16UC1']
#: Known to some releases only.
NEWER = ['uyvy', 'yuv422_yuy2', 'yuyv']
PIXEL_BYTES = {'rgb8': 3, 'bgr8': 3, '8UC3': 3, 'rgba8': 4, 'bgra8': 4, 'mono16': 2, '16UC1': 2,
               'yuv422': 2, 'uyvy': 2, 'yuv422_yuy2': 2, 'yuyv': 2}
SWAPS_16_BIT = np.lib.NumpyVersion(np.__version__) < '2.0.0'  # cv_bridge's way is gone in numpy 2


def image(encoding, padding=0, bigendian=0):
    """Return a message whose every byte, padding too, is random: any byte is a valid one."""
    row_bytes = WIDTH * PIXEL_BYTES.get(encoding, 1)
    made = messages.Image(height=HEIGHT, width=WIDTH, encoding=encoding, step=row_bytes + padding,
                          is_bigendian=bigendian)
    random = np.random.default_rng(padding).integers(0, 256, HEIGHT * made.step, np.uint8)
    made.data = array('B', random.tobytes())
    return made


def compressed(data, declared='jpeg'):
    made = messages.CompressedImage(format=declared)
    made.data = array('B', bytes(data))
    return made


def difference(one, other):
    assert one.shape == other.shape and one.dtype == other.dtype == np.uint8
    return int(np.abs(one.astype(int) - other).max())


def picture():
    ramp = np.linspace(0, 255, HEIGHT * 8 * WIDTH * 8).reshape(HEIGHT * 8, WIDTH * 8)
    return np.dstack([ramp, ramp[::-1], ramp[:, ::-1]]).astype(np.uint8)


def test_every_encoding_is_compared():
    assert sorted([*TOLERANCE, *REFUSED, *NEWER]) == sorted(ENCODINGS)


@pytest.mark.parametrize('encoding', TOLERANCE)
def test_unpadded_rows_agree_with_cv_bridge_itself(encoding):
    msg = image(encoding)
    theirs = CvBridge().imgmsg_to_cv2(msg, desired_encoding='rgb8')
    assert difference(decode_message(msg), theirs) <= TOLERANCE[encoding]


@pytest.mark.parametrize('bigendian', [0, 1])
@pytest.mark.parametrize('padding', [0, 1, 2, 3, 5, 12, 64])
@pytest.mark.parametrize('encoding', TOLERANCE)
def test_selected_cv_bridge_agrees(encoding, padding, bigendian):
    msg = image(encoding, padding, bigendian)
    decode = select_decoder(ImageDecoder.CV_BRIDGE)
    if bigendian and encoding == 'mono16' and not SWAPS_16_BIT:
        with pytest.raises(ImageDecodeError, match='cv_bridge cannot decode .*newbyteorder'):
            decode(msg)
        return
    theirs = decode(msg)
    assert theirs.flags.c_contiguous
    assert difference(decode_message(msg), theirs) <= TOLERANCE[encoding]


def test_padding_is_what_cv_bridge_gets_wrong_by_itself():
    """The reason for removing padding: cv_bridge accepts 7 bytes, no whole pixels."""
    msg = image('rgb8', padding=7)
    theirs = CvBridge().imgmsg_to_cv2(msg, desired_encoding='rgb8')
    assert difference(decode_message(msg), theirs) > 100


@pytest.mark.parametrize('encoding', REFUSED)
def test_refused_encodings(encoding):
    with pytest.raises(ImageDecodeError, match=f"cv_bridge cannot decode '{encoding}': .*"
                       'image_decoder native may') as caught:
        select_decoder(ImageDecoder.CV_BRIDGE)(image(encoding))
    assert caught.value.reason == 'cv_bridge'
    assert decode_message(image(encoding)).shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize('encoding', NEWER)
def test_newer_encodings_agree_or_are_refused(encoding):
    try:
        theirs = select_decoder(ImageDecoder.CV_BRIDGE)(image(encoding, padding=6))
    except ImageDecodeError as error:
        assert error.reason == 'cv_bridge' and encoding in str(error)
    else:
        assert difference(decode_message(image(encoding, padding=6)), theirs) == 0


GREY = picture()[..., 0]
COMPRESSED = {
    'colour jpeg': (encode_jpeg(picture()), 'rgb8; jpeg compressed bgr8'),
    'colour png': (encode_png(picture()), 'bgr8; png compressed bgr8'),
    'png with alpha': (cv2.imencode('.png', np.dstack([picture(), GREY]))[1], 'png')}


@pytest.mark.parametrize('name', COMPRESSED)
def test_compressed_agrees(name):
    msg = compressed(*COMPRESSED[name])
    assert difference(decode_message(msg), select_decoder(ImageDecoder.CV_BRIDGE)(msg)) == 0


@pytest.mark.parametrize('suffix', ['.jpg', '.png'])
def test_grey_agrees_or_is_refused(suffix):
    msg = compressed(cv2.imencode(suffix, GREY)[1], 'mono8; jpeg compressed mono8')
    try:
        theirs = select_decoder(ImageDecoder.CV_BRIDGE)(msg)
    except ImageDecodeError as error:
        assert error.reason == 'cv_bridge'
    else:
        assert difference(decode_message(msg), theirs) == 0


@pytest.mark.parametrize('msg', [
    compressed(b''), compressed(b'garbage'), compressed(encode_png(picture())[:-90]),
    compressed(encode_jpeg(picture())[:-90]), compressed(encode_jpeg(picture())[:300]),
    compressed(cv2.imencode('.png', GREY.astype(np.uint16) * 257)[1], 'mono16; png compressed '),
    image('no_such'), image('8UC2'), messages.Image(), messages.Image(encoding='rgb8'),
    messages.Image(encoding='rgb8', height=2, width=2, step=6),
    messages.Image(encoding='rgb8', height=1, width=2, step=5, data=[0] * 5), None, 'text'])
def test_any_exception_of_cv_bridge_becomes_one_error(msg):
    with pytest.raises(ImageDecodeError, match='^cv_bridge cannot decode [^\n]*; image') as caught:
        select_decoder(ImageDecoder.CV_BRIDGE)(msg)
    assert caught.value.reason == 'cv_bridge'


def test_outgoing_message_is_the_same_as_of_cv_bridge():
    header = Header(frame_id='camera')
    header.stamp.sec, header.stamp.nanosec = 5, 6
    pictures = [picture(), picture()[::2, 1::3], picture()[:1, :1]]
    made = [to_image_message(rgb, header) for rgb in pictures]
    bridge = CvBridge()
    assert made == [bridge.cv2_to_imgmsg(rgb, encoding='rgb8', header=header) for rgb in pictures]
    assert [np.array_equal(decode_message(msg), rgb)
            for msg, rgb in zip(made, pictures, strict=True)] == [True] * 3
