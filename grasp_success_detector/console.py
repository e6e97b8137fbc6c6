"""What all console scripts share: how a command ends and how it shows progress."""

from codecs import lookup
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import IntEnum
from functools import wraps
from io import TextIOWrapper
import os
import select
import sys

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from grasp_success_detector.errors import ConfigError, GraspSuccessDetectorError


class ExitCode(IntEnum):
    """Exit codes of every console script (the table in the README)."""

    OK = 0
    ERROR = 1           #: bad input; one line on stderr says which
    USAGE = 2           #: unknown option or argument (argparse)
    NOTHING_DONE = 3    #: ran to its end, but no frame or message came out
    WORSE = 4           #: significantly worse than the baseline (evaluate_classifier)
    INTERRUPTED = 130   #: Ctrl-C, as shells count it
    READER_GONE = 141   #: who read the output went away (``| head``): SIGPIPE, as shells count it


Main = Callable[[Sequence[str] | None], int]


def command(main: Main) -> Main:
    """
    Wrap the ``main(argv)`` of a console script: errors of ours become one line and an exit code.

    So does a reader that goes away (``| head``), without the line.

    :param main: takes the arguments without the program's name (None: those of the process).
    """
    @wraps(main)
    def wrapped(argv: Sequence[str] | None = None) -> int:
        _print_any_text()
        try:
            try:
                return _ended(main, argv)
            finally:
                # Now, not when the interpreter ends: there nobody could catch what goes wrong.
                _flush()
        except BrokenPipeError:
            if not _reader_is_gone():
                raise   # of another pipe
            return int(ExitCode.READER_GONE)
        except SystemExit as error:
            if not isinstance(error.__context__, BrokenPipeError):
                raise
            return int(ExitCode.READER_GONE)    # rich has silenced the output and asks to end
    return wrapped


def _ended(main: Main, argv: Sequence[str] | None) -> int:
    try:
        return int(main(argv))
    except GraspSuccessDetectorError as error:
        print(f'error: {error}', file=sys.stderr)
        return int(ExitCode.ERROR)
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        return int(ExitCode.INTERRUPTED)


def _print_any_text() -> None:
    """Print UTF-8 where the locale knows only ASCII: topics and paths may hold any letters."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper) and lookup(stream.encoding).name == 'ascii':
            stream.reconfigure(encoding='utf-8', errors='surrogateescape')


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and not stream.closed:
            stream.flush()


def _reader_is_gone() -> bool:
    """Say whether nobody reads the output any more; what is still printed then goes nowhere."""
    gone = False
    for stream in (sys.__stdout__, sys.__stderr__):
        if stream is None or stream.closed:
            continue
        poll = select.poll()
        poll.register(stream, 0)
        if any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0)):
            gone = True
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
    return gone


@contextmanager
def needing(extra: str, what: str) -> Iterator[None]:
    """
    Import within the block what an extra of the package brings.

    :param extra: such as ``'train'``.
    :param what: that cannot be done without, for the user.
    :raises ConfigError: an import failed.
    """
    try:
        yield
    except ImportError as error:
        raise ConfigError(f'{what} needs more packages ({error}); '
                          f'pip install grasp_success_detector[{extra}]') from error


def counted(number: int, what: str) -> str:
    """Return a count with its noun in singular or plural: '1 attempt', '2 attempts'."""
    return f'{number} {what}{"s" * (number != 1)}'


class _SpeedColumn(ProgressColumn):
    """What is done in a second."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        """Return the speed; nothing before it is known."""
        speed = task.finished_speed or task.speed
        return Text('' if speed is None else f'{speed:.0f} {self._unit}/s')


def progress_bar(console: Console, unit: str | None = None) -> Progress:
    """
    Return a bar with count and time left; silent where the console is no terminal.

    :param unit: what is counted, to show the speed too.
    """
    speed = () if unit is None else (_SpeedColumn(unit),)
    return Progress(
        TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(), *speed,
        TimeElapsedColumn(), TimeRemainingColumn(), console=console,
        disable=not console.is_terminal)
