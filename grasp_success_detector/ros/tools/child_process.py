"""Child processes of a command, such as the detector and the bag player."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
import re
import signal
import subprocess
import sys
import tempfile

from grasp_success_detector.errors import GraspSuccessDetectorError

#: Time-out for the detector to load its network, even on a slow machine, seconds.
START_TIMEOUT_S = 120.

#: Prefix of an error of a command, or of ROS's log: '[ERROR] [1700000000.0] [node]: '.
_LOG_PREFIX = re.compile(r'^(error: |\[[A-Z]+\] \[[\d.]+\] \[[^]]*\]: )')


class ChildError(GraspSuccessDetectorError):
    """A child process failed, ended too early, or was not ready in time."""


class ChildProcess(subprocess.Popen[bytes]):
    """A command of this package, as a child process whose output goes to the file ``log``."""

    def __init__(self, command: str, arguments: Sequence[str], log: Path) -> None:
        self._command, self._log = command, log
        with open(log, 'wb') as output:
            super().__init__(
                [sys.executable, '-m', f'grasp_success_detector.cli.{command}', *arguments],
                stdout=output, stderr=subprocess.STDOUT)

    def error(self, what: str | None = None) -> ChildError:
        """
        Return an error that ends with the last line that the process printed.

        :param what: what is wrong; if None, that the process has ended, with its exit code.
        """
        lines = self._log.read_text(encoding='utf-8', errors='replace').strip().splitlines()
        last = _LOG_PREFIX.sub('', lines[-1]) if lines else 'it printed nothing'
        return ChildError(f'{self._command} {what or f"ended with {self.returncode}"}: {last}')


@contextmanager
def child_process(command: str, arguments: Sequence[str]) -> Iterator[ChildProcess]:
    """Run a command of this package during the block, and end it afterwards."""
    with tempfile.TemporaryDirectory(prefix='grasp_child_') as folder:
        child = ChildProcess(command, arguments, Path(folder) / 'log')
        try:
            yield child
        finally:
            end(child)


def end(process: subprocess.Popen[bytes], patience_s: float = 5.) -> None:
    """Send SIGINT to a process, which may have ended, and kill it after ``patience_s``."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(timeout=patience_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
