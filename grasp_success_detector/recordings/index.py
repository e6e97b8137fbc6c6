"""Read a source once, without its pictures: which frames it has, their labels and attempts."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
import sqlite3
import struct
from typing import NamedTuple

from grasp_success_detector.errors import BagError
from grasp_success_detector.images.message_fields import header_stamp_ns, IMAGE_TYPES
from grasp_success_detector.recordings.bags import ATTEMPT_TOPIC
from grasp_success_detector.recordings.mcap_storage import McapStorage
from grasp_success_detector.recordings.ros1_storage import Ros1Storage
from grasp_success_detector.recordings.sources import Source
from grasp_success_detector.recordings.sqlite_carving import CarvedSqliteStorage
from grasp_success_detector.recordings.sqlite_storage import SqliteStorage
from grasp_success_detector.recordings.storage import (
    Locator,
    Storage,
    StoredMessage,
    unpack_file,
    Wire,
)

_BOOL, _STRING = 'std_msgs/msg/Bool', 'std_msgs/msg/String'


@dataclass(frozen=True)
class StorageFile:
    """
    One file to read messages from.

    :ivar carved: sqlite3 that SQLite itself refuses to read.
    """

    path: Path
    carved: bool = False


class RawFrame(NamedTuple):
    """
    One image message.

    :ivar file: index of its file.
    :ivar stamp_ns: of its header; None where that is not set.
    """

    received_ns: int
    stamp_ns: int | None
    file: int
    locator: Locator


class ImageTopic(NamedTuple):
    """What must be known of a topic to decode its messages."""

    name: str
    msgtype: str
    wire: Wire


@dataclass
class BagContents:
    """
    All of a bag but its pictures.

    :ivar unchecked: chunks (file, offset) whose checksums are not looked at yet.
    """

    files: tuple[StorageFile, ...]
    frames: dict[ImageTopic, list[RawFrame]]
    bools: dict[str, list[tuple[int, bool]]]
    attempts: list[tuple[int, str]]
    damage: Counter[str]
    unchecked: set[tuple[int, int]]


@contextmanager
def open_storage(file: StorageFile) -> Iterator[Storage]:
    """
    Open one file of a bag by its suffix.

    :raises BagError: it cannot be opened, or is nothing that its name says.
    """
    suffix = file.path.suffix.lower()
    storage: Storage
    if suffix == '.mcap':
        storage = McapStorage(file.path)
    elif suffix == '.db3':
        storage = CarvedSqliteStorage(file.path) if file.carved else SqliteStorage(file.path)
    else:
        storage = Ros1Storage(file.path)
    try:
        with storage:
            yield storage
    except OSError as error:
        raise BagError(f'{file.path}: cannot be read ({error.strerror})') from error


def read_contents(source: Source, label_topic: str | None, unpack_into: Path) -> BagContents:
    """
    Read all of a bag but its pictures.

    :param label_topic: ``std_msgs/Bool`` topic to keep.
    :param unpack_into: folder for what compressed files hold; they stay for the pictures.
    :raises BagError: none of its files is readable at all.
    """
    contents = BagContents((), defaultdict(list), defaultdict(list), [], Counter(), set())
    files, unreadable = [], []
    for path in source.files:
        if path.suffix.lower() == '.zstd':
            target = unpack_into / source.name / path.stem
            target.parent.mkdir(parents=True, exist_ok=True)
            if not unpack_file(path, target):
                contents.damage['cut-off or damaged compressed file'] += 1
            path = target
        files.append(StorageFile(path))
        try:
            _read_file(files, contents, label_topic)
        except BagError as error:
            unreadable.append(str(error))
            contents.damage['unreadable file'] += 1
    if len(unreadable) == len(source.files):
        raise BagError('; '.join(unreadable))
    contents.files = tuple(files)
    if source.path.is_dir() and not (source.path / 'metadata.yaml').is_file():
        contents.damage['metadata.yaml missing'] += 1
    return contents


def count_wrong(files: Sequence[StorageFile], chunks: Iterable[tuple[int, int]]) -> int:
    """Look at the checksums of chunks (file, offset), and return how many are wrong."""
    return sum(_is_wrong(files[number], chunk) for number, chunk in sorted(chunks))


def _is_wrong(file: StorageFile, chunk: int) -> bool:
    try:
        with open_storage(file) as storage:
            storage.payload(Locator(chunk, 0, 0))  # to read nothing of it checks all of it
            return bool(storage.wrong)
    except (ValueError, BagError):
        return True


def _read_file(files: list[StorageFile], contents: BagContents, label_topic: str | None) -> None:
    """Read the last of the files; a sqlite file that turns out damaged is carved instead."""
    number, file = len(files) - 1, files[-1]
    found = BagContents((), defaultdict(list), defaultdict(list), [], Counter(), set())
    try:
        with open_storage(file) as storage:
            for message in storage.messages():
                _keep(message, number, found, label_topic)
            found.damage += storage.damage
            found.unchecked = {(number, chunk) for chunk in storage.unchecked}
    except sqlite3.DatabaseError:
        files[-1] = StorageFile(file.path, carved=True)
        found = BagContents((), defaultdict(list), defaultdict(list), [], Counter(), set())
        with open_storage(files[-1]) as storage:
            for message in storage.messages():
                _keep(message, number, found, label_topic)
            found.damage += storage.damage + Counter({'damaged sqlite3 file': 1})
    for topic, frames in found.frames.items():
        contents.frames[topic] += frames
    for name, values in found.bools.items():
        contents.bools[name] += values
    contents.attempts += found.attempts
    contents.damage += found.damage
    contents.unchecked |= found.unchecked


def _keep(message: StoredMessage, number: int, found: BagContents,
          label_topic: str | None) -> None:
    if message.msgtype in IMAGE_TYPES:
        found.frames[ImageTopic(message.topic, message.msgtype, message.wire)].append(RawFrame(
            message.received_ns, header_stamp(message.head, message.wire), number,
            message.locator))
    elif message.msgtype == _BOOL and message.topic == label_topic:
        at = 4 if message.wire is Wire.CDR else 0
        if len(message.head) > at and message.head[at] in (0, 1):
            found.bools[message.topic].append((message.received_ns, bool(message.head[at])))
        else:
            found.damage['damaged label message'] += 1
    elif message.msgtype == _STRING and message.topic == ATTEMPT_TOPIC:
        found.attempts.append((message.received_ns, _string(message)))


def header_stamp(head: bytes, wire: Wire) -> int | None:
    """Return the stamp of a message's header in ns; None where it is not set or not readable."""
    try:
        stamp_ns = header_stamp_ns(head, ros1=wire is Wire.ROS1)
    except ValueError:
        return None
    return stamp_ns if stamp_ns > 0 else None


def choose_topic(source: Source, frames: Mapping[ImageTopic, list[RawFrame]],
                 wanted: str | None) -> ImageTopic:
    """
    Return the topic of the frames: the one asked for, or the only image topic there is.

    :raises BagError: no such topic, none at all, or several to choose from (they are listed).
    """
    listed = ', '.join(f'{topic.name} ({len(found)})' for topic, found in sorted(frames.items()))
    candidates = [topic for topic in sorted(frames) if wanted in (None, topic.name)]
    if len(candidates) == 1:
        return candidates[0]
    if wanted is not None and not candidates:
        raise BagError(f'{source.path}: no image topic {wanted}; image topics here: '
                       f'{listed or "none"}')
    if not candidates:
        raise BagError(f'{source.path}: no image message in it')
    raise BagError(f'{source.path}: expected one image topic, found: {listed}; choose with '
                   '--topic')


def _string(message: StoredMessage) -> str:
    at = 4 if message.wire is Wire.CDR else 0
    if len(message.head) < at + 4:
        return ''
    order = '<' if message.wire is Wire.ROS1 or message.head[1] & 1 else '>'
    size, = struct.unpack_from(order + 'I', message.head, at)
    return message.head[at + 4:at + 4 + size].decode('utf-8', 'replace').rstrip('\0')
