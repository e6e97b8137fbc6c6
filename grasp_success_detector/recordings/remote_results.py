"""Put the results of commands at addresses of fsspec."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
import hashlib
from pathlib import Path
import shutil
from typing import Any

from grasp_success_detector.console import is_address
from grasp_success_detector.errors import RemoteError
from grasp_success_detector.files import cache_folder
from grasp_success_detector.recordings.addresses import address_of, faults, opened, parts_of


@contextmanager
def put_in_place(out: str, marker: str, *, resumes: bool = False, dask: str | None = None,
                 ) -> Iterator[Path]:
    """
    Give the local folder of a result in a block; one at an address is put there at its end.

    Until then it lies in the user's cache, and stays there if it cannot be put in place; what has
    come to the address is then removed again.

    :param out: a path, which is given as it is, or an address.
    :param marker: file of the result that is put last: where it is, all is.
    :param resumes: whether the block goes on with a result that is in the cache already.
    :param dask: address of a cluster whose workers write into the folder.
    :raises RemoteError: something lies at the address, it cannot be written, or workers would have
        to see the cache.
    """
    if not is_address(out):
        yield Path(out)
        return
    if dask is not None:
        raise RemoteError(f'{out}: with --dask the workers write the result; expected a folder '
                          'that all of them see; copy it to the address afterwards')
    with faults(out, 'written'):
        files, root = opened(out)
        place = cache_folder('out') / hashlib.sha1(address_of(parts_of(out)).encode()).hexdigest()
        place /= Path(root).name
        files.invalidate_cache()
        if files.exists(f'{root}/{marker}') or (not place.parent.exists() and files.exists(root)):
            raise RemoteError(f'{out}: exists already and is not overwritten; choose another name')
        if (place / marker).exists() and not resumes:
            raise RemoteError(f'{out}: an earlier result for it lies in {place}; put it there '
                              'yourself, or remove it')
        probe = f'{root}/.{marker}.part'    # not after hours of work
        files.pipe_file(probe, b'')
        files.rm_file(probe)
        place.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield place
        if place.exists():
            with faults(out, f'written, and the result stays in {place}'):
                _put(files, place, root, marker)
            shutil.rmtree(place)
    finally:
        with suppress(OSError):     # something is left to go on with
            place.parent.rmdir()


def _put(files: Any, place: Path, root: str, marker: str) -> None:
    names = sorted((path.relative_to(place).as_posix() for path in place.rglob('*')
                    if path.is_file()), key=lambda name: (name == marker, name))
    targets = [f'{root}/{name}' for name in names]
    try:
        for part in (slice(-1), slice(-1, None)):
            files.put([str(place / name) for name in names[part]], targets[part])
    except BaseException:
        for target in targets:
            with suppress(Exception):
                files.rm_file(target)
        raise
