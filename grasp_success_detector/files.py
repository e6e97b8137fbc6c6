"""Write files whole or not at all, JSON and CSV in UTF-8, and find files of the package."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
import csv
from difflib import get_close_matches
import errno
import glob
import io
import json
import os
from pathlib import Path
import shutil
import socket
import stat
from tempfile import TemporaryFile
from typing import Any

from grasp_success_detector.errors import (
    CheckpointError,
    GraspSuccessDetectorError,
    one_line,
    ResourceError,
)

#: Errors of writing to a full disk, beyond a quota or the largest size of a file.
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

#: Largest YAML file that is read, in bytes, and how deeply it may be nested.
_LARGEST_YAML, _DEEPEST_YAML = 4 << 20, 50

#: Names of the checkpoints that ship with the package; the first one is the default.
SHIPPED_CHECKPOINTS = ('efficientnet_lite0_world', 'efficientnet_lite0_rig', 'cifar_cnn_world',
                       'cifar_cnn_rig')
CHECKPOINT_HELP = f'.safetensors, or the name of a shipped one: {", ".join(SHIPPED_CHECKPOINTS)}'

DEFAULT_CHECKPOINT = f'models/{SHIPPED_CHECKPOINTS[0]}.safetensors'
SAMPLE_BAG = 'samples/rig_attempts'
#: Single pictures of the preset `world`, which the demo shows beside it.
WORLD_SAMPLE_BAG = 'samples/world_pictures'

#: The one with two cameras and joint states.
FUSED_SAMPLE_BAG = 'samples/two_cameras'

#: Checkpoint made for a camera placed like that of the sample bag.
SAMPLE_CHECKPOINT = SHIPPED_CHECKPOINTS[1]


def share_path(relative: str) -> Path:
    """
    Return the absolute path of a shipped file.

    A source tree (also one that colcon or pip link to) is looked at first, then
    ``<prefix>/share/grasp_success_detector``, where both pip and colcon install data files.

    :param relative: path below the share folder, such as ``'models/x.safetensors'``.
    :raises ResourceError: the file is in neither of these places.
    """
    package = Path(__file__).resolve().parent
    roots = [package.parent] if (package.parent / 'package.xml').is_file() else []
    roots += [parent / 'share' / 'grasp_success_detector' for parent in package.parents[:5]]
    for root in roots:
        if (root / relative).exists():
            return root / relative
    raise ResourceError(
        f'{relative}: this file of grasp_success_detector is not installed; looked in '
        f'{", ".join(map(str, roots))}; install the package again')


def checkpoint_path(given: os.PathLike[str] | str = '',
                    expected: str = 'a checkpoint of train_classifier (.safetensors)') -> Path:
    """
    Return the path of a checkpoint that a user named.

    :param given: a file, where ``~`` is expanded, or one of SHIPPED_CHECKPOINTS; empty: the
        default one. A file that is called like a shipped checkpoint comes first.
    :param expected: the kind of file that the error says was expected.
    :raises CheckpointError: there is no such file, and no such checkpoint ships.
    :raises ResourceError: the named checkpoint ships, but is not installed.
    """
    name = os.fspath(given)
    path = expanded(name)
    if not name or (name in SHIPPED_CHECKPOINTS and not path.is_file()):
        return share_path(f'models/{name or SHIPPED_CHECKPOINTS[0]}.safetensors')
    if not path.exists():
        near = nearest_checkpoint(name)
        raise CheckpointError(f'{path}: no such file; expected {expected}, or the name of a '
                              f'shipped checkpoint: {", ".join(SHIPPED_CHECKPOINTS)}'
                              + (f'; did you mean {near}?' if near else ''))
    return path


def nearest_checkpoint(name: str) -> str | None:
    """Return the shipped checkpoint of which this may be the misspelt name; None: of none."""
    return next(iter(get_close_matches(name, SHIPPED_CHECKPOINTS, 1, .7)), None)


def expanded(path: os.PathLike[str] | str) -> Path:
    """Return a path with ``~`` as the home folder; unchanged if there is none."""
    return Path(os.path.expanduser(path))


def cache_folder(name: str) -> Path:
    """Return one of this package's folders in the user's cache; it may not exist."""
    # XDG base directory specification: a relative path in the variable does not count.
    base = Path(os.environ.get('XDG_CACHE_HOME', ''))
    return (base if base.is_absolute() else Path.home() / '.cache'
            ) / 'grasp_success_detector' / name


def check_regular(path: Path | str) -> None:
    """
    Check that a path is no pipe, device or socket, which could block for ever when opened.

    :raises OSError: it is one, or does not exist.
    """
    mode = os.stat(path).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise OSError(errno.EINVAL, 'is a pipe, device or socket; expected a file', str(path))


def read_yaml(path: Path) -> Any:
    """
    Return the content of a YAML file without aliases, which could expand without limit.

    :raises OSError: the file cannot be read.
    :raises ValueError: it is no YAML in UTF-8, holds an alias, or is too large or too deep.
    """
    import yaml

    check_regular(path)
    if path.stat().st_size > _LARGEST_YAML:
        raise ValueError(f'larger than {_LARGEST_YAML >> 20} MiB')
    text, loader = path.read_text(encoding='utf-8'), getattr(yaml, 'CSafeLoader', yaml.SafeLoader)
    depth = 0
    try:
        for event in yaml.parse(text, loader):
            if isinstance(event, yaml.AliasEvent):
                raise ValueError(f'line {event.start_mark.line + 1}: an alias (*{event.anchor}); '
                                 'write the value out')
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > _DEEPEST_YAML:
                raise ValueError(f'nested more than {_DEEPEST_YAML} levels deep')
        return yaml.load(text, loader)
    except yaml.YAMLError as error:
        raise ValueError(one_line(error)) from error


def write_whole(path: Path | str, content: bytes | str, *, durable: bool = False) -> None:
    """
    Write a file so that it is never seen incomplete, even if the process is killed.

    :param content: text is written in UTF-8; bytes of file names that the locale could not decode
        stay as they are.
    :param durable: wait until the content is on the disk, so that it also survives a power cut.
    :raises OSError: the file cannot be written; no part of it is left.
    """
    if isinstance(content, str):
        content = content.encode(errors='surrogateescape')
    data = memoryview(content)
    folder, name = os.path.split(path)
    partial = os.path.join(folder, f'.{name}.part')
    try:
        # By system calls alone: extraction writes tens of thousands of small files.
        file = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        try:
            while data:
                data = data[os.write(file, data):]
            if durable:
                os.fsync(file)
        finally:
            os.close(file)
        os.replace(partial, path)
    except BaseException as error:
        Path(partial).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in DISK_ERRORS:
            error.filename = os.fspath(path)    # writing knows only a number
        raise


def fault_text(error: OSError, place: Path | None = None) -> str:
    """
    Return why a file cannot be written; for a full disk also which file, and what is free.

    :param place: what was being written, for an error that names no file.
    """
    text = error.strerror or one_line(error)
    name = place if error.filename is None else Path(os.fsdecode(error.filename))
    if error.errno not in DISK_ERRORS or name is None:
        return text
    folder = next((folder for folder in name.absolute().parents if folder.exists()), None)
    free = '' if folder is None else f', {shutil.disk_usage(folder).free / 1e6:.1f} MB free'
    return f'{text}: {name}{free}'


@contextmanager
def disk_faults(path: Path, room: int = 64 << 20) -> Iterator[None]:
    """
    Turn a RuntimeError of a library that could not write into the OSError of a full disk.

    :param path: file that the block writes, or another one on its disk.
    :param room: bytes that suffice for it: where they are free, the RuntimeError is another one.
    """
    try:
        yield
    except RuntimeError as error:
        try:
            with TemporaryFile(dir=path.parent) as file:
                os.posix_fallocate(file.fileno(), 0, room)
        except OSError as fault:
            if fault.errno in DISK_ERRORS:
                raise OSError(fault.errno, fault.strerror, str(path)) from error
        raise


def check_new_file(path: Path, error: type[GraspSuccessDetectorError]) -> None:
    """
    Check that a new file can be written at a path, before long work begins.

    :raises GraspSuccessDetectorError: an ``error``: the file exists or cannot be created.
    """
    try:
        if path.exists():
            raise error(f'{path}: exists already; choose another name')
        probe = path.with_name(f'.{path.name}.part')
        probe.touch()
        probe.unlink()
    except (OSError, ValueError) as fault:
        raise error(f'{path}: cannot be written '
                    f'({getattr(fault, "strerror", None) or fault})') from fault


@contextmanager
def new_folder(out: Path, error: type[GraspSuccessDetectorError]) -> Iterator[Path]:
    """
    Create a folder under a hidden name, and rename it to ``out`` when the block has ended.

    If the block raises an error, the folder is removed.

    :param error: class of the errors that are raised.
    :raises GraspSuccessDetectorError: ``out`` exists or cannot be written, or an OSError occurs.
    """
    with unfinished(out) as partial:
        try:
            if out.exists():
                raise error(f'{out}: exists already and is not overwritten; choose another name')
            partial.mkdir(parents=True)
            yield partial
            partial.rename(out)
        except OSError as fault:
            raise error(f'{out}: cannot be written ({fault_text(fault, out)})') from fault


@contextmanager
def unfinished(out: Path) -> Iterator[Path]:
    """
    Give a hidden name beside ``out`` for a file or folder that is renamed when it is complete.

    What has this name at the end of the block is removed. Names of this kind whose processes, of
    this host, died are removed at its start.
    """
    prefix = f'.{out.name}.partial-{socket.gethostname()}-'
    for left in out.parent.glob(glob.escape(prefix) + '*'):
        number = left.name.removeprefix(prefix)
        if number.isdecimal() and not _runs(int(number)):
            _remove(left)
    partial = out.with_name(f'{prefix}{os.getpid()}')
    try:
        yield partial
    finally:
        _remove(partial)


def _remove(path: Path) -> None:
    try:
        path.unlink()
    except OSError:     # a folder, or nothing
        shutil.rmtree(path, ignore_errors=True)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True


def json_text(document: Any) -> str:
    """Return a document as indented JSON text that ends with a newline."""
    return json.dumps(document, indent=2) + '\n'


def read_json(path: Path | str) -> Any:
    """
    Return the content of a JSON file.

    :raises OSError: the file cannot be read.
    :raises ValueError: the file is not valid JSON in UTF-8.
    """
    check_regular(path)
    try:
        return json.loads(Path(path).read_text(encoding='utf-8'))
    except RecursionError as error:
        raise ValueError('nested too deeply') from error


def csv_text(header: Sequence[str], rows: Iterable[Iterable[Any]]) -> str:
    """Return a table as the text of a CSV file."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()
