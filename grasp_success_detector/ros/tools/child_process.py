"""Processes that a command starts beside itself: the detector, the player."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
import re
import signal
import subprocess
import sys
import tempfile

from grasp_success_detector.errors import GraspSuccessDetectorError
from grasp_success_detector.ros.tools.demo_bag import DemoBag

_COMMANDS = 'grasp_success_detector.cli'

#: What a command, or ROS's log, puts before an error: '[ERROR] [1700000000.0] [node]: '.
_LOG_PREFIX = re.compile(r'^(error: |\[[A-Z]+\] \[[\d.]+\] \[[^]]*\]: )')


class ChildError(GraspSuccessDetectorError):
    """A process that was started ended before its time."""


class ChildProcess(subprocess.Popen[bytes]):
    """A console script whose output goes to a file, so that it does not disturb the view."""

    def __init__(self, arguments: Sequence[str], log: Path) -> None:
        self._log = log
        self._name = arguments[2].rpartition('.')[2]
        with open(log, 'wb') as output:
            super().__init__(arguments, stdout=output, stderr=subprocess.STDOUT)

    def check(self) -> None:
        """
        Look whether it still runs.

        :raises ChildError: it has ended, with the last line that it printed.
        """
        if self.poll() is not None:
            raise ChildError(f'{self._name} ended with {self.returncode}: {self.last_line()}')

    def last_line(self) -> str:
        """Return the last line that it printed, without what marks it as an error."""
        lines = self._log.read_text(errors='replace').strip().splitlines()
        return _LOG_PREFIX.sub('', lines[-1]) if lines else 'it printed nothing'


@contextmanager
def child_process(arguments: Sequence[str]) -> Iterator[ChildProcess]:
    """Run a module of ours for the block; at its end it is told to end, and made to."""
    with tempfile.TemporaryDirectory(prefix='grasp_child_') as folder:
        child = ChildProcess([sys.executable, '-m', *arguments], Path(folder) / 'log')
        try:
            yield child
        finally:
            end(child)


def end(process: subprocess.Popen[bytes], patience_s: float = 5.) -> None:
    """Tell a process to end, as Ctrl-C does, and make it when it does not; it may have ended."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(timeout=patience_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def detector_command(bag: DemoBag, checkpoint: str | None) -> list[str]:
    """Return what starts a detector that listens to a bag's frames."""
    transport, name = ('compressed', 'image/compressed') if bag.compressed else ('raw', 'image')
    arguments = [f'{_COMMANDS}.detector_node', '--ros-args', '-r', f'{name}:={bag.topic}',
                 '-p', f'image_transport:={transport}']
    # Quoted: rcl reads the value as YAML, where 1 would be a number.
    return arguments + (['-p', f"checkpoint:='{Path(checkpoint).resolve()}'"]
                        if checkpoint else [])


def player_command(bag: DemoBag, rate: float) -> list[str]:
    """Return what plays a bag once two listen to its frames: the detector, and who asks for it."""
    return [f'{_COMMANDS}.play_bag', str(bag.path), '--rate', str(rate), '--wait-for', bag.topic,
            '--subscribers', '2', '--wait', '20']
