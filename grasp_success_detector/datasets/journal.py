"""The journal of an unfinished extraction: a file that only grows, from which it goes on."""

from collections.abc import Mapping
from dataclasses import dataclass, field
import fcntl
import json
import os
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from grasp_success_detector.datasets.dataset import JOURNAL
from grasp_success_detector.errors import DatasetError


class ExtractedFrame(NamedTuple):
    """
    A frame whose file is written: a row of the journal, later one of the manifest.

    :ivar number: among all frames of its source, from 0.
    :ivar file: path relative to the data set's folder.
    :ivar label: value of a ``Label``.
    """

    number: int
    file: str
    sha256: str
    label: int
    topic: str
    stamp_ns: int
    attempt: str


class BatchResult(NamedTuple):
    """
    What became of each frame of a batch.

    :ivar source: name of the source that the batch is from.
    :ivar refused: number of each frame that cannot be written, and the reason.
    :ivar wrong_chunks: (file, offset) of chunks whose checksums are wrong.
    """

    source: str
    written: list[ExtractedFrame]
    refused: list[tuple[int, str]]
    wrong_chunks: set[tuple[int, int]]


@dataclass
class SourceProgress:
    """
    What is done of one source.

    :ivar written: by the frame's number.
    :ivar refused: the reason, by the frame's number.
    :ivar wrong_chunks: (file, offset) of chunks whose checksums are wrong.
    :ivar summary: account of the whole source; None while some of it is still to be done.
    """

    written: dict[int, ExtractedFrame] = field(default_factory=dict)
    refused: dict[int, str] = field(default_factory=dict)
    wrong_chunks: set[tuple[int, int]] = field(default_factory=set)
    summary: dict[str, Any] | None = None


class Journal:
    """
    The file ``extraction.jsonl``: one line for the plan, one for each batch and each source.

    It is locked until it is closed. What is in it is read at once.

    :ivar sources: progress of each source, by name.
    :param folder: the data set's folder.
    :param plan: what decides the content of the frames; only the same plan is continued.
    :raises DatasetError: another plan was begun here, or another process is at work.
    :raises OSError: the file cannot be written.
    """

    def __init__(self, folder: Path, plan: Mapping[str, Any]) -> None:
        self._path = folder / JOURNAL
        self.sources: dict[str, SourceProgress] = {}
        self._file: BinaryIO = self._path.open('ab+', 0)
        try:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise DatasetError(f'{folder}: another extract_frames is writing it') from error
            self._read(folder, plan)
        except BaseException:
            self._file.close()
            raise

    def _read(self, folder: Path, plan: Mapping[str, Any]) -> None:
        self._file.seek(0)
        text = self._file.read()
        # The last line may be cut off: by the end of the process that wrote it, or a full disk.
        end = text.rfind(b'\n') + 1
        lines = text[:end].splitlines()
        begun = len(lines) > 1
        try:
            old = json.loads(lines[0])['plan'] if begun else plan
            if old != plan:
                raise DatasetError(f'{folder}: holds a data set begun with '
                                   f'{differences(old, plan)}'
                                   '; run that command again or choose another --out')
            for line in lines[1:]:
                self._take(json.loads(line))
        except (ValueError, KeyError, TypeError) as error:
            raise DatasetError(f'{self._path}: damaged ({error}); delete {folder} to begin anew'
                               ) from error
        self._file.truncate(end if begun else 0)
        if not begun:
            self._append({'plan': plan})

    def progress(self, source: str) -> SourceProgress:
        """Return what is done of a source."""
        return self.sources.setdefault(source, SourceProgress())

    def add_batch(self, result: BatchResult) -> None:
        """Record a batch whose files are written."""
        self._add({'source': result.source, 'written': result.written, 'refused': result.refused,
                   'wrong_chunks': sorted(result.wrong_chunks)})

    def add_source(self, source: str, summary: Mapping[str, Any]) -> None:
        """Record that all of a source is done."""
        self._add({'source': source, 'done': dict(summary)})

    @property
    def has_frames(self) -> bool:
        """Return whether any frame was written."""
        return any(progress.written for progress in self.sources.values())

    def close(self) -> None:
        """Let other processes continue the data set."""
        self._file.close()

    def remove(self) -> None:
        """Delete the journal: the data set is complete, or nothing came of it."""
        self._path.unlink(missing_ok=True)
        self.close()

    def _add(self, line: Mapping[str, Any]) -> None:
        self._append(line)
        self._take(line)

    def _append(self, line: Mapping[str, Any]) -> None:
        data = memoryview(json.dumps(line, separators=(',', ':')).encode() + b'\n')
        while data:     # a disk that fills up takes a part and refuses the rest the next time
            data = data[os.write(self._file.fileno(), data):]

    def _take(self, line: Mapping[str, Any]) -> None:
        progress = self.progress(line['source'])
        for row in line.get('written', ()):
            frame = ExtractedFrame(*row)
            progress.written[frame.number] = frame
        progress.refused |= dict(line.get('refused', ()))
        progress.wrong_chunks |= {(file, at) for file, at in line.get('wrong_chunks', ())}
        progress.summary = line.get('done', progress.summary)


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Return the options in which two plans differ, such as ``fps 5 (now 10)``."""
    return ', '.join(f'{name} {_short(old.get(name))} (now {_short(new.get(name))})'
                     for name in {**old, **new} if old.get(name) != new.get(name))


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f'{text[:57]}...'
