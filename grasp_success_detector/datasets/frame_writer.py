"""Read a batch of chosen frames, decode or copy each, and write it: the work of one process."""

from dataclasses import dataclass
from functools import partial
import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from grasp_success_detector.datasets.options import PictureFormat, PictureOptions
from grasp_success_detector.errors import ImageDecodeError
from grasp_success_detector.files import write_whole
from grasp_success_detector.images.decoding import decode_message, MAX_PIXELS, RgbImage
from grasp_success_detector.images.encoding import encode_jpeg, encode_png
from grasp_success_detector.images.message_fields import PNG_MAGIC, read_picture_header
from grasp_success_detector.labels import CLASS_NAMES
from grasp_success_detector.recordings.index import ImageTopic, StorageFile
from grasp_success_detector.recordings.reader import read_frames, RefusedFrame
from grasp_success_detector.recordings.selection import ChosenFrame


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
    output: PictureOptions


class WrittenFrame(NamedTuple):
    """
    A frame that lies in the data set.

    :ivar file: relative to the data set.
    """

    number: int
    file: str
    sha256: str


class BatchResult(NamedTuple):
    """
    What became of each frame of a batch.

    :ivar wrong_chunks: (file, offset) of chunks whose checksums are wrong.
    """

    written: list[WrittenFrame]
    refused: list[RefusedFrame]
    wrong_chunks: set[tuple[int, int]]


def write_batch(batch: Batch) -> BatchResult:
    """
    Write a batch; each frame for itself, so that a bad one costs nothing but itself.

    :raises OSError: the data set cannot be written.
    """
    result = BatchResult([], [], set())
    frames = read_frames(batch.files, batch.topic, batch.frames,
                         partial(_content, output=batch.output),
                         partial(_encode, output=batch.output), result.wrong_chunks)
    for frame, content in frames:
        if isinstance(content, RefusedFrame):
            result.refused.append(content)
            continue
        data, suffix = content
        assert frame.label is not None  # only labelled frames are planned for a data set
        file = f'{CLASS_NAMES[frame.label]}/{frame.stem}.{suffix}'
        write_whole(f'{batch.out}/{file}', data)
        result.written.append(WrittenFrame(frame.number, file, hashlib.sha256(data).hexdigest()))
    return result


def _content(message: Any, output: PictureOptions) -> tuple[bytes, str]:
    copied = _copied(message, output)
    return (copied, output.format.value) if copied is not None else _encode(
        decode_message(message), output)


def _copied(message: Any, output: PictureOptions) -> bytes | None:
    """Return a compressed frame's own bytes where they already are what is asked for."""
    if output.roi or output.resize or hasattr(message, 'encoding'):
        return None
    data = bytes(message.data)
    found = read_picture_header(data)
    if (found is None or not found.complete or not found.height or not found.width
            or found.height * found.width > MAX_PIXELS
            or found.kind != ('jpeg' if output.format is PictureFormat.JPG else 'png')):
        return None
    if found.kind == 'png' and (data[len(PNG_MAGIC) + 16] != 8 or 'bayer' in str(message.format)):
        return None  # 16 bits or a mosaic: not the picture that decoding gives
    return data


def _encode(rgb: RgbImage, output: PictureOptions) -> tuple[bytes, str]:
    rgb = transform(rgb, output)
    if output.format is PictureFormat.PNG:
        return encode_png(rgb), 'png'
    try:
        return encode_jpeg(rgb, output.quality), 'jpg'
    except ValueError as error:
        raise ImageDecodeError('too_large', str(error)) from error


def transform(rgb: RgbImage, output: PictureOptions) -> RgbImage:
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
