"""What an unfinished extraction has done so far: a file that only grows, so that it can go on."""

from collections.abc import Mapping
from dataclasses import dataclass, field
import fcntl
import json
from pathlib import Path
from typing import Any, BinaryIO

from grasp_success_detector.datasets.frame_writer import BatchResult
from grasp_success_detector.datasets.manifest import JOURNAL
from grasp_success_detector.errors import DatasetError


@dataclass
class Progress:
    """
    What is done of one source.

    :ivar rows: manifest columns of each written frame, by index.
    :ivar wrong_chunks: (file, offset) of chunks whose checksums are wrong.
    :ivar summary: what is known of the source once all of it is done; else None.
    """

    rows: dict[int, tuple[Any, ...]] = field(default_factory=dict)
    refused: dict[int, str] = field(default_factory=dict)
    wrong_chunks: set[tuple[int, int]] = field(default_factory=set)
    summary: dict[str, Any] | None = None


class Journal:
    """
    The file ``extraction.jsonl``: one line for the plan, one for each batch and each source.

    :param folder: the data set.
    :param plan: what decides the content of the frames; only the same plan is continued.
    :raises DatasetError: another plan was begun here, or another process is at work.
    """

    def __init__(self, folder: Path, plan: Mapping[str, Any]) -> None:
        self._path = folder / JOURNAL
        self.sources: dict[str, Progress] = {}
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
        end = text.rfind(b'\n') + 1
        lines = text[:end].splitlines()
        begun = len(lines) > 1
        try:
            old = json.loads(lines[0])['plan'] if lines else None
            if begun and old != plan:
                raise DatasetError(f'{folder}: holds a data set begun with '
                                   f'{differences(old or {}, plan)}'
                                   '; run that command again or choose another --out')
            for line in lines[1:] if begun else ():
                self._take(json.loads(line))
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise DatasetError(f'{self._path}: damaged ({error}); delete {folder} to begin anew'
                               ) from error
        # The last line may be cut off by the end of the process that wrote it.
        self._file.truncate(end if begun else 0)
        if not begun:
            self._append({'plan': plan})

    def progress(self, source: str) -> Progress:
        """Return what is done of a source."""
        return self.sources.setdefault(source, Progress())

    def add_batch(self, source: str, result: BatchResult,
                  rows: Mapping[int, tuple[Any, ...]]) -> None:
        """
        Record a batch whose files are written.

        :param rows: label, topic, stamp_ns and attempt of each frame, by index.
        """
        line = {'source': source,
                'written': [[*frame, *rows[frame.number]] for frame in result.written],
                'refused': [[frame.number, frame.reason] for frame in result.refused],
                'wrong_chunks': sorted(result.wrong_chunks)}
        self._append(line)
        self._take(line)

    def add_source(self, source: str, summary: Mapping[str, Any]) -> None:
        """Record that all of a source is done."""
        line = {'source': source, 'done': dict(summary)}
        self._append(line)
        self._take(line)

    def close(self) -> None:
        """Give the data set free for others."""
        self._file.close()

    def remove(self) -> None:
        """Delete the journal: the data set is complete, or nothing came of it."""
        self._path.unlink(missing_ok=True)
        self.close()

    def _append(self, line: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(line, separators=(',', ':')).encode() + b'\n')

    def _take(self, line: Mapping[str, Any]) -> None:
        progress = self.progress(line['source'])
        for index, *row in line.get('written', ()):
            progress.rows[index] = tuple(row)
        for index, reason in line.get('refused', ()):
            progress.refused[index] = reason
        progress.wrong_chunks |= {(file, at) for file, at in line.get('wrong_chunks', ())}
        if 'done' in line:
            progress.summary = line['done']


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Say in which options an older plan differs, as ``fps 5 (now 10)``."""
    return ', '.join(f'{name} {_short(old.get(name))} (now {_short(new.get(name))})'
                     for name in {**old, **new} if old.get(name) != new.get(name))


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f'{text[:57]}...'
