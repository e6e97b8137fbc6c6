"""Base class of the readers of bag files, locations of messages, and decompression."""

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

#: Bytes of each message to read for an index: enough for a label or the header of an image.
HEAD_BYTES = 4096

_ZSTD_MAGIC = b'\x28\xb5\x2f\xfd'
_BLOCK_BYTES = 1 << 16


class MessageLocation(NamedTuple):
    """Location of a message in its file."""

    container: int  # offset of its chunk, or number of its page (damaged sqlite3); -1 if none
    offset: int     # in the chunk or file; or index in the page, row id, number of a video's frame
    size: int       # bytes of the payload; -1 if unknown


class StoredMessage(NamedTuple):
    """One message of a file."""

    topic: str
    msgtype: str            # ROS 2 name such as sensor_msgs/msg/Image, also in ROS 1 bags
    received_ns: int        # time of recording
    location: MessageLocation
    head: bytes             # the first HEAD_BYTES of the payload
    ros1: bool = False      # whether it is serialised in ROS 1's format instead of CDR


class Storage(ABC):
    """
    An open file of a bag, read without its index, so that damage affects only its own part.

    :ivar damage: number of faults by kind, complete once :meth:`messages` is exhausted.
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

        :raises BagError: the file does not have the format of its suffix.
        """

    @abstractmethod
    def _stored(self, location: MessageLocation) -> bytes | memoryview:
        """Return the stored bytes of a message, fewer than its size if some are missing."""

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
    """Return the ROS 2 name of a type, such as ``std_msgs/msg/Bool`` for ``std_msgs/Bool``."""
    package, slash, rest = name.partition('/')
    return name if not slash or rest.startswith(('msg/', 'srv/')) else f'{package}/msg/{rest}'


def decompress_chunk(data: bytes, compression: str) -> bytes:
    """Decompress ``lz4``, ``zstd`` or ``bz2`` data up to the first damage; return other as is."""
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
