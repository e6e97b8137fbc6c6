"""Open the files of recordings, and read chosen frames of bags, videos and pictures."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
import sqlite3
from types import SimpleNamespace
from typing import Any, NamedTuple, TYPE_CHECKING, TypeVar

from rosbags.typesys import get_typestore, Stores

from grasp_success_detector.errors import BagError, ImageDecodeError, one_line
from grasp_success_detector.files import check_regular
from grasp_success_detector.images.message_fields import read_image_message
from grasp_success_detector.labels import Label
from grasp_success_detector.recordings.bags import TYPESTORE
from grasp_success_detector.recordings.mcap_storage import McapStorage
from grasp_success_detector.recordings.pictures import PictureReader, shown
from grasp_success_detector.recordings.remote import make_local
from grasp_success_detector.recordings.ros1_storage import Ros1Storage
from grasp_success_detector.recordings.sqlite_storage import DamagedSqliteStorage, SqliteStorage
from grasp_success_detector.recordings.storage import MessageLocation, Storage

if TYPE_CHECKING:   # these load OpenCV, which bags and --help do not need
    import cv2

    from grasp_success_detector.images.decoding import RgbImage

Made = TypeVar('Made')

_FALLBACK_FPS = 30.
_typestore = cache(get_typestore)


@dataclass(frozen=True)
class StorageFile:
    """A file of a recording; ``damaged`` is True for a sqlite3 file that SQLite cannot read."""

    path: Path
    damaged: bool = False


class ImageTopic(NamedTuple):
    """Name, message type and serialisation (ROS 1 or CDR) of an image topic."""

    name: str
    msgtype: str
    ros1: bool


#: Stands for the topic of the frames of a folder or zip of pictures.
PICTURES = ImageTopic('pictures', 'picture', False)


class ChosenFrame(NamedTuple):
    """A frame to read, with its label and attempt."""

    number: int         # position among all frames of its topic or video, from 0
    file: int           # index of its file among the files of the recording
    location: MessageLocation
    stamp_ns: int
    label: Label | None
    attempt: str        # '' if it belongs to no attempt
    stem: str           # file name for its picture, without suffix
    member: str = ''    # path of a picture within its folder or zip; '' in a bag or video
    split: str = ''     # train, val or test, where its source says so; else ''


class RefusedFrame(NamedTuple):
    """A frame that could not be decoded."""

    number: int
    reason: str     # identifier by which refused frames are counted, such as 'broken_data'
    text: str       # error message


@contextmanager
def open_storage(file: StorageFile) -> Iterator[Storage]:
    """
    Open a file of a bag, whose suffix tells the format, as a context manager.

    :raises BagError: the file cannot be opened or read, or has another format.
    :raises RemoteError: it lies at an address, and cannot be fetched.
    """
    make_local(file.path)
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
    Read frames; yield each with the result of a function, or with the error as a RefusedFrame.

    :param topic: topic of the frames; None for a video, ``PICTURES`` for pictures.
    :param frames: frames to read, in the order of recording.
    :param of_message: function of an image message of a bag, or of an upright jpeg or png as a
        message with ``format`` and ``data``; may raise ImageDecodeError.
    :param of_picture: function of the RGB picture, uint8 (H, W, 3), of a video or another picture
        file; may raise the same.
    :param wrong_chunks: set that receives (index of the file, offset) of chunks with wrong sums.
    """
    if topic is None:
        contents = _of_video(files[0].path, frames)
    elif topic == PICTURES:
        contents = _of_files(files[0].path, frames)
    else:
        contents = _messages(files, topic, frames, set() if wrong_chunks is None else wrong_chunks)
    for frame, content in contents:
        try:
            yield frame, (content if isinstance(content, RefusedFrame) else
                          of_picture(content) if hasattr(content, 'shape') else
                          of_message(content))
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


def _of_files(root: Path, frames: Sequence[ChosenFrame]) -> Iterator[tuple[ChosenFrame, Any]]:
    from grasp_success_detector.images.message_fields import read_picture_header
    from grasp_success_detector.images.picture_files import decode_picture, exif_orientation
    try:
        reader = PictureReader(root)
    except Exception as error:  # noqa: BLE001 - a zip that was damaged meanwhile raises any kind
        for frame in frames:
            yield frame, RefusedFrame(frame.number, 'unreadable_file', one_line(error))
        return
    with reader:
        for frame in frames:
            try:
                data = reader.read(frame.member, frame.location.offset)
                # Bytes that any reader of a bag's frames can decode stay as they are.
                content: Any = (SimpleNamespace(format='', data=data)
                           if read_picture_header(data) and exif_orientation(data) == 1 else
                           decode_picture(data))
            except ImageDecodeError as error:
                content = RefusedFrame(frame.number, error.reason,
                                       f'{shown(frame.member)}: {error}')
            except ValueError as error:
                content = RefusedFrame(frame.number, 'unreadable_file', str(error))
            yield frame, content


def _of_video(path: Path, frames: Sequence[ChosenFrame]) -> Iterator[tuple[ChosenFrame, Any]]:
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
    Return the time of each frame since the start of a video, in ns, without decoding frames.

    A frame without a usable time is placed one frame period after the previous one.

    :param damage: counter to which missing frames and frames without a usable time are added.
    :raises BagError: the file cannot be opened as a video.
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
    try:
        check_regular(path)
    except OSError as error:
        raise BagError(f'{path}: cannot be read ({error.strerror})') from error
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    if not capture.isOpened():
        raise BagError(f'{path}: cannot be read as a video; is it whole, and does OpenCV have the '
                       'decoder (FFmpeg)?')
    from grasp_success_detector.images.decoding import MAX_PIXELS

    width, height = (round(capture.get(name)) for name in (
        cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
    if width * height > MAX_PIXELS:
        raise BagError(f'{path}: a video of {width} x {height} (width x height); expected at most '
                       f'{MAX_PIXELS // 1_000_000} megapixels')
    return capture
