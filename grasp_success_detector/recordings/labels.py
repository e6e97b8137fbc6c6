"""Which label and which attempt a frame of a recording has."""


from bisect import bisect_right
from collections import defaultdict
from collections.abc import Mapping, Sequence
import csv
import math
from pathlib import Path
from typing import NamedTuple

from grasp_success_detector.errors import DatasetError
from grasp_success_detector.labels import CLASS_NAMES, Label
from grasp_success_detector.recordings.sources import safe_name, Source

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


#: A clock that goes back by more, or forward by more than a day, was set anew.
_BACK_NS = 500_000_000
_FORWARD_NS = 86_400 * 10 ** 9


class AttemptEvent(NamedTuple):
    """Begin or end of an attempt, as the recording itself tells it."""

    received_ns: int
    begins: bool
    attempt: str


class TopicLabels:
    """
    Labels from a ``std_msgs/Bool`` topic.

    :param messages: time and value of each message.
    :param hold_ns: for how long a message counts; 0 for its very time only.
    """

    def __init__(self, messages: Sequence[tuple[int, bool]], hold_ns: float) -> None:
        ordered = sorted(messages, key=lambda message: message[0])
        self._times = [time for time, _ in ordered]
        self._labels = [Label(value) for _, value in ordered]
        self._hold_ns = hold_ns

    def at(self, received_ns: int) -> Label | None:
        """Return the label of a frame that was recorded at this time."""
        place = bisect_right(self._times, received_ns) - 1
        if place < 0 or received_ns - self._times[place] > self._hold_ns:
            return None
        return self._labels[place]


class TopicAttempts:
    """Attempts as the recording tells them: from each begin to its end, or the next begin."""

    def __init__(self, events: Sequence[AttemptEvent]) -> None:
        self._events = sorted(events, key=lambda event: event.received_ns)
        self._times = [event.received_ns for event in self._events]

    def __bool__(self) -> bool:
        return bool(self._events)

    def at(self, received_ns: int) -> str | None:
        """Return the attempt of a frame that was recorded at this time."""
        place = bisect_right(self._times, received_ns) - 1
        # An attempt includes the moment of its end.
        while (place >= 0 and not self._events[place].begins
               and self._times[place] == received_ns):
            place -= 1
        if place < 0 or not self._events[place].begins:
            return None
        return self._events[place].attempt


def interval_at(intervals: Sequence[Interval], elapsed_ns: int) -> Interval | None:
    """
    Return the interval that covers a time.

    :param intervals: sorted; neighbours that overlap have the same label.
    """
    place = bisect_right(intervals, (elapsed_ns, math.inf)) - 1
    for interval in intervals[max(0, place - 1):place + 1]:
        if interval.start_ns <= elapsed_ns < interval.end_ns:
            return interval
    return None


def attempt_around(intervals: Sequence[Interval], elapsed_ns: int, otherwise: str | None,
                   ) -> str | None:
    """
    Return the attempt of a time that no interval covers: that of both its neighbours.

    :param intervals: as of :func:`interval_at`.
    :param otherwise: the attempt where the intervals tell none.
    :return: None between attempts.
    """
    if not any(interval.attempt for interval in intervals):
        return otherwise
    place = bisect_right(intervals, (elapsed_ns, math.inf))
    before, after = intervals[max(place - 1, 0):place], intervals[place:place + 1]
    attempts = {interval.attempt for interval in (*before, *after)}
    return attempts.pop() if before and after and len(attempts) == 1 else None


class Elapsed:
    """
    Time since the first frame on a clock that may be set while it is recorded.

    :ivar jumps: how often it was set.
    """

    def __init__(self) -> None:
        self.jumps = 0
        self._previous: int | None = None
        self._elapsed = 0
        self._behind = 0

    def add(self, received_ns: int) -> int:
        """Take the next frame's time; return ns since the first frame."""
        if self._previous is not None:
            step = received_ns - self._previous
            if step < -_BACK_NS or step > _FORWARD_NS:
                self.jumps += 1
                step = 0
            # Slightly out of order: time does not go back for it.
            step += self._behind
            self._behind = min(step, 0)
            self._elapsed += max(step, 0)
        self._previous = received_ns
        return self._elapsed


class Thinning:
    """
    Choose frames at a lower rate.

    :param fps: at most so many per second; None for no limit.
    :param every: or every n-th frame.
    """

    def __init__(self, fps: float | None, every: int) -> None:
        self._fps, self._every = fps, every
        self._count = -1
        self._slot: int | None = None

    def takes(self, elapsed_ns: int) -> bool:
        """Say whether the next frame is taken."""
        self._count += 1
        if self._fps is None:
            return self._count % self._every == 0
        # A hundredth of a slot forgives stamps that were rounded or arrive a little early.
        slot = math.floor(elapsed_ns * self._fps / 1e9 + .01)
        taken = slot != self._slot
        self._slot = slot
        return taken


class GapAttempts:
    """
    Attempts told by pauses.

    :param gap_ns: None: the whole source is one attempt.
    """

    def __init__(self, gap_ns: float | None) -> None:
        self._gap_ns = math.inf if gap_ns is None else gap_ns
        self._previous: int | None = None
        self._number = 0

    def at(self, elapsed_ns: int) -> str:
        """Take the next frame's time; return its attempt."""
        if self._previous is not None and elapsed_ns - self._previous > self._gap_ns:
            self._number += 1
        self._previous = elapsed_ns
        return str(self._number)
