"""
Read fields of serialized messages, and jpeg and png headers, without decoding the picture.

rosbags can deserialize every message type. For image messages in little-endian CDR, which nearly
all recordings hold, these functions are faster: they copy no pixels and load no message
definitions.
"""

import struct
from types import SimpleNamespace
from typing import Any, Literal, NamedTuple

IMAGE, COMPRESSED_IMAGE = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage'
IMAGE_TYPES = (IMAGE, COMPRESSED_IMAGE)

JPEG_MAGIC = b'\xff\xd8\xff'
PNG_MAGIC = b'\x89PNG\r\n\x1a\n'

# A serialized message begins with 4 bytes that say how the rest is encoded. The header, its first
# field, begins with the stamp (8 bytes), which the text of frame_id follows.
_LITTLE_ENDIAN = b'\0\1'
_STAMP = 4
_FRAME_ID = 12

_JPEG_END = b'\xff\xd9'
_JPEG_SCAN = 0xda
# Markers without a length field: TEM, RST0..7 and SOI.
_JPEG_BARE = frozenset([0x01, *range(0xd0, 0xd9)])
# SOF0..15 without DHT, JPG and DAC, which lie between them.
_JPEG_FRAME = frozenset(range(0xc0, 0xd0)) - {0xc4, 0xc8, 0xcc}
_PNG_GREY = 0


def header_stamp_ns(raw: bytes | memoryview, ros1: bool = False) -> int:
    """
    Return the stamp of a serialized message that begins with a ``std_msgs/Header``, in ns.

    :param raw: the message in CDR, or at least its first 12 bytes.
    :param ros1: whether the message is serialized as in ROS 1: 4 bytes of sequence number, where
        CDR has its 4 first bytes, before the stamp; its seconds are unsigned.
    :raises ValueError: the message is too short, or its nanoseconds are not below 1e9.
    """
    if len(raw) < _FRAME_ID:
        raise ValueError(f'{len(raw)} bytes; a message with a header has {_FRAME_ID} at least')
    order = '<II' if ros1 else '<iI' if raw[1] & 1 else '>iI'
    seconds, nanoseconds = struct.unpack_from(order, raw, _STAMP)
    if nanoseconds >= 10 ** 9:
        raise ValueError(f'a stamp with {nanoseconds} nanoseconds')
    return int(seconds) * 10 ** 9 + int(nanoseconds)


def read_image_message(payload: bytes | memoryview, msgtype: str) -> Any:
    """
    Return an object with all fields of an image message but ``header``; ``data`` is not copied.

    :param payload: the message in CDR; ``data`` of the result is a view of it.
    :param msgtype: type of the message, one of ``IMAGE_TYPES``.
    :returns: None if the message is not little-endian.
    :raises ValueError: lengths in the message do not fit its size; struct.error: it ends early.
    """
    if payload[:2] != _LITTLE_ENDIAN:
        return None
    view = memoryview(payload)
    _, end = _text(view, _FRAME_ID)
    at = _aligned(end)
    if msgtype == COMPRESSED_IMAGE:
        kind, end = _text(view, at)
        return SimpleNamespace(format=kind, data=_data(view, _aligned(end)))
    height, width = struct.unpack_from('<II', view, at)
    encoding, end = _text(view, at + 8)
    is_bigendian, at = view[end], _aligned(end + 1)
    step, = struct.unpack_from('<I', view, at)
    data = _data(view, at + 4)
    if at + 8 + len(data) + 3 < len(view):  # up to 3 bytes of padding are right
        raise ValueError(f'data has {len(data)} bytes; the message is longer')
    return SimpleNamespace(height=height, width=width, encoding=encoding,
                           is_bigendian=is_bigendian, step=step, data=data)


class PictureHeader(NamedTuple):
    """Properties of a jpeg or png, read from its markers or chunks."""

    kind: Literal['jpeg', 'png']
    height: int     # in pixels; 0 if the header does not contain it
    width: int      # in pixels; 0 if the header does not contain it
    grey: bool      # png with one grey channel and no alpha
    complete: bool  # the end-of-image marker (jpeg) or the IEND chunk (png) is there
    scans: int      # of a jpeg, with those of embedded thumbnails; 1 for a png


def read_picture_header(payload: bytes) -> PictureHeader | None:
    """Return the properties of a jpeg or png; None for any other bytes. Raises no errors."""
    if payload.startswith(JPEG_MAGIC):
        return _jpeg_header(payload)
    return _png_header(payload) if payload.startswith(PNG_MAGIC) else None


def _text(view: memoryview, at: int) -> tuple[str, int]:
    """Return a string field of the message, and the offset of its end."""
    size, = struct.unpack_from('<I', view, at)
    end = at + 4 + int(size)
    return bytes(view[at + 4:end]).rstrip(b'\0').decode('utf-8', 'replace'), end


def _aligned(at: int) -> int:
    return at + -at % 4


def _data(view: memoryview, at: int) -> memoryview:
    size, = struct.unpack_from('<I', view, at)
    data = view[at + 4:at + 4 + size]
    if len(data) != size:
        raise ValueError(f'data has {len(data)} of {size} bytes')
    return data


def _jpeg_header(payload: bytes) -> PictureHeader:
    """Walk the marker segments up to the first scan (ITU-T T.81, annex B)."""
    height = width = 0
    # In entropy-coded data ff is always escaped, so that this counts every scan, at little cost.
    scans = max(payload.count(b'\xff' + bytes([_JPEG_SCAN])), 1)
    position = 2
    while 0 < (position := payload.find(b'\xff', position) + 1) < len(payload):
        marker = payload[position]
        if marker == 0xff:  # fill byte
            continue
        position += 1
        if marker == 0 or marker in _JPEG_BARE:
            continue
        if marker == _JPEG_END[1]:
            break
        if marker in _JPEG_FRAME and position + 7 <= len(payload):
            height, width = struct.unpack_from('>HH', payload, position + 3)
        if marker == _JPEG_SCAN:
            # Entropy-coded data never holds ff d9 (ff is escaped), and an embedded thumbnail lies
            # before the scan, so ff d9 from here on is the image's end. A driver may add padding
            # behind it. The search begins at the data's end, where the marker nearly always is.
            complete = payload.rfind(_JPEG_END, position) >= 0
            return PictureHeader('jpeg', height, width, False, complete, scans)
        if position + 2 > len(payload):
            break
        position += struct.unpack_from('>H', payload, position)[0]
    return PictureHeader('jpeg', height, width, False, False, scans)


def _png_header(payload: bytes) -> PictureHeader:
    """Walk the chunks (PNG specification, section 5)."""
    height = width = 0
    grey = complete = False
    position = len(PNG_MAGIC)
    while position + 12 <= len(payload) and not complete:
        length, name = struct.unpack_from('>I4s', payload, position)
        if name == b'IHDR' and position + 18 <= len(payload):
            width, height, _, colour = struct.unpack_from('>IIBB', payload, position + 8)
            grey = colour == _PNG_GREY
        position += 12 + length
        complete = name == b'IEND' and position <= len(payload)
    return PictureHeader('png', height, width, grey, complete, 1)
