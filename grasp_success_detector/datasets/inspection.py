"""Look at every frame of a data set: what is there, how it is divided, whether it leaks."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
import hashlib
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from grasp_success_detector.datasets.executors import Crew
from grasp_success_detector.datasets.leaks import exact_leaks, fingerprint, Leak, near_leaks, WORDS
from grasp_success_detector.datasets.manifest import ManifestRow, read_manifest
from grasp_success_detector.errors import ImageDecodeError
from grasp_success_detector.images.decoding import decode_bytes

_BATCH = 128


class Look(NamedTuple):
    """
    What one frame's file shows.

    :ivar brightness: mean grey level, 0 to 255.
    :ivar sharpness: variance of the Laplacian of the grey picture.
    :ivar fault: why it isn't what the manifest says; else ''.
    """

    width: int
    height: int
    size: int
    brightness: float
    sharpness: float
    print: NDArray[np.uint64]
    fault: str


@dataclass(frozen=True)
class Inspection:
    """
    All that was found out about a data set.

    :ivar unlisted: pictures in its folders that the manifest does not name.
    """

    folder: Path
    rows: tuple[ManifestRow, ...]
    looks: tuple[Look, ...]
    exact: tuple[Leak, ...]
    near: tuple[Leak, ...]
    unlisted: tuple[str, ...]

    @property
    def faults(self) -> list[tuple[ManifestRow, str]]:
        """Return the frames that are not what the manifest says, and why."""
        return [(row, look.fault) for row, look in zip(self.rows, self.looks, strict=True)
                if look.fault]

    @property
    def sound(self) -> bool:
        """Say whether nothing is wrong with the data set."""
        return not (self.exact or self.near or self.unlisted or self.faults)


def inspect_dataset(folder: Path, near_bits: int, crew: Crew) -> Inspection:
    """
    Read the manifest and every picture.

    :param near_bits: pictures look the same with up to so many differing bits of their
        fingerprints.
    :raises DatasetError: no finished data set.
    """
    rows = read_manifest(folder)
    parts = [crew.executor.submit(_look_at, folder.absolute(), rows[i:i + _BATCH])
             for i in range(0, len(rows), _BATCH)]
    looks = [look for part in parts for look in part.result()]
    whole = [i for i, look in enumerate(looks) if not look.fault]
    exact = exact_leaks(rows)
    known = {(leak.first.file, leak.second.file) for leak in exact}
    near = [leak for leak in near_leaks(
        [rows[i] for i in whole],
        np.array([looks[i].print for i in whole], np.uint64).reshape(-1, WORDS), near_bits)
        if leak.first.sha256 != leak.second.sha256
        and (leak.first.file, leak.second.file) not in known]
    names = {row.file for row in rows}
    unlisted = sorted(
        name for label in {row.label.name.lower() for row in rows}
        for path in (folder / label).iterdir()
        if (name := f'{label}/{path.name}') not in names)
    return Inspection(folder, tuple(rows), tuple(looks), tuple(exact), tuple(near),
                      tuple(unlisted))


def _look_at(folder: Path, rows: Sequence[ManifestRow]) -> list[Look]:
    looks = []
    for row in rows:
        nothing = np.zeros(WORDS, np.uint64)
        try:
            data = (folder / row.file).read_bytes()
        except OSError as error:
            looks.append(Look(0, 0, 0, 0., 0., nothing, f'cannot be read ({error.strerror})'))
            continue
        try:
            rgb = decode_bytes(data)
        except ImageDecodeError as error:
            looks.append(Look(0, 0, len(data), 0., 0., nothing, str(error)))
            continue
        grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
        fault = '' if hashlib.sha256(data).hexdigest() == row.sha256 else (
            'was changed: its sha256 is not that of the manifest')
        height, width, _ = rgb.shape
        looks.append(Look(width, height, len(data), float(grey.mean()),
                          float(cv2.Laplacian(grey, cv2.CV_32F).var()), fingerprint(rgb), fault))
    return looks


def table(rows: Iterable[ManifestRow], by: str) -> list[tuple[str, int, int, int]]:
    """
    Count the frames by a column of the manifest.

    :return: value, frames of success, frames of failure and attempts, in the manifest's order.
    """
    rows = list(rows)
    labels = Counter((str(getattr(row, by)), row.label.name) for row in rows)
    attempts = Counter(value for value, _ in {(str(getattr(r, by)), r.attempt) for r in rows})
    return [(value, labels[value, 'SUCCESS'], labels[value, 'FAILURE'], attempts[value])
            for value in dict.fromkeys(str(getattr(row, by)) for row in rows)]


def examples(rows: Sequence[ManifestRow], count: int) -> list[ManifestRow]:
    """Return some frames that are spread evenly over all of them."""
    if len(rows) <= count:
        return list(rows)
    return [rows[int(i)] for i in np.linspace(0, len(rows) - 1, count)]
