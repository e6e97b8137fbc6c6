"""The frames of a finished data set, as training and evaluation take them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
import hashlib
from pathlib import Path
from typing import Any

from grasp_success_detector.datasets.manifest import ManifestRow, read_manifest
from grasp_success_detector.datasets.splits import SPLITS
from grasp_success_detector.errors import DatasetError
from grasp_success_detector.labels import Label

_MOST_NAMED = 20


@dataclass(frozen=True)
class StoredFrame:
    """
    A frame's file as ``image.decode_message`` takes messages; read when its data is asked for.

    :ivar format: as in ``sensor_msgs/CompressedImage``.
    """

    path: Path
    format: str = ''

    @property
    def data(self) -> bytes:
        """Return the bytes of the file."""
        return self.path.read_bytes()


@dataclass(frozen=True)
class LabelledFrame:
    """
    One frame with what is known of it; the picture stays encoded until it is needed.

    :ivar message: :class:`StoredFrame`, or a message, for ``image.decode_message``.
    :ivar label: ground truth.
    :ivar source: name of the bag or video.
    :ivar attempt: unique over all sources, such as ``'rig_train/17'``; never in two splits.
    :ivar stamp_ns: the frame's header stamp.
    :ivar file: relative to the data set.
    """

    message: Any
    label: Label
    source: str
    attempt: str
    stamp_ns: int
    file: str = ''


@dataclass(frozen=True)
class Split:
    """The frames of each split, in order of time within each source; whole attempts only."""

    train: tuple[LabelledFrame, ...]
    val: tuple[LabelledFrame, ...]
    test: tuple[LabelledFrame, ...]


def read_extracted(folder: Path) -> Split:
    """
    Read which frames each split of a data set has; the pictures stay where they are.

    Every file is read once, to see that it still is what the manifest says.

    :raises DatasetError: not finished, damaged, or files are missing, were changed, or lie in the
        folder of another label; it names them.
    """
    rows = read_manifest(folder)
    _refuse(folder, 'are missing', rows, lambda row: not (folder / row.file).is_file())
    _refuse(folder, 'lie in the folder of another label than the manifest says', rows,
            lambda row: Path(row.file).parts[0] != row.label.name.lower())
    _refuse(folder, 'are not what was extracted (another SHA-256 than the manifest says)', rows,
            lambda row: _sha256(folder / row.file) != row.sha256)
    return Split(*(tuple(
        LabelledFrame(StoredFrame(folder / row.file), row.label, row.source, row.attempt,
                      row.stamp_ns, row.file) for row in rows if row.split == split)
        for split in SPLITS))


def describe_frames(frames: Iterable[LabelledFrame]) -> dict[str, Any]:
    """Count frames as JSON holds it: sources, frames, attempts, success_frames."""
    frames = list(frames)
    return {'sources': sorted({frame.source for frame in frames}), 'frames': len(frames),
            'attempts': len({frame.attempt for frame in frames}),
            'success_frames': sum(frame.label == Label.SUCCESS for frame in frames)}


def _refuse(folder: Path, fault: str, rows: Iterable[ManifestRow],
            faulty: Callable[[ManifestRow], bool]) -> None:
    culprits = [row.file for row in rows if faulty(row)]
    if culprits:
        more = len(culprits) - _MOST_NAMED
        raise DatasetError(f'{folder}: {len(culprits)} frames {fault}: '
                           + ', '.join(culprits[:_MOST_NAMED])
                           + (f' and {more} more' if more > 0 else '')
                           + '; extract the data set again, or take their lines out of the '
                             'manifest')


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
