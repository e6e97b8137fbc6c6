"""Write selected frames to files: copy their bytes, or crop, resize and encode them."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
import hashlib
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from grasp_success_detector.datasets.journal import BatchResult, ExtractedFrame
from grasp_success_detector.errors import ConfigError, ImageDecodeError
from grasp_success_detector.files import write_whole
from grasp_success_detector.images.decoding import check_cost, decode_message, MAX_PIXELS, RgbImage
from grasp_success_detector.images.encoding import encode_jpeg, encode_png
from grasp_success_detector.images.message_fields import PNG_MAGIC, read_picture_header
from grasp_success_detector.labels import CLASS_NAMES
from grasp_success_detector.networks.learnt_frames import frame_hash
from grasp_success_detector.recordings import reader
from grasp_success_detector.recordings.selection import VIDEO_TOPIC
from grasp_success_detector.settings import check_settings, setting

#: Largest width or height that libjpeg encodes.
_MAX_SIDE = 65500


class PictureFormat(Enum):
    """File format of a data set's frames."""

    JPG = 'jpg'
    PNG = 'png'


@dataclass(frozen=True)
class PictureOptions:
    """How each frame is cropped, resized and encoded."""

    roi: tuple[float, float, float, float] | None = setting(
        None, lowest=0, highest=MAX_PIXELS, metavar='X,Y,WIDTH,HEIGHT', separator=',',
        help='region to cut out: fractions of the picture if none is above 1, else pixels')
    resize: tuple[int, int] | None = setting(
        None, lowest=1, highest=_MAX_SIDE, metavar='WIDTHxHEIGHT', separator='x',
        help='pixels, after --roi')
    format: PictureFormat = setting(
        PictureFormat.JPG, metavar='FORMAT',
        help='jpg or png; frames that have this format already are copied unchanged')
    quality: int = setting(95, lowest=1, highest=100, help='of jpg, 1 to 100')

    def __post_init__(self) -> None:
        check_settings(self, ConfigError, 'cannot extract with', (
            ('roi', self.roi is None or _within_the_picture(*self.roi),
             'x, y, width, height within the picture: fractions of 1, or pixels'),
            ('resize', self.resize is None or math.prod(self.resize) <= MAX_PIXELS,
             f'width and height of at most {MAX_PIXELS // 1_000_000} megapixels')), options=True)


def _within_the_picture(x: float, y: float, width: float, height: float) -> bool:
    relative = max(x, y, width, height) <= 1
    return min(width, height) > 0 and (
        not relative or max(x + width, y + height) <= 1 + 1e-9)


def write_batch(source: str, files: Sequence[reader.StorageFile], topic: reader.ImageTopic | None,
                frames: Sequence[reader.ChosenFrame], out: Path, pictures: PictureOptions,
                ) -> BatchResult:
    """
    Write frames of a source; frames that cannot be decoded are listed as refused in the result.

    :param source: name of the source.
    :param files: files of the source.
    :param topic: image topic of the frames; None for a video.
    :param out: the data set's folder, which has a folder for each label.
    :raises OSError: a frame's file cannot be written.
    """
    wrong_chunks: set[tuple[int, int]] = set()
    result = BatchResult(source, [], [], [])
    content = _checked if topic == reader.PICTURES else _content
    for frame, made in reader.read_frames(
            files, topic, frames,
            lambda message: (content(message, pictures), frame_hash(message.data)),
            lambda rgb: (_encode(rgb, pictures), frame_hash(rgb)), wrong_chunks):
        if isinstance(made, reader.RefusedFrame):
            result.refused.append((made.number, made.reason))
            continue
        data, origin = made
        sha256 = hashlib.sha256(data).hexdigest()
        assert frame.label is not None  # only labelled frames are selected for a data set
        file = f'{CLASS_NAMES[frame.label]}/{frame.stem}.{pictures.format.value}'
        write_whole(f'{out}/{file}', data)
        result.written.append(ExtractedFrame(
            frame.number, file, sha256, int(frame.label),
            VIDEO_TOPIC if topic is None else topic.name, frame.stamp_ns, frame.attempt,
            frame.split, '' if sha256.startswith(origin) else origin))
    return result._replace(wrong_chunks=sorted(wrong_chunks))


def _checked(message: Any, pictures: PictureOptions) -> bytes:
    """Return what ``_content`` does; decode a file that is copied, as it may be damaged."""
    data = _content(message, pictures)
    if data == message.data:
        decode_message(message)
    return data


def _content(message: Any, pictures: PictureOptions) -> bytes:
    """Return the bytes of a compressed frame if its format is the wanted one, else encode it."""
    if not (pictures.roi or pictures.resize or hasattr(message, 'encoding')):
        data = bytes(message.data)
        found = read_picture_header(data)
        kind = 'jpeg' if pictures.format is PictureFormat.JPG else 'png'
        if (found is not None and found.kind == kind and found.complete
                and 0 < found.height * found.width <= MAX_PIXELS
                # 16-bit and Bayer pictures are changed by decoding.
                and not (kind == 'png' and (data[len(PNG_MAGIC) + 16] != 8
                                            or 'bayer' in str(message.format)))):
            check_cost(found, len(data))
            return data
    return _encode(decode_message(message), pictures)


def _encode(rgb: RgbImage, pictures: PictureOptions) -> bytes:
    rgb = _transform(rgb, pictures)
    if pictures.format is PictureFormat.PNG:
        return encode_png(rgb)
    try:
        return encode_jpeg(rgb, pictures.quality)
    except ValueError as error:
        raise ImageDecodeError('too_large', str(error)) from error


def _transform(rgb: RgbImage, pictures: PictureOptions) -> RgbImage:
    """Cut out the region of interest and resize it."""
    if pictures.roi is not None:
        height, width, _ = rgb.shape
        x, y, w, h = pictures.roi
        if max(pictures.roi) <= 1:
            x, y, w, h = x * width, y * height, w * width, h * height
        left, top, right, bottom = (round(value) for value in (x, y, x + w, y + h))
        if right > width or bottom > height or right <= left or bottom <= top:
            raise ImageDecodeError('roi_outside', f'picture of {width} x {height}; expected one '
                                   f'that contains the roi {pictures.roi}')
        rgb = np.ascontiguousarray(rgb[top:bottom, left:right])
    if pictures.resize is not None and pictures.resize != (rgb.shape[1], rgb.shape[0]):
        shrinks = pictures.resize[0] < rgb.shape[1] and pictures.resize[1] < rgb.shape[0]
        rgb = np.asarray(cv2.resize(
            rgb, pictures.resize, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR),
            np.uint8)
    return rgb
