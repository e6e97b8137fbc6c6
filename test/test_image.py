"""One decode path: every encoding, padding and byte order; every error has its reason."""

from array import array
from pathlib import Path
import struct
import subprocess
import sys
from types import SimpleNamespace
import zlib

import cv2
from hypothesis import given, HealthCheck, settings, strategies as st
import numpy as np
import pytest
from rosbags.typesys import get_typestore, Stores

from grasp_success_detector.errors import ConfigError, ImageDecodeError
from grasp_success_detector.images import decoding as image_module
from grasp_success_detector.images.decoding import (
    decode_bytes,
    decode_message,
    ENCODINGS,
    ImageFault,
    MAX_PIXELS,
    read_image,
)
from grasp_success_detector.images.encoding import encode_jpeg, encode_png
from grasp_success_detector.images.message_fields import header_stamp_ns

HEIGHT, WIDTH = 16, 24
PADDINGS = (0, 1, 2, 3, 7, 64)
STORE = get_typestore(Stores.ROS2_JAZZY)
PIXEL_BYTES = dict.fromkeys(ENCODINGS, 1) | dict.fromkeys(('rgb8', 'bgr8', '8UC3'), 3) | {
    'rgba8': 4, 'bgra8': 4, 'mono16': 2, '16UC1': 2, 'yuv422': 2, 'uyvy': 2, 'yuv422_yuy2': 2,
    'yuyv': 2}
RANDOM = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


def four_colours():
    """Return a picture that every flip, transposition and swap of channels changes."""
    picture = np.empty((HEIGHT, WIDTH, 3), np.uint8)
    picture[:8, :12], picture[:8, 12:] = (200, 40, 30), (20, 180, 60)
    picture[8:, :12], picture[8:, 12:] = (10, 50, 220), (230, 210, 90)
    return picture


def large(picture):
    """Return it four times as large, since jpeg blends the colours of neighbours."""
    return picture.repeat(4, axis=0).repeat(4, axis=1)


def small(picture):
    return picture[2::4, 2::4]


def yuv_of(rgb):
    """BT.601, limited range, by the formulas of the standard (8-bit full-scale RGB)."""
    red, green, blue = np.moveaxis(rgb / 255., -1, 0)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    return [np.rint(plane).astype(np.uint8) for plane in (
        16 + 219 * luma, 128 + 112 * (blue - luma) / 0.886, 128 + 112 * (red - luma) / 0.701)]


def pixels_of(encoding, bigendian):
    """Return the pixels (H, W * bytes) as a driver lays them, the RGB expected, and tolerance."""
    if encoding in ('rgb8', 'bgr8', '8UC3', 'rgba8', 'bgra8'):
        colours = RANDOM if encoding.startswith('rgb') else RANDOM[..., ::-1]
        if encoding.endswith('a8'):
            colours = np.dstack([colours, RANDOM[::-1, :, 0]])
        return colours.reshape(HEIGHT, -1), RANDOM, 0
    if encoding in ('mono8', '8UC1'):
        return RANDOM[..., 0], np.dstack([RANDOM[..., 0]] * 3), 0
    if encoding in ('mono16', '16UC1'):
        values = RANDOM[..., 0].astype(np.uint16) * 256 + RANDOM[..., 1]
        raw = values.astype('>u2' if bigendian else '<u2').view(np.uint8)
        return raw, np.dstack([RANDOM[..., 0]] * 3), 0
    picture = four_colours()
    if encoding.startswith('bayer'):
        mosaic = np.empty((HEIGHT, WIDTH), np.uint8)
        for place, colour in enumerate(encoding[6:10]):
            corner = (slice(place // 2, None, 2), slice(place % 2, None, 2))
            mosaic[corner] = picture[corner][..., 'rgb'.index(colour)]
        return mosaic, picture, 0
    luma, blue, red = yuv_of(picture)
    raw = np.empty((HEIGHT, WIDTH, 2), np.uint8)
    at = 1 if encoding in ('yuv422', 'uyvy') else 0
    raw[..., at] = luma
    raw[:, 0::2, 1 - at], raw[:, 1::2, 1 - at] = blue[:, ::2], red[:, ::2]
    return raw.reshape(HEIGHT, -1), picture, 2


def image(kind='plain', **fields):
    fields = {'height': HEIGHT, 'width': WIDTH, 'encoding': 'rgb8', 'is_bigendian': 0,
              'step': 3 * WIDTH, 'data': RANDOM.tobytes(), **fields}
    return message(kind, 'Image', fields)


def compressed(data, declared='jpeg', kind='plain'):
    return message(kind, 'CompressedImage', {'format': declared, 'data': bytes(data)})


def message(kind, name, fields):
    """Make a message of rclpy, of rosbags (as read from a bag) or of no library."""
    if kind == 'plain':
        return SimpleNamespace(**fields)
    if kind == 'rclpy':
        messages = pytest.importorskip('sensor_msgs.msg', reason='needs ROS 2: sensor_msgs')
        made = getattr(messages, name)(**fields | {'data': []})
        made.data = array('B', fields['data'])
        return made
    name = f'sensor_msgs/msg/{name}'
    made = STORE.types[name](header=empty_header(), **fields | {
        'data': np.frombuffer(fields['data'], np.uint8)})
    return STORE.deserialize_cdr(STORE.serialize_cdr(made, name), name)


def empty_header():
    stamp = STORE.types['builtin_interfaces/msg/Time'](sec=1, nanosec=2)
    return STORE.types['std_msgs/msg/Header'](stamp=stamp, frame_id='camera')


def inside(picture):
    """Remove the pixels at the borders of the four colours, where demosaicing blends them."""
    rows, columns = np.r_[0:7, 9:HEIGHT], np.r_[0:11, 13:WIDTH]
    return picture[np.ix_(rows, columns)].astype(int)


# --- raw images ---------------------------------------------------------------------------------

@pytest.mark.parametrize('kind', ['plain', 'rosbags', 'rclpy'])
@pytest.mark.parametrize('bigendian', [0, 1])
@pytest.mark.parametrize('encoding', ENCODINGS)
def test_round_trip(encoding, bigendian, kind):
    pixels, expected, tolerance = pixels_of(encoding, bigendian)
    for padding in PADDINGS:
        rows = np.full((HEIGHT, pixels.shape[1] + padding), 0xab, np.uint8)
        rows[:, :pixels.shape[1]] = pixels
        got = decode_message(image(kind, encoding=encoding, is_bigendian=bigendian,
                                   step=rows.shape[1], data=rows.tobytes()))
        assert got.shape == (HEIGHT, WIDTH, 3) and got.dtype == np.uint8
        assert got.flags.c_contiguous
        crop = inside if encoding.startswith('bayer') else np.asarray
        difference = np.abs(crop(got).astype(int) - crop(expected))
        assert difference.max() <= tolerance, f'padding {padding}'


def test_a_red_pixel_is_red_and_rows_are_rows():
    picture = np.zeros((2, 3, 3), np.uint8)
    picture[0, 2] = (255, 0, 0)
    for encoding, pixels in (('rgb8', picture), ('bgr8', picture[..., ::-1])):
        got = decode_message(image(height=2, width=3, step=9, encoding=encoding,
                                   data=pixels.tobytes()))
        assert got[0, 2].tolist() == [255, 0, 0]
        assert got.sum() == 255


def test_rgb8_is_not_copied():
    msg = image()
    assert np.shares_memory(decode_message(msg), np.frombuffer(msg.data, np.uint8))


@pytest.mark.parametrize('wrap', [bytes, bytearray, memoryview, lambda b: array('B', b),
                                  lambda b: np.frombuffer(b, np.uint8)])
def test_data_of_any_buffer_type(wrap):
    assert np.array_equal(decode_message(image(data=wrap(RANDOM.tobytes()))), RANDOM)
    packed = SimpleNamespace(format='png', data=wrap(encode_png(RANDOM)))
    assert np.array_equal(decode_message(packed), RANDOM)
    assert np.array_equal(decode_bytes(packed.data), RANDOM)


def test_rclpy_and_rosbags_read_the_same_serialized_message():
    serialization = pytest.importorskip('rclpy.serialization', reason='needs ROS 2: rclpy')
    from sensor_msgs.msg import Image
    wire = bytes(STORE.serialize_cdr(image('rosbags'), 'sensor_msgs/msg/Image'))
    from_dds = decode_message(serialization.deserialize_message(wire, Image))
    from_bag = decode_message(STORE.deserialize_cdr(wire, 'sensor_msgs/msg/Image'))
    assert np.array_equal(from_dds, RANDOM) and np.array_equal(from_bag, RANDOM)


def test_bytes_behind_the_last_row_do_no_harm():
    assert np.array_equal(decode_message(image(data=RANDOM.tobytes() + b'more')), RANDOM)


@pytest.mark.parametrize('fields, reason, text', [
    ({'encoding': '32FC1'}, 'unknown_encoding', r"unknown encoding '32FC1'; supported: rgb8, bgr"),
    ({'encoding': ''}, 'unknown_encoding', r"unknown encoding ''"),
    ({'encoding': 'x\n' * 99}, 'unknown_encoding', r"unknown encoding 'x\\nx.*\.\.\.; supported"),
    ({'width': 0}, 'bad_size', r'image of 0 x 16 \(width x height\) in rgb8; expected at least 1'),
    ({'height': 0}, 'bad_size', r'image of 24 x 0 '),
    ({'height': -1}, 'bad_size', r'image of 24 x -1 '),
    ({'encoding': 'bayer_rggb8', 'height': 2}, 'bad_size', r'24 x 2 .*at least 3 x 3'),
    ({'encoding': 'yuyv', 'width': 23}, 'bad_size', r'23 x 16 .* in yuyv; expected an even width'),
    ({'width': MAX_PIXELS, 'height': 2, 'step': 3 * MAX_PIXELS}, 'too_large',
     r'100000000 x 2 .*expected at most 100 megapixels'),
    ({'step': 71}, 'bad_step', r'step 71 is too small; 24 pixels of rgb8 need at least 72 bytes'),
    ({'step': 0}, 'bad_step', r'step 0 is too small'),
    ({'step': 73}, 'short_data', r'data has 1152 bytes; expected 1168 \(16 rows with step 73\)'),
    ({'data': b''}, 'short_data', r'data has 0 bytes; expected 1152'),
    ({'data': None}, 'not_an_image', r"data is 'NoneType', not readable as bytes"),
    ({'data': 'text'}, 'not_an_image', r"data is 'str', not readable as bytes"),
    ({'data': RANDOM[::2]}, 'not_an_image', r"data is 'ndarray', not readable as bytes"),
    ({'width': 24.}, 'not_an_image', r'no image message .*float.*; expected a sensor_msgs/Image'),
    ({'step': None}, 'not_an_image', r'no image message .*NoneType'),
])
def test_bad_raw_message(fields, reason, text):
    with pytest.raises(ImageDecodeError, match=text) as caught:
        decode_message(image(**fields))
    assert caught.value.reason == reason
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('thing', [None, 7, 'text', b'bytes', RANDOM, SimpleNamespace(data=b'')])
def test_no_message_at_all(thing):
    with pytest.raises(ImageDecodeError, match=f'{type(thing).__name__} is no image message; '
                       'expected a sensor_msgs/Image or sensor_msgs/CompressedImage') as caught:
        decode_message(thing)
    assert caught.value.reason == 'not_an_image'


@pytest.mark.parametrize('missing', ['height', 'width', 'step', 'is_bigendian', 'data'])
def test_missing_field(missing):
    msg = image()
    delattr(msg, missing)
    with pytest.raises(ImageDecodeError, match=f'no image message .*{missing}'):
        decode_message(msg)


# --- compressed images --------------------------------------------------------------------------

def chunk(name, data):
    return struct.pack('>I', len(data)) + name + data + struct.pack('>I', zlib.crc32(name + data))


def png(width, height, depth, colour, rows, *extra):
    """Return a png of any kind, also of those that OpenCV cannot write."""
    scanlines = b''.join(b'\0' + bytes(row) for row in rows)
    header = struct.pack('>IIBBBBB', width, height, depth, colour, 0, 0, 0)
    return (b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + b''.join(extra)
            + chunk(b'IDAT', zlib.compress(scanlines)) + chunk(b'IEND', b''))


def with_exif(jpeg, orientation, thumbnail=b''):
    exif = b'Exif\0\0MM\0*\0\0\0\x08' + struct.pack(
        '>HHHIHHI', 1, 0x0112, 3, 1, orientation, 0, 0) + thumbnail
    return jpeg[:2] + b'\xff\xe1' + struct.pack('>H', len(exif) + 2) + exif + jpeg[2:]


FORMATS = ['', 'jpeg', 'jpg', 'png', 'rgb8; jpeg compressed bgr8', 'bgr8; jpeg compressed bgr8',
           'rgb8; jpeg compressed ', 'mono8; jpeg compressed mono8', 'rgb8; png compressed bgr8',
           'bgr8; png compressed', 'bgr8; png compressed ', 'mono16; png compressed',
           'yuv422; jpeg compressed bgr8', 'bayer_rggb8; jpeg compressed mono8', 'tiff', 'lies']


@pytest.mark.parametrize('kind', ['plain', 'rosbags', 'rclpy'])
@pytest.mark.parametrize('declared', FORMATS)
def test_compressed_is_decoded_by_content(declared, kind):
    picture = four_colours()
    assert np.array_equal(decode_message(compressed(encode_png(picture), declared, kind)), picture)
    got = decode_message(compressed(encode_jpeg(large(picture)), declared, kind))
    assert np.abs(inside(small(got)) - inside(picture)).max() <= 4
    assert got.flags.c_contiguous and got.dtype == np.uint8


def test_jpegs():
    grey = four_colours()[..., 0]
    got = decode_bytes(cv2.imencode('.jpg', large(grey))[1])
    assert np.ptp(got, axis=2).max() == 0
    assert np.abs(inside(small(got)) - inside(np.dstack([grey] * 3))).max() <= 4
    for option in (cv2.IMWRITE_JPEG_PROGRESSIVE, cv2.IMWRITE_JPEG_RST_INTERVAL):
        data = cv2.imencode('.jpg', large(four_colours())[..., ::-1], [option, 1])[1]
        got = decode_bytes(data)
        assert np.abs(inside(small(got)) - inside(four_colours())).max() <= 4


def always(height, width):
    return True


@pytest.mark.parametrize('height, width', [(64, 96), (63, 95), (1, 1), (9, 2)])
def test_jpeg_at_half_size(height, width):
    picture = np.asarray(cv2.resize(four_colours(), (width, height)), np.uint8)
    jpeg = encode_jpeg(picture, 100)
    asked = []
    half = decode_bytes(jpeg, lambda *size: bool(asked.append(size)) or True)
    assert asked == [(height, width)]
    assert half.shape == ((height + 1) // 2, (width + 1) // 2, 3)
    assert half.flags.c_contiguous and half.dtype == np.uint8
    # Odd sizes: the last row and column are of pixels that lie outside the picture.
    averaged = decode_bytes(jpeg)[:height // 2 * 2, :width // 2 * 2].reshape(
        height // 2, 2, width // 2, 2, 3).mean((1, 3))
    inner = half[:height // 2, :width // 2]
    assert np.abs(inner - averaged).mean() <= 2 if averaged.size else True
    grey = decode_bytes(cv2.imencode('.jpg', picture[..., 0])[1], always)
    assert grey.shape == half.shape and np.ptp(grey, axis=2).max() == 0
    assert np.array_equal(decode_message(compressed(jpeg), always), half)
    assert decode_bytes(jpeg, lambda height, width: False).shape == picture.shape


def test_older_opencv_that_gives_bgr_only(monkeypatch):
    jpeg = encode_jpeg(large(four_colours()))
    wide = cv2.imencode('.png', np.dstack([RANDOM, RANDOM[..., :1]]).astype(np.uint16) * 256)[1]
    expected = [decode_bytes(jpeg), decode_bytes(jpeg, always), decode_bytes(wide)]
    monkeypatch.setattr(image_module, '_DIRECTLY_RGB', None)
    for data, half, before in zip((jpeg, jpeg, wide), (None, always, None), expected, strict=True):
        assert np.array_equal(decode_bytes(data, half), before)


def test_only_jpegs_are_halved():
    assert np.array_equal(decode_bytes(encode_png(RANDOM), always), RANDOM)
    assert np.array_equal(decode_message(image(), always), RANDOM)


@pytest.mark.parametrize('shape', [(1, 1), (1, 21), (1, 22), (3, 5), (30, 40)])
def test_pngs_of_all_sizes(shape):
    noise = np.random.default_rng(1).integers(0, 256, (*shape, 3), np.uint8)
    for image in (np.zeros_like(noise), noise):
        assert np.array_equal(decode_bytes(encode_png(image)), image)


PNGS_IN_A_PROCESS = """
import hashlib
import numpy as np
from grasp_success_detector.images.encoding import encode_png
random, digest = np.random.default_rng(1), hashlib.sha256()
for _ in range(20000):
    colours = random.integers(0, 256, (12, 3), np.uint8)
    digest.update(encode_png(colours[random.integers(0, 12, 300)].repeat(4, 0)[np.newaxis]))
print(digest.hexdigest())
"""


def test_a_picture_has_the_same_png_in_every_process():
    pytest.importorskip('isal')
    processes = [subprocess.Popen([sys.executable, '-c', PNGS_IN_A_PROCESS],
                                  stdout=subprocess.PIPE) for _ in range(2)]
    first, second = (process.communicate()[0] for process in processes)
    assert first == second and len(first) == 65


def test_pngs():
    red, grey = RANDOM[..., 0], np.dstack([RANDOM[..., 0]] * 3)
    wide = RANDOM.astype(np.uint16) * 256 + RANDOM[::-1]
    alpha = np.dstack([RANDOM[..., ::-1], RANDOM[..., 1]])
    assert np.array_equal(decode_bytes(cv2.imencode('.png', red)[1]), grey)
    assert np.array_equal(decode_bytes(cv2.imencode('.png', wide[..., 0])[1]), grey)
    assert np.array_equal(decode_bytes(cv2.imencode('.png', wide[..., ::-1])[1]), RANDOM)
    assert np.array_equal(decode_bytes(cv2.imencode('.png', alpha)[1]), RANDOM)
    assert np.array_equal(decode_bytes(png(WIDTH, HEIGHT, 8, 4, np.dstack(
        [red, RANDOM[..., 1]]).reshape(HEIGHT, -1))), grey)
    palette = png(2, 1, 8, 3, [[1, 0]], chunk(b'PLTE', bytes([9, 8, 7, 200, 100, 50])),
                  chunk(b'tRNS', b'\0\x80'))
    assert decode_bytes(palette).tolist() == [[[200, 100, 50], [9, 8, 7]]]
    assert decode_bytes(png(3, 1, 1, 0, [[0b01000000]]))[0, :, 0].tolist() == [0, 255, 0]


@pytest.mark.parametrize('depth', [8, 16])
@pytest.mark.parametrize('order', ['rggb', 'bggr', 'gbrg', 'grbg'])
def test_bayer_png_of_image_transport_is_demosaiced(order, depth):
    mosaic, expected, _ = pixels_of(f'bayer_{order}8', 0)
    data = cv2.imencode('.png', mosaic.astype(np.uint16) * 256 if depth == 16 else mosaic)[1]
    got = decode_message(compressed(data, f'bayer_{order}{depth}; png compressed '))
    assert np.array_equal(inside(got), inside(expected))


def test_exif_orientation_does_not_turn_the_picture():
    plain = encode_jpeg(four_colours())
    turned = with_exif(plain, 6)
    assert cv2.imdecode(np.frombuffer(turned, np.uint8), cv2.IMREAD_COLOR).shape[0] == WIDTH
    assert np.array_equal(decode_bytes(turned), decode_bytes(plain))


def test_truncated_jpeg_at_every_length():
    whole = with_exif(encode_jpeg(four_colours()), 1, thumbnail=encode_jpeg(RANDOM[:4, :4]))
    decode_bytes(whole)
    for length in range(3, len(whole)):
        with pytest.raises(ImageDecodeError, match=f'jpeg of {length} bytes ends too early') as e:
            decode_bytes(whole[:length])
        assert e.value.reason == 'truncated'
    # A driver's buffer of fixed size: zeros behind a picture are fine, zeros instead are not.
    decode_bytes(whole + bytes(999))
    with pytest.raises(ImageDecodeError, match='ends too early'):
        decode_bytes(whole[:-300] + bytes(999))


def test_truncated_png_at_every_length():
    whole = encode_png(RANDOM[:5, :5])
    for length in range(8, len(whole)):
        with pytest.raises(ImageDecodeError, match=f'png of {length} bytes ends too early'):
            decode_bytes(whole[:length])
    decode_bytes(whole + bytes(9))


JPEG, PNG = encode_jpeg(RANDOM), encode_png(RANDOM)
HUGE_JPEG = JPEG.replace(struct.pack('>HH', HEIGHT, WIDTH), struct.pack('>HH', 65500, 65500), 1)
SPOILT_PNG = PNG[:60] + bytes([PNG[60] ^ 1]) + PNG[61:]


@pytest.mark.parametrize('data, declared, reason, text', [
    (b'', 'jpeg', 'empty_data', r"no data \(format 'jpeg'\); expected a jpeg .* or png"),
    (b'GIF89a', 'gif', 'unknown_format', r"begins with 47 49 46 38 \(format 'gif'\); expected "),
    (b'\xff\xd8', 'jpeg', 'unknown_format', r'begins with ff d8 '),
    (b'II*\0', 'mono16; tiff compressed ', 'unknown_format', r'begins with 49 49 2a 00 .*tiff'),
    (b'nonsense', 'a\nb', 'unknown_format', r"format 'a\\nb'"),
    (bytes(12) + PNG, '16UC1; compressedDepth png', 'depth_image', r'holds distances, no colours'),
    (bytes(12) + PNG, '16UC1; png', 'depth_image', r'compressedDepth'),
    (b'rvl...', '16UC1; compressedDepth rvl', 'depth_image', r'compressedDepth'),
    (HUGE_JPEG, 'jpeg', 'too_large', r'image of 65500 x 65500 .*at most 100 megapixels'),
    (png(99999, 99999, 8, 0, [b'']), 'png', 'too_large', r'99999 x 99999 .*100 megapixels'),
    (png(0, 5, 8, 0, [b'']), 'png', 'broken_data', r'png of \d+ bytes is damaged'),
    (png(5, 5, 8, 2, [b'short']), 'png', 'broken_data', r'png of \d+ bytes is damaged'),
    (SPOILT_PNG, 'png', 'broken_data', r'is damaged and cannot be decoded; expected a whole, und'),
    (b'\xff\xd8\xff\xda\0\2\xff\xd9', 'jpeg', 'broken_data', r'jpeg of 8 bytes is damaged'),
    (JPEG.replace(b'\xff\xdb', b'\xff\xfe'), 'jpeg', 'broken_data', r'jpeg of \d+ bytes is damag'),
    (png(2, 2, 8, 0, [b'ab', b'cd']), 'bayer_rggb8; png compressed ', 'bad_size', r'at least 3 x'),
])
def test_bad_compressed_message(data, declared, reason, text):
    with pytest.raises(ImageDecodeError, match=text) as caught:
        decode_message(compressed(data, declared))
    assert caught.value.reason == reason
    assert '\n' not in str(caught.value)


def test_every_reason_is_documented():
    page = (Path(__file__).parent.parent / 'docs' / 'images.md').read_text()
    assert not [fault for fault in ImageFault if f'`{fault.value}`' not in page]
    assert not [encoding for encoding in ENCODINGS if f'`{encoding}`' not in page]


# --- any input ----------------------------------------------------------------------------------

FIELDS = ['height', 'width', 'step', 'encoding', 'is_bigendian', 'data']
ANY_FIELD = st.one_of(st.integers(-2, 40), st.integers(), st.none(), st.text(max_size=5),
                      st.floats(), st.sampled_from(ENCODINGS), st.binary(max_size=200))
EDIT = st.tuples(st.integers(0, 5000), st.sampled_from(['flip', 'cut', 'drop', 'insert']),
                 st.binary(min_size=1, max_size=4))


def edited(data, edits):
    for place, what, new in edits:
        place %= len(data) + 1
        if what == 'cut':
            data = data[:place]
        else:
            gone = {'flip': len(new), 'drop': 2 * len(new), 'insert': 0}[what]
            data = data[:place] + (b'' if what == 'drop' else new) + data[place + gone:]
    return data


def assert_picture_or_clear_error(msg, size=None):
    try:
        got = decode_message(msg)
    except ImageDecodeError as error:
        assert ImageFault(error.reason)
        assert str(error) and '\n' not in str(error) and len(str(error)) < 400
    else:
        assert got.dtype == np.uint8 and got.ndim == 3 and got.shape[2] == 3
        assert got.flags.c_contiguous and got.size
        assert size is None or got.shape[:2] == size


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(st.sampled_from(ENCODINGS), st.integers(1, 9), st.integers(1, 9), st.integers(0, 5),
       st.binary(min_size=400, max_size=500), st.booleans(),
       st.dictionaries(st.sampled_from(FIELDS), ANY_FIELD, max_size=2))
def test_any_raw_message(encoding, height, width, padding, data, bigendian, changed):
    fields = {'height': height, 'width': width, 'encoding': encoding, 'is_bigendian': bigendian,
              'step': width * PIXEL_BYTES[encoding] + padding, 'data': data, **changed}
    msg = SimpleNamespace(**fields)
    assert_picture_or_clear_error(msg, (fields['height'], fields['width']))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.data_too_large])
@given(st.sampled_from([JPEG, PNG, with_exif(JPEG, 6), encode_png(RANDOM[:1, :1]), b'junk']),
       st.lists(EDIT, max_size=3), st.one_of(st.sampled_from(FORMATS), ANY_FIELD))
def test_any_compressed_message(data, edits, declared):
    assert_picture_or_clear_error(SimpleNamespace(format=declared, data=edited(data, edits)))


# --- files and encoders -------------------------------------------------------------------------

def test_read_image(tmp_path):
    for name, data in (('a.png', PNG), ('no_suffix', PNG), ('lies.jpg', PNG)):
        (tmp_path / name).write_bytes(data)
        assert np.array_equal(read_image(tmp_path / name), RANDOM)
        assert np.array_equal(read_image(str(tmp_path / name)), RANDOM)


def test_read_image_names_the_file(tmp_path):
    (tmp_path / 'bad.png').write_bytes(PNG[:-4])
    with pytest.raises(ImageDecodeError, match=r'bad\.png: png of .* ends too early') as caught:
        read_image(tmp_path / 'bad.png')
    assert caught.value.reason == 'truncated'
    for path, why in ((tmp_path / 'none.png', 'No such file'), (tmp_path, 'Is a directory')):
        with pytest.raises(ImageDecodeError, match=f'{path}: cannot be read .{why}.*; expected a '
                           'jpeg or png file') as caught:
            read_image(path)
        assert caught.value.reason == 'unreadable_file'


def test_encoders_keep_the_colours():
    assert np.array_equal(decode_bytes(encode_png(four_colours())), four_colours())
    assert np.array_equal(decode_bytes(encode_png(RANDOM[::2, ::-1])), RANDOM[::2, ::-1])
    got = decode_bytes(encode_jpeg(large(four_colours()), quality=100))
    assert np.abs(inside(small(got)) - inside(four_colours())).max() <= 3
    assert len(encode_jpeg(RANDOM, quality=20)) < len(encode_jpeg(RANDOM))


@pytest.mark.parametrize('bad, shown', [
    (RANDOM[..., 0], r'uint8 array of shape \(16, 24\)'), (RANDOM / 255., 'float64 array'),
    (RANDOM[:0], r'shape \(0, 24, 3\)'), (np.zeros((2, 2, 4), np.uint8), r'shape \(2, 2, 4\)')])
def test_encoders_refuse_arrays_that_are_not_pictures(bad, shown):
    for encode in (encode_jpeg, encode_png):
        with pytest.raises(ValueError, match=f'{shown}.*; expected RGB uint8'):
            encode(bad)


def test_encoders_raise_where_opencv_fails():
    with pytest.raises(ValueError, match=r'\.jpg of an image of shape \(1, 70000, 3\)'):
        encode_jpeg(np.zeros((1, 70000, 3), np.uint8))
    with pytest.raises(ValueError, match='jpeg quality 101; expected 1 to 100'):
        encode_jpeg(RANDOM, quality=101)


# --- choice of the decoder ----------------------------------------------------------------------

@pytest.fixture
def decoders(monkeypatch):
    """Yield the module as on a machine without cv_bridge."""
    pytest.importorskip('sensor_msgs.msg', reason='needs ROS 2: sensor_msgs')
    from grasp_success_detector.ros.node import image_conversion
    monkeypatch.setitem(sys.modules, 'cv_bridge', None)
    return image_conversion


def test_select_decoder(decoders):
    from grasp_success_detector.ros.node.image_conversion import ImageDecoder
    from grasp_success_detector.ros.node.parameters import Parameters
    assert decoders.select_decoder(ImageDecoder.NATIVE) is decode_message
    with pytest.raises(ConfigError, match=r"image_decoder 'cv2' \(expected native or cv_bridge\)"):
        Parameters(image_decoder='cv2')
    with pytest.raises(ConfigError, match=r'cannot be imported \(.*cv_bridge.*\); install '
                       r'ros-\$ROS_DISTRO-cv-bridge or set image_decoder to native'):
        decoders.select_decoder(ImageDecoder.CV_BRIDGE)


def test_to_image_message():
    Header = pytest.importorskip('std_msgs.msg', reason='needs ROS 2').Header  # noqa: N806
    from grasp_success_detector.ros.node.image_conversion import to_image_message
    header = Header(frame_id='camera')
    header.stamp.sec = 5
    for picture in (RANDOM, RANDOM[:, ::2], RANDOM[:1, :1]):
        msg = to_image_message(picture, header)
        assert (msg.encoding, msg.step, msg.is_bigendian) == ('rgb8', 3 * picture.shape[1], 0)
        assert msg.header == header
        assert np.array_equal(decode_message(msg), picture)
    with pytest.raises(ValueError, match=r'shape \(16, 24\); expected RGB uint8'):
        to_image_message(RANDOM[..., 0], header)


# --- stamps of serialized messages --------------------------------------------------------------

@pytest.mark.parametrize('order', ['<', '>'])
def test_header_stamp_of_a_serialized_message(order):
    raw = (b'\0\1\0\0' if order == '<' else bytes(4)) + struct.pack(order + 'iI', -3, 7) + b'rest'
    assert header_stamp_ns(raw) == header_stamp_ns(memoryview(raw)) == -3 * 10 ** 9 + 7


def test_header_stamp_of_a_message_of_ros1():
    raw = struct.pack('<IIII', 5, 2 ** 31, 7, 0)  # sequence number, seconds, nanoseconds, text
    assert header_stamp_ns(raw, ros1=True) == 2 ** 31 * 10 ** 9 + 7


def test_header_stamp_is_what_rosbags_reads():
    wire = STORE.serialize_cdr(image('rosbags'), 'sensor_msgs/msg/Image')
    assert header_stamp_ns(wire) == 10 ** 9 + 2


@pytest.mark.parametrize('raw, text', [
    (b'\0\1\0\0' + bytes(7), '11 bytes; a message with a header has 12 at least'),
    (b'\0\1\0\0' + struct.pack('<iI', 1, 10 ** 9), 'a stamp with 1000000000 nanoseconds')])
def test_header_stamp_of_a_damaged_message(raw, text):
    with pytest.raises(ValueError, match=text):
        header_stamp_ns(raw)
