"""The frames of a finished data set, as training and evaluation take them."""

from dataclasses import dataclass
from pathlib import Path

from grasp_success_detector.data.manifest import read_manifest
from grasp_success_detector.data.recordings import LabelledFrame
from grasp_success_detector.data.splits import SPLITS
from grasp_success_detector.errors import DatasetError


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


def read_extracted(folder: Path) -> dict[str, tuple[LabelledFrame, ...]]:
    """
    Read which frames each split of a data set has; the pictures stay where they are.

    :return: frames by split, in order of time within each source; every split is there.
    :raises DatasetError: not finished, damaged, or files are missing.
    """
    rows = read_manifest(folder)
    if missing := [row.file for row in rows if not (folder / row.file).is_file()]:
        raise DatasetError(f'{folder}: {len(missing)} frames of the manifest are missing, such as '
                           f'{missing[0]}')
    return {split: tuple(
        LabelledFrame(StoredFrame(folder / row.file), row.label, row.source, row.attempt,
                      row.stamp_ns) for row in rows if row.split == split) for split in SPLITS}
