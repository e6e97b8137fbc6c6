"""Files of a data set (manifest, dataset.json), and the frames of its splits."""

from collections.abc import Callable, Iterable, Mapping, Sequence
import csv
from dataclasses import dataclass
import hashlib
import os
from pathlib import Path
import re
from typing import Any, NamedTuple

from grasp_success_detector.console import counted, is_address
from grasp_success_detector.datasets.splits import SPLITS
from grasp_success_detector.errors import DatasetError
from grasp_success_detector.files import check_regular, csv_text, json_text, read_json, write_whole
from grasp_success_detector.labels import CLASS_NAMES, Label
from grasp_success_detector.networks.learnt_frames import DIGITS
from grasp_success_detector.recordings import remote

MANIFEST = 'manifest.csv'

#: File with the description of a finished data set; it is written last.
MARKER = 'dataset.json'

#: File that an unfinished data set has instead of ``MARKER``.
JOURNAL = 'extraction.jsonl'

FORMAT_VERSION = 1

_MOST_NAMED = 20


class ManifestRow(NamedTuple):
    """
    One frame of a data set.

    :ivar file: path of the frame's file relative to the data set's folder, with ``/``.
    :ivar topic: image topic of the frame, or ``'video'``.
    :ivar stamp_ns: stamp of the frame's header, or time since the start of a video, in ns.
    :ivar attempt: name that is unique over all sources, such as ``'rig_train/17'``.
    :ivar sha256: SHA-256 of the file, in hexadecimal digits.
    :ivar origin: :func:`~.learnt_frames.frame_hash` of the frame in its source, from which the
        file was encoded anew; '' if the file is a copy.
    """

    file: str
    label: Label
    source: str
    topic: str
    stamp_ns: int
    attempt: str
    split: str
    sha256: str
    origin: str = ''

    @property
    def hash(self) -> str:
        """Return :func:`~.learnt_frames.frame_hash` of the frame in its source."""
        return self.origin or self.sha256[:DIGITS]


def write_manifest(folder: Path, rows: Iterable[ManifestRow]) -> None:
    """Write a data set's manifest.csv."""
    write_whole(folder / MANIFEST, csv_text(ManifestRow._fields, (
        (row.file, CLASS_NAMES[row.label], *row[2:]) for row in rows)))


def write_marker(folder: Path, description: Mapping[str, Any]) -> None:
    """Write dataset.json with this description, which marks the data set as finished."""
    os.sync()   # the frames first: a marker that survives a loss of power must be true
    write_whole(folder / MARKER, json_text({'format_version': FORMAT_VERSION, **description}),
                durable=True)


def read_marker(folder: Path) -> dict[str, Any]:
    """
    Return the content of dataset.json.

    :raises DatasetError: the folder holds no finished data set, or one of another format version.
    """
    path = folder / MARKER
    if not path.is_file():
        raise DatasetError(f'{folder}: ' + (
            'this data set is not finished; run the extract_frames command that began it again'
            if (folder / JOURNAL).is_file() else
            f'no data set ({MARKER} is missing); extract_frames makes one'))
    try:
        description: dict[str, Any] = read_json(path)
        version = description['format_version']
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(f'{path}: damaged ({error})') from error
    if version != FORMAT_VERSION:
        raise DatasetError(f'{path}: format {version}; this version reads {FORMAT_VERSION}')
    return description


def is_dataset(folder: Path) -> bool:
    """Return whether a folder is a data set of extract_frames, finished or not."""
    return (folder / MARKER).is_file() or (folder / JOURNAL).is_file()


def local_datasets(given: Iterable[str]) -> list[str]:
    """
    Return the paths and addresses given, with data sets at addresses as paths in the cache.

    :raises RemoteError: what lies at an address cannot be fetched.
    """
    return [remote.local(text) if is_address(text) and remote.holds(text, MARKER, JOURNAL)
            else text for text in given]


def read_manifest(folder: Path) -> list[ManifestRow]:
    """
    Read the manifest of a finished data set.

    :raises DatasetError: the data set is not finished, or its manifest is damaged or invalid.
    """
    read_marker(folder)
    path = folder / MANIFEST
    try:
        check_regular(path)
        with path.open(newline='', encoding='utf-8') as file:
            reader = csv.DictReader(file)
            # Earlier data sets lack the last column.
            if tuple(reader.fieldnames or ()) not in (
                    ManifestRow._fields, ManifestRow._fields[:-1]):
                raise DatasetError(f'{path}: expected the columns '
                                   f'{",".join(ManifestRow._fields)}')
            rows = []
            for values in reader:
                try:
                    rows.append(_row(values))
                except (ValueError, TypeError) as error:
                    raise DatasetError(f'{path}: line {reader.line_num} has an invalid value '
                                       f'({error})') from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f'{path}: cannot be read ({error})') from error
    if not rows:
        raise DatasetError(f'{path}: no frame in it')
    _refuse(folder, 'outside of the data set, by a symbolic link', rows, _outside(folder))
    split_of: dict[str, str] = {}
    for row in rows:
        if split_of.setdefault(row.attempt, row.split) != row.split:
            raise DatasetError(f'{path}: attempt {row.attempt} is in {split_of[row.attempt]} and '
                               f'in {row.split}; splits must be whole attempts')
    return rows


def _outside(folder: Path) -> Callable[[ManifestRow], bool]:
    """Return a function that tells whether a row's file lies outside, through symbolic links."""
    root = os.path.realpath(folder) + os.sep
    parents: dict[str, str] = {}

    def outside(row: ManifestRow) -> bool:
        head, name = os.path.split(f'{root}{row.file}')
        if head not in parents:
            parents[head] = os.path.realpath(head) + os.sep
        path = parents[head] + name
        return not (os.path.realpath(path) if os.path.islink(path) else path).startswith(root)
    return outside


def _row(row: Mapping[str, str]) -> ManifestRow:
    if row['label'] not in CLASS_NAMES or row['split'] not in SPLITS:
        raise ValueError(f'label {row["label"]!r}, split {row["split"]!r}')
    if '\0' in row['file'] or Path(row['file']).is_absolute() or '..' in Path(row['file']).parts:
        raise ValueError(f'file {row["file"]!r} lies outside of the data set')
    origin = row.get('origin') or ''
    if re.fullmatch(f'([0-9a-f]{{{DIGITS}}})?', origin) is None:
        raise ValueError(f'origin {origin!r}')
    return ManifestRow(**{**row, 'origin': origin, 'label': Label[row['label'].upper()],  # type: ignore[arg-type]
                          'stamp_ns': int(row['stamp_ns'])})


@dataclass(frozen=True)
class StoredFrame:
    """A frame's file, which ``decode_message`` accepts in place of a CompressedImage."""

    path: Path
    format: str = ''

    @property
    def data(self) -> bytes:
        """Read and return the bytes of the file."""
        check_regular(self.path)
        return self.path.read_bytes()


@dataclass(frozen=True)
class LabelledFrame:
    """
    One encoded frame; the other fields have the same meaning as in :class:`ManifestRow`.

    :ivar message: a :class:`StoredFrame` or image message, to be decoded by ``decode_message``.
    :ivar hash: :func:`~.learnt_frames.frame_hash` of the frame in its source.
    """

    message: Any
    label: Label
    source: str
    attempt: str
    stamp_ns: int
    file: str = ''
    hash: str = ''


@dataclass(frozen=True)
class Split:
    """The frames of each split, those of a source in order of time."""

    train: tuple[LabelledFrame, ...]
    val: tuple[LabelledFrame, ...]
    test: tuple[LabelledFrame, ...]


def read_extracted(folder: Path) -> Split:
    """
    Return the frames of each split of a data set, after verifying their files.

    :raises DatasetError: the data set is not finished, or files (named in the error) are faulty.
    """
    rows = read_manifest(folder)
    _refuse(folder, 'missing', rows, lambda row: not (folder / row.file).is_file())
    _refuse(folder, 'in the folder of another label than the manifest says', rows,
            lambda row: Path(row.file).parts[0] != CLASS_NAMES[row.label])
    _refuse(folder, 'not what was extracted (another SHA-256 than the manifest says)', rows,
            lambda row: hashlib.sha256((folder / row.file).read_bytes()).hexdigest() != row.sha256)
    return Split(*(tuple(
        LabelledFrame(StoredFrame(folder / row.file), row.label, row.source, row.attempt,
                      row.stamp_ns, row.file, row.hash) for row in rows if row.split == split)
        for split in SPLITS))


def _refuse(folder: Path, fault: str, rows: Sequence[ManifestRow],
            faulty: Callable[[ManifestRow], bool]) -> None:
    if files := [row.file for row in rows if faulty(row)]:
        named, more = files[:_MOST_NAMED], len(files) - _MOST_NAMED
        raise DatasetError(
            f'{folder}: {counted(len(files), "frame")} {fault}: {", ".join(named)}'
            f'{f" and {more} more" if more > 0 else ""}; remove the folder and extract it again, '
            'or remove their lines from the manifest')


def describe_frames(frames: Iterable[LabelledFrame]) -> dict[str, Any]:
    """Return the names of the sources, and counts of frames, attempts and success frames."""
    frames = list(frames)
    return {'sources': sorted({frame.source for frame in frames}), 'frames': len(frames),
            'attempts': len({frame.attempt for frame in frames}),
            'success_frames': sum(frame.label == Label.SUCCESS for frame in frames)}
