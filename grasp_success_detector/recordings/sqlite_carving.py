"""
Get messages out of a damaged or cut-off .db3 file, page by page, without its tree.

Every leaf page of a table holds whole rows (https://www.sqlite.org/fileformat2.html, 1.6 and
2.1); the pages that led to it need not be there any more. Rows are told by their columns: a
message is (id, topic, time, bytes), a topic is (id, name, type, ...).
"""

from collections.abc import Iterator
from pathlib import Path
import struct
from types import TracebackType
from typing import BinaryIO, NamedTuple

from grasp_success_detector.errors import BagError
from grasp_success_detector.recordings.storage import (
    Findings,
    HEAD_BYTES,
    Locator,
    normal_type,
    StoredMessage,
    unpacked,
    Wire,
    ZSTD_MAGIC,
)

MAGIC = b'SQLite format 3\0'

_TABLE_LEAF = 0x0d
#: A row's columns before its bytes are small: they always lie in the page itself.
_INTEGER_SIZES = (0, 1, 2, 3, 4, 6, 8, None, 0, 0)


class _Cell(NamedTuple):
    row_id: int
    local: bytes        # the part of the row that lies in the page
    size: int           # of the whole row
    overflow: int       # page with the rest; 0 for none


class _Row(NamedTuple):
    values: list[int | None]    # None: no integer, or not in the page
    spans: list[tuple[int, int]]
    kinds: list[int]


class CarvedSqliteStorage(Findings):
    """A :class:`~grasp_success_detector.recordings.storage.Storage` for damaged sqlite3 files."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def __enter__(self) -> 'CarvedSqliteStorage':
        self._file: BinaryIO = self._path.open('rb')
        header = self._file.read(100)
        if len(header) < 100 or not header.startswith(MAGIC):
            self._file.close()
            raise BagError(f'{self._path}: no sqlite3 file (it does not begin with its magic '
                           'bytes)')
        size, = struct.unpack('>H', header[16:18])
        self._page_size = 65536 if size == 1 else size
        if self._page_size < 512 or self._page_size & (self._page_size - 1):
            self._file.close()
            raise BagError(f'{self._path}: damaged at its very start; no page can be found')
        self._usable = self._page_size - header[20]
        self._pages = self._path.stat().st_size // self._page_size
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._file.close()

    def messages(self) -> Iterator[StoredMessage]:
        """Yield every message of which no page is missing, in the order of their row ids."""
        topics: dict[int, tuple[str, str]] = {}
        found: dict[int, tuple[int, int, Locator]] = {}
        for page, cell_index, cell in self._cells():
            row = _parse(cell.local)
            if row is None:
                continue
            if len(row.kinds) == 4 and _is_blob(row.kinds[3]) and None not in row.values[1:3]:
                size = row.spans[3][1] - row.spans[3][0]
                if not self._chain_is_whole(cell):
                    self.damage['message with missing pages'] += 1
                    continue
                topic, received_ns = row.values[1], row.values[2]
                assert topic is not None and received_ns is not None
                found[cell.row_id] = topic, received_ns, Locator(page, cell_index, size)
            elif len(row.kinds) >= 4 and all(_is_text(kind) for kind in row.kinds[1:4]):
                name, msgtype = (cell.local[start:end].decode('utf-8', 'replace')
                                 for start, end in row.spans[1:3])
                if name.startswith('/') and '/' in msgtype:
                    topics[cell.row_id] = name, normal_type(msgtype)
        if not found:
            self.damage['no page with messages'] += 1
        for number in sorted(found):
            topic, received_ns, locator = found[number]
            if topic not in topics:
                self.damage['message of an unknown topic'] += 1
                continue
            try:
                yield StoredMessage(*topics[topic], Wire.CDR, received_ns, locator,
                                    self._head(locator))
            except ValueError:
                self.damage['message with missing pages'] += 1

    def payload(self, locator: Locator) -> bytes | memoryview:
        """Return all bytes of one message."""
        return unpacked(self._blob(locator, locator.size))

    def _head(self, locator: Locator) -> bytes:
        head = self._blob(locator, min(locator.size, HEAD_BYTES))
        if head.startswith(ZSTD_MAGIC):
            head = bytes(self.payload(locator)[:HEAD_BYTES])
        return head

    def _blob(self, locator: Locator, wanted: int) -> bytes:
        page = self._page(locator.container)
        cell = self._cell(page, locator.container, locator.offset)
        row = _parse(cell.local) if cell is not None else None
        if cell is None or row is None or len(row.spans) != 4:
            raise ValueError('the message is gone')
        start = row.spans[3][0]
        data = bytearray(cell.local)
        following = cell.overflow
        while following and len(data) < start + wanted:
            rest = self._page(following)
            following, = struct.unpack_from('>I', rest)
            data += rest[4:self._usable]
        if len(data) < start + wanted:
            raise ValueError('pages of the message are missing')
        return bytes(data[start:start + wanted])

    def _page(self, number: int) -> bytes:
        if not 1 <= number <= self._pages:
            raise ValueError('a page of the message is missing')
        self._file.seek((number - 1) * self._page_size)
        return self._file.read(self._page_size)

    def _cells(self) -> Iterator[tuple[int, int, _Cell]]:
        for number in range(1, self._pages + 1):
            page = self._page(number)
            base = 100 if number == 1 else 0
            if page[base] != _TABLE_LEAF:
                continue
            count, = struct.unpack_from('>H', page, base + 3)
            for index in range(min(count, (self._page_size - base - 8) // 2)):
                cell = self._cell(page, number, index)
                if cell is not None:
                    yield number, index, cell

    def _cell(self, page: bytes, number: int, index: int) -> _Cell | None:
        base = 100 if number == 1 else 0
        at, = struct.unpack_from('>H', page, base + 8 + 2 * index)
        try:
            size, at = _varint(page, at)
            row_id, at = _varint(page, at)
        except IndexError:
            return None
        largest = self._usable - 35
        if size <= largest:
            local, overflow = size, 0
        else:
            smallest = (self._usable - 12) * 32 // 255 - 23
            local = smallest + (size - smallest) % (self._usable - 4)
            local = local if local <= largest else smallest
            if at + local + 4 > len(page):
                return None
            overflow, = struct.unpack_from('>I', page, at + local)
        if at + local > len(page):
            return None
        return _Cell(row_id, page[at:at + local], size, overflow)

    def _chain_is_whole(self, cell: _Cell) -> bool:
        """Follow the overflow pages; with so many that each read counts, only the first few."""
        left = cell.size - len(cell.local)
        following = cell.overflow
        while left > 0:
            if not 1 <= following <= self._pages:
                return False
            self._file.seek((following - 1) * self._page_size)
            following, = struct.unpack('>I', self._file.read(4))
            left -= self._usable - 4
        return True


def _parse(local: bytes) -> _Row | None:
    """Read a row's header and its integers (file format, 2.1)."""
    try:
        header, at = _varint(local, 0)
        if not 2 <= header <= min(len(local), 100):
            return None
        kinds = []
        while at < header:
            kind, at = _varint(local, at)
            kinds.append(kind)
    except IndexError:
        return None
    values: list[int | None] = []
    spans = []
    position = header
    for kind in kinds:
        if kind >= 12:
            size: int | None = (kind - 12) // 2
        else:
            size = _INTEGER_SIZES[kind] if kind < len(_INTEGER_SIZES) else None
        if kind == 7:
            size = 8
        if size is None:
            return None
        integer = kind <= 6 or kind in (8, 9)
        values.append(
            kind - 8 if kind in (8, 9) else
            int.from_bytes(local[position:position + size], 'big', signed=True)
            if integer and kind and position + size <= len(local) else None)
        spans.append((position, position + size))
        position += size
    return _Row(values, spans, kinds)


def _is_blob(kind: int) -> bool:
    return kind >= 12 and kind % 2 == 0


def _is_text(kind: int) -> bool:
    return kind >= 13 and kind % 2 == 1


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for i in range(9):
        byte = data[at + i]
        if i == 8:
            return value << 8 | byte, at + 9
        value = value << 7 | byte & 0x7f
        if byte < 0x80:
            return value, at + i + 1
    raise IndexError
