"""Open the files of recordings, and read chosen frames of bags and videos."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
import sqlite3
from typing import Any, NamedTuple, TYPE_CHECKING, TypeVar

from rosbags.typesys import get_typestore, Stores

from grasp_success_detector.errors import BagError, ImageDecodeError, one_line
from grasp_success_detector.images.message_fields import read_image_message
from grasp_success_detector.labels import Label
from grasp_success_detector.recordings.bags import TYPESTORE
from grasp_success_detector.recordings.mcap_storage import McapStorage
from grasp_success_detector.recordings.ros1_storage import Ros1Storage
from grasp_success_detector.recordings.sqlite_storage import DamagedSqliteStorage, SqliteStorage
from grasp_success_detector.recordings.storage import MessageLocation, Storage

if TYPE_CHECKING:   # they load OpenCV, which bags and the help of a command do not need
    import cv2

    from grasp_success_detector.images.decoding import RgbImage

Made = TypeVar('Made')

_FALLBACK_FPS = 30.
_typestore = cache(get_typestore)


@dataclass(frozen=True)
class StorageFile:
    """One file of a recording; ``damaged``: a sqlite3 file that SQLite refuses to read."""

    path: Path
    damaged: bool = False


class ImageTopic(NamedTuple):
    """What the messages of a topic are decoded by."""

    name: str
    msgtype: str
    ros1: bool


class ChosenFrame(NamedTuple):
    """A frame to read, with what is known of it."""

    number: int         # among all frames of its topic or video, from 0
    file: int           # index of its file among those of the recording
    location: MessageLocation
    stamp_ns: int
    label: Label | None
    attempt: str        # '': it belongs to none
    stem: str           # file name for its picture, without suffix


class RefusedFrame(NamedTuple):
    """A frame that could not be decoded."""

    number: int
    reason: str     # short slug, by which refused frames are counted
    text: str


@contextmanager
def open_storage(file: StorageFile) -> Iterator[Storage]:
    """
    Open one file of a bag; its suffix tells the format.

    :raises BagError: it cannot be opened or read, or is of another format.
    """
    storages: dict[str, type[Storage]] = {
        '.mcap': McapStorage, '.db3': DamagedSqliteStorage if file.damaged else SqliteStorage}
    try:
        with closing(storages.get(file.path.suffix.lower(), Ros1Storage)(file.path)) as storage:
            yield storage
    except OSError as error:
        raise BagError(f'{file.path}: cannot be read ({error.strerror})') from error


def read_frames(files: Sequence[StorageFile], topic: ImageTopic | None,
                frames: Sequence[ChosenFrame], of_message: Callable[[Any], Made],
                of_picture: 'Callable[[RgbImage], Made]',
                wrong_chunks: set[tuple[int, int]] | None = None,
                ) -> Iterator[tuple[ChosenFrame, Made | RefusedFrame]]:
    """
    Yield each frame with what a function returns for it, or why it was refused.

    :param topic: None: the recording is a video.
    :param frames: in the order of recording.
    :param of_message: called with each image message; may raise ImageDecodeError.
    :param of_picture: like it, for a video; called with RGB pictures, uint8 (H, W, 3).
    :param wrong_chunks: is filled with the chunks (file, offset) whose checksums are wrong.
    """
    make: Callable[[Any], Made] = of_message
    if topic is None:
        make, contents = of_picture, _pictures(files[0].path, frames)
    else:
        contents = _messages(files, topic, frames, set() if wrong_chunks is None else wrong_chunks)
    for frame, content in contents:
        try:
            yield frame, content if isinstance(content, RefusedFrame) else make(content)
        except (ImageDecodeError, ValueError) as error:
            reason = getattr(error, 'reason', 'unreadable_message')
            yield frame, RefusedFrame(frame.number, reason, str(error))


def _messages(files: Sequence[StorageFile], topic: ImageTopic, frames: Sequence[ChosenFrame],
              wrong_chunks: set[tuple[int, int]]) -> Iterator[tuple[ChosenFrame, Any]]:
    with ExitStack() as stack:
        storages: dict[int, Storage] = {}
        for frame in frames:
            try:
                if frame.file not in storages:
                    storages[frame.file] = stack.enter_context(open_storage(files[frame.file]))
                message = _deserialize(storages[frame.file].payload(frame.location), topic)
            except (ValueError, BagError, OSError, sqlite3.DatabaseError) as error:
                message = RefusedFrame(frame.number, 'unreadable_message', str(error))
            yield frame, message
        wrong_chunks |= {(number, chunk) for number, storage in storages.items()
                         for chunk in storage.wrong_chunks}


def _pictures(path: Path, frames: Sequence[ChosenFrame]) -> Iterator[tuple[ChosenFrame, Any]]:
    import cv2
    left = {frame.number: frame for frame in frames}
    capture, number = _open_video(path), 0
    while left and capture.grab():
        if (frame := left.pop(number, None)) is not None:
            done, pixels = capture.retrieve()
            yield frame, (cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
                          if done and pixels is not None and pixels.ndim == 3 else
                          RefusedFrame(number, 'broken_data', 'the decoder gave no picture'))
        number += 1
    for frame in left.values():
        yield frame, RefusedFrame(frame.number, 'unreadable_message',
                                  'the video ended before this frame when read again')


def _deserialize(payload: bytes | memoryview, topic: ImageTopic) -> Any:
    """Return the message; raise ValueError if the bytes are not of its type."""
    try:
        if topic.ros1:
            return _typestore(Stores.ROS1_NOETIC).deserialize_ros1(payload, topic.msgtype)
        if (message := read_image_message(payload, topic.msgtype)) is not None:
            return message
        return TYPESTORE.deserialize_cdr(payload, topic.msgtype)
    except Exception as error:  # generated code: damaged lengths raise errors of any kind
        raise ValueError(f'{len(payload)} bytes are no {topic.msgtype} '
                         f'({type(error).__name__}: {one_line(error)[:80]})') from error


def video_times(path: Path, damage: Counter[str]) -> list[int]:
    """
    Return the times of all frames since the start of a video, in ns, without decoding them.

    :param damage: gets the number of frames that are missing or have no usable time; the latter
        follow the frame before by one frame period.
    :raises BagError: no video that can be opened.
    """
    import cv2
    capture = _open_video(path)
    fps = capture.get(cv2.CAP_PROP_FPS)
    period = round(1e9 / (fps if 0 < fps < 10_000 else _FALLBACK_FPS))
    declared = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    times: list[int] = []
    while capture.grab():
        time = round(capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6)
        if times and time <= times[-1]:
            damage['stamp not set, frame rate used'] += 1
            time = times[-1] + period
        times.append(time)
    # Containers without an index only estimate the number, hence the slack.
    if declared > len(times) * 1.05 + 2:
        damage['frames missing at the end'] += round(declared) - len(times)
    return times


def _open_video(path: Path) -> 'cv2.VideoCapture':
    import cv2
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    if not capture.isOpened():
        raise BagError(f'{path}: cannot be read as a video; is it whole, and does OpenCV have the '
                       'decoder (FFmpeg)?')
    return capture
