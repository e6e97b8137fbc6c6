"""Labels by hand: a CSV of intervals, ``source,start_s,end_s,label[,attempt]``."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
import csv
import math
from pathlib import Path
from typing import NamedTuple

from grasp_success_detector.data.sources import safe_name, Source
from grasp_success_detector.errors import DatasetError
from grasp_success_detector.labels import CLASS_NAMES, Label

_COLUMNS = ('source', 'start_s', 'end_s', 'label')


class Interval(NamedTuple):
    """
    One label for a stretch of one source.

    :ivar start_ns: from the source's first frame, inclusive.
    :ivar end_ns: exclusive.
    :ivar attempt: None where the file does not say.
    """

    start_ns: int
    end_ns: int
    label: Label
    attempt: str | None


def read_intervals(path: Path) -> dict[str, list[Interval]]:
    """
    Read the intervals of each source, by the name that the file gives it.

    :raises DatasetError: no such file, missing columns, bad values (each with its line), or
        intervals that overlap with different labels.
    """
    try:
        with path.open(newline='', encoding='utf-8-sig') as file:
            rows = csv.DictReader(file)
            columns = [name.strip() for name in rows.fieldnames or ()]
            if missing := [name for name in _COLUMNS if name not in columns]:
                raise DatasetError(f'{path}: no column {", ".join(missing)}; expected a CSV with '
                                   f'{",".join(_COLUMNS)}[,attempt]')
            rows.fieldnames = columns
            found: dict[str, list[Interval]] = defaultdict(list)
            wrong: list[str] = []
            for row in rows:
                try:
                    found[(row['source'] or '').strip()].append(_interval(row))
                except ValueError as error:
                    wrong.append(f'line {rows.line_num}: {error}')
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f'{path}: cannot be read as a CSV of intervals ({error})') from error
    wrong += [text for source, intervals in found.items() for text in _overlaps(source, intervals)]
    if wrong:
        raise DatasetError(f'{path}: ' + '; '.join(wrong[:5])
                           + (f'; and {len(wrong) - 5} more' if len(wrong) > 5 else ''))
    return {source: sorted(intervals) for source, intervals in found.items()}


def intervals_of(source: Source, intervals: Mapping[str, Sequence[Interval]],
                 ) -> Sequence[Interval]:
    """Return a source's intervals; it may be called by its path, its file name or its name."""
    for name in (str(source.path), source.path.name, source.name, source.path.stem,
                 safe_name(source.path.stem)):
        if name in intervals:
            return intervals[name]
    return ()


def _interval(row: Mapping[str, str | None]) -> Interval:
    values = {name: (row.get(name) or '').strip() for name in (*_COLUMNS, 'attempt')}
    if not values['source']:
        raise ValueError('no source')
    label = values['label'].lower()
    if label not in CLASS_NAMES:
        raise ValueError(f'label {values["label"]!r} (expected {" or ".join(CLASS_NAMES)})')
    try:
        start, end = float(values['start_s']), float(values['end_s'])
    except ValueError:
        raise ValueError(f'start_s {values["start_s"]!r}, end_s {values["end_s"]!r} (expected '
                         'seconds from the first frame)') from None
    if not (math.isfinite(start) and math.isfinite(end) and start < end):
        raise ValueError(f'interval {start} to {end} s (expected start_s below end_s)')
    return Interval(round(start * 1e9), round(end * 1e9), Label[label.upper()],
                    values['attempt'] or None)


def _overlaps(source: str, intervals: list[Interval]) -> list[str]:
    ordered = sorted(intervals)
    return [f'{source}: {a.start_ns / 1e9:g} to {a.end_ns / 1e9:g} s and {b.start_ns / 1e9:g} to '
            f'{b.end_ns / 1e9:g} s overlap'
            for a, b in zip(ordered, ordered[1:], strict=False)
            if b.start_ns < a.end_ns and (a.label, a.attempt) != (b.label, b.attempt)]
