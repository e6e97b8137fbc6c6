"""Open the files of recordings, and read chosen frames of bags and videos."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
import sqlite3
from typing import Any, NamedTuple, TypeVar

import cv2
import numpy as np

from grasp_success_detector.errors import BagError, ImageDecodeError, one_line
from grasp_success_detector.images.decoding import RgbImage
from grasp_success_detector.images.message_fields import read_image_message
from grasp_success_detector.labels import Label
from grasp_success_detector.recordings.mcap_storage import McapStorage
from grasp_success_detector.recordings.ros1_storage import Ros1Storage
from grasp_success_detector.recordings.sqlite_storage import DamagedSqliteStorage, SqliteStorage
from grasp_success_detector.recordings.storage import MessageLocation, Serialization, Storage

Made = TypeVar('Made')

_FALLBACK_FPS = 30.


@dataclass(frozen=True)
class StorageFile:
    """
    One file of a recording.

    :ivar damaged: a sqlite3 file that SQLite refuses to read.
    """

    path: Path
    damaged: bool = False


class ImageTopic(NamedTuple):
    """What the messages of a topic are decoded by."""

    name: str
    msgtype: str
    serialization: Serialization


class ChosenFrame(NamedTuple):
    """
    A frame to read, with what is known of it.

    :ivar number: among all frames of its topic or video, from 0.
    :ivar file: index of its file among those of the recording.
    :ivar label: None: it has none.
    :ivar attempt: ``''``: it belongs to none.
    :ivar stem: file name for its picture, without suffix.
    """

    number: int
    file: int
    location: MessageLocation
    stamp_ns: int
    label: Label | None
    attempt: str
    stem: str


class RefusedFrame(NamedTuple):
    """
    A frame that could not be decoded.

    :ivar reason: short slug, by which refused frames are counted.
    """

    number: int
    reason: str
    text: str


@contextmanager
def open_storage(file: StorageFile) -> Iterator[Storage]:
    """
    Open one file of a bag; its suffix tells the format.

    :raises BagError: it cannot be opened or read, or is of another format.
    """
    suffix = file.path.suffix.lower()
    storage: Storage
    if suffix == '.mcap':
        storage = McapStorage(file.path)
    elif suffix == '.db3':
        storage = (DamagedSqliteStorage if file.damaged else SqliteStorage)(file.path)
    else:
        storage = Ros1Storage(file.path)
    try:
        with storage:
            yield storage
    except OSError as error:
        raise BagError(f'{file.path}: cannot be read ({error.strerror})') from error


def read_frames(files: Sequence[StorageFile], topic: ImageTopic | None,
                frames: Sequence[ChosenFrame], of_message: Callable[[Any], Made],
                of_picture: Callable[[RgbImage], Made],
                wrong_chunks: set[tuple[int, int]] | None = None,
                ) -> Iterator[tuple[ChosenFrame, Made | RefusedFrame]]:
    """
    Yield each frame, in order, with what a function returns for it.

    A frame that cannot be read is refused; the others are not affected.

    :param files: those of the recording.
    :param topic: None: the recording is a video.
    :param of_message: called with each image message; may raise ImageDecodeError.
    :param of_picture: called with each picture of a video, RGB uint8 (H, W, 3); may raise
        ImageDecodeError.
    :param wrong_chunks: is filled with the chunks (file, offset) whose checksums are wrong.
    """
    if topic is None:
        return _video_frames(files[0].path, frames, of_picture)
    return _bag_frames(files, topic, frames, of_message,
                       set() if wrong_chunks is None else wrong_chunks)


def _bag_frames(files: Sequence[StorageFile], topic: ImageTopic, frames: Sequence[ChosenFrame],
                of_message: Callable[[Any], Made], wrong_chunks: set[tuple[int, int]],
                ) -> Iterator[tuple[ChosenFrame, Made | RefusedFrame]]:
    with ExitStack() as stack:
        storages: dict[int, Storage] = {}
        for frame in frames:
            try:
                if frame.file not in storages:
                    storages[frame.file] = stack.enter_context(open_storage(files[frame.file]))
                message = _deserialize(storages[frame.file].payload(frame.location), topic)
                yield frame, of_message(message)
            except ImageDecodeError as error:
                yield frame, RefusedFrame(frame.number, error.reason, str(error))
            except (ValueError, BagError, OSError, sqlite3.DatabaseError) as error:
                yield frame, RefusedFrame(frame.number, 'unreadable_message', str(error))
        wrong_chunks |= {(number, chunk) for number, storage in storages.items()
                         for chunk in storage.wrong_chunks}


def _deserialize(payload: bytes | memoryview, topic: ImageTopic) -> Any:
    """
    Return the message.

    :raises ValueError: the bytes are not of this type.
    """
    try:
        if topic.serialization is Serialization.ROS1:
            return _typestore('ROS1_NOETIC').deserialize_ros1(payload, topic.msgtype)
        if (message := read_image_message(payload, topic.msgtype)) is not None:
            return message
        return _typestore('ROS2_JAZZY').deserialize_cdr(payload, topic.msgtype)
    except Exception as error:  # generated code: damaged lengths raise errors of any kind
        raise ValueError(f'{len(payload)} bytes are no {topic.msgtype} '
                         f'({type(error).__name__}: {one_line(error)[:80]})') from error


@cache
def _typestore(name: str) -> Any:
    # Imported here: it takes as long to load as everything else.
    from rosbags.typesys import get_typestore, Stores
    return get_typestore(Stores[name])


# Videos


class VideoFrame(NamedTuple):
    """
    Time of one frame of a video.

    :ivar stamp_ns: since the start of the video.
    :ivar guessed: the file has no usable time for it; one frame period was added.
    """

    stamp_ns: int
    guessed: bool


def video_times(path: Path, damage: Counter[str]) -> Iterator[VideoFrame]:
    """
    Yield the times of all frames of a video, without decoding them.

    :param damage: ``'frames missing at the end'`` is counted in it, if the file has their number.
    :raises BagError: no video that can be opened.
    """
    with _open_video(path) as capture:
        fps = capture.get(cv2.CAP_PROP_FPS)
        period = round(1e9 / (fps if 0 < fps < 10_000 else _FALLBACK_FPS))
        declared = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        count, previous = 0, -period
        while capture.grab():
            stamp_ns = round(capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6)
            guessed = stamp_ns <= previous and count > 0
            if guessed:
                stamp_ns = previous + period
            yield VideoFrame(stamp_ns, guessed)
            count, previous = count + 1, stamp_ns
        # Containers without an index only estimate the number, hence the slack.
        if declared > count * 1.05 + 2:
            damage['frames missing at the end'] += round(declared) - count


def decode_video(path: Path, wanted: frozenset[int]) -> Iterator[tuple[int, RgbImage | None]]:
    """
    Yield number and picture, RGB uint8 (H, W, 3), of the wanted frames; None: not decodable.

    :param wanted: numbers of frames, from 0.
    :raises BagError: no video that can be opened.
    """
    left = len(wanted)
    with _open_video(path) as capture:
        number = 0
        while left and capture.grab():
            if number in wanted:
                left -= 1
                done, pixels = capture.retrieve()
                yield number, (np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), np.uint8)
                               if done and pixels is not None and pixels.ndim == 3 else None)
            number += 1


def _video_frames(path: Path, frames: Sequence[ChosenFrame],
                  of_picture: Callable[[RgbImage], Made],
                  ) -> Iterator[tuple[ChosenFrame, Made | RefusedFrame]]:
    left = {frame.number: frame for frame in frames}
    for number, rgb in decode_video(path, frozenset(left)):
        frame = left.pop(number)
        if rgb is None:
            yield frame, RefusedFrame(number, 'broken_data', 'the decoder gave no picture')
            continue
        try:
            yield frame, of_picture(rgb)
        except ImageDecodeError as error:
            yield frame, RefusedFrame(number, error.reason, str(error))
    for frame in left.values():
        yield frame, RefusedFrame(frame.number, 'unreadable_message',
                                  'the video ended before this frame when read again')


@contextmanager
def _open_video(path: Path) -> Iterator[Any]:
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    try:
        if not capture.isOpened():
            raise BagError(f'{path}: cannot be read as a video; is it whole, and does OpenCV '
                           'have the decoder (FFmpeg)?')
        yield capture
    finally:
        capture.release()
