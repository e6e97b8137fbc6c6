"""Processes that a command starts beside itself, such as the detector and the bag player."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
import re
import signal
import subprocess
import sys
import tempfile

from grasp_success_detector.errors import GraspSuccessDetectorError

#: Time in which the detector must load its network (a cold disk, a small machine).
START_TIMEOUT_S = 120.

#: Prefix of an error of a command, or of ROS's log: '[ERROR] [1700000000.0] [node]: '.
_LOG_PREFIX = re.compile(r'^(error: |\[[A-Z]+\] \[[\d.]+\] \[[^]]*\]: )')


class ChildError(GraspSuccessDetectorError):
    """A child process failed, ended too early, or did not get ready in time."""


class ChildProcess(subprocess.Popen[bytes]):
    """A command of ours whose output goes to a file, so that it does not disturb the terminal."""

    def __init__(self, command: str, arguments: Sequence[str], log: Path) -> None:
        self._command, self._log = command, log
        with open(log, 'wb') as output:
            super().__init__(
                [sys.executable, '-m', f'grasp_success_detector.cli.{command}', *arguments],
                stdout=output, stderr=subprocess.STDOUT)

    def error(self, what: str | None = None) -> ChildError:
        """
        Return an error that ends with the last line that the process printed.

        :param what: what is wrong; None: the process has ended.
        """
        lines = self._log.read_text(encoding='utf-8', errors='replace').strip().splitlines()
        last = _LOG_PREFIX.sub('', lines[-1]) if lines else 'it printed nothing'
        return ChildError(f'{self._command} {what or f"ended with {self.returncode}"}: {last}')


@contextmanager
def child_process(command: str, arguments: Sequence[str]) -> Iterator[ChildProcess]:
    """Run a command of ours for the block, and end it with the block."""
    with tempfile.TemporaryDirectory(prefix='grasp_child_') as folder:
        child = ChildProcess(command, arguments, Path(folder) / 'log')
        try:
            yield child
        finally:
            end(child)


def end(process: subprocess.Popen[bytes], patience_s: float = 5.) -> None:
    """Interrupt a process as Ctrl-C does, and kill it if it does not end; it may have ended."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(timeout=patience_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
