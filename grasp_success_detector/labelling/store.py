"""The labels of all sources on the disk: every action is in the journal before it counts."""

from collections.abc import Callable, Mapping
import errno
from pathlib import Path
from threading import RLock
from typing import Any, NamedTuple, Protocol
from zlib import crc32

from grasp_success_detector.errors import LabellingError
from grasp_success_detector.files import write_whole
from grasp_success_detector.labelling.cutting import Cuts
from grasp_success_detector.labelling.journal import Journal
from grasp_success_detector.labelling.marks import Mark, SourceMarks

#: Errors of writing that end when there is room on the disk again.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class LabelFile(Protocol):
    """Format of the label file."""

    def text(self, sources: Mapping[str, SourceMarks], unlabelled: bool = False) -> str:
        """
        Return the text of the file with the labels of these sources.

        :param unlabelled: also give the attempts without labels, with an empty label.
        """

    def take_over(self, key: str, marks: SourceMarks) -> str | None:
        """
        Label a source as the file did before; its rows are no longer kept as they were.

        :returns: by what the file cuts the source into attempts; None if it does not.
        """


class NoRoomError(LabellingError):
    """An action was not taken, as it could not be written; everything before it is on the disk."""


class _Done(NamedTuple):
    source: str
    inverse: Mapping[str, Any]


class LabelStore:
    """
    Labels and cuts of sources; its methods may be called from any thread.

    :param path: the label file; it is written whole after each action.
    :param journal: open journal of this file, whose records are carried out again.
    :param label_file: format of the file.
    :raises LabellingError: the file was changed since the journal's last record.
    :ivar sources: marks of the sources that were added, by key (:meth:`add_source`).
    :ivar version: grows with every change.
    :ivar lock: held while anything changes.
    """

    def __init__(self, path: Path, journal: Journal, label_file: LabelFile) -> None:
        self._path, self._journal, self._file = path, journal, label_file
        self.lock, self.version = RLock(), 0
        self.sources: dict[str, SourceMarks] = {}
        self._known: dict[str, SourceMarks] = {}
        self._opened: dict[str, list[Mapping[str, Any]]] = {}
        self._done: list[_Done] = []
        records = [record for record in journal.records if record['op'] != 'begin']
        if records and path.exists() and _checksum(path.read_bytes()) not in [
                record['csv'] for record in records[-2:]]:
            raise LabellingError(
                f'{path}: was changed since label_attempts wrote it; move {journal.path.name} '
                'away to go on from the changed file, or choose another --out')
        for record in records:
            self._replay(record)

    @property
    def undoable(self) -> int:
        """Number of actions that can be undone."""
        return sum(done.source in self.sources for done in self._done)

    def attempts_text(self) -> str:
        """Return the text of the label file with the attempts that are not labelled yet."""
        with self.lock:
            return self._file.text(self.sources, unlabelled=True)

    def knows(self, key: str) -> bool:
        """Return whether the journal knows how a source is cut."""
        return key in self._opened

    def add_source(self, key: str, count: int, fingerprint: Callable[[int], int],
                   cut: Callable[[], Cuts], before: Mark | None = Mark.FAILURE) -> str:
        """
        Add a source, as the journal or an earlier label file knows it, else unlabelled.

        :param key: the source's absolute path, by which the journal knows it.
        :param count: number of its frames now.
        :param fingerprint: returns a checksum of its first frames, given their number.
        :param cut: cuts it; called only if nothing is known about it, or it has grown.
        :param before: as :attr:`SourceMarks.before`.
        :returns: by what the source was cut.
        :raises LabellingError: the journal knows other frames under this name.
        :raises OSError: nothing can be written.
        """
        with self.lock:
            for record in (opened := self._opened.get(key, [])):
                if record['frames'] > count or fingerprint(record['frames']) != record['check']:
                    raise LabellingError(
                        f'{key}: is another recording than the one that was labelled into '
                        f'{self._path}, or has lost frames; choose another --out')
            if opened:
                marks, how = self._known[key], str(opened[0]['how'])
                marks.before = before
                self.sources[key] = marks
                self._file.take_over(key, SourceMarks())
                if count > len(marks.marks):
                    self.extend_source(key, count, fingerprint, cut())
            else:
                marks = SourceMarks(before=before)
                marks.extend(count, (0,))
                how = self._file.take_over(key, marks) or ''
                if not how:
                    cuts = cut()
                    how = cuts.how
                    fresh = SourceMarks()
                    fresh.extend(count, cuts.starts, cuts.outside)
                    marks.starts = fresh.starts
                    marks.marks = [new if old == Mark.NONE.value else old
                                   for old, new in zip(marks.marks, fresh.marks, strict=True)]
                self.sources[key] = marks
                self._write_opened(key, fingerprint(count), how, 0)
            self.version += 1
            return how

    def extend_source(self, key: str, count: int, fingerprint: Callable[[int], int],
                      cuts: Cuts) -> None:
        """
        Append the frames by which a source has grown, cut as given where they are new.

        :raises OSError: nothing can be written; the source is as it was.
        """
        with self.lock:
            marks = self.sources[key]
            known = len(marks.marks)
            if count <= known:
                return
            saved = list(marks.marks), list(marks.starts)
            marks.extend(count, cuts.starts, cuts.outside)
            try:
                self._write_opened(key, fingerprint(count), '', known)
            except OSError:
                marks.marks, marks.starts = saved
                raise
            self.version += 1

    def act(self, key: str, action: Callable[[SourceMarks], dict[str, Any]]) -> None:
        """
        Carry out an action of one source; when this returns, it is on the disk.

        :param action: returns the record of the action; may raise LabellingError.
        :raises LabellingError: there is no such source, or the action does not fit it.
        :raises NoRoomError: it could not be written, and was not carried out.
        """
        with self.lock:
            if key not in self.sources:
                raise LabellingError(f'{key}: no such source here')
            marks = self.sources[key]
            record = action(marks) | {'source': key}
            inverse = marks.apply(record)
            self._write(record, lambda: marks.apply(inverse))
            self._done.append(_Done(key, inverse))

    def undo(self) -> tuple[str, int]:
        """
        Undo the latest action that is not undone.

        :returns: source and frame where it was.
        :raises LabellingError: there is none.
        :raises NoRoomError: it could not be written, and was not carried out.
        """
        with self.lock:
            done = next((d for d in reversed(self._done) if d.source in self.sources), None)
            if done is None:
                raise LabellingError('nothing to undo')
            marks = self.sources[done.source]
            again = marks.apply(done.inverse)
            self._write({'op': 'undo', 'source': done.source}, lambda: marks.apply(again))
            self._drop(done.source)
            inverse = done.inverse
            return done.source, inverse['at'] if 'at' in inverse else min(
                [*inverse['add'], *inverse['remove']])

    def _drop(self, key: str) -> _Done:
        """Forget the latest action of a source, and return it."""
        return self._done.pop(max(
            i for i, done in enumerate(self._done) if done.source == key))

    def _replay(self, record: Mapping[str, Any]) -> None:
        key = record['source']
        marks = self._known.setdefault(key, SourceMarks())
        if record['op'] == 'open':
            known = len(marks.marks)
            marks.extend(record['frames'], record['starts'])
            marks.apply({'op': 'label', 'at': known, 'marks': record['marks']})
            self._opened.setdefault(key, []).append(record)
        elif record['op'] == 'undo':
            marks.apply(self._drop(key).inverse)
        else:
            self._done.append(_Done(key, marks.apply(record)))

    def _write(self, record: dict[str, Any], revert: Callable[[], Any]) -> None:
        """Write a record and the label file, or neither."""
        try:
            self._record(record)
        except OSError as error:
            revert()
            room = 'make room on the disk' if error.errno in _NO_ROOM else 'mend this'
            raise NoRoomError(f'not taken: {self._path} cannot be written ({error.strerror}); '
                              f'{room}, then press the key again') from error
        self.version += 1

    def _write_opened(self, key: str, check: int, how: str, known: int) -> None:
        marks = self.sources[key]
        self._record({
            'op': 'open', 'source': key, 'frames': len(marks.marks), 'check': check, 'how': how,
            'starts': [start for start in marks.starts if start >= known],
            'marks': marks.packed(known)})

    def _record(self, record: dict[str, Any]) -> None:
        text = self._file.text(self.sources)
        size = self._journal.append(record | {'csv': _checksum(text)})
        try:
            write_whole(self._path, text, durable=True)
        except BaseException:
            self._journal.cut_back(size)
            raise


def _checksum(text: str | bytes) -> int:
    return crc32(text.encode(errors='surrogateescape') if isinstance(text, str) else text)
