"""
Read the fields of image messages that matter, without copying the picture.

rosbags reads every message of every kind; for the two kinds and the one wire format that nearly
all frames come in, this saves its copies, and the time that its definitions take to load.
"""

import struct
from types import SimpleNamespace
from typing import Any

IMAGE, COMPRESSED_IMAGE = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage'
IMAGE_TYPES = (IMAGE, COMPRESSED_IMAGE)

_LITTLE_ENDIAN = b'\0\1'
# The encapsulation and the header's stamp.
_HEADER_TEXT = 12


def read_image_message(payload: bytes | memoryview, msgtype: str) -> Any:
    """
    Return an object with the message's fields but its header; ``data`` is a view of the payload.

    :param payload: CDR.
    :return: None where it is not little-endian.
    :raises ValueError: shorter than its own lengths say, or with something behind its end.
    :raises struct.error: ends within a field.
    """
    if payload[:2] != _LITTLE_ENDIAN:
        return None
    view = memoryview(payload)
    at = _aligned(_text_end(view, _HEADER_TEXT))
    if msgtype == COMPRESSED_IMAGE:
        end = _text_end(view, at)
        return SimpleNamespace(format=_text(view, at, end), data=_data(view, _aligned(end)))
    height, width = struct.unpack_from('<II', view, at)
    end = _text_end(view, at + 8)
    encoding, is_bigendian = _text(view, at + 8, end), view[end]
    at = _aligned(end + 1)
    step, = struct.unpack_from('<I', view, at)
    data = _data(view, at + 4)
    if at + 8 + len(data) + 3 < len(view):  # padding is right, more is another message's lengths
        raise ValueError(f'data has {len(data)} bytes; the message goes on behind it')
    return SimpleNamespace(height=height, width=width, encoding=encoding,
                           is_bigendian=is_bigendian, step=step, data=data)


def _text_end(view: memoryview, at: int) -> int:
    size, = struct.unpack_from('<I', view, at)
    return at + 4 + int(size)


def _text(view: memoryview, at: int, end: int) -> str:
    return bytes(view[at + 4:end]).rstrip(b'\0').decode('utf-8', 'replace')


def _aligned(at: int) -> int:
    return at + -at % 4


def _data(view: memoryview, at: int) -> memoryview:
    size, = struct.unpack_from('<I', view, at)
    data = view[at + 4:at + 4 + size]
    if len(data) != size:
        raise ValueError(f'data has {len(data)} of {size} bytes')
    return data
