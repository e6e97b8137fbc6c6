"""Addresses of fsspec (``s3://``, ``gs://`` and others): parts, file systems, errors."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from grasp_success_detector.errors import GraspSuccessDetectorError, one_line, RemoteError
from grasp_success_detector.files import DISK_ERRORS, fault_text


def parts_of(address: str) -> tuple[str, ...]:
    """
    Return scheme, bucket and names of an address.

    :raises RemoteError: it is none, or names a folder above another one.
    """
    scheme, _, path = address.partition('://')
    names = [name for name in path.split('/') if name]
    if not names or '::' in address or not {'.', '..'}.isdisjoint(names):
        raise RemoteError(f'{address}: expected an address such as s3://bucket/bags/monday')
    return (scheme, *names)


def address_of(parts: Sequence[str]) -> str:
    """Return the address of scheme, bucket and names."""
    root = '/' if parts[0] in ('file', 'local') else ''
    return f'{parts[0]}://{root}{"/".join(parts[1:])}'


def opened(given: str) -> tuple[Any, str]:
    """Return the file system of an address, and what the address is called there."""
    import fsspec

    files, root = fsspec.core.url_to_fs(address_of(parts_of(given)))
    return files, root


@contextmanager
def faults(address: str, done: str) -> Iterator[None]:
    """Turn errors of any file system in the block into one line."""
    try:
        yield
    except GraspSuccessDetectorError:
        raise
    except FileNotFoundError as error:
        raise RemoteError(f'{address}: no such file, folder or bucket ({one_line(error)})'
                          ) from error
    except ImportError as error:    # fsspec's own text names the package
        how = ("; in the clone: pip install -c constraints.txt '.[remote]'"
               if address.startswith('s3') or error.name == 'fsspec' else '')
        raise RemoteError(f'{address}: {one_line(error)}{how}') from error
    except Exception as error:      # of boto, aiohttp, the network: no common class
        text = (fault_text(error) if isinstance(error, OSError) and error.errno in DISK_ERRORS
                else one_line(error))
        raise RemoteError(f'{address}: cannot be {done} ({text})') from error
