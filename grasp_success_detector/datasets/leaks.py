"""Pictures that are in more than one split: what makes a wrong accuracy look right."""


from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from grasp_success_detector.datasets.executors import Crew
from grasp_success_detector.datasets.manifest import ManifestRow
from grasp_success_detector.errors import ImageDecodeError
from grasp_success_detector.images.decoding import read_image, RgbImage

#: Rows and columns of the frequencies that are looked at; 16 x 16 bits.
_SIDE = 16
WORDS = _SIDE * _SIDE // 64

#: Fingerprints with up to so many differing bits belong to pictures that look the same. In
#: simulated bags a frame that was compressed again or halved differs by up to 6 bits, the most
#: similar frame of another attempt by 63 or more.
SAME_BITS = 8

#: Amplitude of a frequency that counts, in grey levels times 64; noise stays below.
_CLEARLY = 20.

_BATCH = 256


def fingerprint(rgb: RgbImage) -> NDArray[np.uint64]:
    """
    Return a picture's perceptual hash: which of 16 x 16 low frequencies are clearly positive.

    Survives compression and changes of brightness and size (C. Zauner, "Implementation and
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
    bits: NDArray[np.uint8] = np.packbits(waves > _CLEARLY)
    return bits.view(np.uint64)


def fingerprints(folder: Path, files: Sequence[str], crew: Crew,
                 ) -> tuple[NDArray[np.uint64], set[int]]:
    """
    Return the fingerprint of each file, (N, 4), and the indexes of files without a picture.

    The latter have the fingerprint of a uniform picture.
    """
    parts = [crew.executor.submit(_fingerprints, folder.absolute(), files[i:i + _BATCH])
             for i in range(0, len(files), _BATCH)]
    found = [look for part in parts for look in part.result()]
    nothing = np.zeros(WORDS, np.uint64)
    looks = np.array([nothing if look is None else look for look in found], np.uint64)
    return looks.reshape(-1, WORDS), {i for i, look in enumerate(found) if look is None}


def _fingerprints(folder: Path, files: Sequence[str]) -> list[NDArray[np.uint64] | None]:
    looks: list[NDArray[np.uint64] | None] = []
    for file in files:
        try:
            looks.append(fingerprint(read_image(folder / file)))
        except ImageDecodeError:
            looks.append(None)
    return looks


def repeated(looks: NDArray[np.uint64], labels: Sequence[Hashable],
             bits: int = SAME_BITS) -> set[int]:
    """
    Return the frames that look like an earlier one that stays, and have its label.

    :param looks: fingerprints (N, 4).
    """
    dropped: set[int] = set()
    index = _Index(bits)
    for i, look in enumerate(looks):
        if any(labels[j] == labels[i] for j, _ in index.close(look)):
            dropped.add(i)
        else:
            index.add(i, look)
    return dropped


def close_pairs(looks: NDArray[np.uint64], bits: int, groups: Sequence[Hashable],
                ) -> Iterator[tuple[int, int, int]]:
    """
    Yield (later, earlier, distance) of frames of different groups that look the same.

    :param looks: fingerprints (N, 4).
    """
    indexes: dict[Hashable, _Index] = defaultdict(lambda: _Index(bits))
    for i, look in enumerate(looks):
        for group, index in indexes.items():
            if group != groups[i]:
                yield from ((i, j, distance) for j, distance in index.close(look))
        indexes[groups[i]].add(i, look)


class _Index:
    """
    Fingerprints by their bands.

    Two fingerprints that differ in at most ``bits`` bits agree in at least one of ``bits + 1``
    bands, so only those that share a band are compared; none is missed.
    """

    def __init__(self, bits: int) -> None:
        self._bits = bits
        self._edges = np.linspace(0, 64 * WORDS, bits + 2).astype(int).tolist()
        self._bands: list[dict[int, list[int]]] = [defaultdict(list) for _ in range(bits + 1)]
        self._looks: dict[int, int] = {}

    def add(self, number: int, look: NDArray[np.uint64]) -> None:
        value = _as_int(look)
        self._looks[number] = value
        for band, key in zip(self._bands, self._keys(value), strict=True):
            band[key].append(number)

    def close(self, look: NDArray[np.uint64]) -> Iterator[tuple[int, int]]:
        value = _as_int(look)
        seen: set[int] = set()
        for band, key in zip(self._bands, self._keys(value), strict=True):
            for number in band.get(key, ()):
                if number not in seen:
                    seen.add(number)
                    distance = (self._looks[number] ^ value).bit_count()
                    if distance <= self._bits:
                        yield number, distance

    def _keys(self, value: int) -> Iterator[int]:
        for start, end in zip(self._edges, self._edges[1:], strict=False):
            yield (value >> start) & ((1 << (end - start)) - 1)


def _as_int(look: NDArray[np.uint64]) -> int:
    return int.from_bytes(look.tobytes(), 'little')


class Leak(NamedTuple):
    """
    Two frames that are the same picture, or look the same, in two splits.

    :ivar distance: differing bits of their fingerprints; 0 also for the same bytes.
    """

    first: ManifestRow
    second: ManifestRow
    distance: int


def exact_leaks(rows: Sequence[ManifestRow]) -> list[Leak]:
    """Return a pair for each file whose bytes are also in another split."""
    seen: dict[str, dict[str, ManifestRow]] = defaultdict(dict)
    leaks = []
    for row in rows:
        of_other_splits = [other for split, other in seen[row.sha256].items()
                           if split != row.split]
        if of_other_splits:
            leaks.append(Leak(of_other_splits[0], row, 0))
        seen[row.sha256].setdefault(row.split, row)
    return leaks


def near_leaks(rows: Sequence[ManifestRow], looks: NDArray[np.uint64], bits: int) -> list[Leak]:
    """
    Return a pair for each frame that looks like one of another split.

    :param looks: fingerprints (N, words), as ``near_duplicates.fingerprints`` gives them.
    :param bits: fingerprints count as the same with up to so many differing bits.
    """
    splits = [row.split for row in rows]
    best: dict[int, Leak] = {}
    for i, j, distance in close_pairs(looks, bits, splits):
        if i not in best or distance < best[i].distance:
            best[i] = Leak(rows[j], rows[i], distance)
    return [best[i] for i in sorted(best)]


def describe_leaks(leaks: Sequence[Leak]) -> str:
    """Return one line with the number of leaks and an example."""
    first, second, distance = leaks[0]
    kind = 'the same picture as' if distance == 0 and first.sha256 == second.sha256 else (
        'nearly the same picture as')
    return (f'{len(leaks)} frames leak between splits: {second.file} ({second.split}) is {kind} '
            f'{first.file} ({first.split})')
