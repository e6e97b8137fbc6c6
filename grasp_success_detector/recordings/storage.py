"""What all kinds of recording files have in common for readers that lose as little as can be."""

from collections import Counter
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
import sys
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple, Protocol, TypeVar

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

__all__ = ['Findings', 'HEAD_BYTES', 'inflate', 'Locator', 'normal_type', 'OpenedFile', 'Storage',
           'StoredMessage', 'unpack_file', 'unpacked', 'Wire', 'zstd', 'ZSTD_MAGIC']

#: So many bytes of each message are read for the index: all of a label, the header of an image.
HEAD_BYTES = 4096

ZSTD_MAGIC = b'\x28\xb5\x2f\xfd'


class Wire(str, Enum):
    """How messages are serialised."""

    CDR = 'cdr'
    ROS1 = 'ros1'


class Locator(NamedTuple):
    """
    Where a message's payload lies in its file.

    :ivar container: offset of the chunk (mcap, ROS 1), page (carved sqlite) or -1 for none.
    :ivar offset: offset within the chunk or file, cell of the page, or row id.
    :ivar size: bytes of the payload; -1 where the file itself knows.
    """

    container: int
    offset: int
    size: int


class StoredMessage(NamedTuple):
    """
    One message as the file has it.

    :ivar msgtype: with ROS 2's ``/msg/`` in it, whatever the file is.
    :ivar received_ns: when it was recorded.
    :ivar head: the first ``HEAD_BYTES`` of the payload.
    """

    topic: str
    msgtype: str
    wire: Wire
    received_ns: int
    locator: Locator
    head: bytes


_Opened = TypeVar('_Opened', bound='OpenedFile')


class Findings:
    """
    What is found wrong with a file.

    :ivar damage: counted by kind, while all messages are read.
    :ivar unchecked: chunks whose checksums were not looked at meanwhile; ``payload`` does it.
    :ivar wrong: of the chunks that ``payload`` unpacked, those whose checksum or size is wrong.
    """

    def __init__(self) -> None:
        self.damage: Counter[str] = Counter()
        self.unchecked: set[int] = set()
        self.wrong: set[int] = set()


class Storage(Protocol):
    """One open file of a recording, with its :class:`Findings`."""

    damage: Counter[str]
    unchecked: set[int]
    wrong: set[int]

    def messages(self) -> Iterator[StoredMessage]:
        """Yield every message that can be found, in the order of the file."""

    def payload(self, locator: Locator) -> bytes | memoryview:
        """Return all bytes of one message; raises ValueError where they can't be had."""

    def __enter__(self) -> 'Storage':
        """Open."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        """Close."""


class OpenedFile(Findings):
    """
    What storages that read a file by themselves have in common.

    :param path: opened on entering.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def __enter__(self: _Opened) -> _Opened:
        # A small buffer: most reads are of a few bytes, at places far apart.
        self._file: BinaryIO = self._path.open('rb', 1 << 14)
        self._end = self._path.stat().st_size
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._file.close()


def normal_type(name: str) -> str:
    """Return ``sensor_msgs/msg/Image`` for ROS 1's ``sensor_msgs/Image``."""
    package, slash, rest = name.partition('/')
    return name if not slash or rest.startswith(('msg/', 'srv/')) else f'{package}/msg/{rest}'


def unpacked(payload: bytes | memoryview) -> bytes | memoryview:
    """
    Undo rosbag2's compression by message, told by its magic: no CDR message begins like it.

    :raises ValueError: damaged compressed data.
    """
    if payload[:len(ZSTD_MAGIC)] != ZSTD_MAGIC:
        return payload
    try:
        data: bytes = zstd.decompress(payload)
    except zstd.ZstdError as error:
        raise ValueError(f'damaged zstd data ({error})') from error
    return data


def inflate(data: bytes, decompressor: Any, damaged: tuple[type[Exception], ...]) -> bytes:
    """
    Decompress as much as there is, block by block.

    :param decompressor: of lz4.frame, zstd or bz2: anything with ``decompress`` and ``eof``.
    :param damaged: what it raises on damage.
    """
    out = bytearray()
    step = 1 << 16
    for start in range(0, len(data), step):
        if decompressor.eof:
            break
        try:
            out += decompressor.decompress(data[start:start + step])
        except damaged:
            break
    return bytes(out)


def unpack_file(packed: Path, target: Path) -> bool:
    """
    Decompress a ``.zstd`` file of rosbag2, as far as it goes.

    :return: whether it was whole.
    """
    decompressor = zstd.ZstdDecompressor()
    with packed.open('rb') as source, target.open('wb') as out:
        while not decompressor.eof:
            block = source.read(1 << 20)
            if not block:
                return False
            try:
                out.write(decompressor.decompress(block))
            except zstd.ZstdError:
                return False
    return True
