"""What a classifier said about each labelled frame: predictions.csv, a row per frame."""

from collections.abc import Iterable, Mapping
import csv
import io
from pathlib import Path
from typing import NamedTuple

from grasp_success_detector.datasets.splits import SPLITS
from grasp_success_detector.errors import DatasetError
from grasp_success_detector.files import write_whole
from grasp_success_detector.labels import CLASS_NAMES, Label


class Prediction(NamedTuple):
    """
    One labelled frame and the answer to it.

    :ivar attempt: unique over all sources.
    :ivar stamp_ns: the frame's own stamp.
    :ivar file: relative to the data set, with ``/``.
    :ivar label: ground truth.
    :ivar probability: P(success) as the node gives it, after temperature scaling, 0 to 1.
    :ivar uncalibrated: P(success) before it.
    """

    split: str
    source: str
    attempt: str
    stamp_ns: int
    file: str
    label: Label
    probability: float
    uncalibrated: float


def write_predictions(path: Path, rows: Iterable[Prediction]) -> None:
    """Write the rows as CSV, whole or not at all; reading them again gives the same numbers."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(Prediction._fields)
    # float: repr of numpy's own numbers is not what a CSV holds.
    writer.writerows(row._replace(
        label=row.label.name.lower(), probability=float(row.probability),  # type: ignore[arg-type]
        uncalibrated=float(row.uncalibrated)) for row in rows)
    write_whole(path, text.getvalue().encode())


def read_predictions(path: Path) -> list[Prediction]:
    """
    Read what :func:`write_predictions` wrote.

    :raises DatasetError: missing, damaged, or with values that cannot be.
    """
    try:
        with path.open(newline='', encoding='utf-8') as file:
            reader = csv.DictReader(file)
            if tuple(reader.fieldnames or ()) != Prediction._fields:
                raise DatasetError(f'{path}: expected the columns {",".join(Prediction._fields)}')
            return [_row(path, reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f'{path}: cannot be read ({error})') from error


def _row(path: Path, line: int, row: Mapping[str, str]) -> Prediction:
    try:
        if row['label'] not in CLASS_NAMES or row['split'] not in SPLITS:
            raise ValueError(f'label {row["label"]!r}, split {row["split"]!r}')
        prediction = Prediction(
            row['split'], row['source'], row['attempt'], int(row['stamp_ns']), row['file'],
            Label[row['label'].upper()], float(row['probability']), float(row['uncalibrated']))
        for value in (prediction.probability, prediction.uncalibrated):
            if not 0. <= value <= 1.:  # also refuses NaN
                raise ValueError(f'P(success) = {value}')
        return prediction
    except (ValueError, TypeError) as error:
        raise DatasetError(f'{path}: line {line} cannot be ({error})') from error
