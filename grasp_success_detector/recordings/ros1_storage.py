"""
Read ROS 1 .bag files record by record, also those that were never closed or were cut off.

Format: https://wiki.ros.org/Bags/Format/2.0. The index is not needed.
"""

import bz2
from collections.abc import Iterator
from pathlib import Path
import struct
from typing import NamedTuple

import lz4.frame

from grasp_success_detector.errors import BagError
from grasp_success_detector.recordings.storage import (
    HEAD_BYTES,
    inflate,
    Locator,
    normal_type,
    OpenedFile,
    StoredMessage,
    Wire,
)

MAGIC = b'#ROSBAG V2.0\n'

_MESSAGE, _CHUNK, _CONNECTION = b'\x02', b'\x05', b'\x07'
_LARGEST_HEADER = 1 << 20


class _Record(NamedTuple):
    fields: dict[bytes, bytes]
    data: int     # offset of the data
    size: int     # bytes of the data


class Ros1Storage(OpenedFile):
    """A :class:`~grasp_success_detector.recordings.storage.Storage` for ROS 1 bags."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._connections: dict[bytes, tuple[str, str]] = {}
        self._unpacked: tuple[int, bytes] = (-1, b'')

    def messages(self) -> Iterator[StoredMessage]:
        """
        Yield every message that can be found, in the order of the file.

        :raises BagError: no ROS 1 bag of version 2.0.
        """
        if self._file.read(len(MAGIC)) != MAGIC:
            raise BagError(f'{self._path}: no ROS 1 bag of version 2.0')
        position = len(MAGIC)
        while position < self._end:
            record = self._record_at(position)
            if record is None:
                self.damage['cut off'] += 1
                return
            kind = record.fields.get(b'op')
            if kind == _CHUNK:
                yield from self._records_of(position, record)
            elif kind == _CONNECTION:
                self._file.seek(record.data)
                self._define(record.fields, self._file.read(min(record.size, _LARGEST_HEADER)))
            position = record.data + record.size
        if position > self._end:
            self.damage['cut off'] += 1

    def payload(self, locator: Locator) -> bytes:
        """Return all bytes of one message."""
        if self._unpacked[0] != locator.container:
            record = self._record_at(locator.container)
            if record is None:
                raise ValueError('the chunk of this message is gone')
            self._unpacked = locator.container, self._unpack(record)
        data = self._unpacked[1][locator.offset:locator.offset + locator.size]
        if len(data) < locator.size:
            raise ValueError(f'the message is cut off: {len(data)} of {locator.size} bytes')
        return data

    def _record_at(self, position: int) -> _Record | None:
        self._file.seek(position)
        prefix = self._file.read(4)
        if len(prefix) < 4 or (size := struct.unpack('<I', prefix)[0]) > _LARGEST_HEADER:
            return None
        header = self._file.read(size + 4)
        if len(header) < size + 4:
            return None
        return _Record(_fields(header[:size]), position + 8 + size,
                       struct.unpack('<I', header[size:])[0])

    def _unpack(self, chunk: _Record) -> bytes:
        self._file.seek(chunk.data)
        data = self._file.read(chunk.size)
        compression = chunk.fields.get(b'compression')
        if compression == b'bz2':
            return inflate(data, bz2.BZ2Decompressor(), (OSError, EOFError))
        if compression == b'lz4':
            return inflate(data, lz4.frame.LZ4FrameDecompressor(), (RuntimeError, EOFError))
        return data

    def _records_of(self, position: int, chunk: _Record) -> Iterator[StoredMessage]:
        data = self._unpack(chunk)
        expected = struct.unpack('<I', chunk.fields.get(b'size', b'').ljust(4, b'\0')[:4])[0]
        if len(data) < expected:
            self.damage['cut-off or damaged chunk'] += 1
        self._unpacked = position, data
        at = 0
        while at + 8 <= len(data):
            head_size, = struct.unpack_from('<I', data, at)
            body = at + 4 + head_size
            if body + 4 > len(data):
                self.damage['cut-off message'] += 1
                return
            fields = _fields(data[at + 4:body])
            size, = struct.unpack_from('<I', data, body)
            start, at = body + 4, body + 4 + size
            if at > len(data):
                self.damage['cut-off message'] += 1
                return
            if fields.get(b'op') == _CONNECTION:
                self._define(fields, data[start:at])
            elif fields.get(b'op') == _MESSAGE:
                connection = self._connections.get(fields.get(b'conn', b''))
                if connection is None or len(stamp := fields.get(b'time', b'')) != 8:
                    self.damage['message of an unknown channel'] += 1
                    continue
                seconds, nanoseconds = struct.unpack('<II', stamp)
                yield StoredMessage(
                    *connection, Wire.ROS1, seconds * 10 ** 9 + nanoseconds,
                    Locator(position, start, size), data[start:min(at, start + HEAD_BYTES)])

    def _define(self, fields: dict[bytes, bytes], data: bytes) -> None:
        topic = fields.get(b'topic', b'').decode('utf-8', 'replace')
        msgtype = _fields(data).get(b'type', b'').decode('utf-8', 'replace')
        self._connections[fields.get(b'conn', b'')] = topic, normal_type(msgtype)


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
