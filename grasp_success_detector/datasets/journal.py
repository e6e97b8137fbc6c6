"""The journal of an unfinished extraction: a file that only grows, from which it goes on."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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

    :ivar source: name of its source.
    :ivar refused: number of each frame that cannot be written, and the reason.
    :ivar wrong_chunks: (file, offset) of chunks whose checksums are wrong.
    """

    source: str
    written: list[ExtractedFrame]
    refused: list[tuple[int, str]]
    wrong_chunks: list[tuple[int, int]]


@dataclass
class SourceProgress:
    """
    Results of a source's batches so far, by the frame's number.

    :ivar summary: account of the whole source; None while some of it is still to be done.
    """

    written: dict[int, ExtractedFrame] = field(default_factory=dict)
    refused: dict[int, str] = field(default_factory=dict)
    wrong_chunks: set[tuple[int, int]] = field(default_factory=set)
    summary: dict[str, Any] | None = None


class Journal:
    """
    The file ``extraction.jsonl``: one line for the plan, one for each batch and each source.

    :ivar sources: progress of each source, by name.
    """

    @classmethod
    @contextmanager
    def open(cls, folder: Path, plan: Mapping[str, Any]) -> 'Iterator[Journal]':
        """
        Begin or continue the journal of a data set, locked against other processes.

        :param plan: what decides the content of the frames; only the same plan is continued.
        :raises DatasetError: another plan was begun here, or another process is at work.
        :raises OSError: the file cannot be written.
        """
        with (folder / JOURNAL).open('ab+', 0) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise DatasetError(f'{folder}: another extract_frames is writing it') from error
            yield cls(file, folder, plan)

    def __init__(self, file: BinaryIO, folder: Path, plan: Mapping[str, Any]) -> None:
        self._file, self._path = file, folder / JOURNAL
        self.sources: defaultdict[str, SourceProgress] = defaultdict(SourceProgress)
        file.seek(0)
        text = file.read()
        # The last line may be cut off: by the end of the process that wrote it, or a full disk.
        end = text.rfind(b'\n') + 1
        lines = text[:end].splitlines()
        if len(lines) < 2:
            file.truncate(0)
            self._append({'plan': plan})
            return
        try:
            records = map(json.loads, lines)
            if different := differences(next(records)['plan'], plan):
                raise DatasetError(f'{folder}: holds a data set begun with {different}; run that '
                                   'command again or choose another --out')
            for record in records:
                self._take(record)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DatasetError(f'{self._path}: damaged ({error}); delete {folder} to begin anew'
                               ) from error
        file.truncate(end)

    def add(self, line: Mapping[str, Any]) -> None:
        """Record the fields of a BatchResult, or the summary (``done``) of a ``source``."""
        self._append(line)
        self._take(line)

    @property
    def has_frames(self) -> bool:
        """Return whether any frame was written."""
        return any(progress.written for progress in self.sources.values())

    def remove(self) -> None:
        """Delete the journal: the data set is complete, or has no frame."""
        self._path.unlink(missing_ok=True)
        self._file.close()

    def _append(self, line: Mapping[str, Any]) -> None:
        data = memoryview(json.dumps(line, separators=(',', ':')).encode() + b'\n')
        while data:     # a disk that fills up takes a part and refuses the rest the next time
            data = data[os.write(self._file.fileno(), data):]

    def _take(self, line: Mapping[str, Any]) -> None:
        progress = self.sources[line['source']]
        for row in line.get('written', ()):
            frame = ExtractedFrame(*row)
            progress.written[frame.number] = frame
        progress.refused |= dict(line.get('refused', ()))
        progress.wrong_chunks |= {(file, at) for file, at in line.get('wrong_chunks', ())}
        progress.summary = line.get('done', progress.summary)


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Return the options in which two plans differ, such as ``fps 5 (now 10)``."""
    texts = {name: [text if len(text) <= 60 else f'{text[:57]}...' for text in (
        json.dumps(old.get(name)), json.dumps(new.get(name)))]
             for name in {**old, **new} if old.get(name) != new.get(name)}
    return ', '.join(f'{name} {before} (now {now})' for name, (before, now) in texts.items())
