"""P(success) and verdict of each frame, and the file ``predictions.csv`` that holds them."""

from collections.abc import Iterable, Mapping
import csv
from pathlib import Path
import re
from typing import NamedTuple

from grasp_success_detector.datasets.splits import SPLITS
from grasp_success_detector.decision import Reason
from grasp_success_detector.errors import DatasetError, one_line
from grasp_success_detector.files import csv_text, write_whole
from grasp_success_detector.labels import Label, Verdict


class Prediction(NamedTuple):
    """
    A labelled frame and its P(success).

    :ivar attempt: name of the attempt, unique over all sources.
    :ivar stamp_ns: time stamp of the frame.
    :ivar file: path relative to the data set, with ``/``; '' for a frame of a bag or video.
    :ivar label: ground truth.
    :ivar probability: P(success) after temperature scaling, 0 to 1.
    :ivar uncalibrated: P(success) before temperature scaling.
    """

    split: str
    source: str
    attempt: str
    stamp_ns: int
    file: str
    label: Label
    probability: float
    uncalibrated: float


class FrameVerdict(NamedTuple):
    """
    A frame with or without label, its P(success), and the verdict after it.

    :ivar number: index among all frames of its source, from 0.
    :ivar file: path relative to the data set; '' for a frame of a bag or video.
    :ivar label: ground truth; None if unknown.
    :ivar probability: P(success) after temperature scaling; None if the image cannot be decoded or
        shows nothing.
    :ivar uncalibrated: P(success) before temperature scaling; None where ``probability`` is.
    :ivar reason: reason for the verdict; None if only the verdict is known.
    :ivar window_probability: mean P(success) of the window, by which the verdict was decided.
    """

    source: str
    attempt: str
    number: int
    stamp_ns: int
    file: str
    label: Label | None
    probability: float | None
    uncalibrated: float | None
    verdict: Verdict
    reason: Reason | None
    window_probability: float | None


#: Columns of predictions.csv; a training leaves ``number`` and the verdict's columns empty.
COLUMNS = ('split', *FrameVerdict._fields)

#: Columns that the file of a training and that of an evaluation had before they became one.
_OLD_COLUMNS = (Prediction._fields, FrameVerdict._fields)


def write_predictions(path: Path, rows: Iterable[Prediction | FrameVerdict]) -> None:
    r"""
    Write the rows as CSV, whole or not at all; reading them again gives the same rows.

    Bytes of names that are no UTF-8 are written as ``\xE9``, which every reader of CSV takes.
    """
    write_whole(path, csv_text(COLUMNS, map(_cells, rows)))


def escaped(value: object) -> object:
    """Return a value for CSV: of a text, bytes that are no UTF-8, and what looks so, as codes."""
    if not isinstance(value, str):
        return value
    return re.sub(r'\\(?=x[0-9A-F]{2})|[\udc80-\udcff]',
                  lambda found: f'\\x{ord(found[0]) & 0xff:02X}', value)


def _unescaped(text: str) -> str:
    return re.sub(r'\\x(5C|[89A-F][0-9A-F])', lambda found: bytes.fromhex(found[1]).decode(
        errors='surrogateescape'), text)


def _cells(row: Prediction | FrameVerdict) -> list[object]:
    values = {'split': 'test', **row._asdict()}
    for name in ('probability', 'uncalibrated', 'window_probability'):
        if values.get(name) is not None:
            values[name] = float(values[name])   # a NumPy number would be written as its repr
    if row.label is not None:
        values['label'] = row.label.name.lower()
    if isinstance(row, FrameVerdict):
        values['verdict'] = row.verdict.value
        values['reason'] = '' if row.reason is None else row.reason.value
    return ['' if (value := values.get(name)) is None else escaped(value) for name in COLUMNS]


def read_predictions(path: Path) -> list[Prediction]:
    """
    Read the frames that have a label and a P(success).

    Files of earlier versions are read as well; rows without a split count as test frames.

    :raises DatasetError: the file is missing or damaged, or a value is impossible.
    """
    try:
        with path.open(newline='', encoding='utf-8', errors='surrogateescape') as file:
            reader = csv.DictReader(file)
            if tuple(reader.fieldnames or ()) not in (COLUMNS, *_OLD_COLUMNS):
                raise DatasetError(f'{path}: expected the columns {",".join(COLUMNS)}')
            rows = [_row(path, reader.line_num, row) for row in reader]
            return [row for row in rows if row is not None]
    except (OSError, csv.Error) as error:
        raise DatasetError(f'{path}: cannot be read ({one_line(error)})') from error


def _row(path: Path, line: int, row: Mapping[str, str]) -> Prediction | None:
    try:
        if row['label'] == '' or row['probability'] == '':
            return None
        labels = {label.name.lower(): label for label in Label}
        split = row.get('split', 'test')
        if row['label'] not in labels or split not in SPLITS:
            raise ValueError(f'label {row["label"]!r}, split {split!r}')
        prediction = Prediction(
            split, _unescaped(row['source']), _unescaped(row['attempt']), int(row['stamp_ns']),
            _unescaped(row['file']),
            labels[row['label']], float(row['probability']), float(row['uncalibrated']))
        for value in (prediction.probability, prediction.uncalibrated):
            if not 0. <= value <= 1.:  # also refuses NaN
                raise ValueError(f'P(success) = {value}')
        return prediction
    except (ValueError, TypeError) as error:
        raise DatasetError(f'{path}: line {line} is damaged ({error})') from error
