"""Who does the work: this process, processes beside it, or a Dask cluster."""

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
import ctypes
from importlib import import_module
from multiprocessing import get_context, parent_process
import os
import signal
from threading import Thread
from typing import Any, NamedTuple

import cv2

from grasp_success_detector.errors import ConfigError

# malloc.h of glibc
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


class Crew(NamedTuple):
    """
    An executor and how many tasks it can do at a time.

    :ivar executor: as of ``concurrent.futures``.
    :ivar helps: the calling process is one of the crew: instead of waiting it takes tasks back
        from the executor and does them itself.
    """

    executor: Executor
    size: int
    helps: bool = False


class _InlineExecutor(Executor):
    """Does every task at once, in the calling process."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - the future carries it
            future.set_exception(error)
        return future


@contextmanager
def crew(jobs: int | None = None, dask: str | None = None) -> Iterator[Crew]:
    """
    Open an executor; on leaving it, what has not begun is dropped.

    :param jobs: processes of this machine, this one included; None for one per usable core.
    :param dask: address of a Dask scheduler, such as ``tcp://host:8786``; wins over ``jobs``.
    :raises ConfigError: Dask is not installed or the scheduler doesn't answer.
    """
    if dask is not None:
        yield from _dask_crew(dask)
        return
    jobs = jobs or usable_cores()
    _keep_freed_memory()
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # the processes share the cores; on single pictures threads only wait
    try:
        if jobs == 1:
            yield Crew(_InlineExecutor(), 1)
            return
        # spawn: a forked child would inherit threads and locks that do not survive a fork
        pool = ProcessPoolExecutor(jobs - 1, get_context('spawn'), _start_worker)
        try:
            for _ in range(jobs - 1):  # it starts a process for each task: let them get ready
                pool.submit(usable_cores)
            yield Crew(pool, jobs, helps=True)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    finally:
        cv2.setNumThreads(threads)


def ready(result: Any) -> Future[Any]:
    """Return a future that is done."""
    future: Future[Any] = Future()
    future.set_result(result)
    return future


def _dask_crew(address: str) -> Iterator[Crew]:
    try:
        from distributed import Client
    except ImportError as error:
        raise ConfigError(f'--dask needs Dask ({error}); pip install '
                          'grasp_success_detector[dask]') from error
    try:
        client: Any = Client(address, timeout=5, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ConfigError(f'{address}: no Dask scheduler answers there '
                          f'({type(error).__name__})') from error
    with client:
        cores = sum(client.nthreads().values())
        if not cores:
            raise ConfigError(f'{address}: this Dask scheduler has no workers')
        with client.get_executor(pure=False) as executor:
            yield Crew(executor, cores)


def usable_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else (
        os.cpu_count() or 1)


def _keep_freed_memory() -> None:
    """
    Have glibc reuse the memory of one frame for the next.

    By default it hands each freed picture back to the kernel, which then fills the next one with
    zeros page by page: up to a third of all the time with raw images.
    """
    if hasattr(libc := ctypes.CDLL(None), 'mallopt'):  # glibc only
        libc.mallopt(_M_MMAP_THRESHOLD, 32 << 20)
        libc.mallopt(_M_TRIM_THRESHOLD, 64 << 20)


def _start_worker() -> None:
    _keep_freed_memory()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    # A parent that is killed cannot send its workers home: they must notice.
    Thread(target=_end_with_parent, daemon=True).start()
    cv2.setNumThreads(1)  # the processes share the cores already
    # What its tasks need, while the parent still looks which these are.
    import_module('grasp_success_detector.datasets.frame_writer')


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
