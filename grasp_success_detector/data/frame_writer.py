"""Read a batch of chosen frames, decode or copy each, and write it: the work of one process."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
import hashlib
import os
from pathlib import Path
import sqlite3
import struct
from types import SimpleNamespace
from typing import Any, NamedTuple

import cv2
import numpy as np
from rosbags.typesys import get_typestore, Stores

from grasp_success_detector.data.bags import TYPESTORE
from grasp_success_detector.data.extraction_options import OutputOptions
from grasp_success_detector.data.fast_png import encode_png
from grasp_success_detector.data.frame_index import ImageTopic, open_storage, StorageFile
from grasp_success_detector.data.selection import ChosenFrame
from grasp_success_detector.data.storage import Storage, Wire
from grasp_success_detector.data.videos import decode_frames
from grasp_success_detector.errors import BagError, ImageDecodeError
from grasp_success_detector.image import (
    decode_message,
    encode_jpeg,
    MAX_PIXELS,
    RgbImage,
)
from grasp_success_detector.image_container import inspect, PNG_MAGIC

_ROS1_TYPES = get_typestore(Stores.ROS1_NOETIC)


@dataclass(frozen=True)
class Batch:
    """
    Frames of one source to write.

    :ivar topic: None for a video.
    :ivar out: the data set's folder, which has a folder for each label.
    """

    files: tuple[StorageFile, ...]
    topic: ImageTopic | None
    frames: tuple[ChosenFrame, ...]
    out: Path
    output: OutputOptions


class WrittenFrame(NamedTuple):
    """
    A frame that lies in the data set.

    :ivar file: relative to the data set.
    """

    number: int
    file: str
    sha256: str


class RefusedFrame(NamedTuple):
    """A frame that could not be decoded, and why."""

    number: int
    reason: str
    text: str


class BatchResult(NamedTuple):
    """What became of each frame of a batch."""

    written: list[WrittenFrame]
    refused: list[RefusedFrame]


def write_batch(batch: Batch) -> BatchResult:
    """
    Write a batch; each frame for itself, so that a bad one costs nothing but itself.

    :raises OSError: the data set cannot be written.
    """
    result = BatchResult([], [])
    frames = _video_frames(batch) if batch.topic is None else _bag_frames(batch, batch.topic)
    for frame, content in frames:
        if isinstance(content, RefusedFrame):
            result.refused.append(content)
            continue
        data, suffix = content
        file = f'{frame.label.name.lower()}/{frame.stem}.{suffix}'
        write_atomically(batch.out / file, data)
        result.written.append(WrittenFrame(frame.number, file, hashlib.sha256(data).hexdigest()))
    return result


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file that is either whole or not there, whenever the process is stopped."""
    partial = path.with_name(f'.{path.name}.part')
    with partial.open('wb', 0) as file:
        file.write(data)
    os.replace(partial, path)


Content = tuple[bytes, str] | RefusedFrame


def _bag_frames(batch: Batch, topic: ImageTopic) -> Iterator[tuple[ChosenFrame, Content]]:
    with ExitStack() as stack:
        storages: dict[int, Storage] = {}
        for frame in batch.frames:
            try:
                if frame.file not in storages:
                    storages[frame.file] = stack.enter_context(
                        open_storage(batch.files[frame.file]))
                message = _deserialize(storages[frame.file].payload(frame.locator), topic)
                yield frame, _content(message, batch.output)
            except ImageDecodeError as error:
                yield frame, RefusedFrame(frame.number, error.reason, str(error))
            except (ValueError, BagError, sqlite3.DatabaseError) as error:
                yield frame, RefusedFrame(frame.number, 'unreadable_message', str(error))


def _video_frames(batch: Batch) -> Iterator[tuple[ChosenFrame, Content]]:
    left = {frame.locator.offset: frame for frame in batch.frames}
    for offset, rgb in decode_frames(batch.files[0].path, frozenset(left)):
        frame = left.pop(offset)
        if rgb is None:
            yield frame, RefusedFrame(frame.number, 'broken_data', 'the decoder gave no picture')
            continue
        try:
            yield frame, _encode(rgb, batch.output)
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


def _content(message: Any, output: OutputOptions) -> tuple[bytes, str]:
    copied = _copied(message, output)
    return (copied, output.format) if copied is not None else _encode(
        decode_message(message), output)


def _copied(message: Any, output: OutputOptions) -> bytes | None:
    """Return a compressed frame's own bytes where they already are what is asked for."""
    if output.roi or output.resize or hasattr(message, 'encoding'):
        return None
    data = bytes(message.data)
    found = inspect(data)
    if (found is None or not found.complete or not found.height or not found.width
            or found.height * found.width > MAX_PIXELS
            or found.kind != {'jpg': 'jpeg', 'png': 'png'}[output.format]):
        return None
    if found.kind == 'png' and (data[len(PNG_MAGIC) + 16] != 8 or 'bayer' in str(message.format)):
        return None  # 16 bits or a mosaic: not the picture that decoding gives
    return data


def _encode(rgb: RgbImage, output: OutputOptions) -> tuple[bytes, str]:
    rgb = transform(rgb, output)
    if output.format == 'png':
        return encode_png(rgb), 'png'
    try:
        return encode_jpeg(rgb, output.quality), 'jpg'
    except ValueError as error:
        raise ImageDecodeError('too_large', str(error)) from error


def transform(rgb: RgbImage, output: OutputOptions) -> RgbImage:
    """
    Cut out the region of interest and resize it.

    :param rgb: RGB uint8 (H, W, 3).
    :raises ImageDecodeError: the region does not lie within the picture.
    """
    if output.roi is not None:
        height, width, _ = rgb.shape
        x, y, w, h = output.roi
        if max(output.roi) <= 1:
            x, y, w, h = x * width, y * height, w * width, h * height
        left, top, right, bottom = (round(value) for value in (x, y, x + w, y + h))
        if right > width or bottom > height or right <= left or bottom <= top:
            raise ImageDecodeError('roi_outside', f'picture of {width} x {height}; expected one '
                                   f'that holds the roi {output.roi}')
        rgb = np.ascontiguousarray(rgb[top:bottom, left:right])
    if output.resize is not None and output.resize != (rgb.shape[1], rgb.shape[0]):
        shrinks = output.resize[0] < rgb.shape[1] and output.resize[1] < rgb.shape[0]
        rgb = np.asarray(cv2.resize(
            rgb, output.resize, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR),
            np.uint8)
    return rgb
