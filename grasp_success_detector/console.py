"""What all console scripts share: how a command ends and how it shows progress."""

from collections.abc import Callable, Sequence
from enum import IntEnum
from functools import wraps
import sys

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from grasp_success_detector.errors import GraspSuccessDetectorError


class ExitCode(IntEnum):
    """Exit codes of every console script (the table in the README)."""

    OK = 0
    ERROR = 1           #: bad input; one line on stderr says which
    USAGE = 2           #: unknown option or argument (argparse)
    NOTHING_DONE = 3    #: ran to its end, but no frame or message came out
    INTERRUPTED = 130   #: Ctrl-C, as shells count it


Main = Callable[[Sequence[str] | None], int]


def command(main: Main) -> Main:
    """
    Wrap the ``main(argv)`` of a console script: errors of ours become one line and an exit code.

    :param main: takes the arguments without the program's name (None: those of the process).
    """
    @wraps(main)
    def wrapped(argv: Sequence[str] | None = None) -> int:
        try:
            return int(main(argv))
        except GraspSuccessDetectorError as error:
            print(f'error: {error}', file=sys.stderr)
            return int(ExitCode.ERROR)
        except KeyboardInterrupt:
            print('interrupted', file=sys.stderr)
            return int(ExitCode.INTERRUPTED)
    return wrapped


def progress_bar(console: Console) -> Progress:
    """Return a bar with count, speed and time left; silent where the console is no terminal."""
    return Progress(
        TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(),
        TimeElapsedColumn(), TimeRemainingColumn(), console=console,
        disable=not console.is_terminal)
