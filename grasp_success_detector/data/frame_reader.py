"""Read chosen frames of a recording again, each for itself: a bad one costs nothing but itself."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
import sqlite3
import struct
from types import SimpleNamespace
from typing import Any, NamedTuple, TypeVar

from rosbags.typesys import get_typestore, Stores

from grasp_success_detector.data.bags import TYPESTORE
from grasp_success_detector.data.frame_index import ImageTopic, open_storage, StorageFile
from grasp_success_detector.data.selection import ChosenFrame
from grasp_success_detector.data.storage import Storage, Wire
from grasp_success_detector.data.videos import decode_frames
from grasp_success_detector.errors import BagError, ImageDecodeError
from grasp_success_detector.image import RgbImage

_ROS1_TYPES = get_typestore(Stores.ROS1_NOETIC)

Made = TypeVar('Made')


class RefusedFrame(NamedTuple):
    """A frame that could not be decoded, and why."""

    number: int
    reason: str
    text: str


def read_frames(files: Sequence[StorageFile], topic: ImageTopic | None,
                frames: Sequence[ChosenFrame], of_message: Callable[[Any], Made],
                of_picture: Callable[[RgbImage], Made],
                ) -> Iterator[tuple[ChosenFrame, Made | RefusedFrame]]:
    """
    Yield frames and what is made of them, in order.

    :param files: of the source.
    :param topic: None for a video.
    :param of_message: makes it of an image message; may raise ImageDecodeError.
    :param of_picture: makes it of a video's picture; likewise.
    """
    if topic is None:
        return _video_frames(files[0], frames, of_picture)
    return _bag_frames(files, topic, frames, of_message)


def _bag_frames(files: Sequence[StorageFile], topic: ImageTopic, frames: Sequence[ChosenFrame],
                of_message: Callable[[Any], Made],
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
            except (ValueError, BagError, sqlite3.DatabaseError) as error:
                yield frame, RefusedFrame(frame.number, 'unreadable_message', str(error))


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


def _deserialize(payload: bytes, topic: ImageTopic) -> Any:
    """
    Return the message.

    :raises ValueError: the bytes are none of this type.
    """
    try:
        if topic.wire is Wire.ROS1:
            return _ROS1_TYPES.deserialize_ros1(payload, topic.msgtype)
        if topic.msgtype.endswith('/CompressedImage') and payload[:2] == b'\0\1':
            return _compressed_image(payload)
        return TYPESTORE.deserialize_cdr(payload, topic.msgtype)
    except Exception as error:  # generated code: damaged lengths end in errors of any kind
        raise ValueError(f'{len(payload)} bytes are no {topic.msgtype} '
                         f'({type(error).__name__}: {" ".join(str(error).split())[:80]})'
                         ) from error


def _compressed_image(payload: bytes) -> Any:
    """Read the two fields that matter without copying the picture (CDR, little-endian)."""
    at = 12
    size, = struct.unpack_from('<I', payload, at)       # header.frame_id
    at = at + 4 + size + (-size) % 4
    size, = struct.unpack_from('<I', payload, at)       # format
    text = payload[at + 4:at + 4 + size].rstrip(b'\0').decode('utf-8', 'replace')
    at = at + 4 + size + (-size) % 4
    size, = struct.unpack_from('<I', payload, at)       # data
    data = memoryview(payload)[at + 4:at + 4 + size]
    if len(data) != size:
        raise ValueError(f'data has {len(data)} of {size} bytes')
    return SimpleNamespace(format=text, data=data)
