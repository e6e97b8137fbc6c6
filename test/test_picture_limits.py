"""A frame costs at most a second: pictures that would take longer are refused unread."""

import io
import struct
import time
from types import SimpleNamespace
import zlib

import cv2
import numpy as np
from PIL import Image
import pytest

from grasp_success_detector.datasets.frame_writer import _content, PictureOptions
from grasp_success_detector.errors import ImageDecodeError
from grasp_success_detector.images.decoding import decode_bytes
from grasp_success_detector.images.encoding import encode_jpeg, encode_png
from grasp_success_detector.images.picture_files import decode_picture

PICTURE = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)


def progressive(picture=PICTURE, more_scans=0):
    """Return a progressive jpeg whose last scan is repeated."""
    data = cv2.imencode('.jpg', picture, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    scan = data[data.rfind(b'\xff\xda'):-2]
    return data[:-2] + scan * more_scans + data[-2:]


def with_size(data, height, width):
    """Return a jpeg whose header has another size."""
    at = next(data.find(mark) for mark in (b'\xff\xc0', b'\xff\xc2') if mark in data)
    return data[:at + 5] + struct.pack('>HH', height, width) + data[at + 9:]


def png_of_zeros(height, width):
    """Return a valid grey png whose data are a thousandth of its pixels."""
    def chunk(name, content):
        return (struct.pack('>I', len(content)) + name + content
                + struct.pack('>I', zlib.crc32(name + content)))

    packer = zlib.compressobj(9)
    rows = b''.join(packer.compress(bytes(width + 1)) for _ in range(height)) + packer.flush()
    return (b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, 8, 0, 0,
                                                             0, 0))
            + chunk(b'IDAT', rows) + chunk(b'IEND', b''))


def test_progressive_jpegs_of_encoders_are_decoded():
    assert decode_bytes(progressive()).shape == PICTURE.shape
    assert decode_bytes(progressive(more_scans=100)).shape == PICTURE.shape


@pytest.mark.parametrize(('data', 'reason', 'text'), [
    (progressive(more_scans=100_000), 'too_many_scans',
     r'jpeg of 64 x 48 \(width x height\) with 1000\d\d scans takes too long to decode; expected '
     'a baseline jpeg, or fewer scans'),
    (progressive(np.zeros((3000, 4000, 3), np.uint8), 60), 'too_many_scans', '4000 x 3000'),
    (with_size(encode_jpeg(PICTURE), 9000, 10_000), 'truncated',
     r'jpeg of 10000 x 9000 \(width x height\) has only \d+ bytes; expected at least 175782'),
    (with_size(encode_jpeg(PICTURE), 9000, 10_000)[:-2] + bytes(200_000) + b'\xff\xd9',
     'too_large', r'jpeg of 10000 x 9000 .* takes too long to decode; expected at most 62 meg'),
    (with_size(encode_jpeg(PICTURE), 65_000, 65_000), 'too_large', 'at most 100 megapixels'),
    (encode_png(PICTURE)[:16] + struct.pack('>II', 9000, 10_000) + encode_png(PICTURE)[24:],
     'truncated', r'png of 9000 x 10000 .* has only \d+ bytes; expected at least 10902'),
    (png_of_zeros(6000, 6000), 'too_large', 'png of 6000 x 6000 .* expected at most 25 megap')],
    ids=['scans', 'scans of a large picture', 'jpeg without data', 'large jpeg', 'largest jpeg',
         'png without data', 'large png'])
def test_expensive_pictures_are_refused_before_they_are_decoded(data, reason, text):
    started = time.process_time()
    with pytest.raises(ImageDecodeError, match=text) as raised:
        decode_bytes(data)
    assert raised.value.reason == reason
    assert time.process_time() - started < .5
    # Frames that are copied into a data set are not decoded there, but later.
    with pytest.raises(ImageDecodeError):
        _content(SimpleNamespace(format='', data=data), PictureOptions())


def saved(kind, height=48, width=64, **options):
    """Return a picture as Pillow writes it."""
    file = io.BytesIO()
    Image.fromarray(np.zeros((height, width), np.uint8)).save(file, kind, **options)
    return file.getvalue()


def bmp(height, width, rows=b'', compression=0):
    """Return a bmp of 8 bits whose header has any size; 1: run-length encoded."""
    return b'BM' + struct.pack(
        '<IHHIIiiHHIIiiII', 1078 + len(rows), 0, 0, 1078, 40, width, height, 1, 8, compression,
        len(rows), 0, 0, 256, 0) + bytes(1024) + rows


def tiff(height, width):
    """Return a tiff whose header has another size."""
    data = saved('TIFF')
    for tag, size in ((256, width), (257, height)):     # entries: tag, type, count, value
        for kind in (3, 4):
            at = data.find(struct.pack('<HHI', tag, kind, 1))
            if at >= 0:
                data = data[:at] + struct.pack('<HHII', tag, 4, 1, size) + data[at + 12:]
    return data


@pytest.mark.parametrize(('data', 'text'), [
    (saved('WEBP', 4100, 4100, quality=1), 'a webp of 4100 x 4100 .* at most 16 megapixels'),
    (bmp(9_999, 12_000), 'a bmp of 12000 x 9999 .* at most 100 megapixels'),
    (bmp(60_000, 60_000), 'expected at most 100 megapixels'),   # an error of Pillow
    (tiff(9_500, 10_000), 'a tiff of 10000 x 9500 .* at most 40 megapixels'),   # its warning
    (tiff(60_000, 60_000), 'expected at most 100 megapixels'),
    (bmp(2000, 2000, b'\1\1' * 2_000_000, 1), 'run-length encoded bmp .* expected at most 3 MiB')],
    ids=['webp', 'bmp', 'largest bmp', 'tiff', 'largest tiff', 'runs'])
def test_large_pictures_of_other_kinds_are_refused_before_they_are_decoded(data, text, recwarn):
    started = time.process_time()
    with pytest.raises(ImageDecodeError, match=text) as raised:
        decode_picture(data)
    assert raised.value.reason == 'too_large'
    assert time.process_time() - started < .3
    assert not list(recwarn)
