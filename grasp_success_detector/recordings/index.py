"""Index a recording: find its frames, labels and attempts without reading its pictures."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
import json
from pathlib import Path
import sqlite3
import struct
from typing import NamedTuple

from grasp_success_detector.errors import BagError
from grasp_success_detector.files import DISK_ERRORS
from grasp_success_detector.images.message_fields import header_stamp_ns, IMAGE_TYPES
from grasp_success_detector.recordings import reader
from grasp_success_detector.recordings.bags import ATTEMPT_TOPIC
from grasp_success_detector.recordings.ground_truth import AttemptEvent
from grasp_success_detector.recordings.remote import make_local
from grasp_success_detector.recordings.sources import Source, SourceKind
from grasp_success_detector.recordings.storage import (
    decompress_file,
    MessageLocation,
    StoredMessage,
)

_BOOL, _STRING = 'std_msgs/msg/Bool', 'std_msgs/msg/String'


class IndexedFrame(NamedTuple):
    """One frame of a recording."""

    received_ns: int        # time of recording
    stamp_ns: int | None    # stamp of its header; None if that is not set
    file: int               # index of its file in RecordingIndex.files
    location: MessageLocation
    member: str = ''        # path of a picture within its folder or zip
    split: str = ''         # train, val or test, where the source of pictures says so


@dataclass
class RecordingIndex:
    """
    Everything in a recording except its pictures, in the order of its files.

    :ivar frames: frames of each image topic; those of a video under the key None.
    :ivar bools: time of recording in ns and value of each message of the label topic.
    :ivar damage: number of faults found, by kind.
    :ivar unchecked_chunks: (index of the file, offset) of chunks with unverified checksums.
    """

    files: list[reader.StorageFile] = field(default_factory=list)
    frames: dict[reader.ImageTopic | None, list[IndexedFrame]] = field(
        default_factory=lambda: defaultdict(list))
    bools: list[tuple[int, bool]] = field(default_factory=list)
    attempts: list[AttemptEvent] = field(default_factory=list)
    damage: Counter[str] = field(default_factory=Counter)
    unchecked_chunks: set[tuple[int, int]] = field(default_factory=set)

    def append(self, other: 'RecordingIndex') -> None:
        """Append the content of the index of the files that follow."""
        for topic, frames in other.frames.items():
            self.frames[topic] += frames
        self.files += other.files
        self.bools += other.bools
        self.attempts += other.attempts
        self.damage += other.damage
        self.unchecked_chunks |= other.unchecked_chunks

    def check_chunks(self) -> None:
        """Verify the checksums of ``unchecked_chunks``, and count mismatches in ``damage``."""
        for number, chunk in sorted(self.unchecked_chunks):
            try:
                with reader.open_storage(self.files[number]) as storage:
                    storage.payload(MessageLocation(chunk, 0, 0))  # reading no byte verifies all
                    self.damage['damaged chunk'] += len(storage.wrong_chunks)
            except (ValueError, BagError):
                self.damage['damaged chunk'] += 1


def index_recording(source: Source, label_topic: str | None, unpack_into: Path) -> RecordingIndex:
    """
    Read everything in a recording except its pictures.

    :param label_topic: ``std_msgs/Bool`` topic to read labels from; None if there is none.
    :param unpack_into: folder for decompressed files, to keep until the pictures have been read.
    :raises BagError: none of its files can be read, or it is a video without a frame.
    :raises RemoteError: it lies at an address, and cannot be fetched.
    """
    make_local(source.path)
    index, unreadable = RecordingIndex(), []
    if source.kind is SourceKind.VIDEO:
        index.files.append(reader.StorageFile(source.path))
        times = reader.video_times(source.path, index.damage)
        index.frames[None] = [IndexedFrame(time, time, 0, MessageLocation(-1, number, -1))
                              for number, time in enumerate(times)]
        if not index.frames[None]:
            raise BagError(f'{source.path}: no frame can be decoded')
        return index
    for path in source.files:
        if path.suffix.lower() == '.zstd':
            target = unpack_into / source.name / path.stem
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                if fault := decompress_file(path, target):
                    index.damage[fault] += 1
            except OSError as error:
                if error.errno in DISK_ERRORS:
                    raise
                unreadable.append(f'{path}: cannot be read ({error.strerror})')
                index.files.append(reader.StorageFile(path))
                index.damage['unreadable file'] += 1
                continue
            path = target
        try:
            index.append(_index_file(path, len(index.files), label_topic))
        except BagError as error:
            unreadable.append(str(error))
            index.files.append(reader.StorageFile(path))
            index.damage['unreadable file'] += 1
    if len(unreadable) == len(source.files):
        raise BagError('; '.join(unreadable))
    if source.path.is_dir() and not (source.path / 'metadata.yaml').is_file():
        index.damage['metadata.yaml missing'] += 1
    return index


def _index_file(path: Path, number: int, label_topic: str | None) -> RecordingIndex:
    try:
        return _index_messages(reader.StorageFile(path), number, label_topic)
    except (sqlite3.DatabaseError, UnicodeDecodeError):  # also of SQLite's own messages
        index = _index_messages(reader.StorageFile(path, damaged=True), number, label_topic)
        index.damage['damaged sqlite3 file'] += 1
        return index


def _index_messages(file: reader.StorageFile, number: int, label_topic: str | None,
                    ) -> RecordingIndex:
    index = RecordingIndex([file])
    with reader.open_storage(file) as storage:
        for message in storage.messages():
            if message.msgtype in IMAGE_TYPES:
                topic = reader.ImageTopic(message.topic, message.msgtype, message.ros1)
                index.frames[topic].append(IndexedFrame(
                    message.received_ns, _stamp_ns(message), number, message.location))
            elif message.msgtype == _BOOL and message.topic == label_topic:
                _add_bool(message, index)
            elif message.msgtype == _STRING and message.topic == ATTEMPT_TOPIC:
                _add_attempt(message, index)
        index.damage += storage.damage
        index.unchecked_chunks = {(number, chunk) for chunk in storage.unchecked_chunks}
    return index


def _stamp_ns(message: StoredMessage) -> int | None:
    try:
        return max(header_stamp_ns(message.head, message.ros1), 0) or None
    except ValueError:
        return None


def _add_bool(message: StoredMessage, index: RecordingIndex) -> None:
    at = 0 if message.ros1 else 4   # CDR has 4 bytes before the first field
    if len(message.head) > at and message.head[at] in (0, 1):
        index.bools.append((message.received_ns, bool(message.head[at])))
    else:
        index.damage['damaged label message'] += 1


def _add_attempt(message: StoredMessage, index: RecordingIndex) -> None:
    at = 0 if message.ros1 else 4
    try:
        order = '>' if at and not message.head[1] & 1 else '<'
        size, = struct.unpack_from(order + 'I', message.head, at)
        event = json.loads(
            message.head[at + 4:at + 4 + size].decode('utf-8', 'replace').rstrip('\0'))
        index.attempts.append(AttemptEvent(
            message.received_ns, {'begin': True, 'end': False}[event['event']],
            str(event['attempt'])))
    except (struct.error, ValueError, LookupError, TypeError, RecursionError):
        index.damage['damaged attempt message'] += 1
