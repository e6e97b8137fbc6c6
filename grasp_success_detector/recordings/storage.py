"""What the readers of all recording files share: messages, their location, decompression."""

from abc import ABC, abstractmethod
import bz2
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
import sys
from typing import Any, BinaryIO, NamedTuple

import lz4.frame

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

#: Bytes of each message that are read for the index: all of a label, the header of an image.
HEAD_BYTES = 4096

_ZSTD_MAGIC = b'\x28\xb5\x2f\xfd'
_BLOCK_BYTES = 1 << 16


class MessageLocation(NamedTuple):
    """Where a message lies in its file."""

    container: int  # offset of its chunk or number of its page (damaged sqlite3); -1: none
    offset: int     # in the chunk or file; or cell of the page, row id, number of a video's frame
    size: int       # bytes of the payload; -1: unknown


class StoredMessage(NamedTuple):
    """One message of a file."""

    topic: str
    msgtype: str            # as ROS 2 names it, with /msg/, for ROS 1 too
    received_ns: int        # when it was recorded
    location: MessageLocation
    head: bytes             # the first HEAD_BYTES of the payload
    ros1: bool = False      # serialised in ROS 1's format, not in CDR


class Storage(ABC):
    """
    An open file of a recording, read without its index, so that only the damaged part is lost.

    :ivar damage: number of faults by kind, complete when all messages have been read.
    :ivar unchecked_chunks: offsets of chunks whose checksums :meth:`messages` did not verify.
    :ivar wrong_chunks: offsets of chunks whose checksum or size :meth:`payload` found wrong.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.damage: Counter[str] = Counter()
        self.unchecked_chunks: set[int] = set()
        self.wrong_chunks: set[int] = set()
        self._chunk: tuple[int, bytes] = (-1, b'')     # offset and data of the latest one
        # A small buffer: most reads are of a few bytes, at places far apart.
        self._file: BinaryIO = path.open('rb', 1 << 14)
        self._end = path.stat().st_size

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @abstractmethod
    def messages(self) -> Iterator[StoredMessage]:
        """
        Yield every message that can be found, in the order in which they were stored.

        :raises BagError: the file is not of the format that its name says.
        """

    @abstractmethod
    def _stored(self, location: MessageLocation) -> bytes | memoryview:
        """Return the bytes of one message as the file has them, as far as they are there."""

    def payload(self, location: MessageLocation) -> bytes | memoryview:
        """Return all bytes of one message; raise ValueError if some are missing or damaged."""
        stored = self._stored(location)
        if len(stored) < location.size:
            raise ValueError(f'the message is cut off: {len(stored)} of {location.size} bytes')
        # rosbag2 may compress single messages; no other image or label begins with these bytes.
        if stored[:len(_ZSTD_MAGIC)] != _ZSTD_MAGIC:
            return stored
        try:
            return bytes(zstd.decompress(stored))
        except zstd.ZstdError as error:
            raise ValueError(f'damaged zstd data ({error})') from error

    def _head(self, start: bytes, location: MessageLocation) -> bytes:
        """Return the head of a message whose first bytes are stored as given."""
        if not start.startswith(_ZSTD_MAGIC):
            return start
        try:
            return bytes(self.payload(location)[:HEAD_BYTES])
        except ValueError:
            return b''


def ros2_type(name: str) -> str:
    """Return ``sensor_msgs/msg/Image`` for ROS 1's ``sensor_msgs/Image``."""
    package, slash, rest = name.partition('/')
    return name if not slash or rest.startswith(('msg/', 'srv/')) else f'{package}/msg/{rest}'


def decompress_chunk(data: bytes, compression: str) -> bytes:
    """Decompress ``lz4``, ``zstd`` or ``bz2`` up to the first damage; leave others as they are."""
    decompressors = {'lz4': lz4.frame.LZ4FrameDecompressor, 'zstd': zstd.ZstdDecompressor,
                     'bz2': bz2.BZ2Decompressor}
    if compression not in decompressors:
        return data
    decompressor: Any = decompressors[compression]()
    out = bytearray()
    for start in range(0, len(data), _BLOCK_BYTES):
        if decompressor.eof:
            break
        try:
            out += decompressor.decompress(data[start:start + _BLOCK_BYTES])
        except (RuntimeError, OSError, EOFError, zstd.ZstdError):   # lz4, bz2, any, zstd
            break
    return bytes(out)


def decompress_file(packed: Path, target: Path) -> bool:
    """Decompress a ``.zstd`` file up to its first damage; return whether it is complete."""
    decompressor = zstd.ZstdDecompressor()
    with packed.open('rb') as source, target.open('wb') as out:
        try:
            while not decompressor.eof:
                if not (block := source.read(1 << 20)):
                    return False
                out.write(decompressor.decompress(block))
        except zstd.ZstdError:
            return False
    return True
