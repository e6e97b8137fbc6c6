"""Read rosbag2's .db3 files with SQLite, as long as SQLite finds nothing wrong with them."""

from collections.abc import Iterator
from pathlib import Path
import sqlite3
from types import TracebackType
from urllib.parse import quote

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


class SqliteStorage(Findings):
    """
    A :class:`~grasp_success_detector.recordings.storage.Storage` for whole sqlite3 files.

    ``sqlite3.DatabaseError`` from any of its methods means that the file is damaged;
    :class:`~grasp_success_detector.recordings.sqlite_carving.CarvedSqliteStorage` gets more out of
    it.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def __enter__(self) -> 'SqliteStorage':
        # Beside a write-ahead log the newest messages are in the log, which immutable ignores.
        log = self._path.with_name(self._path.name + '-wal')
        mode = 'mode=ro' if log.exists() else 'immutable=1'
        self._db = sqlite3.connect(
            f'file:{quote(str(self._path.absolute()))}?{mode}', uri=True,
            check_same_thread=False)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._db.close()

    def messages(self) -> Iterator[StoredMessage]:
        """Yield every message, in the order in which they were stored."""
        topics = {number: (name, normal_type(msgtype)) for number, name, msgtype in
                  self._db.execute('SELECT id, name, type FROM topics')}
        rows = self._db.execute(
            'SELECT id, topic_id, timestamp, length(data), substr(data, 1, ?) FROM messages '
            'ORDER BY id', (HEAD_BYTES,))
        for number, topic, received_ns, size, head in rows:
            if topic not in topics or not isinstance(head, bytes):
                self.damage['message of an unknown topic'] += 1
                continue
            locator = Locator(-1, number, size)
            if head.startswith(ZSTD_MAGIC):
                try:
                    head = bytes(self.payload(locator)[:HEAD_BYTES])
                except ValueError:
                    head = b''
            yield StoredMessage(*topics[topic], Wire.CDR, received_ns, locator, head)

    def payload(self, locator: Locator) -> bytes | memoryview:
        """Return all bytes of one message."""
        row = self._db.execute(
            'SELECT data FROM messages WHERE id = ?', (locator.offset,)).fetchone()
        if row is None or not isinstance(row[0], bytes):
            raise ValueError('the message is gone')
        return unpacked(row[0])
