"""Journal of an unfinished extraction: an append-only file from which it can be continued."""

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
    A frame whose file has been written; further fields as in ``ManifestRow``.

    :ivar number: position among all frames of its source, from 0.
    :ivar label: integer value of its ``Label``.
    :ivar split: train, val or test, where its source says so; else ''.
    :ivar origin: as in ``ManifestRow``.
    """

    number: int
    file: str
    sha256: str
    label: int
    topic: str
    stamp_ns: int
    attempt: str
    split: str = ''
    origin: str = ''


class BatchResult(NamedTuple):
    """
    The written and the refused frames of a batch of frames of one source.

    :ivar source: name of the source.
    :ivar refused: (number, reason) of each frame that cannot be decoded.
    :ivar wrong_chunks: (index of the file, offset) of chunks whose checksums are wrong.
    """

    source: str
    written: list[ExtractedFrame]
    refused: list[tuple[int, str]]
    wrong_chunks: list[tuple[int, int]]


@dataclass
class SourceProgress:
    """
    Results of a source's batches so far.

    :ivar written: written frames, by number.
    :ivar refused: reasons of refused frames, by number.
    :ivar wrong_chunks: (index of the file, offset) of chunks whose checksums are wrong.
    :ivar summary: counts of the source's frames and faults; None until the source is finished.
    """

    written: dict[int, ExtractedFrame] = field(default_factory=dict)
    refused: dict[int, str] = field(default_factory=dict)
    wrong_chunks: set[tuple[int, int]] = field(default_factory=set)
    summary: dict[str, Any] | None = None


class Journal:
    """
    The file ``extraction.jsonl``: a line for the plan, each batch and each finished source.

    :ivar sources: progress of each source, by name.
    """

    @classmethod
    @contextmanager
    def open(cls, folder: Path, plan: Mapping[str, Any]) -> 'Iterator[Journal]':
        """
        Begin or continue the journal of a data set in a block, locked against other processes.

        :param plan: all options that affect the frames; a journal of other options is refused.
        :raises DatasetError: the journal is damaged, in use, or of an extraction by another plan.
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
        """Append a line: the fields of a BatchResult, or a ``source`` and its summary ``done``."""
        self._append(line)
        self._take(line)

    @property
    def has_frames(self) -> bool:
        """Return whether any frame was written."""
        return any(progress.written for progress in self.sources.values())

    def remove(self) -> None:
        """Delete the journal, once the data set is finished or if it has no frame."""
        self._path.unlink(missing_ok=True)
        self._file.close()

    def _append(self, line: Mapping[str, Any]) -> None:
        data = memoryview(json.dumps(line, separators=(',', ':')).encode() + b'\n')
        while data:     # a disk that fills up accepts a part and refuses the rest at the next call
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
    """Describe the options in which two plans differ, such as ``fps 5 (now 10)``."""
    texts = []
    for name in {**old, **new}:
        before, now = old.get(name), new.get(name)
        if isinstance(before, dict) and isinstance(now, dict):
            texts.append(differences(before, now))
        elif before != now:
            texts.append('{} {} (now {})'.format(name, *_unlike_parts(
                json.dumps(before), json.dumps(now))))
    return ', '.join(filter(None, texts))


def _unlike_parts(before: str, now: str) -> Iterator[str]:
    """Yield the first 60 characters of two texts, of long ones from shortly before they differ."""
    alike = len(os.path.commonprefix((before, now)))
    start = max(alike - 20, 0) if max(len(before), len(now)) > 60 else 0
    for text in (before, now):
        part = text[start:start + 60]
        yield f'{"..." * (start > 0)}{part}{"..." * (start + 60 < len(text))}'
