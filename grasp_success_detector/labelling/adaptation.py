"""Adapt the checkpoint to the labels so far, in a process of its own, again and again."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
import os
from pathlib import Path
import signal
import subprocess
import sys
import tempfile
from threading import Condition, Thread
from typing import Any

from grasp_success_detector.errors import one_line
from grasp_success_detector.files import read_json, write_whole
from grasp_success_detector.labelling import BACKGROUND
from grasp_success_detector.labelling.material import Material

#: The checkpoint is adapted again after this many more labelled attempts or pictures.
EVERY = 10

#: The last layer alone: seconds, where the comparison with other ways takes a minute or more.
_WAYS = ('--ways', 'head')

#: Runs the command at low priority, and ends it with its parent (1 is Linux' PR_SET_PDEATHSIG).
_PROGRAM = f"""
import ctypes, os, sys
os.nice(10)
ctypes.CDLL(None).prctl(1, {int(signal.SIGTERM)})
from grasp_success_detector.cli.adapt_classifier import main
sys.exit(main(sys.argv[1:]))
"""


@dataclass(frozen=True)
class Adapted:
    """
    A finished adaptation.

    :ivar report: content of the file ``.adaptation.json``.
    :ivar labelled: number of labels that it was made from.
    """

    checkpoint: Path
    report: dict[str, Any]
    labelled: int

    def recommended(self, materials: Mapping[str, Material]) -> list[tuple[str, int]]:
        """Return key and a frame of the attempts from which it would learn most, in order."""
        found = []
        for entry in self.report.get('label_next') or []:
            for key, material in materials.items():
                source = material.source
                if entry.get('source') not in (
                        str(source.path), source.path.name, source.name, source.path.stem):
                    continue
                if not material.attempts:
                    middle = (float(entry.get('start_s') or 0) + float(
                        entry.get('end_s') or 0)) * 5e8
                    times = material.elapsed_ns
                    found.append((key, min(range(len(times)),
                                           key=lambda i: abs(times[i] - middle))))
                    break
                named = str(entry.get('attempt')).removeprefix(f'{source.name}/')
                if named in material.attempts:
                    found.append((key, material.attempts.index(named)))
                    break
        return found


class Adapter:
    """
    Adapts in the background, one run at a time; a failed run is a line of text and nothing more.

    :param checkpoint: checkpoint to start from.
    :param data: sources, as given to the command.
    :param labels: the label file, beside which the results lie.
    :param text: returns its content, with the attempts that are not labelled yet.
    :param options: further options of ``adapt_classifier``.
    :param on_adapted: called in the background with each result.
    :ivar running: number of labels of the run in progress; 0: none.
    :ivar failure: why the latest run failed; '' if it did not.
    :ivar latest: the latest result; None before the first.
    :ivar thread: the thread that waits for the runs.
    """

    def __init__(self, checkpoint: Path, data: Sequence[str], labels: Path,
                 text: Callable[[], str], options: Sequence[str],
                 on_adapted: Callable[[Adapted], None]) -> None:
        self._checkpoint, self._data, self._labels = checkpoint, data, labels
        self._text, self._options, self._on_adapted = text, options, on_adapted
        self.running, self.failure = 0, ''
        self.latest: Adapted | None = None
        self._wanted, self._tried, self._ended = 0, 0, False
        self._process: subprocess.Popen[str] | None = None
        self._changed = Condition()
        self.thread = Thread(target=self._run, name=f'{BACKGROUND}adaptation', daemon=True)
        self.thread.start()

    @property
    def out(self) -> Path:
        """The adapted checkpoint, beside the label file."""
        return self._labels.with_name(self._labels.stem + '.adapted.safetensors')

    def labelled(self, count: int) -> None:
        """Tell the number of labels; a run begins after each ``EVERY`` more of them."""
        with self._changed:
            if count // EVERY > self._tried // EVERY:
                self._wanted = count
                self._changed.notify_all()

    def close(self) -> None:
        """End the run in progress."""
        with self._changed:
            self._ended = True
            if self._process is not None:
                self._process.kill()    # at once; what it has begun lies in a folder that goes
            self._changed.notify_all()

    def _run(self) -> None:
        # The process is started by this thread, which lives as long as the server: Linux ends it
        # when the thread does that started it.
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._ended or self._wanted > self._tried)
                if self._ended:
                    return
                self._tried = self.running = self._wanted
            try:
                failure = self._adapt(self.running)
            except (OSError, ValueError) as error:
                failure = one_line(error)
            self.failure, self.running = failure, 0

    def _adapt(self, labelled: int) -> str:
        """Run the command once; return why it failed, '' if it did not."""
        with tempfile.TemporaryDirectory(
                dir=self._labels.parent, prefix=f'.{self._labels.name}.adapt-') as name:
            folder = Path(name)
            labels, new = folder / self._labels.name, folder / self.out.name
            write_whole(labels, self._text())
            with self._changed:
                if self._ended:
                    return ''
                self._process = subprocess.Popen(
                    [sys.executable, '-c', _PROGRAM, '--labels', str(labels), '--out', str(new),
                     *_WAYS, *self._options, '--', str(self._checkpoint), *self._data],
                    stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                    encoding='utf-8', errors='replace', start_new_session=True)
            _, errors = self._process.communicate()
            if self._process.returncode:
                lines = errors.strip().splitlines() or [f'exit code {self._process.returncode}']
                return lines[-1].removeprefix('error: ')[:300]
            report = read_json(new.with_suffix('.adaptation.json'))
            for file in sorted(folder.iterdir()):
                if file != labels:
                    os.replace(file, self._labels.with_name(file.name))
        self.latest = Adapted(self.out, report, labelled)
        self._on_adapted(self.latest)
        return ''
