"""Perceptual fingerprints of pictures, and which of many are close to each other."""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from itertools import pairwise

import cv2
import numpy as np

from grasp_success_detector.images.decoding import RgbImage

#: Rows and columns of the DCT coefficients in a fingerprint, one bit for each.
_SIDE = 16

#: Fingerprints that differ in at most this many bits belong to pictures that look the same. In
#: simulated bags a frame that was compressed again or halved differs by up to 6 bits, the most
#: similar frame of another attempt by 63 or more.
SAME_BITS = 8

#: Limit above which a coefficient sets its bit, in grey levels times 64; noise stays below.
_LEAST_AMPLITUDE = 20.


def fingerprint(rgb: RgbImage) -> int:
    """
    Return a perceptual hash of a picture, which hardly changes with compression and size.

    The hash has one bit for each of the 16 x 16 lowest DCT coefficients, set if the coefficient
    exceeds a fixed limit. C. Zauner, "Implementation and Benchmarking of Perceptual Image Hash
    Functions", 2010, uses 64 bits, too few for an object that is a small part of the picture, and
    the median as limit, which would make the bits of tiny coefficients random.

    :param rgb: RGB uint8 (H, W, 3).
    """
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (64, 64), interpolation=cv2.INTER_AREA).astype(np.float32)
    waves = np.asarray(cv2.dct(small))[:_SIDE, :_SIDE].reshape(-1)
    waves[0] = 0.  # the mean brightness says nothing about the content
    return int.from_bytes(np.packbits(waves > _LEAST_AMPLITUDE).tobytes(), 'little')


def near_duplicates(fingerprints: Iterable[int], labels: Sequence[Hashable],
                    bits: int = SAME_BITS) -> set[int]:
    """Return the indices of frames that look like an earlier, kept frame of the same label."""
    dropped: set[int] = set()
    indexes: dict[Hashable, _FingerprintIndex] = defaultdict(lambda: _FingerprintIndex(bits))
    for i, (value, label) in enumerate(zip(fingerprints, labels, strict=True)):
        if any(indexes[label].close_to(value)):
            dropped.add(i)
        else:
            indexes[label].add(i, value)
    return dropped


def close_pairs(fingerprints: Iterable[int], bits: int,
                groups: Sequence[Hashable]) -> Iterator[tuple[int, int, int]]:
    """Yield index pairs (later, earlier) of similar frames of different groups, and distances."""
    indexes: dict[Hashable, _FingerprintIndex] = defaultdict(lambda: _FingerprintIndex(bits))
    for i, value in enumerate(fingerprints):
        for group, index in indexes.items():
            if group != groups[i]:
                yield from ((i, j, distance) for j, distance in index.close_to(value))
        indexes[groups[i]].add(i, value)


def close_groups(fingerprints: Sequence[int], bits: int = SAME_BITS) -> list[int]:
    """
    Put pictures that look alike into groups, through others too, and return each one's group.

    :returns: for each picture the index of its group's first one.
    """
    index = _FingerprintIndex(bits)
    first = list(range(len(fingerprints)))

    def root(i: int) -> int:
        while first[i] != i:
            i = first[i] = first[first[i]]
        return i

    for i, value in enumerate(fingerprints):
        for j, _ in index.close_to(value):
            a, b = sorted((root(i), root(j)))
            first[b] = a
        index.add(i, value)
    return [root(i) for i in range(len(fingerprints))]


class _FingerprintIndex:
    """
    Finds fingerprints that differ in few bits without comparing all pairs.

    Two fingerprints that differ in at most ``bits`` bits agree in at least one of ``bits + 1``
    bands, so only those that share a band are compared; none is missed.
    """

    def __init__(self, bits: int) -> None:
        self._bits = bits
        edges = np.linspace(0, _SIDE ** 2, bits + 2).astype(int).tolist()
        self._bands = [(start, (1 << (end - start)) - 1) for start, end in pairwise(edges)]
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
