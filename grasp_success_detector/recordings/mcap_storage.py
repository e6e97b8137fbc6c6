"""
Read .mcap files record by record, also those that were cut off or damaged.

The index at the end of a file is not needed, as each record begins with its type and length
(https://mcap.dev/spec). Messages before the cut in a cut-off chunk are read; after damage, reading
continues at the next chunk. Checksums of compressed chunks are verified by
``messages``, those of uncompressed chunks by ``payload``.
"""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
import re
import struct
from typing import BinaryIO, NamedTuple

from grasp_success_detector.errors import BagError
from grasp_success_detector.recordings import storage
from grasp_success_detector.recordings.storage import MessageLocation, StoredMessage

try:
    from isal.isal_zlib import crc32  # several times as fast as zlib
except ImportError:
    from zlib import crc32

MAGIC = b'\x89MCAP0\r\n'

_FOOTER, _SCHEMA, _CHANNEL, _MESSAGE, _CHUNK, _DATA_END = 2, 3, 4, 5, 6, 15
_RECORD = struct.Struct('<BQ')
_MESSAGE_HEAD = struct.Struct('<HIQQ')
_CHUNK_HEAD = struct.Struct('<QQQII')
_COMPRESSIONS = ('', 'lz4', 'zstd')
#: A chunk record: opcode, length below 2^40, two times, size, checksum, a known compression.
_CHUNK_PATTERN = re.compile(
    rb'\x06.{5}\0\0\0.{28}(?:\0\0\0\0|\x03\0\0\0lz4|\x04\0\0\0zstd)', re.DOTALL)
_SEARCH_BLOCK = 1 << 22
_LARGEST_CHUNK = 1 << 30
#: Bytes of a schema or channel that are read.
_LARGEST_DEFINITION = 1 << 24


class _Chunk(NamedTuple):
    start: int          # of the records, in the file
    stored: int         # bytes in the file, up to its end
    compression: str
    size: int           # bytes when decompressed
    crc: int            # of the decompressed bytes; 0: unknown
    complete: bool

    def is_damaged(self, data: bytes) -> bool:
        """Return whether decompressed data differ from the original; unknown for a cut chunk."""
        return self.complete and (
            len(data) != self.size or (self.crc != 0 and crc32(data) != self.crc))


class McapStorage(storage.Storage):
    """Reads the messages of an mcap file."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._schemas: dict[int, str] = {}
        self._channels: dict[int, tuple[str, str, bool]] = {}   # topic, type, ROS 1's format

    def messages(self) -> Iterator[StoredMessage]:
        if self._file.read(len(MAGIC)) != MAGIC:
            raise BagError(f'{self._path}: no mcap file (it does not begin with its magic bytes)')
        position: int | None = len(MAGIC)
        while position is not None and position < self._end:
            self._file.seek(position)
            head = self._file.read(_RECORD.size)
            if len(head) < _RECORD.size:
                self.damage['cut off'] += 1
                return
            kind, size = _RECORD.unpack(head)
            if kind in (_DATA_END, _FOOTER):
                return
            body = position + _RECORD.size
            chunk = self._chunk_at(body, size) if kind == _CHUNK else None
            complete = (kind not in (0, _CHUNK) and body + size <= self._end if chunk is None
                        else chunk.complete)
            # Either the end of a cut file or a damaged length: look for a chunk behind it.
            following = body + size if complete else self._next_chunk(position + 1)
            if not complete:
                self.damage['cut off' if following is None else
                            'damaged chunk' if kind == _CHUNK else 'damaged record'] += 1
            if chunk is not None:
                yield from self._messages_of(position, chunk, following)
            elif complete and (message := self._record(self._file, kind, body, size)) is not None:
                yield message
            position = following

    def _stored(self, location: MessageLocation) -> bytes | memoryview:
        if location.container < 0:
            self._file.seek(location.offset)
            return self._file.read(location.size)
        if self._chunk[0] != location.container:
            self._file.seek(location.container)
            size = _RECORD.unpack(self._file.read(_RECORD.size))[1]
            chunk = self._chunk_at(location.container + _RECORD.size, size)
            if chunk is None:
                raise ValueError('the chunk of this message is gone')
            self._chunk = location.container, self._read_chunk(chunk)
            if chunk.is_damaged(self._chunk[1]):
                self.wrong_chunks.add(location.container)
        return memoryview(self._chunk[1])[location.offset:location.offset + location.size]

    def _chunk_at(self, body: int, size: int) -> _Chunk | None:
        self._file.seek(body)
        head = self._file.read(_CHUNK_HEAD.size)
        if len(head) < _CHUNK_HEAD.size:
            return None
        _, _, decompressed, crc, name_size = _CHUNK_HEAD.unpack(head)
        rest = self._file.read(min(name_size, 8) + 8)
        name = rest[:-8].decode('ascii', 'replace')
        if len(rest) < 8 or name_size > 8 or name not in _COMPRESSIONS:
            return None
        stored, = struct.unpack('<Q', rest[-8:])
        start = body + _CHUNK_HEAD.size + name_size + 8
        if start + stored != body + size or max(stored, decompressed) > _LARGEST_CHUNK:
            return None
        return _Chunk(start, min(stored, self._end - start), name, decompressed, crc,
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

    def _read_chunk(self, chunk: _Chunk) -> bytes:
        self._file.seek(chunk.start)
        return storage.decompress_chunk(self._file.read(chunk.stored), chunk.compression)

    def _messages_of(self, position: int, chunk: _Chunk, limit: int | None,
                     ) -> Iterator[StoredMessage]:
        """Yield the messages of a chunk before ``limit``, as its own length may be wrong."""
        file: BinaryIO
        if chunk.compression:
            data = self._read_chunk(chunk)
            self._chunk = position, data
            file, start, end = BytesIO(data), 0, len(data)
            if chunk.is_damaged(data):
                self.damage['damaged chunk'] += 1
        else:
            file, start, end = self._file, chunk.start, chunk.start + chunk.stored
            end = end if limit is None else min(end, limit)
            if chunk.complete and (chunk.crc or chunk.size != chunk.stored):
                self.unchecked_chunks.add(position)
        at = start
        while at + _RECORD.size <= end:
            file.seek(at)
            kind, size = _RECORD.unpack(file.read(_RECORD.size))
            body, at = at + _RECORD.size, at + _RECORD.size + size
            if at > end:
                self.damage['cut-off message'] += 1
                return
            if (message := self._record(file, kind, body, size, position, start)) is not None:
                yield message

    def _record(self, file: BinaryIO, kind: int, body: int, size: int, container: int = -1,
                start: int = 0) -> StoredMessage | None:
        """
        Return the message of a record, if it is one; the file stands at ``body``, its content.

        :param start: offset of the container's content.
        """
        if kind in (_SCHEMA, _CHANNEL):
            self._define(kind, file.read(min(size, _LARGEST_DEFINITION)))
        if kind != _MESSAGE or size < _MESSAGE_HEAD.size:
            return None
        head = file.read(min(size, _MESSAGE_HEAD.size + storage.HEAD_BYTES))
        channel, _, received_ns, _ = _MESSAGE_HEAD.unpack_from(head)
        if channel not in self._channels:
            self.damage['message of an unknown channel'] += 1
            return None
        topic, msgtype, ros1 = self._channels[channel]
        location = MessageLocation(container, body + _MESSAGE_HEAD.size - start,
                                   size - _MESSAGE_HEAD.size)
        return StoredMessage(topic, msgtype, received_ns, location,
                             self._head(head[_MESSAGE_HEAD.size:], location), ros1)

    def _define(self, kind: int, data: bytes) -> None:
        try:
            number, = struct.unpack_from('<H', data)
            if kind == _SCHEMA:
                self._schemas[number] = _string(data, 2)[0]
            else:
                schema, = struct.unpack_from('<H', data, 2)
                topic, at = _string(data, 4)
                encoding, _ = _string(data, at)
                self._channels[number] = (
                    topic, storage.ros2_type(self._schemas.get(schema, '')), encoding == 'ros1')
        except (struct.error, UnicodeDecodeError):
            self.damage['damaged channel'] += 1


def _string(data: bytes, at: int) -> tuple[str, int]:
    size, = struct.unpack_from('<I', data, at)
    return data[at + 4:at + 4 + size].decode(), at + 4 + size
