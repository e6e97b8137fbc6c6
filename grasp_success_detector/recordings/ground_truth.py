"""
The label and the attempt of each frame of a recording.

The label comes from one place, which the user chooses: one label for all frames, a CSV file of
labelled intervals, or the messages of a ``std_msgs/Bool`` topic. The attempt comes from the CSV
file, else from the recording's own messages about its attempts, else from pauses between frames.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Mapping, Sequence
import csv
from enum import Enum
from itertools import accumulate, pairwise
import math
from pathlib import Path
from typing import NamedTuple

from grasp_success_detector.errors import DatasetError, quoted
from grasp_success_detector.files import check_regular
from grasp_success_detector.labels import CLASS_NAMES, Label

_COLUMNS = ('source', 'start_s', 'end_s', 'label')
_LARGEST_S = 1e12   #: largest accepted time; 30,000 years


class Interval(NamedTuple):
    """A time interval of a recording in which all frames have one label, or none."""

    start_ns: int           # time since the first frame of the recording, inclusive
    end_ns: int             # time since the first frame of the recording, exclusive
    label: Label | None     # None if the file leaves it empty: the attempt has no label yet
    attempt: str | None     # None if the file does not give it


def read_intervals(path: Path) -> dict[str, list[Interval]]:
    """
    Read a CSV file of labelled intervals.

    :returns: intervals of each source, sorted by time; keys as in the file's column ``source``.
    :raises DatasetError: the file is missing or lacks columns, values are invalid (the error names
        their lines), or intervals of different labels or attempts overlap.
    """
    try:
        check_regular(path)
        with path.open(newline='', encoding='utf-8-sig') as file:
            rows = csv.DictReader(file)
            rows.fieldnames = columns = [name.strip() for name in rows.fieldnames or ()]
            if missing := [name for name in _COLUMNS if name not in columns]:
                raise DatasetError(f'{path}: no column {", ".join(missing)}; expected a CSV with '
                                   f'{",".join(_COLUMNS)}[,attempt]')
            found: dict[str, list[Interval]] = defaultdict(list)
            wrong: list[str] = []
            for row in rows:
                try:
                    found[(row['source'] or '').strip()].append(_interval(row))
                except ValueError as error:
                    wrong.append(f'line {rows.line_num}: {error}')
    except OSError as error:
        raise DatasetError(f'{path}: cannot be read ({error.strerror})') from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f'{path}: cannot be read as a CSV of intervals ({error})') from error
    # By their times alone: attempts that are None cannot be compared.
    for source, intervals in found.items():
        intervals.sort(key=lambda interval: interval[:2])
        wrong += [f'{source}: {a.start_ns / 1e9:g} to {a.end_ns / 1e9:g} s and '
                  f'{b.start_ns / 1e9:g} to {b.end_ns / 1e9:g} s overlap'
                  for a, b in pairwise(intervals)
                  if b.start_ns < a.end_ns and (a.label, a.attempt) != (b.label, b.attempt)]
    if wrong:
        raise DatasetError(f'{path}: ' + '; '.join(wrong[:5])
                           + (f'; and {len(wrong) - 5} more' if len(wrong) > 5 else ''))
    return dict(found)


def holds_intervals(path: Path) -> bool:
    """Return whether a CSV file has the columns of intervals; True too if it cannot be read."""
    try:
        check_regular(path)
        with path.open(newline='', encoding='utf-8-sig') as file:
            return 'source' in [name.strip() for name in next(csv.reader(file), ())]
    except (OSError, UnicodeDecodeError, csv.Error):
        return True


def _interval(row: Mapping[str, str | None]) -> Interval:
    values = {name: (row.get(name) or '').strip() for name in (*_COLUMNS, 'attempt')}
    if not values['source']:
        raise ValueError('no source')
    label = values['label'].lower()
    if label and label not in CLASS_NAMES:
        raise ValueError(f'label {quoted(values["label"])} (expected {" or ".join(CLASS_NAMES)}; '
                         'an empty one leaves the interval out)')
    try:
        start, end = float(values['start_s']), float(values['end_s'])
    except ValueError:
        raise ValueError(f'start_s {quoted(values["start_s"])}, end_s {quoted(values["end_s"])} '
                         '(expected seconds from the first frame)') from None
    if not -_LARGEST_S <= start < end <= _LARGEST_S:
        raise ValueError(f'interval {start} to {end} s (expected start_s below end_s, at most '
                         f'{_LARGEST_S:g})')
    return Interval(round(start * 1e9), round(end * 1e9), Label[label.upper()] if label else None,
                    values['attempt'] or None)


#: A clock that goes back by more, or forward by more than a day, was set anew.
_BACK_NS = 500_000_000
_FORWARD_NS = 86_400 * 10 ** 9


def elapsed_times(received_ns: Sequence[int]) -> tuple[list[int], int]:
    """Return each frame's time since the first one in ns, and how often the clock was set."""
    times, elapsed, behind, jumps = [0] * len(received_ns), 0, 0, 0
    for i in range(1, len(received_ns)):
        step = received_ns[i] - received_ns[i - 1]
        if step < -_BACK_NS or step > _FORWARD_NS:
            jumps += 1
            step = 0
        # After a frame that is slightly out of order, time does not go back.
        step += behind
        behind = min(step, 0)
        elapsed += max(step, 0)
        times[i] = elapsed
    return times, jumps


def attempts_by_pauses(elapsed_ns: Sequence[int], gap_s: float | None) -> list[str]:
    """Return each frame's attempt number; a pause above ``gap_s`` seconds begins the next one."""
    gap_ns = math.inf if gap_s is None else gap_s * 1e9
    pauses = (time - before > gap_ns for before, time in pairwise(elapsed_ns))
    return [str(number) for number in accumulate(pauses, initial=0)][:len(elapsed_ns)]


class AttemptsFrom(str, Enum):
    """By what a recording is cut into attempts."""

    RECORDING = 'recording'     #: messages about attempts, label file or pauses
    DRIVER = 'driver'           #: commands of the hand's driver, else the motion of its joints


class AttemptEvent(NamedTuple):
    """A recorded message which says that an attempt begins or ends."""

    received_ns: int
    begins: bool
    attempt: str


class GroundTruth:
    """
    Label and attempt of each frame of one recording.

    :param label: label of all frames; None to take it from ``intervals`` or ``bools``.
    :param intervals: sorted intervals of the recording; None to take labels from ``bools``.
    :param bools: time of recording in ns and value of each message of the label topic.
    :param hold_ns: how long a message labels later frames; 0: only frames of the same time.
    :param events: messages about attempts; if empty, pauses between frames separate attempts.
    """

    def __init__(self, label: Label | None, intervals: Sequence[Interval] | None,
                 bools: Sequence[tuple[int, bool]], hold_ns: float,
                 events: Sequence[AttemptEvent]) -> None:
        self._label, self._intervals, self._hold_ns = label, intervals, hold_ns
        self._intervals_tell_attempts = any(interval.attempt for interval in intervals or ())
        self._bools = sorted(bools, key=lambda message: message[0])
        self._events = sorted(events, key=lambda event: event.received_ns)

    def label_and_attempt(self, received_ns: int, elapsed_ns: int, pauses_attempt: str,
                          ) -> tuple[Label | None, str | None]:
        """
        Return the label and the attempt of one frame, each None if it has none.

        :param received_ns: time of recording.
        :param elapsed_ns: time since the first frame, from :func:`elapsed_times`.
        :param pauses_attempt: the frame's attempt from :func:`attempts_by_pauses`.
        """
        attempt = self._attempt_by_events(received_ns) if self._events else pauses_attempt
        if self._label is not None:
            return self._label, attempt
        if self._intervals is None:
            return self._label_by_bools(received_ns), attempt
        following = bisect_right(self._intervals, (elapsed_ns, math.inf))
        # Check the two latest that have begun: intervals with the same label may overlap.
        for interval in self._intervals[max(following - 2, 0):following]:
            if interval.start_ns <= elapsed_ns < interval.end_ns:
                return interval.label, interval.attempt or attempt
        if not self._intervals_tell_attempts:
            return None, attempt
        # Between two intervals of one attempt, a frame belongs to that attempt.
        around = self._intervals[max(following - 1, 0):following + 1]
        attempts = {interval.attempt for interval in around}
        return None, attempts.pop() if len(around) == 2 and len(attempts) == 1 else None

    def outside(self, last_ns: int) -> int:
        """Return how many intervals lie before the first frame or after the last one's time."""
        return sum(each.start_ns > last_ns or each.end_ns <= 0 for each in self._intervals or ())

    def _label_by_bools(self, received_ns: int) -> Label | None:
        latest = bisect_right(self._bools, received_ns, key=lambda message: message[0]) - 1
        if latest < 0 or received_ns - self._bools[latest][0] > self._hold_ns:
            return None
        return Label(self._bools[latest][1])

    def _attempt_by_events(self, received_ns: int) -> str | None:
        latest = bisect_right(self._events, received_ns, key=lambda event: event.received_ns) - 1
        # An attempt includes the moment of its end.
        while (latest >= 0 and not self._events[latest].begins
               and self._events[latest].received_ns == received_ns):
            latest -= 1
        event = self._events[latest] if latest >= 0 else None
        return event.attempt if event is not None and event.begins else None
