"""
Read ROS 1 .bag files record by record, also those that were never closed or were cut off.

The index is not needed. Format: https://wiki.ros.org/Bags/Format/2.0.
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

MAGIC = b'#ROSBAG V2.0\n'

_MESSAGE, _CHUNK, _CONNECTION = b'\x02', b'\x05', b'\x07'
_LARGEST_HEADER = 1 << 20
_SEARCH_BLOCK = 1 << 22
#: The header of a chunk: its length, then three fields in the order of the writer.
_CHUNK_PATTERN = re.compile(
    rb'[\x28-\x50]\0\0\0(?:\x04\0\0\0op=\x05|[\x0f-\x14]\0\0\0compression=|\x09\0\0\0size=)')


class _Record(NamedTuple):
    fields: dict[bytes, bytes]
    data: int     # offset of the data
    size: int     # bytes of the data

    @property
    def end(self) -> int:
        return self.data + self.size


class Ros1Storage(storage.Storage):
    """Reads the messages of a ROS 1 bag."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._connections: dict[bytes, tuple[str, str]] = {}

    def messages(self) -> Iterator[StoredMessage]:
        if self._file.read(len(MAGIC)) != MAGIC:
            raise BagError(f'{self._path}: no ROS 1 bag of version 2.0')
        position = len(MAGIC)
        while position < self._end:
            record = _record_at(self._file, position)
            if record is None:
                self.damage['cut off'] += 1
                return
            kind = record.fields.get(b'op')
            if kind is None:    # every record has one: the bytes are damaged, or never written
                self.damage['damaged record'] += 1
                if (following := self._next_chunk(position + 1)) is None:
                    return
                position = following
                continue
            if kind == _CHUNK:
                yield from self._messages_of(position, record)
            elif kind == _CONNECTION:
                self._define(record.fields, self._file.read(min(record.size, _LARGEST_HEADER)))
            position = record.end
        if position > self._end:
            self.damage['cut off'] += 1

    def _next_chunk(self, position: int) -> int | None:
        """Search forward for the next chunk, in time that grows with the file's size only."""
        while position < self._end:
            self._file.seek(position)
            block = self._file.read(_SEARCH_BLOCK + 256)
            for found in _CHUNK_PATTERN.finditer(block):
                record = _record_at(self._file, position + found.start())
                if record is not None and record.fields.get(b'op') == _CHUNK:
                    return position + found.start()
            position += _SEARCH_BLOCK
        return None

    def _stored(self, location: MessageLocation) -> bytes:
        if self._chunk[0] != location.container:
            record = _record_at(self._file, location.container)
            if record is None:
                raise ValueError('the chunk of this message is gone')
            self._chunk = location.container, self._read_chunk(record)
        return self._chunk[1][location.offset:location.offset + location.size]

    def _read_chunk(self, chunk: _Record) -> bytes:
        self._file.seek(chunk.data)
        return storage.decompress_chunk(self._file.read(chunk.size),
                                chunk.fields.get(b'compression', b'').decode('ascii', 'replace'))

    def _messages_of(self, position: int, chunk: _Record) -> Iterator[StoredMessage]:
        data = self._read_chunk(chunk)
        expected = struct.unpack('<I', chunk.fields.get(b'size', b'').ljust(4, b'\0')[:4])[0]
        if len(data) < expected:
            self.damage['cut-off or damaged chunk'] += 1
        self._chunk = position, data
        file, at = BytesIO(data), 0
        while at + 8 <= len(data):
            record = _record_at(file, at)
            if record is None or record.end > len(data):
                self.damage['cut-off message'] += 1
                return
            at = record.end
            kind = record.fields.get(b'op')
            if kind == _CONNECTION:
                self._define(record.fields, data[record.data:at])
            elif kind == _MESSAGE:
                connection = self._connections.get(record.fields.get(b'conn', b''))
                stamp = record.fields.get(b'time', b'')
                if connection is None or len(stamp) != 8:
                    self.damage['message of an unknown channel'] += 1
                    continue
                seconds, nanoseconds = struct.unpack('<II', stamp)
                yield StoredMessage(
                    *connection, seconds * 10 ** 9 + nanoseconds,
                    MessageLocation(position, record.data, record.size),
                    data[record.data:min(at, record.data + storage.HEAD_BYTES)], ros1=True)

    def _define(self, fields: dict[bytes, bytes], data: bytes) -> None:
        topic = fields.get(b'topic', b'').decode('utf-8', 'replace')
        msgtype = _fields(data).get(b'type', b'').decode('utf-8', 'replace')
        self._connections[fields.get(b'conn', b'')] = topic, storage.ros2_type(msgtype)


def _record_at(file: BinaryIO, position: int) -> _Record | None:
    """Read a record's header; the file then stands at the record's data."""
    file.seek(position)
    prefix = file.read(4)
    if len(prefix) < 4 or (size := struct.unpack('<I', prefix)[0]) > _LARGEST_HEADER:
        return None
    header = file.read(size + 4)
    if len(header) < size + 4:
        return None
    return _Record(_fields(header[:size]), position + 8 + size,
                   struct.unpack('<I', header[size:])[0])


def _fields(data: bytes) -> dict[bytes, bytes]:
    fields = {}
    at = 0
    while at + 4 <= len(data):
        size, = struct.unpack_from('<I', data, at)
        name, equals, value = data[at + 4:at + 4 + size].partition(b'=')
        if equals:
            fields[name] = value
        at += 4 + size
    return fields
