"""Memory that loading took and that nobody needs any more."""

import ctypes
import gc


def give_back() -> None:
    """
    Return freed memory to the system, where the C library can (glibc).

    A network is held several times over while it is loaded, checked and converted; the node's
    process shrinks by a tenth and more.
    """
    gc.collect()
    try:
        ctypes.CDLL('libc.so.6').malloc_trim(0)
    except (OSError, AttributeError):  # another C library
        pass
