"""The data set's own record: manifest.csv, a row per frame, and dataset.json, written last."""

from collections.abc import Iterable, Mapping, Sequence
import csv
import io
import json
from pathlib import Path
from typing import Any, NamedTuple

from grasp_success_detector.datasets.splits import SPLITS
from grasp_success_detector.errors import DatasetError
from grasp_success_detector.files import write_whole
from grasp_success_detector.labels import CLASS_NAMES, Label

MANIFEST = 'manifest.csv'

#: The completion marker: a data set without it is not finished.
MARKER = 'dataset.json'

#: What an unfinished data set has instead.
JOURNAL = 'extraction.jsonl'

FORMAT_VERSION = 1


class ManifestRow(NamedTuple):
    """
    One frame of a data set.

    :ivar file: relative to the data set's folder, with ``/``.
    :ivar topic: ``video`` for a frame of a video.
    :ivar stamp_ns: of the frame's header; in videos since their start.
    :ivar attempt: unique over all sources.
    :ivar sha256: of the file.
    """

    file: str
    label: Label
    source: str
    topic: str
    stamp_ns: int
    attempt: str
    split: str
    sha256: str


def write_manifest(folder: Path, rows: Iterable[ManifestRow]) -> None:
    """Write manifest.csv, whole or not at all."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(ManifestRow._fields)
    writer.writerows((row.file, CLASS_NAMES[row.label], *row[2:]) for row in rows)
    write_whole(folder / MANIFEST, text.getvalue().encode())


def write_marker(folder: Path, description: Mapping[str, Any]) -> None:
    """Write dataset.json: from now on the data set is complete."""
    text = json.dumps({'format_version': FORMAT_VERSION, **description}, indent=2) + '\n'
    write_whole(folder / MARKER, text.encode())


def read_marker(folder: Path) -> dict[str, Any]:
    """
    Return what dataset.json says.

    :raises DatasetError: no data set, an unfinished one, or one of a newer format.
    """
    path = folder / MARKER
    if not path.is_file():
        if (folder / JOURNAL).is_file():
            raise DatasetError(f'{folder}: this data set is not finished; run the extract_frames '
                               'command that began it again')
        raise DatasetError(f'{folder}: no data set ({MARKER} is missing); extract_frames makes '
                           'one')
    try:
        description = json.loads(path.read_text())
        version = description['format_version']
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(f'{path}: damaged ({error})') from error
    if version != FORMAT_VERSION:
        raise DatasetError(f'{path}: format {version}; this version reads {FORMAT_VERSION}')
    marker: dict[str, Any] = description
    return marker


def read_manifest(folder: Path) -> list[ManifestRow]:
    """
    Read the rows of a finished data set.

    :raises DatasetError: not finished, damaged, or with values that cannot be.
    """
    read_marker(folder)
    path = folder / MANIFEST
    try:
        with path.open(newline='', encoding='utf-8') as file:
            reader = csv.DictReader(file)
            if tuple(reader.fieldnames or ()) != ManifestRow._fields:
                raise DatasetError(f'{path}: expected the columns '
                                   f'{",".join(ManifestRow._fields)}')
            rows = [_row(path, reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f'{path}: cannot be read ({error})') from error
    if not rows:
        raise DatasetError(f'{path}: no frame in it')
    _check_attempts(path, rows)
    return rows


def _row(path: Path, line: int, row: Mapping[str, str]) -> ManifestRow:
    try:
        if row['label'] not in CLASS_NAMES or row['split'] not in SPLITS:
            raise ValueError(f'label {row["label"]!r}, split {row["split"]!r}')
        if Path(row['file']).is_absolute() or '..' in Path(row['file']).parts:
            raise ValueError(f'file {row["file"]!r} lies outside of the data set')
        return ManifestRow(row['file'], Label[row['label'].upper()], row['source'], row['topic'],
                           int(row['stamp_ns']), row['attempt'], row['split'], row['sha256'])
    except (ValueError, TypeError) as error:
        raise DatasetError(f'{path}: line {line} cannot be ({error})') from error


def _check_attempts(path: Path, rows: Sequence[ManifestRow]) -> None:
    """Refuse a manifest in which somebody divided an attempt."""
    split_of: dict[str, str] = {}
    for row in rows:
        if split_of.setdefault(row.attempt, row.split) != row.split:
            raise DatasetError(f'{path}: attempt {row.attempt} is in {split_of[row.attempt]} and '
                               f'in {row.split}; splits must be whole attempts')
