"""Run tasks in parallel, in processes of this machine or of a Dask cluster."""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from importlib import import_module
import logging
from multiprocessing import parent_process, resource_tracker
from multiprocessing.context import SpawnContext, SpawnProcess
import os
from pathlib import Path
import pickle
import signal
import sys
from threading import current_thread, main_thread, Thread
import time
from typing import Any

from grasp_success_detector import __version__
from grasp_success_detector.console import needing
from grasp_success_detector.datasets.cores import (
    one_opencv_thread,
    share_the_cores,
    usable_cores,
)
from grasp_success_detector.errors import ClusterError, ConfigError, WorkersError
from grasp_success_detector.recordings.fetched_cache import used_until_end
from grasp_success_detector.recordings.remote import pickled

Task = partial[Any]

#: Tasks handed out per process, so that no process waits for the next one.
_TASKS_AHEAD = 3
#: How often a task may end with its process: chance kills one, a task that is at fault kills all.
_MOST_DEATHS = 3
#: How long a file that another machine has written may stay invisible here, in seconds: the time
#: for which NFS remembers by default that a name does not exist (nfs(5), acdirmax).
_SHARED_FOLDER_LAG_S = 60.
#: How long a cluster may be without any worker at the start, in seconds.
_FIRST_WORKER_S = 30.


class _WorkerProcess(SpawnProcess):
    """A process that Ctrl-C, which a terminal sends to all processes, never reaches."""

    def start(self) -> None:
        """Start the process with SIGINT blocked, as it could not handle it while it begins."""
        resource_tracker.ensure_running()   # now, since its start would unblock the signal
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            super().start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _interrupted_afterwards() -> Iterator[None]:
    """
    Let a Ctrl-C that comes in a block interrupt the program at its end.

    A process that is started in part prints a traceback, a semaphore that is made in part is a
    leak. To block SIGINT is not enough: the system gives it to a thread that does not block it,
    such as one of OpenBLAS, and Python then interrupts its main thread.
    """
    if current_thread() is not main_thread():   # which alone is interrupted
        yield
        return
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if came:
            signal.raise_signal(signal.SIGINT)


class WorkerContext(SpawnContext):
    """
    Starts worker processes, which leave Ctrl-C to their parent from their first moment on.

    They are spawned: a forked child would inherit threads, locks and OpenGL state that do not
    survive a fork.
    """

    Process = _WorkerProcess


class Workers:
    """
    What runs tasks: here the calling process alone, one task after the other.

    :ivar helps: whether the calling process runs tasks too.
    :ivar lag_s: how long a file that a task has written may stay invisible to others, in seconds.
    :ivar grain: how much larger tasks should be than for the processes of one machine.
    """

    helps = True
    lag_s = 0.
    grain = 1

    @property
    def size(self) -> int:
        """Number of tasks that run at the same time."""
        return 1

    def submit(self, task: Task, urgent: bool, reads: Iterable[Path]) -> Future[Any]:
        """
        Hand a task to another process; urgent ones run before others that wait there.

        :param reads: files that the task waits for, as a shared folder may show them late.
        """
        raise NotImplementedError

    def run(self, tasks: deque[Task], urgent: Callable[[Task], bool] = lambda task: False,
            reads: Callable[[Task], Iterable[Path]] = lambda task: (),
            ) -> Iterator[tuple[Task, Any]]:
        """
        Run all tasks, and yield each once, with its result, as soon as it is done.

        The caller may add tasks to the deque between results. A task whose process died runs
        again: what it writes must be the same each time, and be written whole.

        :param urgent: tells the tasks that go before others that were handed out already.
        :param reads: tells the files that a task reads.
        :raises WorkersError: a task ended with its process several times.
        :raises ClusterError: the scheduler of the cluster is gone.
        """
        running: dict[Future[Any], Task] = {}
        deaths: Counter[Task] = Counter()
        while tasks or running:
            own = tasks.popleft() if self.helps and tasks else None
            while self.size > self.helps and tasks and len(running) < _TASKS_AHEAD * self.size:
                task = tasks.popleft()
                running[self.submit(task, urgent(task), reads(task))] = task
            if own is None and self.helps:  # rather than wait, take one back
                own = next((running.pop(future) for future in reversed([*running])
                            if future.cancel()), None)
            if own is not None:
                yield own, _run(own)
            # Not for ever: workers that join a cluster meanwhile want tasks.
            done, _ = futures.wait(
                running, 1. if own is None else 0., futures.FIRST_COMPLETED)
            for future in done:
                task = running.pop(future)
                try:
                    result = future.result()
                except futures.BrokenExecutor as error:     # with all tasks of its pool
                    deaths[task] += 1
                    if deaths[task] == _MOST_DEATHS:
                        raise WorkersError(
                            f'a worker process died, and {_MOST_DEATHS} times with the same task; '
                            'the memory may have run out: try fewer --jobs') from error
                    tasks.appendleft(task)
                else:
                    yield task, result


class _Processes(Workers):
    """Processes of this machine; where one dies, new ones take over."""

    def __init__(self, jobs: int, helps: bool, preload: str) -> None:
        self.helps = helps
        self._jobs, self._preload = jobs, preload
        with _interrupted_afterwards():
            self._pool = self._started()

    @property
    def size(self) -> int:
        return self._jobs

    def _started(self) -> ProcessPoolExecutor:
        count = self._jobs - self.helps
        pool = ProcessPoolExecutor(count, WorkerContext(), _start_worker, (self._preload,))
        for _ in range(count):  # it starts a process for each task: let them get ready
            pool.submit(usable_cores)
        return pool

    def submit(self, task: Task, urgent: bool, reads: Iterable[Path]) -> Future[Any]:
        with _interrupted_afterwards():     # a pool may start a process for a task
            try:
                return self._pool.submit(_run, task)
            except futures.BrokenExecutor:
                self._pool.shutdown(cancel_futures=True)
                self._pool = self._started()
                return self._pool.submit(_run, task)

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)


class _Cluster(Workers):
    """The workers of a Dask cluster, as many as there are at the time."""

    helps = False
    lag_s = _SHARED_FOLDER_LAG_S
    grain = 8   # a scheduler takes milliseconds for each task, and there is one for all workers

    def __init__(self, address: str) -> None:
        with needing('dask', '--dask'):
            from distributed import Client
        if '://' not in address:
            raise ConfigError(f'--dask {address}: expected the address of a scheduler, such as '
                              'tcp://host:8786')
        # It prints a traceback where the scheduler is gone, which ``run`` tells in one line.
        logging.getLogger('distributed.client').setLevel(logging.CRITICAL)
        try:
            self._client: Any = Client(address, timeout=5, set_as_default=False)
        except (OSError, ValueError) as error:
            raise ConfigError(f'{address}: no Dask scheduler answers there '
                              f'({type(error).__name__})') from error
        self._address = address
        try:
            self._client.wait_for_workers(1, timeout=_FIRST_WORKER_S)
        except TimeoutError as error:
            self._client.close()
            raise ConfigError(f'{address}: this Dask scheduler has no workers, and none came '
                              f'within {_FIRST_WORKER_S:.0f} s') from error
        # A shared folder may fail for a moment; the death of a worker is the scheduler's affair.
        self._executor = self._client.get_executor(pure=False, retries=2)
        self._cores, self._counted = 1, 0.

    @property
    def size(self) -> int:
        if time.monotonic() - self._counted > 1:
            before, self._cores = self._cores, sum(self._client.nthreads().values())
            self._counted = time.monotonic()
            if before and not self._cores:
                print(f'{self._address}: its last worker is gone; waiting for another (Ctrl-C '
                      'ends)', file=sys.stderr)
        return max(1, self._cores)

    def submit(self, task: Task, urgent: bool, reads: Iterable[Path]) -> Future[Any]:
        submitted: Future[Any] = self._executor.submit(
            partial(_on_cluster, __version__, pickled((task, [*reads]))), priority=int(urgent))
        return submitted

    def run(self, tasks: deque[Task], urgent: Callable[[Task], bool] = lambda task: False,
            reads: Callable[[Task], Iterable[Path]] = lambda task: (),
            ) -> Iterator[tuple[Task, Any]]:
        from distributed import KilledWorker
        from distributed.comm.core import CommClosedError
        try:
            yield from super().run(tasks, urgent, reads)
        except KilledWorker as error:
            raise WorkersError(
                f'{self._address}: a task ended with its worker several times; the memory of the '
                'workers may be too small for it') from error
        except (futures.CancelledError, CommClosedError) as error:
            raise ClusterError(f'{self._address}: this Dask scheduler is gone; start one, and '
                               'the same command goes on') from error

    def close(self) -> None:
        self._executor.shutdown(wait=False)     # what has not begun is cancelled
        self._client.close()


@contextmanager
def open_workers(jobs: int | None = None, dask: str | None = None, *, helps: bool = True,
                 preload: str = 'grasp_success_detector.datasets.frame_writer',
                 ) -> Iterator[Workers]:
    """
    Get worker processes ready for a block; tasks that have not begun at its end are cancelled.

    :param jobs: number of processes, including this one; None for one per usable core.
    :param dask: address of a Dask scheduler, such as ``tcp://host:8786``; ``jobs`` is then unused.
    :param helps: whether the calling process is one of these; False: there are as many others.
    :param preload: module that processes of this machine load while the caller looks for tasks.
    :raises ConfigError: ``jobs`` is below 1, or Dask, its scheduler or its workers are missing.
    """
    if jobs is not None and jobs < 1:
        raise ConfigError(f'--jobs {jobs}: expected 1 or more processes')
    jobs = jobs or usable_cores()
    if dask is None and jobs == 1 and helps:
        with one_opencv_thread():
            yield Workers()
        return
    workers = _Cluster(dask) if dask is not None else _Processes(jobs, helps, preload)
    try:
        with one_opencv_thread():
            yield workers
    finally:
        workers.close()


def _run(task: Callable[[], Any]) -> Any:
    """Run a task; what it reads of addresses is in use until its end."""
    with used_until_end():
        return task()


def _on_cluster(version: str, data: bytes) -> Any:
    """Run a task on a worker of a cluster, unless the package is another one there."""
    if version != __version__:
        raise ConfigError(f'a worker of the cluster has grasp_success_detector {__version__}, '
                          f'expected {version}, as here')
    share_the_cores()

    def run() -> Any:
        task, reads = pickle.loads(data)    # fetches what the task's paths have of addresses
        _wait_for(reads)
        return task()

    return _run(run)


def _wait_for(files: Iterable[Path]) -> None:
    """Wait until files are visible that another machine may have written just now."""
    deadline = time.monotonic() + _SHARED_FOLDER_LAG_S
    for file in files:
        while not file.exists() and time.monotonic() < deadline:
            time.sleep(.5)


def _start_worker(preload: str) -> None:
    # A parent that is killed cannot end its workers: they must notice.
    Thread(target=_end_with_parent, daemon=True).start()
    share_the_cores()
    import_module(preload)


def _end_with_parent() -> None:
    if (parent := parent_process()) is not None:
        parent.join()
        os._exit(1)
