"""Labels and cuts of one source, and the actions that change them and can be undone."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from itertools import groupby, pairwise
from typing import Any, NamedTuple

from grasp_success_detector.errors import LabellingError
from grasp_success_detector.labels import Label


class Mark(str, Enum):
    """What a frame was labelled as; the values are the keys on the page."""

    SUCCESS = 's'
    FAILURE = 'f'
    LEFT_OUT = 'u'
    NONE = '.'      #: not labelled yet

    @property
    def label(self) -> Label | None:
        """The label in the file; None if the frame gets none."""
        return {Mark.SUCCESS: Label.SUCCESS, Mark.FAILURE: Label.FAILURE}.get(self)


class Span(NamedTuple):
    """An attempt: its first frame, and the frame after its last."""

    start: int
    end: int


@dataclass
class SourceMarks:
    """
    Labels and cuts of one source.

    :ivar marks: the mark of each frame, as values of :class:`Mark`.
    :ivar starts: index of the first frame of each attempt, ascending; the first is 0.
    :ivar before: mark of frames that are not labelled when a later one of their attempt is; None:
        the same as the later one's. In a recording the hand is still on its way in these frames.
    """

    marks: list[str] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    before: Mark | None = Mark.FAILURE

    def spans(self) -> Iterator[Span]:
        """Yield all attempts in order."""
        yield from (Span(*bounds) for bounds in pairwise([*self.starts, len(self.marks)]))

    def span_at(self, frame: int) -> Span:
        """Return the attempt of a frame."""
        number = bisect_right(self.starts, frame) - 1
        end = self.starts[number + 1] if number + 1 < len(self.starts) else len(self.marks)
        return Span(self.starts[number], end)

    def mark_of(self, span: Span) -> Mark:
        """
        Return the mark that an attempt counts by.

        It is that of its last labelled frame, ``NONE`` while a frame is not labelled, and
        ``LEFT_OUT`` if all frames are left out.
        """
        marks = self.marks[span.start:span.end]
        if Mark.NONE.value in marks:
            return Mark.NONE
        return Mark(next((mark for mark in reversed(marks) if mark != Mark.LEFT_OUT.value),
                         Mark.LEFT_OUT.value))

    def counts(self) -> Counter[Mark]:
        """Return the number of attempts of each mark."""
        return Counter(self.mark_of(span) for span in self.spans())

    def runs(self, unlabelled: bool = False) -> Iterator[tuple[Span, Label | None, int]]:
        """
        Yield the successive frames of one label in one attempt, with the attempt's number.

        :param unlabelled: also yield frames that are not labelled yet, with None.
        """
        for number, span in enumerate(self.spans(), 1):
            for mark, group in groupby(range(span.start, span.end), lambda i: self.marks[i]):
                frames = list(group)
                label = Mark(mark).label
                if label is not None or (unlabelled and mark == Mark.NONE.value):
                    yield Span(frames[0], frames[-1] + 1), label, number

    # Actions: each checks its arguments, and returns a record for the journal.

    def label_from(self, span: Span, frame: int, mark: Mark) -> dict[str, Any]:
        """Label the frames of an attempt from one frame on."""
        self._check(span)
        if not span.start <= frame < span.end:
            raise LabellingError(f'frame {frame} is not in the attempt')
        first = mark if self.before is None or mark is Mark.LEFT_OUT else self.before
        text = ''.join(first.value if old == Mark.NONE.value else old
                       for old in self.marks[span.start:frame])
        return {'op': 'label', 'at': span.start,
                'marks': _packed(text + mark.value * (span.end - frame))}

    def split(self, span: Span, frame: int) -> dict[str, Any]:
        """Begin another attempt at a frame."""
        self._check(span)
        if not span.start < frame < span.end:
            raise LabellingError('an attempt cannot be split before its first frame; go to the '
                                 'frame that begins the next attempt')
        return {'op': 'cuts', 'add': [frame], 'remove': []}

    def join(self, span: Span) -> dict[str, Any]:
        """Join an attempt to the one before it."""
        self._check(span)
        if span.start == 0:
            raise LabellingError('the first attempt has none before it to be joined to')
        return {'op': 'cuts', 'add': [], 'remove': [span.start]}

    def begin_at(self, span: Span, frame: int) -> dict[str, Any]:
        """Give the frames of an attempt before this one to the attempt before it."""
        self._check(span)
        if span.start == 0:
            raise LabellingError('the first attempt cannot begin later; split it, and leave its '
                                 'first part out')
        if not span.start < frame < span.end:
            raise LabellingError('the attempt begins here already')
        return {'op': 'cuts', 'add': [frame], 'remove': [span.start]}

    def end_at(self, span: Span, frame: int) -> dict[str, Any]:
        """Give the frames of an attempt after this one to the attempt after it."""
        self._check(span)
        if span.end == len(self.marks):
            raise LabellingError('the last attempt cannot end earlier; split it, and leave its '
                                 'last part out')
        if not span.start <= frame < span.end - 1:
            raise LabellingError('the attempt ends here already')
        return {'op': 'cuts', 'add': [frame + 1], 'remove': [span.end]}

    def _check(self, span: Span) -> None:
        if span.start not in self.starts or self.span_at(span.start) != span:
            raise LabellingError('the attempt was changed meanwhile, or in another tab; it is '
                                 'shown as it is now')

    # Records

    def apply(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Carry out a record of an action, and return the record that undoes it."""
        if record['op'] == 'label':
            at, new = record['at'], _unpacked(record['marks'])
            old = self.marks[at:at + len(new)]
            self.marks[at:at + len(new)] = new
            return {'op': 'label', 'at': at, 'marks': _packed(old)}
        self.starts = sorted({*self.starts, *record['add']} - {*record['remove']})
        return {'op': 'cuts', 'add': record['remove'], 'remove': record['add']}

    def packed(self, start: int) -> list[list[Any]]:
        """Return the marks from a frame on, as records hold them."""
        return _packed(self.marks[start:])

    def extend(self, count: int, starts: Iterable[int], outside: Iterable[int] = ()) -> None:
        """Append frames without labels up to ``count``; some attempts are left out at once."""
        known = len(self.marks)
        self.marks += [Mark.NONE.value] * (count - known)
        self.starts = sorted({*self.starts, *(start for start in starts if start >= known)} | {0})
        for start in outside:
            if start >= known:
                span = self.span_at(start)
                self.marks[span.start:span.end] = (
                    [Mark.LEFT_OUT.value] * (span.end - span.start))


def _packed(marks: Iterable[str]) -> list[list[Any]]:
    """Return marks as pairs of mark and count: attempts have few runs of many frames."""
    return [[mark, len(list(group))] for mark, group in groupby(marks)]


def _unpacked(runs: Iterable[tuple[str, int]]) -> list[str]:
    return [Mark(mark).value for mark, count in runs for _ in range(count)]
