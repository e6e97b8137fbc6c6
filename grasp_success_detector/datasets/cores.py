"""How the processes of a command share the cores and the memory of a machine."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
import ctypes
from functools import cache
import os
from typing import TypeVar

import cv2

Made = TypeVar('Made')

# malloc.h of glibc
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


@contextmanager
def one_opencv_thread() -> Iterator[None]:
    """Let OpenCV use one thread in a block: on single pictures further ones only wait."""
    threads = cv2.getNumThreads()
    _keep_freed_memory()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)


def ahead(items: Iterator[Made]) -> Iterator[Made]:
    """Yield items, none of which is None; a thread makes the next while the caller has one."""
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(next, items, None)
        while (item := waiting.result()) is not None:
            waiting = thread.submit(next, items, None)
            yield item


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


@cache
def share_the_cores() -> None:
    """Prepare a worker process, once, for tasks that each use one core."""
    _keep_freed_memory()
    cv2.setNumThreads(1)
