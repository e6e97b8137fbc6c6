"""
The user's cache of what was fetched from addresses: what is in use there, and what is removed.

Each process, or task of a worker, that uses entries has a file in the folder ``users``, which
names them and is locked while they are in use.
"""

from collections.abc import Iterator
from contextlib import contextmanager, ExitStack, suppress
import fcntl
from functools import cache
import os
from pathlib import Path
import re
import shutil
from tempfile import NamedTemporaryFile
from threading import local
from typing import IO

from grasp_success_detector.errors import RemoteError
from grasp_success_detector.files import cache_folder

#: Names of entries: a hash, and how many parts the path of the address has.
KEY = re.compile(r'[0-9a-f]{40}-\d+')

#: Environment variable with the largest size of the cache in gigabytes (10^9 bytes); the default.
LIMIT, LIMIT_GB = 'GRASP_SUCCESS_DETECTOR_CACHE_GB', 50.

_task = local()     # of the task that a thread runs: `stack`, and `user`, its file once it has one


def entry(key: str) -> Path:
    """Return the folder of an entry; it may not exist."""
    return cache_folder('remote') / key


@contextmanager
def used_until_end() -> Iterator[None]:
    """Let what a block (the task of a worker) uses be in use until its end, no longer."""
    before = vars(_task).copy()
    try:
        with ExitStack() as _task.stack:
            _task.user = None
            yield
    finally:
        vars(_task).clear()
        vars(_task).update(before)


def use(key: str) -> bool:
    """
    Return whether an entry is there; from now on it is in use.

    :raises OSError: the cache cannot be written.
    """
    tree = entry(key)
    with _locked(tree.parent):
        if (stack := getattr(_task, 'stack', None)) is None:
            user = _user_of(os.getpid(), tree.parent)
        else:
            user = _task.user = _task.user or stack.enter_context(_user(tree.parent))
        print(key, file=user, flush=True)
        if there := tree.is_dir():
            os.utime(tree)      # when it was used last
        return there


@contextmanager
def fetching(key: str) -> Iterator[None]:
    """Let no other process fetch the same entry during a block; who wants to waits."""
    lock = entry(key).with_suffix('.lock')
    while True:
        with lock.open('w') as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            try:
                there = lock.stat()
            except FileNotFoundError:   # who had it before has removed it
                continue
            if os.path.samestat(os.fstat(file.fileno()), there):    # no third one made it anew
                try:
                    yield
                finally:
                    lock.unlink()
                return


def make_room(size: int) -> None:
    """
    Remove entries that are not in use, the least recently used first, down to the cache's limit.

    :param size: bytes of an entry that is to come.
    :raises RemoteError: the limit's environment variable has no number.
    """
    limit, folder = _limit(), cache_folder('remote')
    with _locked(folder):
        used = set().union(*map(_used, (folder / 'users').iterdir()))
        trees = sorted((tree for tree in folder.iterdir() if KEY.fullmatch(tree.name)),
                       key=lambda tree: tree.stat().st_mtime_ns)
        over = size + sum(map(_bytes, trees)) - limit
        for tree in trees:
            if over > 0 and tree.name not in used:
                over -= _bytes(tree)
                tree.rename(tree.with_name(f'.{tree.name}.removed-{os.getpid()}'))
    for removed in folder.glob('.*.removed-*'):     # also what a killed process has left
        shutil.rmtree(removed, ignore_errors=True)


def _limit() -> float:
    """Return the limit in bytes."""
    given = os.environ.get(LIMIT, LIMIT_GB)
    try:
        if (limit := float(given) * 1e9) >= 0:  # also refuses NaN
            return limit
    except ValueError:
        pass
    raise RemoteError(f'{LIMIT}={given}: expected gigabytes, such as {LIMIT_GB:g}')


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Let no other process look at or change what is in use during a block."""
    (folder / 'users').mkdir(parents=True, exist_ok=True)
    with (folder / 'lock').open('w') as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@cache
def _user_of(process: int, folder: Path) -> IO[str]:
    """Return the file of a process; its lock is free when the process has ended, however."""
    return _new_user(folder)


@contextmanager
def _user(folder: Path) -> Iterator[IO[str]]:
    """Give the file of a task for a block."""
    with _new_user(folder) as file:
        yield file
        Path(file.name).unlink(missing_ok=True)


def _new_user(folder: Path) -> IO[str]:
    file = NamedTemporaryFile('w', encoding='utf-8', dir=folder / 'users', delete=False)
    fcntl.flock(file, fcntl.LOCK_EX)
    return file


def _used(user: Path) -> set[str]:
    """Return the entries that a process or task uses; remove its file if it has ended."""
    with suppress(FileNotFoundError), user.open('r+', encoding='utf-8') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return set(file.read().split())
        user.unlink()
    return set()


@cache
def _bytes(tree: Path) -> int:
    """Return the size of an entry, which never changes."""
    return sum(path.lstat().st_size for path in tree.rglob('*') if not path.is_dir())
