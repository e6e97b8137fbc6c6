"""Frames of sources as jpeg, read when they are asked for, in a cache of limited size."""

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from threading import Lock, RLock

import cv2

from grasp_success_detector.errors import BagError
from grasp_success_detector.images.decoding import decode_message, RgbImage
from grasp_success_detector.images.encoding import encode_jpeg
from grasp_success_detector.labelling.material import Material
from grasp_success_detector.recordings.reader import ChosenFrame, read_frames, RefusedFrame
from grasp_success_detector.recordings.sources import SourceKind

#: Widest picture on the page, and widest thumbnail, in pixels.
FRAME_WIDTH, THUMBNAIL_WIDTH = 960, 160

#: Bytes of jpeg that the cache holds: some 2,000 frames of 640 x 480 pixels.
CACHE_BYTES = 128 << 20

#: Frames of a video that are decoded at once: it is read forwards only.
_BLOCK = 32

#: Times of a video's frames agree when they are read again, up to this many ns.
_SAME_TIME_NS = 1_000_000


class FrameCache:
    """
    Jpeg pictures of the frames of all sources; its methods may be called from any thread.

    :param materials: the sources by name; the mapping may change while a bag grows.
    :param limit: bytes that the cache holds.
    """

    def __init__(self, materials: Mapping[str, Material], limit: int = CACHE_BYTES) -> None:
        self._materials, self._limit = materials, limit
        self._kept: OrderedDict[tuple[str, int, int], bytes] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()
        self._videos: dict[str, _Video] = {}

    @property
    def bytes_kept(self) -> int:
        """Bytes of jpeg in the cache."""
        return self._bytes

    def jpeg(self, name: str, number: int, width: int) -> bytes | None:
        """
        Return a frame as jpeg, at most ``width`` pixels wide; None if it cannot be decoded.

        :raises KeyError: there is no such source.
        :raises IndexError: the source has no such frame.
        """
        key = name, number, width
        material = self._materials[name]
        material.frames[number]
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key] or None
        for found, picture in self._around(name, material, number):
            self._keep((name, found, width),
                       b'' if picture is None else encode_jpeg(shrunk(picture, width), 85))
        with self._lock:
            return self._kept.get(key) or None

    def pictures(self, name: str, numbers: Sequence[int]) -> Iterator[RgbImage | None]:
        """Yield frames as RGB uint8 (H, W, 3), None for those that cannot be decoded."""
        material = self._materials[name]
        if material.source.kind is SourceKind.VIDEO:
            found = dict(self._video(name, material).read(numbers))
            yield from (found.get(number) for number in numbers)
            return
        for _, picture in read_pictures(material, numbers):
            yield picture

    def _around(self, name: str, material: Material, number: int,
                ) -> Iterable[tuple[int, RgbImage | None]]:
        if material.source.kind is not SourceKind.VIDEO:
            return read_pictures(material, [number])
        start = number - number % _BLOCK
        return self._video(name, material).read(
            range(start, min(start + _BLOCK, len(material.frames))))

    def _video(self, name: str, material: Material) -> '_Video':
        with self._lock:
            if name not in self._videos:
                self._videos[name] = _Video(material)
            return self._videos[name]

    def _keep(self, key: tuple[str, int, int], data: bytes) -> None:
        with self._lock:
            self._bytes += len(data) - len(self._kept.pop(key, b''))
            self._kept[key] = data
            while self._bytes > self._limit and len(self._kept) > 1:
                self._bytes -= len(self._kept.popitem(last=False)[1])


def read_pictures(material: Material, numbers: Sequence[int],
                  ) -> Iterator[tuple[int, RgbImage | None]]:
    """Yield frames of a source with their numbers; None for those that cannot be decoded."""
    chosen: list[ChosenFrame] = [material.frames[number] for number in numbers]
    for frame, picture in read_frames(material.files, material.topic, chosen, decode_message,
                                      lambda rgb: rgb):
        yield frame.number, None if isinstance(picture, RefusedFrame) else picture


def shrunk(picture: RgbImage, width: int) -> RgbImage:
    """Return a picture, RGB uint8 (H, W, 3), shrunk to at most ``width`` pixels."""
    if picture.shape[1] <= width:
        return picture
    height = max(1, round(picture.shape[0] * width / picture.shape[1]))
    return cv2.resize(  # type: ignore[return-value]
        picture, (width, height), interpolation=cv2.INTER_AREA)


class _Video:
    """
    An open video in which frames are found by their number.

    A decoder may land on another frame than it was sent to. Each frame is therefore compared with
    the time that the index gives it, and the video is read from its start where they differ.
    """

    def __init__(self, material: Material) -> None:
        self._path: Path = material.source.path
        self._times = [frame.stamp_ns for frame in material.frames]
        self._lock = RLock()
        self._capture: cv2.VideoCapture | None = None
        self._next = 0

    def read(self, numbers: Sequence[int]) -> list[tuple[int, RgbImage | None]]:
        """Return frames in ascending order of their numbers."""
        with self._lock:
            return [(number, self._frame(number)) for number in numbers]

    def _frame(self, number: int) -> RgbImage | None:
        if self._capture is None:
            self._open()
        if not self._next <= number < self._next + _BLOCK:
            self._seek(number)
        while self._next <= number:
            if self._capture is None or not self._capture.grab():
                self._capture = None
                return None
            self._next += 1
        done, pixels = self._capture.retrieve() if self._capture else (False, None)
        if not done or pixels is None or pixels.ndim != 3:
            return None
        return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)  # type: ignore[return-value]

    def _open(self) -> None:
        capture = cv2.VideoCapture(str(self._path), cv2.CAP_FFMPEG)
        if not capture.isOpened():
            raise BagError(f'{self._path}: can no longer be read as a video')
        self._capture, self._next = capture, 0

    def _seek(self, number: int) -> None:
        """Go to a frame, so that the next :meth:`grab` gives it."""
        target = max(number - 1, 0)
        if self._capture is not None and target > 0:
            self._capture.set(cv2.CAP_PROP_POS_FRAMES, target)
            if self._capture.grab():
                time = round(self._capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6)
                if abs(time - self._times[target]) < _SAME_TIME_NS:
                    self._next = target + 1
                    return
        self._open()


