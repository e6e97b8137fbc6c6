"""Processes that a command starts beside itself: the detector and the bag player."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
import re
import signal
import subprocess
import sys
import tempfile
import time

from grasp_success_detector.errors import GraspSuccessDetectorError
from grasp_success_detector.ros.tools.demo_bag import DemoBag

#: Time in which the detector must load its network (a cold disk, a small machine).
START_TIMEOUT_S = 120.

_COMMANDS = 'grasp_success_detector.cli'

#: Prefix of an error of a command, or of ROS's log: '[ERROR] [1700000000.0] [node]: '.
_LOG_PREFIX = re.compile(r'^(error: |\[[A-Z]+\] \[[\d.]+\] \[[^]]*\]: )')


class ChildError(GraspSuccessDetectorError):
    """A child process failed, ended too early, or did not get ready in time."""


class ChildProcess(subprocess.Popen[bytes]):
    """A command whose output goes to a file, so that it does not disturb the terminal."""

    def __init__(self, arguments: Sequence[str], log: Path) -> None:
        self._log = log
        self._name = arguments[2].rpartition('.')[2]
        with open(log, 'wb') as output:
            super().__init__(arguments, stdout=output, stderr=subprocess.STDOUT)

    def check(self) -> None:
        """
        Check that it still runs.

        :raises ChildError: it has ended; with the last line that it printed.
        """
        if self.poll() is not None:
            raise ChildError(f'{self._name} ended with {self.returncode}: {self._last_line()}')

    def wait_until_ready(self, is_ready: Callable[[], bool], step: Callable[[], None]) -> None:
        """
        Call ``step`` until the process is ready.

        :raises ChildError: it has ended, or START_TIMEOUT_S are over.
        """
        deadline = time.monotonic() + START_TIMEOUT_S
        while not is_ready():
            step()
            self.check()
            if time.monotonic() > deadline:
                raise ChildError(f'{self._name} is not active after {START_TIMEOUT_S:.0f} s: '
                                 f'{self._last_line()}')

    def wait_until_done(self, step: Callable[[], None]) -> None:
        """
        Call ``step`` until the process has ended.

        :raises ChildError: it ended with an error.
        """
        while self.poll() is None:
            step()
        if self.returncode:
            self.check()

    def _last_line(self) -> str:
        """Return the last line that it printed, without the prefix of an error."""
        lines = self._log.read_text(encoding='utf-8', errors='replace').strip().splitlines()
        return _LOG_PREFIX.sub('', lines[-1]) if lines else 'it printed nothing'


@contextmanager
def child_process(arguments: Sequence[str]) -> Iterator[ChildProcess]:
    """Run a module of ours for the block, and end it with the block."""
    with tempfile.TemporaryDirectory(prefix='grasp_child_') as folder:
        child = ChildProcess([sys.executable, '-m', *arguments], Path(folder) / 'log')
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


def detector_command(bag: DemoBag, checkpoint: str | None) -> list[str]:
    """Return the command of a detector that subscribes to a bag's frames."""
    transport, name = ('compressed', 'image/compressed') if bag.compressed else ('raw', 'image')
    arguments = [f'{_COMMANDS}.detector_node', '--ros-args', '-r', f'{name}:={bag.topic}',
                 '-p', f'image_transport:={transport}']
    # Quoted: rcl reads the value as YAML, where 1 would be a number.
    return arguments + (['-p', f"checkpoint:='{Path(checkpoint).resolve()}'"]
                        if checkpoint else [])


def player_command(bag: DemoBag, rate: float) -> list[str]:
    """Return the command that plays a bag once detector and caller subscribe to its frames."""
    return [f'{_COMMANDS}.play_bag', str(bag.path), '--rate', str(rate), '--wait-for', bag.topic,
            '--subscribers', '2', '--wait', '20']
