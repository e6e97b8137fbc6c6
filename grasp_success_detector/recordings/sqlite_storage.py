"""
Read rosbag2's .db3 files with SQLite, or page by page if SQLite cannot read them.

A cut-off or damaged database cannot be queried, but each leaf page of a table holds whole rows
(https://www.sqlite.org/fileformat2.html, 1.6 and 2.1). Rows are recognised by their columns: those
of a message are (id, topic, time, bytes), those of a topic (id, name, type, ...).
"""

from collections.abc import Iterator
from pathlib import Path
import sqlite3
import struct
from typing import NamedTuple
from urllib.parse import quote

from grasp_success_detector.errors import BagError
from grasp_success_detector.recordings import storage
from grasp_success_detector.recordings.storage import MessageLocation, StoredMessage

MAGIC = b'SQLite format 3\0'

_TABLE_LEAF = 0x0d
#: Column types (2.1): even numbers from 12 are blobs, odd ones from 13 texts of growing length.
_BLOB, _TEXT = 12, 13
#: Bytes of a column of type 0 to 9 (2.1): NULL, integers, a float, the constants 0 and 1.
_FIXED_SIZES = (0, 1, 2, 3, 4, 6, 8, 8, 0, 0)
_FLOAT = 7


class SqliteStorage(storage.Storage):
    """Reads the messages with SQLite; each method raises sqlite3.DatabaseError on damage."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        # Beside a write-ahead log the newest messages are in the log, which immutable ignores.
        mode = 'mode=ro' if path.with_name(path.name + '-wal').exists() else 'immutable=1'
        self._db = sqlite3.connect(
            f'file:{quote(str(path.absolute()))}?{mode}', uri=True, check_same_thread=False)

    def close(self) -> None:
        self._db.close()
        super().close()

    def messages(self) -> Iterator[StoredMessage]:
        # A view could compute for ever.
        tables = {name for name, in self._db.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not {'topics', 'messages'} <= tables:
            raise sqlite3.DatabaseError('no tables topics and messages')
        topics = {number: (name, storage.ros2_type(msgtype)) for number, name, msgtype in
                  self._db.execute('SELECT id, name, type FROM topics')
                  if isinstance(name, str) and isinstance(msgtype, str)}
        rows = self._db.execute(
            'SELECT id, topic_id, timestamp, length(data), substr(data, 1, ?) FROM messages '
            'ORDER BY id', (storage.HEAD_BYTES,))
        for number, topic, received_ns, size, start in rows:
            if topic not in topics or not isinstance(start, bytes):
                self.damage['message of an unknown topic'] += 1
                continue
            location = MessageLocation(-1, number, size)
            yield StoredMessage(
                *topics[topic], received_ns, location, self._head(start, location))

    def _stored(self, location: MessageLocation) -> bytes:
        row = self._db.execute(
            'SELECT data FROM messages WHERE id = ?', (location.offset,)).fetchone()
        if row is None or not isinstance(row[0], bytes):
            raise ValueError('the message is gone')
        return row[0]


class _Cell(NamedTuple):
    """A row of a table in a leaf page."""

    row_id: int
    local: bytes        # the part of the row that is in the page
    overflow: int       # number of the page with the next part; 0: none


class _Column(NamedTuple):
    kind: int
    start: int      # in the row
    end: int

    def is_of(self, kind: int) -> bool:
        return self.kind >= kind and self.kind % 2 == kind % 2


class DamagedSqliteStorage(storage.Storage):
    """Reads the messages of a damaged sqlite3 file page by page."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        header = self._file.read(100)
        size = struct.unpack('>H', header[16:18])[0] if len(header) == 100 else 0
        self._page_size = 65536 if size == 1 else size
        fault = ('no sqlite3 file (it does not begin with its magic bytes)'
                 if len(header) < 100 or not header.startswith(MAGIC) else
                 'damaged at its very start; no page can be found'
                 if self._page_size < 512 or self._page_size & (self._page_size - 1) else '')
        if fault:
            self._file.close()
            raise BagError(f'{path}: {fault}')
        self._usable = self._page_size - header[20]
        self._pages = self._end // self._page_size

    def messages(self) -> Iterator[StoredMessage]:
        """Yield every message whose pages are all present, in the order of row ids."""
        topics: dict[int, tuple[str, str]] = {}
        found: dict[int, tuple[int, int, MessageLocation]] = {}
        for page, index, cell in self._cells():
            columns = _columns(cell.local)
            if len(columns) == 4 and columns[3].is_of(_BLOB):
                topic, received_ns = (_integer(cell.local, column) for column in columns[1:3])
                if topic is not None and received_ns is not None:
                    found[cell.row_id] = topic, received_ns, MessageLocation(
                        page, index, columns[3].end - columns[3].start)
            elif len(columns) >= 4 and all(column.is_of(_TEXT) for column in columns[1:4]):
                name, msgtype = (cell.local[column.start:column.end].decode('utf-8', 'replace')
                                 for column in columns[1:3])
                if name.startswith('/') and '/' in msgtype:
                    topics[cell.row_id] = name, storage.ros2_type(msgtype)
        if not found:
            self.damage['no page with messages'] += 1
        for _, (topic, received_ns, location) in sorted(found.items()):
            if topic not in topics:
                self.damage['message of an unknown topic'] += 1
                continue
            stored = self._stored(location)
            if len(stored) < location.size:
                self.damage['message with missing pages'] += 1
                continue
            yield StoredMessage(*topics[topic], received_ns, location,
                                self._head(stored[:storage.HEAD_BYTES], location))

    def _stored(self, location: MessageLocation) -> bytes:
        cell = self._cell(self._page(location.container), location.container, location.offset)
        columns = _columns(cell.local) if cell is not None else []
        if cell is None or len(columns) != 4:
            raise ValueError('the message is gone')
        start = columns[3].start
        data = bytearray(cell.local)
        following = cell.overflow
        while 1 <= following <= self._pages and len(data) < start + location.size:
            rest = self._page(following)
            following, = struct.unpack_from('>I', rest)
            data += rest[4:self._usable]
        return bytes(data[start:start + location.size])

    def _page(self, number: int) -> bytes:
        self._file.seek((number - 1) * self._page_size)
        return self._file.read(self._page_size)

    def _cells(self) -> Iterator[tuple[int, int, _Cell]]:
        """Yield page number, index and content of the cells of all leaf pages."""
        for number in range(1, self._pages + 1):
            page = self._page(number)
            base = 100 if number == 1 else 0
            if page[base] != _TABLE_LEAF:
                continue
            count, = struct.unpack_from('>H', page, base + 3)
            for index in range(min(count, (self._page_size - base - 8) // 2)):
                if (cell := self._cell(page, number, index)) is not None:
                    yield number, index, cell

    def _cell(self, page: bytes, number: int, index: int) -> _Cell | None:
        base = 100 if number == 1 else 0
        at, = struct.unpack_from('>H', page, base + 8 + 2 * index)
        try:
            size, at = _varint(page, at)
            row_id, at = _varint(page, at)
        except IndexError:
            return None
        local, overflow = size, 0
        if size > (largest := self._usable - 35):
            smallest = (self._usable - 12) * 32 // 255 - 23
            local = smallest + (size - smallest) % (self._usable - 4)
            local = local if local <= largest else smallest
            if at + local + 4 > len(page):
                return None
            overflow, = struct.unpack_from('>I', page, at + local)
        if at + local > len(page) or size > self._end:
            return None
        return _Cell(row_id, page[at:at + local], overflow)


def _columns(row: bytes) -> list[_Column]:
    """Return the columns of a row, as its header lists them (2.1); none if it is damaged."""
    columns: list[_Column] = []
    try:
        header, at = _varint(row, 0)
        if not 2 <= header <= min(len(row), 100):
            return []
        start = header
        while at < header:
            kind, at = _varint(row, at)
            end = start + ((kind - 12) // 2 if kind >= 12 else _FIXED_SIZES[kind])
            columns.append(_Column(kind, start, end))
            start = end
    except IndexError:
        return []
    return columns


def _integer(row: bytes, column: _Column) -> int | None:
    """Return the value of an integer column; None if it is of another type or not in the page."""
    if column.kind in (8, 9):
        return column.kind - 8
    if not 1 <= column.kind < _FLOAT or column.end > len(row):
        return None
    return int.from_bytes(row[column.start:column.end], 'big', signed=True)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for i in range(8):
        value = value << 7 | data[at + i] & 0x7f
        if data[at + i] < 0x80:
            return value, at + i + 1
    return value << 8 | data[at + 8], at + 9
