"""Commands of the package as processes, for tests that stop them."""

from collections.abc import Callable
from pathlib import Path
import signal
import subprocess
import sys
import time
from typing import Any

COMMANDS = Path(__file__).resolve().parent.parent / 'libexec'


def start(command: str, *arguments: Any, **options: Any) -> subprocess.Popen[str]:
    """
    Start a command, such as ``'extract_frames'``; its output is text in UTF-8, on pipes.

    It receives Ctrl-C however the tests were started, which conftest.py ensures.

    :param options: for :class:`subprocess.Popen`.
    """
    pipes = {'stdout': subprocess.PIPE, 'stderr': subprocess.PIPE, 'encoding': 'utf-8'}
    return subprocess.Popen(
        [sys.executable, str(COMMANDS / command), *map(str, arguments)], **(pipes | options))


def wait_until(condition: Callable[[], Any], process: subprocess.Popen[str],
               timeout_s: float = 60.) -> None:
    """Wait until a condition holds, while the process runs."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert process.poll() is None, f'ended with {process.returncode}'
        assert time.monotonic() < deadline, f'not within {timeout_s} s'
        time.sleep(.002)


def interrupt(process: subprocess.Popen[str], number: int = signal.SIGINT,
              timeout_s: float = 60.) -> tuple[int, str, str]:
    """
    Send a signal, Ctrl-C unless another one is given, and wait for the end.

    :return: the exit code, and what was printed to stdout and to stderr.
    """
    process.send_signal(number)
    try:
        printed, errors = process.communicate(timeout=timeout_s)
    finally:
        process.kill()
    return process.returncode, printed, errors
