"""One thread that works on the newest item only; plain Python, no ROS."""

from collections.abc import Callable
from threading import Condition, current_thread, Thread
from typing import Generic, TypeVar

Item = TypeVar('Item')


class LatestItemWorker(Generic[Item]):
    """
    Work on one item at a time in a thread of its own; of those that wait, the newest counts.

    Whoever offers items (the executor) never waits for the work, and the work never starts on an
    item that is older than one which was there when it started.
    """

    def __init__(self, work: Callable[[Item], None], name: str) -> None:
        """
        Prepare; ``start`` makes the thread.

        :param work: called in the thread; it handles its own errors.
        :param name: of the thread, as debuggers and ``top`` show it.
        """
        self._work = work
        self._name = name
        self._changed = Condition()
        self._waiting: Item | None = None
        self._thread: Thread | None = None

    def start(self) -> None:
        """Begin to take items; a worker can be started again after ``stop``."""
        # A daemon, so that work that hangs (a driver, a GPU) cannot keep the process from ending.
        thread = Thread(target=self._run, name=self._name, daemon=True)
        with self._changed:
            self._thread = thread
        thread.start()

    def offer(self, item: Item) -> bool:
        """
        Make this item the next one; without a thread (before start, after stop) it is forgotten.

        :return: whether it took the place of one that was waiting, which is thereby dropped.
        """
        with self._changed:
            if self._thread is None:
                return False
            replaced = self._waiting is not None
            self._waiting = item
            self._changed.notify()
        return replaced

    def stop(self, timeout_s: float) -> bool:
        """
        Forget the waiting item and end the thread after the work it is at.

        :return: whether the thread ended within the time-out.
        """
        with self._changed:
            thread, self._thread, self._waiting = self._thread, None, None
            self._changed.notify()
        if thread is None:
            return True
        thread.join(timeout_s)
        return not thread.is_alive()

    def _run(self) -> None:
        # Compared by identity: a thread that was late to end must not go on after a new start.
        me = current_thread()
        while True:
            with self._changed:
                while self._thread is me and self._waiting is None:
                    self._changed.wait()
                if self._thread is not me or self._waiting is None:
                    return
                item, self._waiting = self._waiting, None
            self._work(item)
