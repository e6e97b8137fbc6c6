"""Inspection of a data set: damaged files, and (nearly) equal pictures in different splits."""

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
import hashlib
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from grasp_success_detector.console import counted
from grasp_success_detector.datasets.dataset import ManifestRow, read_manifest, read_marker
from grasp_success_detector.datasets.splits import SPLITS
from grasp_success_detector.datasets.workers import Task, Workers
from grasp_success_detector.errors import ImageDecodeError
from grasp_success_detector.files import check_regular
from grasp_success_detector.images.decoding import decode_bytes
from grasp_success_detector.images.fingerprints import close_pairs, fingerprint, SAME_BITS
from grasp_success_detector.labels import CLASS_NAMES

_BATCH_FRAMES = 128


class Leak(NamedTuple):
    """Two frames of different splits whose fingerprints differ in ``distance`` bits."""

    first: ManifestRow
    second: ManifestRow
    distance: int


class PictureStatistics(NamedTuple):
    """
    Measurements of one frame's file; the picture's values are 0 if it cannot be decoded.

    :ivar size: size of the file, in bytes.
    :ivar fault: why the file cannot be used or how it differs from the manifest, else ''.
    :ivar brightness: mean grey level, 0 to 255.
    :ivar sharpness: variance of the Laplacian of the grey picture.
    :ivar fingerprint: perceptual hash from :func:`~.fingerprints.fingerprint`.
    """

    size: int
    fault: str
    width: int = 0
    height: int = 0
    brightness: float = 0.
    sharpness: float = 0.
    fingerprint: int = 0


@dataclass(frozen=True)
class Inspection:
    """
    Result of inspecting a data set.

    :ivar rows: rows of the manifest; ``pictures`` has the measurements of each row's file.
    :ivar exact: pairs of identical files in different splits.
    :ivar near: pairs of different files in different splits whose pictures look the same.
    :ivar unlisted: files in the data set's folders that are not in the manifest.
    :ivar refused: why pictures of its sources could not be decoded, by source and file.
    """

    folder: Path
    rows: list[ManifestRow]
    pictures: list[PictureStatistics]
    exact: list[Leak]
    near: list[Leak]
    unlisted: list[str]
    refused: Mapping[str, str]

    @property
    def faults(self) -> list[tuple[ManifestRow, str]]:
        """Return each frame whose file has a fault, with that fault."""
        return [(row, picture.fault) for row, picture in zip(
            self.rows, self.pictures, strict=True) if picture.fault]

    @property
    def problems(self) -> list[str]:
        """Return one line with number and example for each kind of fault that was found."""
        lines = [describe_leaks(leaks) for leaks in (self.exact, self.near) if leaks]
        if faults := self.faults:
            row, fault = faults[0]
            lines.append(f'{counted(len(faults), "frame")} not as the manifest says: {row.file}: '
                         f'{fault}')
        if self.unlisted:
            lines.append(f'{counted(len(self.unlisted), "file")} not in the manifest, such as '
                         f'{self.unlisted[0]}')
        return lines


def inspect_dataset(folder: Path, near_bits: int, workers: Workers,
                    on_pictures: Callable[[int, int], None] = lambda done, total: None,
                    ) -> Inspection:
    """
    Check every file of a data set against its manifest, and compare pictures between splits.

    :param near_bits: pictures whose fingerprints differ in at most this many bits look the same.
    :param on_pictures: called repeatedly with the numbers of pictures measured and of all.
    :raises DatasetError: the data set is not finished, or its manifest is damaged or invalid.
    """
    rows = read_manifest(folder)
    pictures = measure_pictures(folder, rows, workers, on_pictures)
    whole = [i for i, picture in enumerate(pictures) if not picture.fault]
    near = [leak for leak in near_leaks(
        [rows[i] for i in whole], [pictures[i].fingerprint for i in whole], near_bits)
        if leak.first.sha256 != leak.second.sha256]
    names = {row.file for row in rows}
    unlisted = sorted(
        name for label in {CLASS_NAMES[row.label] for row in rows}
        for path in (folder / label).iterdir()
        if (name := f'{label}/{path.name}') not in names)
    refused = {
        f'{name}/{file}': reason for name, source in read_marker(folder).get('sources', {}).items()
        for kind in ('unread_files', 'refused_files')
        for file, reason in source.get(kind, {}).items()}
    return Inspection(folder, rows, pictures, exact_leaks(rows), near, unlisted, refused)


def measure_pictures(folder: Path, rows: Sequence[ManifestRow], workers: Workers,
                     on_pictures: Callable[[int, int], None] = lambda done, total: None,
                     ) -> list[PictureStatistics]:
    """Measure the file of each row; ``on_pictures`` is that of :func:`inspect_dataset`."""
    tasks = [partial(_measure, folder.absolute(), rows[i:i + _BATCH_FRAMES])
             for i in range(0, len(rows), _BATCH_FRAMES)]
    results: dict[Task, list[PictureStatistics]] = {}
    done = 0
    for task, measured in workers.run(deque(tasks), reads=_files):
        results[task] = measured
        done += len(measured)
        on_pictures(done, len(rows))
    return [picture for task in tasks for picture in results[task]]


def _files(task: Task) -> Iterator[Path]:
    folder, rows = task.args
    return (folder / row.file for row in rows)


def _measure(folder: Path, rows: Sequence[ManifestRow]) -> list[PictureStatistics]:
    return [_measure_one(folder / row.file, row.sha256) for row in rows]


def _measure_one(path: Path, sha256: str) -> PictureStatistics:
    try:
        check_regular(path)
        data = path.read_bytes()
    except OSError as error:
        return PictureStatistics(0, f'cannot be read ({error.strerror})')
    try:
        rgb = decode_bytes(data)
    except ImageDecodeError as error:
        return PictureStatistics(len(data), str(error))
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    fault = '' if hashlib.sha256(data).hexdigest() == sha256 else (
        'was changed: its sha256 is not that of the manifest')
    return PictureStatistics(
        len(data), fault, rgb.shape[1], rgb.shape[0], float(grey.mean()),
        float(cv2.Laplacian(grey, cv2.CV_32F).var()), fingerprint(rgb))


def exact_leaks(rows: Sequence[ManifestRow]) -> list[Leak]:
    """Return a leak for each frame whose file also occurs, earlier, in another split."""
    first_of: dict[str, dict[str, ManifestRow]] = defaultdict(dict)
    leaks = []
    for row in rows:
        by_split = first_of[row.sha256]
        leaks += [Leak(other, row, 0) for split, other in by_split.items()
                  if split != row.split][:1]
        by_split.setdefault(row.split, row)
    return leaks


def near_leaks(rows: Sequence[ManifestRow], fingerprints: Iterable[int],
               bits: int = SAME_BITS) -> list[Leak]:
    """Return each frame's leak to the most similar earlier frame of another split, if any."""
    best: dict[int, Leak] = {}
    for i, j, distance in close_pairs(fingerprints, bits, [row.split for row in rows]):
        if i not in best or distance < best[i].distance:
            best[i] = Leak(rows[j], rows[i], distance)
    return [best[i] for i in sorted(best)]


def describe_leaks(leaks: Sequence[Leak]) -> str:
    """Return one line with the number of leaks and an example."""
    first, second, _ = leaks[0]
    kind = 'the same picture as' if first.sha256 == second.sha256 else 'nearly the same picture as'
    return (f'{counted(len(leaks), "frame")} {"leaks" if len(leaks) == 1 else "leak"} between '
            f'splits: {second.file} ({second.split}) is {kind} {first.file} ({first.split})')


def table(rows: Iterable[ManifestRow], by: str) -> list[tuple[str, int, int, int]]:
    """
    Count the frames by a column of the manifest.

    :param by: name of the column, such as ``'split'``.
    :returns: for each value of the column: value, success frames, failure frames, attempts.
    """
    rows = list(rows)
    labels = Counter((getattr(row, by), row.label.name) for row in rows)
    attempts = Counter(value for value, _ in {(getattr(row, by), row.attempt) for row in rows})
    values = dict.fromkeys(getattr(row, by) for row in rows)
    return [(value, labels[value, 'SUCCESS'], labels[value, 'FAILURE'], attempts[value])
            for value in (filter(values.__contains__, SPLITS) if by == 'split' else values)]


def examples(rows: Sequence[ManifestRow], count: int) -> list[ManifestRow]:
    """Return at most ``count`` frames, spread evenly over all of them."""
    return [rows[int(i)] for i in np.linspace(0, len(rows) - 1, min(count, len(rows)))]
