"""What all commands share: exit codes, one-line errors and progress bars."""

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from codecs import lookup
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import IntEnum
from functools import wraps
from io import TextIOWrapper
import os
from pathlib import Path
import re
import select
import sys
from typing import TYPE_CHECKING

from grasp_success_detector.errors import ConfigError, GraspSuccessDetectorError
from grasp_success_detector.files import DISK_ERRORS, fault_text

if TYPE_CHECKING:   # the node runs without rich
    from rich.console import Console
    from rich.progress import Progress


class ExitCode(IntEnum):
    """Exit codes of every console script (the table in the README)."""

    OK = 0
    ERROR = 1           #: bad input; one line on stderr says which
    USAGE = 2           #: unknown option or argument (argparse)
    NOTHING_DONE = 3    #: ran to its end, but no frame or message came out
    WORSE = 4           #: significantly worse than the baseline (evaluate_classifier)
    INTERRUPTED = 130   #: Ctrl-C: 128 + SIGINT
    READER_GONE = 141   #: the reader of the output went away (``| head``): 128 + SIGPIPE


#: The extra that brings a module which not every installation has.
EXTRA_OF_MODULE = {
    **dict.fromkeys(('backports', 'lz4', 'PIL', 'rich', 'rosbags', 'ruamel'), 'bags'),
    **dict.fromkeys(('jinja2', 'lightning', 'safetensors', 'tensorboard', 'timm', 'torch',
                     'torchvision'), 'train'),
    'mujoco': 'sim', 'distributed': 'dask', 'fsspec': 'remote', 'starlette': 'label',
    'uvicorn': 'label'}

Main = Callable[[Sequence[str] | None], int]


def command(main: Main) -> Main:
    """
    Wrap the ``main(argv)`` of a console script, so that errors end it with an :class:`ExitCode`.

    Errors of this package, and OSErrors about a file or a full disk, are printed as one line on
    stderr. If the reader of the output goes away (``| head``), nothing is printed.
    """
    @wraps(main)
    def wrapped(argv: Sequence[str] | None = None) -> int:
        _print_any_text()
        try:
            try:
                return _ended(main, argv)
            finally:
                # Not left to the end of the interpreter, where errors can no longer be caught.
                for stream in (sys.stdout, sys.stderr):
                    if stream is not None and not stream.closed:
                        stream.flush()
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
    except ModuleNotFoundError as error:
        if (text := missing_package(error)) is None:
            raise
        print(text, file=sys.stderr)
        return int(ExitCode.ERROR)
    except OSError as error:
        if error.filename is None and error.errno not in DISK_ERRORS:
            raise   # of a pipe or a socket, not of a path that the user gave
        if error.errno in DISK_ERRORS:
            print(f'error: {fault_text(error)}', file=sys.stderr)
        else:
            print(f'error: {os.fsdecode(error.filename)}: {error.strerror}', file=sys.stderr)
        return int(ExitCode.ERROR)
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        return int(ExitCode.INTERRUPTED)


def missing_package(error: BaseException) -> str | None:
    """Return the line for an import that failed for want of an extra; None: another error."""
    name = error.name if isinstance(error, ModuleNotFoundError) else None
    extra = EXTRA_OF_MODULE.get((name or '').partition('.')[0])
    return extra and (f'error: needs {name}, which is not installed; '
                      f"in the clone: pip install -c constraints.txt '.[{extra}]'")


def _print_any_text() -> None:
    """Print any text, as topics and paths may hold any letters; UTF-8 if the locale is ASCII."""
    for stream in (sys.stdout, sys.stderr):
        if not isinstance(stream, TextIOWrapper):
            continue
        if lookup(stream.encoding).name == 'ascii':
            stream.reconfigure(encoding='utf-8', errors='surrogateescape')
        elif stream.errors == 'strict':
            stream.reconfigure(errors='backslashreplace')


def _reader_is_gone() -> bool:
    """Return whether the output has lost its reader; what is printed later is then discarded."""
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


def command_parser(docstring: str | None, epilog: str) -> ArgumentParser:
    """
    Return the parser of a command.

    :param docstring: docstring of the command's module: ``'name: what it does.'``
    :param epilog: examples and exit codes, printed as they are.
    """
    name, description = (docstring or '').strip().split(': ', 1)
    # An abbreviated option would change its meaning when another one is added.
    parser = ArgumentParser(name, description=description, epilog=epilog, allow_abbrev=False,
                            formatter_class=RawDescriptionHelpFormatter)
    parser.register('type', Path, _local_path)
    return parser


def is_address(given: object) -> bool:
    """Return whether a text is an address of fsspec, such as ``s3://bucket/bags``."""
    return re.match(r'[A-Za-z][A-Za-z0-9+.-]+://', str(given)) is not None


def _local_path(given: str) -> Path:
    if is_address(given):
        raise ConfigError(f'{given}: expected a local path for this argument, no address; copy '
                          'between the two by hand')
    return Path(given)


@contextmanager
def needing(extra: str, what: str) -> Iterator[None]:
    """
    Turn a failed import in the block into an error that names the extra to install.

    :param extra: name of the package's extra, such as ``'train'``.
    :param what: subject of the error: the feature that needs the imports.
    :raises ConfigError: an import failed.
    """
    try:
        yield
    except ImportError as error:
        raise ConfigError(f'{what} needs more packages ({error}); '
                          f"in the clone: pip install -c constraints.txt '.[{extra}]'") from error


def counted(number: int, what: str) -> str:
    """Return a count with its noun in singular or plural: '1 attempt', '2 attempts'."""
    return f'{number} {what}{"s" * (number != 1)}'


def counts_text(counts: Mapping[str, int]) -> str:
    """Return counts by kind as text: '2 cut off, 1 damaged chunk'."""
    return ', '.join(f'{count} {what}' for what, count in sorted(counts.items()))


def print_damage(name: str, damage: Mapping[str, int]) -> None:
    """Print what is damaged in a recording, if anything is."""
    if damage:
        print(f'{name}\n  damage: {counts_text(damage)}')


def stderr_console() -> 'Console':
    """Return rich's console on stderr."""
    from rich.console import Console

    return Console(stderr=True)


def progress_bar(console: 'Console', unit: str | None = None) -> 'Progress':
    """
    Return a progress bar with count and time left, hidden unless the console is a terminal.

    :param unit: noun of the counted things, to show their number per second; None: not shown.
    """
    from rich import progress
    from rich.text import Text

    class SpeedColumn(progress.ProgressColumn):
        """The number of steps per second."""

        def render(self, task: progress.Task) -> Text:
            """Return the speed as text, empty before it is known."""
            speed = task.finished_speed or task.speed
            return Text('' if speed is None else f'{speed:.{int(speed < 10)}f} {unit}/s')

    return progress.Progress(
        progress.TextColumn('{task.description}'), progress.BarColumn(),
        progress.MofNCompleteColumn(), *(() if unit is None else (SpeedColumn(),)),
        progress.TimeElapsedColumn(), progress.TimeRemainingColumn(), console=console,
        disable=not console.is_terminal)
