"""Base class of the readers of bag files, locations of messages, and decompression."""

from abc import ABC, abstractmethod
import bz2
from collections import Counter
from collections.abc import Iterator
import errno
from pathlib import Path
import shutil
import sys
from typing import Any, BinaryIO, NamedTuple

import lz4.frame

from grasp_success_detector.files import check_regular

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

#: Bytes of each message to read for an index: enough for a label or the header of an image.
HEAD_BYTES = 4096

_ZSTD_MAGIC = b'\x28\xb5\x2f\xfd'
_BLOCK_BYTES = 1 << 16

#: Compressed data may unpack to this many times their size, and to 16 MiB in any case. Pictures of
#: a camera shrink to a half or a tenth, simulated ones to a hundredth.
MAX_RATIO = 1000
_ALWAYS_UNPACKED = 16 << 20
#: Largest message or chunk that is read into memory.
_LARGEST = 1 << 30
#: Share of the free disk that an unpacked file may fill.
_DISK_SHARE = .9


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
        check_regular(path)
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
        if location.size > _LARGEST:
            raise ValueError(f'a message of {location.size} bytes; expected at most {_LARGEST}')
        stored = self._stored(location)
        if len(stored) < location.size:
            raise ValueError(f'the message is cut off: {len(stored)} of {location.size} bytes')
        # rosbag2 may compress single messages; no other image or label begins with these bytes.
        if stored[:len(_ZSTD_MAGIC)] != _ZSTD_MAGIC:
            return stored
        unpacked, fault = _unpacked(zstd.ZstdDecompressor(), stored)
        if fault:
            raise ValueError(f'damaged zstd data ({fault})')
        return unpacked

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
    return _unpacked(decompressors[compression](), data)[0]


def _unpacked(decompressor: Any, data: bytes | memoryview) -> tuple[bytes, str]:
    """Unpack data up to their end, damage or limit; return what is before it, and the fault."""
    out, limit = bytearray(), unpacked_limit(len(data))
    for start in range(0, len(data), _BLOCK_BYTES):
        block = bytes(data[start:start + _BLOCK_BYTES])
        while not decompressor.eof:
            if len(out) >= limit:
                return bytes(out), f'unpacks to more than {limit} bytes'
            try:
                out += decompressor.decompress(block, limit - len(out))
            except (RuntimeError, OSError, EOFError, ValueError, zstd.ZstdError) as error:
                return bytes(out), str(error) or 'damaged'      # lz4, bz2, any, zstd
            if decompressor.needs_input:
                break
            block = b''
    return bytes(out), '' if decompressor.eof else 'cut off'


def unpacked_limit(packed: int) -> int:
    """Return how many bytes are unpacked at most of this many compressed bytes, in memory."""
    return min(max(_ALWAYS_UNPACKED, MAX_RATIO * packed), _LARGEST)


def decompress_file(packed: Path, target: Path) -> str:
    """
    Decompress a ``.zstd`` file in blocks, up to its end, its first damage or the limit.

    :returns: kind of damage: cut off or damaged, or too large; '' if the file is complete.
    :raises OSError: it cannot be read, or ``target`` would fill its disk.
    """
    check_regular(packed)
    decompressor = zstd.ZstdDecompressor()
    limit = max(_ALWAYS_UNPACKED, MAX_RATIO * packed.stat().st_size)
    room = int(shutil.disk_usage(target.parent).free * _DISK_SHARE)
    written, block = 0, b''
    with packed.open('rb') as source, target.open('wb') as out:
        try:
            while not decompressor.eof:
                if decompressor.needs_input and not (block := source.read(1 << 20)):
                    return 'cut-off or damaged compressed file'
                data = decompressor.decompress(block, 1 << 20)
                block = b''
                written += out.write(data[:limit - written])
                if written >= limit:
                    return f'compressed file that unpacks to over {MAX_RATIO} times its size'
                if written > room:
                    raise OSError(errno.ENOSPC, f'unpacking {packed} would fill the disk',
                                  str(target))
        except zstd.ZstdError:
            return 'cut-off or damaged compressed file'
    return ''
