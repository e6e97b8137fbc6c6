"""What the bytes of a jpeg or png say about the picture before anything is decoded."""

import struct
from typing import Literal, NamedTuple

JPEG_MAGIC = b'\xff\xd8\xff'
PNG_MAGIC = b'\x89PNG\r\n\x1a\n'

_JPEG_END = b'\xff\xd9'
_JPEG_SCAN = 0xda
# Markers without a length field: TEM, RST0..7 and SOI.
_JPEG_BARE = frozenset([0x01, *range(0xd0, 0xd9)])
# SOF0..15 without DHT, JPG and DAC, which lie between them.
_JPEG_FRAME = frozenset(range(0xc0, 0xd0)) - {0xc4, 0xc8, 0xcc}
_PNG_GREY = 0


class Container(NamedTuple):
    """
    A picture's kind, size and completeness, as its own markers or chunks tell.

    :ivar kind: ``'jpeg'`` or ``'png'``.
    :ivar height: rows; 0 where the header does not say.
    :ivar width: columns; 0 where the header does not say.
    :ivar grey: png with one grey channel and no alpha.
    :ivar complete: the end-of-image marker (jpeg) or the IEND chunk (png) is there.
    """

    kind: Literal['jpeg', 'png']
    height: int
    width: int
    grey: bool
    complete: bool


def inspect(payload: bytes) -> Container | None:
    """
    Tell what is in a payload by its first bytes; None where that is neither jpeg nor png.

    Does not fail on any input, and takes no time to speak of: only headers are read.
    """
    if payload.startswith(JPEG_MAGIC):
        return _inspect_jpeg(payload)
    if payload.startswith(PNG_MAGIC):
        return _inspect_png(payload)
    return None


def _inspect_jpeg(payload: bytes) -> Container:
    """Walk the marker segments up to the first scan (ITU-T T.81, annex B)."""
    height = width = 0
    position = 2
    while True:
        position = payload.find(b'\xff', position) + 1
        if position == 0 or position >= len(payload):
            break
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
            # In entropy-coded data ff is always stuffed, so that the first ff d9 from here on is
            # the true end: one of an embedded thumbnail lies before, junk of a driver behind. That
            # there is one is seen at once from behind, where it nearly always lies.
            complete = payload.rfind(_JPEG_END, position) >= 0
            return Container('jpeg', height, width, False, complete)
        if position + 2 > len(payload):
            break
        position += struct.unpack_from('>H', payload, position)[0]
    return Container('jpeg', height, width, False, False)


def _inspect_png(payload: bytes) -> Container:
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
    return Container('png', height, width, grey, complete)
