"""Read chosen frames of a recording again, each for itself: a bad one costs nothing but itself."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import cache
import sqlite3
from typing import Any, NamedTuple, TypeVar

from grasp_success_detector.errors import BagError, ImageDecodeError
from grasp_success_detector.images.decoding import RgbImage
from grasp_success_detector.images.message_fields import read_image_message
from grasp_success_detector.recordings.index import ImageTopic, open_storage, StorageFile
from grasp_success_detector.recordings.selection import ChosenFrame
from grasp_success_detector.recordings.storage import Storage, Wire
from grasp_success_detector.recordings.videos import decode_frames

Made = TypeVar('Made')


class RefusedFrame(NamedTuple):
    """A frame that could not be decoded, and why."""

    number: int
    reason: str
    text: str


def read_frames(files: Sequence[StorageFile], topic: ImageTopic | None,
                frames: Sequence[ChosenFrame], of_message: Callable[[Any], Made],
                of_picture: Callable[[RgbImage], Made],
                wrong_chunks: set[tuple[int, int]] | None = None,
                ) -> Iterator[tuple[ChosenFrame, Made | RefusedFrame]]:
    """
    Yield frames and what is made of them, in order.

    :param files: of the source.
    :param topic: None for a video.
    :param of_message: makes it of an image message; may raise ImageDecodeError.
    :param of_picture: makes it of a video's picture; likewise.
    :param wrong_chunks: gets the chunks (file, offset) whose checksums turn out to be wrong.
    """
    if topic is None:
        return _video_frames(files[0], frames, of_picture)
    return _bag_frames(files, topic, frames, of_message, wrong_chunks)


def _bag_frames(files: Sequence[StorageFile], topic: ImageTopic, frames: Sequence[ChosenFrame],
                of_message: Callable[[Any], Made],
                wrong_chunks: set[tuple[int, int]] | None,
                ) -> Iterator[tuple[ChosenFrame, Made | RefusedFrame]]:
    with ExitStack() as stack:
        storages: dict[int, Storage] = {}
        for frame in frames:
            try:
                if frame.file not in storages:
                    storages[frame.file] = stack.enter_context(open_storage(files[frame.file]))
                message = _deserialize(storages[frame.file].payload(frame.locator), topic)
                yield frame, of_message(message)
            except ImageDecodeError as error:
                yield frame, RefusedFrame(frame.number, error.reason, str(error))
            except (ValueError, BagError, OSError, sqlite3.DatabaseError) as error:
                yield frame, RefusedFrame(frame.number, 'unreadable_message', str(error))
        if wrong_chunks is not None:
            wrong_chunks |= {(number, chunk) for number, storage in storages.items()
                             for chunk in storage.wrong}


def _video_frames(file: StorageFile, frames: Sequence[ChosenFrame],
                  of_picture: Callable[[RgbImage], Made],
                  ) -> Iterator[tuple[ChosenFrame, Made | RefusedFrame]]:
    left = {frame.locator.offset: frame for frame in frames}
    for offset, rgb in decode_frames(file.path, frozenset(left)):
        frame = left.pop(offset)
        if rgb is None:
            yield frame, RefusedFrame(frame.number, 'broken_data', 'the decoder gave no picture')
            continue
        try:
            yield frame, of_picture(rgb)
        except ImageDecodeError as error:
            yield frame, RefusedFrame(frame.number, error.reason, str(error))
    for frame in left.values():
        yield frame, RefusedFrame(frame.number, 'unreadable_message',
                                  'the video ended before this frame when read again')


def _deserialize(payload: bytes | memoryview, topic: ImageTopic) -> Any:
    """
    Return the message.

    :raises ValueError: the bytes are none of this type.
    """
    try:
        if topic.wire is Wire.CDR and (
                message := read_image_message(payload, topic.msgtype)) is not None:
            return message
        return _deserialize_by_rosbags(payload, topic)
    except Exception as error:  # generated code: damaged lengths end in errors of any kind
        raise ValueError(f'{len(payload)} bytes are no {topic.msgtype} '
                         f'({type(error).__name__}: {" ".join(str(error).split())[:80]})'
                         ) from error


def _deserialize_by_rosbags(payload: bytes | memoryview, topic: ImageTopic) -> Any:
    if topic.wire is Wire.ROS1:
        return _typestore('ROS1_NOETIC').deserialize_ros1(payload, topic.msgtype)
    return _typestore('ROS2_JAZZY').deserialize_cdr(payload, topic.msgtype)


@cache
def _typestore(name: str) -> Any:
    # Imported here: its definitions take as long to load as all of the rest.
    from rosbags.typesys import get_typestore, Stores
    return get_typestore(Stores[name])
