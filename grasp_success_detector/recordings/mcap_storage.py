"""
Read .mcap files record by record, also those that were cut off or damaged.

The index at the end of a file is not needed: the records themselves say what they are
(https://mcap.dev/spec). A cut chunk gives the messages before the cut; behind damage, reading goes
on at the next chunk. Of chunks that are not packed only the heads of their messages are read, and
their checksums are looked at when the messages are.
"""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
import re
import struct
from typing import BinaryIO, NamedTuple

import lz4.frame

from grasp_success_detector.errors import BagError
from grasp_success_detector.recordings.storage import (
    HEAD_BYTES,
    inflate,
    Locator,
    normal_type,
    OpenedFile,
    StoredMessage,
    unpacked,
    Wire,
    zstd,
    ZSTD_MAGIC,
)

try:
    from isal.isal_zlib import crc32  # several times as fast
except ImportError:
    from zlib import crc32

MAGIC = b'\x89MCAP0\r\n'

_SCHEMA, _CHANNEL, _MESSAGE, _CHUNK, _DATA_END, _FOOTER = 3, 4, 5, 6, 15, 2
_RECORD = struct.Struct('<BQ')
_MESSAGE_HEAD = struct.Struct('<HIQQ')
_MOST_OF_MESSAGE = _MESSAGE_HEAD.size + HEAD_BYTES
_CHUNK_HEAD = struct.Struct('<QQQII')
_COMPRESSIONS = {'': b'', 'lz4': b'lz4', 'zstd': b'zstd'}
#: A chunk record: opcode, length below 2^40, two times, size, checksum, a known compression.
_CHUNK_PATTERN = re.compile(
    rb'\x06.{5}\0\0\0.{28}(?:\0\0\0\0|\x03\0\0\0lz4|\x04\0\0\0zstd)', re.DOTALL)
_SEARCH_BLOCK = 1 << 22
_LARGEST_CHUNK = 1 << 32


class _Channel(NamedTuple):
    topic: str
    msgtype: str
    wire: Wire


class _Chunk(NamedTuple):
    """Where a chunk's records lie, and how they are packed."""

    start: int          # of the records, in the file
    stored: int         # bytes in the file, as far as the file goes
    compression: str
    size: int           # bytes when unpacked
    crc: int            # of the unpacked bytes; 0: not known
    whole: bool

    def agrees_with(self, data: bytes) -> bool:
        """Say whether unpacked bytes are what was packed; of a cut chunk nobody knows."""
        return not self.whole or (
            len(data) == self.size and (not self.crc or crc32(data) == self.crc))


class McapStorage(OpenedFile):
    """A :class:`~grasp_success_detector.recordings.storage.Storage` for mcap."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._schemas: dict[int, str] = {}
        self._channels: dict[int, _Channel] = {}
        self._unpacked: tuple[int, bytes] = (-1, b'')

    def messages(self) -> Iterator[StoredMessage]:
        """
        Yield every message that can be found, in the order of the file.

        :raises BagError: no mcap at all.
        """
        if self._file.read(len(MAGIC)) != MAGIC:
            raise BagError(f'{self._path}: no mcap file (it does not begin with its magic bytes)')
        position = len(MAGIC)
        while position < self._end:
            self._file.seek(position)
            head = self._file.read(_RECORD.size)
            if len(head) < _RECORD.size:
                self.damage['cut off'] += 1
                return
            kind, size = _RECORD.unpack(head)
            body = position + _RECORD.size
            if kind in (_DATA_END, _FOOTER):
                return
            if kind == 0 or (kind != _CHUNK and body + size > self._end):
                # Either the end of a cut file or a damaged length: look for a chunk behind it.
                following = self._next_chunk(position + 1)
                self.damage['cut off' if following is None else 'damaged record'] += 1
                if following is None:
                    return
                position = following
                continue
            if kind == _CHUNK:
                chunk = self._chunk_at(body, size)
                if chunk is None or not chunk.whole:
                    following = self._next_chunk(position + 1)
                    self.damage['cut off' if following is None else 'damaged chunk'] += 1
                    if chunk is not None:
                        yield from self._records_of(position, chunk, following)
                    if following is None:
                        return
                    position = following
                    continue
                yield from self._records_of(position, chunk, None)
            elif kind == _MESSAGE and size >= _MESSAGE_HEAD.size:
                start = self._file.read(_MOST_OF_MESSAGE)[:size]
                message = self._message(start, Locator(
                    -1, body + _MESSAGE_HEAD.size, size - _MESSAGE_HEAD.size))
                if message is not None:
                    yield message
            elif kind in (_SCHEMA, _CHANNEL):
                self._define(kind, self._file.read(size))
            position = body + size

    def payload(self, locator: Locator) -> bytes | memoryview:
        """Return all bytes of one message."""
        data: bytes | memoryview
        if locator.container < 0:
            self._file.seek(locator.offset)
            data = self._file.read(locator.size)
        else:
            if self._unpacked[0] != locator.container:
                self._file.seek(locator.container)
                head = self._file.read(_RECORD.size)
                chunk = self._chunk_at(locator.container + _RECORD.size, _RECORD.unpack(head)[1])
                if chunk is None:
                    raise ValueError('the chunk of this message is gone')
                self._unpacked = locator.container, self._unpack(chunk)
                if not chunk.agrees_with(self._unpacked[1]):
                    self.wrong.add(locator.container)
            data = memoryview(self._unpacked[1])[locator.offset:locator.offset + locator.size]
        if len(data) < locator.size:
            raise ValueError(f'the message is cut off: {len(data)} of {locator.size} bytes')
        return unpacked(data)

    def _chunk_at(self, body: int, size: int) -> _Chunk | None:
        self._file.seek(body)
        head = self._file.read(_CHUNK_HEAD.size)
        if len(head) < _CHUNK_HEAD.size:
            return None
        _, _, unpacked_size, crc, name_size = _CHUNK_HEAD.unpack(head)
        rest = self._file.read(min(name_size, 8) + 8)
        name = rest[:-8].decode('ascii', 'replace')
        if len(rest) < 8 or name_size > 8 or name not in _COMPRESSIONS:
            return None
        stored, = struct.unpack('<Q', rest[-8:])
        start = body + _CHUNK_HEAD.size + name_size + 8
        if start + stored != body + size or max(stored, unpacked_size) > _LARGEST_CHUNK:
            return None
        return _Chunk(start, min(stored, self._end - start), name, unpacked_size, crc,
                      start + stored <= self._end)

    def _next_chunk(self, position: int) -> int | None:
        """Search forward for the next chunk whose lengths agree with each other."""
        while position < self._end:
            self._file.seek(position)
            block = self._file.read(_SEARCH_BLOCK + 64)
            at = 0
            while (found := _CHUNK_PATTERN.search(block, at)) is not None:
                start = position + found.start()
                _, size = _RECORD.unpack_from(block, found.start())
                if self._chunk_at(start + _RECORD.size, size) is not None:
                    return start
                at = found.start() + 1
            position += _SEARCH_BLOCK
        return None

    def _unpack(self, chunk: _Chunk) -> bytes:
        self._file.seek(chunk.start)
        data = self._file.read(chunk.stored)
        if chunk.compression == 'lz4':
            return inflate(data, lz4.frame.LZ4FrameDecompressor(), (RuntimeError, EOFError))
        if chunk.compression == 'zstd':
            return inflate(data, zstd.ZstdDecompressor(), (zstd.ZstdError, EOFError))
        return data

    def _records_of(self, position: int, chunk: _Chunk, limit: int | None,
                    ) -> Iterator[StoredMessage]:
        """
        Yield the messages of one chunk.

        :param limit: where the next chunk begins, if this one's length cannot be trusted.
        """
        file: BinaryIO
        if chunk.compression:
            data = self._unpack(chunk)
            self._unpacked = position, data
            file, start, end = BytesIO(data), 0, len(data)
            if not chunk.agrees_with(data):
                self.damage['damaged chunk'] += 1
        else:
            file, start, end = self._file, chunk.start, chunk.start + chunk.stored
            end = end if limit is None else min(end, limit)
            if chunk.whole and (chunk.crc or chunk.size != chunk.stored):
                self.unchecked.add(position)
        at = start
        while at + _RECORD.size <= end:
            file.seek(at)
            head = file.read(_RECORD.size + _MOST_OF_MESSAGE)
            kind, size = _RECORD.unpack_from(head)
            body, at = at + _RECORD.size, at + _RECORD.size + size
            if at > end:
                self.damage['cut-off message'] += 1
                return
            if kind == _MESSAGE and size >= _MESSAGE_HEAD.size:
                message = self._message(
                    head[_RECORD.size:_RECORD.size + min(size, _MOST_OF_MESSAGE)],
                    Locator(position, body + _MESSAGE_HEAD.size - start,
                            size - _MESSAGE_HEAD.size))
                if message is not None:
                    yield message
            elif kind in (_SCHEMA, _CHANNEL):
                file.seek(body)
                self._define(kind, file.read(size))

    def _message(self, start: bytes, locator: Locator) -> StoredMessage | None:
        channel_id, _, received_ns, _ = _MESSAGE_HEAD.unpack_from(start)
        channel = self._channels.get(channel_id)
        if channel is None:
            self.damage['message of an unknown channel'] += 1
            return None
        head = start[_MESSAGE_HEAD.size:]
        if head.startswith(ZSTD_MAGIC):
            try:
                head = bytes(self.payload(locator)[:HEAD_BYTES])
            except ValueError:
                head = b''
        return StoredMessage(*channel, received_ns, locator, head)

    def _define(self, kind: int, data: bytes) -> None:
        try:
            number, = struct.unpack_from('<H', data)
            if kind == _SCHEMA:
                self._schemas[number] = _string(data, 2)[0]
            else:
                schema, = struct.unpack_from('<H', data, 2)
                topic, at = _string(data, 4)
                encoding, _ = _string(data, at)
                self._channels[number] = _Channel(
                    topic, normal_type(self._schemas.get(schema, '')),
                    Wire.ROS1 if encoding == 'ros1' else Wire.CDR)
        except (struct.error, UnicodeDecodeError):
            self.damage['damaged channel'] += 1


def _string(data: bytes, at: int) -> tuple[str, int]:
    size, = struct.unpack_from('<I', data, at)
    return data[at + 4:at + 4 + size].decode(), at + 4 + size
