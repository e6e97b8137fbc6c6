"""The journal of a label file: every action, one line of JSON each, on the disk at once."""

from collections.abc import Mapping
import fcntl
import json
import os
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any

from grasp_success_detector.errors import LabellingError

#: What the journal of ``labels.csv`` is called: ``labels.csv.journal``.
SUFFIX = '.journal'

Record = Mapping[str, Any]


class Journal:
    """
    A file of records that only this process may append to, until it is closed or dies.

    The lock is the operating system's: that of a process that died is gone.

    :param path: path of the label file; the journal lies beside it.
    :raises LabellingError: another process has it open, or it is no journal.
    :raises OSError: it cannot be created or read.
    :ivar records: the records that were there when it was opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.with_name(path.name + SUFFIX)
        self._appending = Lock()
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise LabellingError(
                    f'{path}: label_attempts labels into it already (process {self._owner()}); '
                    'end that one first, or choose another --out') from None
            self.records = self._read()
            begun = self.append({'op': 'begin', 'pid': os.getpid()})
            self._empty_size = None if begun else os.fstat(self._file).st_size
        except BaseException:
            os.close(self._file)
            raise

    def __enter__(self) -> 'Journal':
        """Return the journal."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        """Close the journal; remove a new one without an action if the label file is refused."""
        if (kind is not None and issubclass(kind, LabellingError)
                and os.fstat(self._file).st_size == self._empty_size):
            self.path.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Close the file, which gives up the lock; a thread that appends later gets an OSError."""
        with self._appending:
            file, self._file = self._file, -1
            os.close(file)

    def append(self, record: Record) -> int:
        """
        Append a record; when this returns, it is on the disk.

        :returns: size of the journal before, to which :meth:`cut_back` can shorten it.
        :raises OSError: it cannot be written, such as on a full disk; nothing of it is left.
        """
        with self._appending:
            before = os.lseek(self._file, 0, os.SEEK_END)
            data = memoryview(json.dumps(record, separators=(',', ':')).encode() + b'\n')
            try:
                while data:
                    data = data[os.write(self._file, data):]
                os.fsync(self._file)
            except BaseException:
                self.cut_back(before)
                raise
            return before

    def cut_back(self, size: int) -> None:
        """Remove what was appended since the journal had this size."""
        os.ftruncate(self._file, size)
        os.fsync(self._file)

    def _read(self) -> list[Record]:
        content = self._content()
        # A process that was killed while it wrote has left a line without its end.
        whole = content[:content.rfind(b'\n') + 1]
        if len(whole) < len(content):
            self.cut_back(len(whole))
        try:
            records = [json.loads(line) for line in whole.splitlines()]
        except ValueError:
            records = [None]
        if any(not isinstance(record, dict) or 'op' not in record for record in records):
            raise LabellingError(f'{self.path}: no journal of label_attempts; move it away, or '
                                 'choose another --out')
        return records

    def _owner(self) -> str:
        lines = self._content().splitlines()
        for line in reversed(lines):
            if b'"op":"begin"' in line:
                return str(json.loads(line)['pid'])
        return 'unknown'

    def _content(self) -> bytes:
        size, parts, at = os.fstat(self._file).st_size, [], 0
        while at < size and (part := os.pread(self._file, size - at, at)):
            parts.append(part)
            at += len(part)
        return b''.join(parts)
