"""Inspection of a data set: damaged files, and pictures that leak from one split into another."""

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
import hashlib
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from grasp_success_detector.datasets.dataset import ManifestRow, read_manifest
from grasp_success_detector.datasets.splits import SPLITS
from grasp_success_detector.datasets.workers import Workers
from grasp_success_detector.errors import ImageDecodeError
from grasp_success_detector.images.decoding import decode_bytes, RgbImage
from grasp_success_detector.labels import CLASS_NAMES

#: Rows and columns of the frequencies that a fingerprint describes; 16 x 16 bits.
_SIDE = 16
_WORDS = _SIDE * _SIDE // 64

#: Fingerprints that differ in at most this many bits belong to pictures that look the same. In
#: simulated bags a frame that was compressed again or halved differs by up to 6 bits, the most
#: similar frame of another attempt by 63 or more.
SAME_BITS = 8

#: Amplitude above which a frequency counts, in grey levels times 64; noise stays below.
_LEAST_AMPLITUDE = 20.

_BATCH_FRAMES = 128


class Leak(NamedTuple):
    """
    Two frames in different splits that are the same picture, or look the same.

    :ivar distance: differing bits of their fingerprints; 0 also for the same bytes.
    """

    first: ManifestRow
    second: ManifestRow
    distance: int


class PictureStatistics(NamedTuple):
    """
    Measurements of one frame's file; all 0 for a file that is no picture.

    :ivar size: of the file, in bytes.
    :ivar brightness: mean grey level, 0 to 255.
    :ivar sharpness: variance of the Laplacian of the grey picture.
    :ivar fingerprint: uint64 (4,).
    :ivar fault: in what way the file differs from the manifest; '' if it doesn't.
    """

    width: int
    height: int
    size: int
    brightness: float
    sharpness: float
    fingerprint: NDArray[np.uint64]
    fault: str


@dataclass(frozen=True)
class Inspection:
    """
    Result of inspecting a data set.

    :ivar pictures: of each row.
    :ivar exact: leaks of files with the same bytes.
    :ivar near: leaks of pictures that look the same.
    :ivar unlisted: files in its folders that are not in the manifest.
    """

    folder: Path
    rows: tuple[ManifestRow, ...]
    pictures: tuple[PictureStatistics, ...]
    exact: tuple[Leak, ...]
    near: tuple[Leak, ...]
    unlisted: tuple[str, ...]

    @property
    def faults(self) -> list[tuple[ManifestRow, str]]:
        """Return the frames whose files differ from the manifest, and in what way."""
        return [(row, picture.fault) for row, picture in zip(
            self.rows, self.pictures, strict=True) if picture.fault]

    @property
    def sound(self) -> bool:
        """Return whether nothing is wrong with the data set."""
        return not (self.exact or self.near or self.unlisted or self.faults)


def inspect_dataset(folder: Path, near_bits: int, workers: Workers) -> Inspection:
    """
    Read the manifest and every picture.

    :param near_bits: pictures whose fingerprints differ in at most this many bits look the same.
    :raises DatasetError: no finished data set.
    """
    rows = read_manifest(folder)
    pictures = measure_pictures(folder, rows, workers)
    whole = [i for i, picture in enumerate(pictures) if not picture.fault]
    exact = exact_leaks(rows)
    near = [leak for leak in near_leaks(
        [rows[i] for i in whole], [pictures[i].fingerprint for i in whole], near_bits)
        if leak.first.sha256 != leak.second.sha256]
    names = {row.file for row in rows}
    unlisted = sorted(
        name for label in {CLASS_NAMES[row.label] for row in rows}
        for path in (folder / label).iterdir()
        if (name := f'{label}/{path.name}') not in names)
    return Inspection(folder, tuple(rows), tuple(pictures), tuple(exact), tuple(near),
                      tuple(unlisted))


def measure_pictures(folder: Path, rows: Sequence[ManifestRow], workers: Workers,
                     ) -> list[PictureStatistics]:
    """Read and decode the file of each row."""
    parts = [rows[i:i + _BATCH_FRAMES] for i in range(0, len(rows), _BATCH_FRAMES)]
    return [picture for part in workers.map(partial(_measure, folder.absolute()), parts)
            for picture in part]


def _measure(folder: Path, rows: Sequence[ManifestRow]) -> list[PictureStatistics]:
    pictures = []
    for row in rows:
        data = b''
        try:
            data = (folder / row.file).read_bytes()
            rgb = decode_bytes(data)
        except (OSError, ImageDecodeError) as error:
            fault = f'cannot be read ({error.strerror})' if isinstance(error, OSError) else (
                str(error))
            pictures.append(PictureStatistics(
                0, 0, len(data), 0., 0., np.zeros(_WORDS, np.uint64), fault))
        else:
            grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
            fault = '' if hashlib.sha256(data).hexdigest() == row.sha256 else (
                'was changed: its sha256 is not that of the manifest')
            pictures.append(PictureStatistics(
                rgb.shape[1], rgb.shape[0], len(data), float(grey.mean()),
                float(cv2.Laplacian(grey, cv2.CV_32F).var()), fingerprint(rgb), fault))
    return pictures


def fingerprint(rgb: RgbImage) -> NDArray[np.uint64]:
    """
    Return a picture's perceptual hash: which of 16 x 16 low frequencies are clearly positive.

    It hardly changes with compression, brightness and size (C. Zauner, "Implementation and
    Benchmarking of Perceptual Image Hash Functions", 2010; here with 256 bits instead of 64, as
    an object in the hand is a small part of a picture, and with a fixed limit instead of the
    median, so that frequencies that a picture hardly has give no bits at random).

    :param rgb: RGB uint8 (H, W, 3).
    :return: uint64 (4,).
    """
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (64, 64), interpolation=cv2.INTER_AREA).astype(np.float32)
    waves = np.asarray(cv2.dct(small))[:_SIDE, :_SIDE].reshape(-1)
    waves[0] = 0.  # the mean brightness says nothing about what is seen
    bits: NDArray[np.uint8] = np.packbits(waves > _LEAST_AMPLITUDE)
    return bits.view(np.uint64)


def near_duplicates(fingerprints: Iterable[NDArray[np.uint64]], labels: Sequence[Hashable],
                    bits: int = SAME_BITS) -> set[int]:
    """
    Return the frames that look like an earlier frame with the same label that is kept.

    :param fingerprints: (N, 4).
    """
    dropped: set[int] = set()
    index = _FingerprintIndex(bits)
    for i, value in enumerate(map(_as_int, fingerprints)):
        if any(labels[j] == labels[i] for j, _ in index.close_to(value)):
            dropped.add(i)
        else:
            index.add(i, value)
    return dropped


def close_pairs(fingerprints: Iterable[NDArray[np.uint64]], bits: int,
                groups: Sequence[Hashable]) -> Iterator[tuple[int, int, int]]:
    """
    Yield (later, earlier, distance) of frames of different groups that look the same.

    :param fingerprints: (N, 4).
    """
    indexes: dict[Hashable, _FingerprintIndex] = defaultdict(lambda: _FingerprintIndex(bits))
    for i, value in enumerate(map(_as_int, fingerprints)):
        for group, index in indexes.items():
            if group != groups[i]:
                yield from ((i, j, distance) for j, distance in index.close_to(value))
        indexes[groups[i]].add(i, value)


class _FingerprintIndex:
    """
    Finds fingerprints that differ in few bits without comparing all pairs.

    Two fingerprints that differ in at most ``bits`` bits agree in at least one of ``bits + 1``
    bands, so only those that share a band are compared; none is missed.
    """

    def __init__(self, bits: int) -> None:
        self._bits = bits
        edges = np.linspace(0, 64 * _WORDS, bits + 2).astype(int).tolist()
        self._bands = [(start, (1 << (end - start)) - 1)
                       for start, end in zip(edges, edges[1:], strict=False)]
        self._members: dict[tuple[int, int], dict[int, int]] = defaultdict(dict)

    def _keys(self, value: int) -> Iterator[tuple[int, int]]:
        return ((start, value >> start & mask) for start, mask in self._bands)

    def add(self, number: int, value: int) -> None:
        for key in self._keys(value):
            self._members[key][number] = value

    def close_to(self, value: int) -> Iterator[tuple[int, int]]:
        """Yield (number, distance) of each fingerprint close to this one."""
        candidates: dict[int, int] = {}
        for key in self._keys(value):
            candidates |= self._members.get(key, {})
        for number, other in candidates.items():
            if (distance := (other ^ value).bit_count()) <= self._bits:
                yield number, distance


def _as_int(fingerprint: NDArray[np.uint64]) -> int:
    return int.from_bytes(fingerprint.tobytes(), 'little')


def exact_leaks(rows: Sequence[ManifestRow]) -> list[Leak]:
    """Return a pair for each file whose bytes are also in another split."""
    seen: dict[str, dict[str, ManifestRow]] = defaultdict(dict)
    leaks = []
    for row in rows:
        others = [other for split, other in seen[row.sha256].items() if split != row.split]
        if others:
            leaks.append(Leak(others[0], row, 0))
        seen[row.sha256].setdefault(row.split, row)
    return leaks


def near_leaks(rows: Sequence[ManifestRow], fingerprints: Iterable[NDArray[np.uint64]],
               bits: int) -> list[Leak]:
    """
    Return a pair for each frame that looks like one of another split, with the closest one.

    :param fingerprints: (N, 4), of each row.
    :param bits: pictures whose fingerprints differ in at most this many bits look the same.
    """
    best: dict[int, Leak] = {}
    for i, j, distance in close_pairs(fingerprints, bits, [row.split for row in rows]):
        if i not in best or distance < best[i].distance:
            best[i] = Leak(rows[j], rows[i], distance)
    return [best[i] for i in sorted(best)]


def describe_leaks(leaks: Sequence[Leak]) -> str:
    """Return one line with the number of leaks and an example."""
    first, second, _ = leaks[0]
    kind = 'the same picture as' if first.sha256 == second.sha256 else 'nearly the same picture as'
    return (f'{len(leaks)} frames leak between splits: {second.file} ({second.split}) is {kind} '
            f'{first.file} ({first.split})')


def table(rows: Iterable[ManifestRow], by: str) -> list[tuple[str, int, int, int]]:
    """
    Count the frames by a column of the manifest.

    :return: value, frames of success, frames of failure and attempts; splits in the order of
        ``SPLITS``, other values in that of the manifest.
    """
    rows = list(rows)
    labels = Counter((getattr(row, by), row.label.name) for row in rows)
    attempts = Counter(value for value, _ in {(getattr(row, by), row.attempt) for row in rows})
    values = dict.fromkeys(getattr(row, by) for row in rows)
    return [(value, labels[value, 'SUCCESS'], labels[value, 'FAILURE'], attempts[value])
            for value in (filter(values.__contains__, SPLITS) if by == 'split' else values)]


def examples(rows: Sequence[ManifestRow], count: int) -> list[ManifestRow]:
    """Return at most ``count`` frames, spread evenly over all of them."""
    if len(rows) <= count:
        return list(rows)
    return [rows[int(i)] for i in np.linspace(0, len(rows) - 1, count)]
