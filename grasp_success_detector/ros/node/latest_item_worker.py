"""A thread that always works on the newest item, and never lets the one who offers it wait."""

from collections.abc import Callable
from threading import Condition, current_thread, Thread
from typing import Generic, TypeVar

Item = TypeVar('Item')


class LatestItemWorker(Generic[Item]):
    """
    Process items in a thread of its own, one at a time, always the newest one.

    ``offer`` never waits for the work; a waiting item is dropped when a newer one is offered.
    """

    def __init__(self, work: Callable[[Item], None], name: str) -> None:
        """Create no thread yet; that of ``start`` calls ``work``, which must not raise."""
        self._work, self._name = work, name
        self._changed = Condition()
        self._waiting: Item | None = None
        self._thread: Thread | None = None

    def start(self) -> None:
        """Start the thread; a worker can be started again after ``stop``."""
        # A daemon, so that work that hangs (a driver, a GPU) cannot keep the process from ending.
        thread = Thread(target=self._run, name=self._name, daemon=True)
        with self._changed:
            self._thread = thread
        thread.start()

    def offer(self, item: Item) -> bool:
        """
        Make this item the next one, and return whether it replaces a waiting item.

        Before ``start`` and after ``stop`` the item is ignored.
        """
        with self._changed:
            if self._thread is None:
                return False
            replaced, self._waiting = self._waiting is not None, item
            self._changed.notify()
        return replaced

    def stop(self, timeout_s: float) -> bool:
        """Drop the waiting item; return whether the thread has ended within the time-out."""
        with self._changed:
            thread, self._thread, self._waiting = self._thread, None, None
            self._changed.notify()
        if thread is None:
            return True
        thread.join(timeout_s)
        return not thread.is_alive()

    def _run(self) -> None:
        # Compared by identity: a thread that ends late must not go on after a new start.
        me = current_thread()
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._thread is not me or self._waiting is not None)
                if self._thread is not me or self._waiting is None:
                    return
                item, self._waiting = self._waiting, None
            self._work(item)
