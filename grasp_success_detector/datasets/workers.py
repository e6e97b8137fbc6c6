"""Run tasks in parallel, in processes of this machine or of a Dask cluster."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Executor, FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
import ctypes
from functools import partial
from importlib import import_module
from multiprocessing import parent_process, resource_tracker
from multiprocessing.context import SpawnContext, SpawnProcess
import os
import signal
from threading import Thread
from typing import Any, NamedTuple

import cv2

from grasp_success_detector.console import needing
from grasp_success_detector.errors import ConfigError

# malloc.h of glibc
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3

#: Tasks handed to the executor per process, so that no process waits for the next one.
_TASKS_AHEAD = 3


class _WorkerProcess(SpawnProcess):
    """A process that Ctrl-C, which a terminal sends to all processes, never reaches."""

    def start(self) -> None:
        """Start the process with SIGINT blocked, as it could not handle it while it begins."""
        resource_tracker.ensure_running()   # now, since its start would unblock the signal
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            try:
                super().start()
            finally:    # a Ctrl-C that came meanwhile counts now
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
        except KeyboardInterrupt:
            if self.pid is not None:    # no pool waits for it: it does not know it yet
                self.kill()
            raise


class WorkerContext(SpawnContext):
    """
    Starts worker processes, which leave Ctrl-C to their parent from their first moment on.

    They are spawned: a forked child would inherit threads, locks and OpenGL state that do not
    survive a fork.
    """

    Process = _WorkerProcess


class Workers(NamedTuple):
    """
    Processes that run tasks.

    :ivar size: number of processes, or of cores of a cluster.
    :ivar executor: executor of the other processes; None if there are none.
    :ivar helps: whether the calling process runs tasks too.
    """

    size: int
    executor: Executor | None = None
    helps: bool = True

    def run(self, tasks: 'deque[partial[Any]]') -> 'Iterator[tuple[partial[Any], Any]]':
        """
        Run all tasks, and yield each with its result as soon as it is done.

        The caller may add tasks to the deque between results.
        """
        running: dict[Future[Any], partial[Any]] = {}
        while tasks or running:
            own = tasks.popleft() if self.helps and tasks else None
            while self.executor and tasks and len(running) < _TASKS_AHEAD * self.size:
                task = tasks.popleft()
                running[self.executor.submit(task)] = task
            if own is None and self.helps:  # rather than wait, take one back
                own = next((running.pop(future) for future in reversed([*running])
                            if future.cancel()), None)
            if own is not None:
                yield own, own()
            done, _ = wait(running, None if own is None else 0, FIRST_COMPLETED)
            for future in done:
                yield running.pop(future), future.result()


@contextmanager
def open_workers(jobs: int | None = None, dask: str | None = None) -> Iterator[Workers]:
    """
    Start worker processes for a block; tasks that have not begun at its end are cancelled.

    :param jobs: number of processes, including this one; None for one per usable core.
    :param dask: address of a Dask scheduler, such as ``tcp://host:8786``; ``jobs`` is then unused.
    :raises ConfigError: ``jobs`` is below 1, or Dask, its scheduler or its workers are missing.
    """
    if jobs is not None and jobs < 1:
        raise ConfigError(f'--jobs {jobs}: expected 1 or more processes')
    if dask is not None:
        yield from _dask_workers(dask)
        return
    jobs = jobs or usable_cores()
    _keep_freed_memory()
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # the processes share the cores; on single pictures threads only wait
    try:
        if jobs == 1:
            yield Workers(1)
            return
        pool = ProcessPoolExecutor(jobs - 1, WorkerContext(), _start_worker)
        try:
            for _ in range(jobs - 1):  # it starts a process for each task: let them get ready
                pool.submit(usable_cores)
            yield Workers(jobs, pool)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    finally:
        cv2.setNumThreads(threads)


def _dask_workers(address: str) -> Iterator[Workers]:
    with needing('dask', '--dask'):
        from distributed import Client
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
            yield Workers(cores, executor, helps=False)


def usable_cores() -> int:
    """Return the number of CPU cores that this process may use."""
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
    # A parent that is killed cannot end its workers: they must notice.
    Thread(target=end_with_parent, daemon=True).start()
    cv2.setNumThreads(1)  # the processes share the cores already
    # What its tasks need, while the parent is still looking for frames.
    import_module('grasp_success_detector.datasets.frame_writer')


def end_with_parent() -> None:
    """End this worker when its parent has ended, which cannot tell it if it was killed."""
    if (parent := parent_process()) is not None:
        parent.join()
        os._exit(1)
