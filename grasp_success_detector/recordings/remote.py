"""
What lies at addresses of fsspec (``s3://``, ``gs://`` and others): list, fetch and put it there.

What is read is first fetched into the user's cache, so that all else works on local paths. The
path of a fetched file tells its address and version, so that another machine can fetch it too.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
import fcntl
import glob
import hashlib
import io
from pathlib import Path
import pickle
import re
import shutil
import sys
from typing import Any

from grasp_success_detector.console import counted, is_address
from grasp_success_detector.errors import GraspSuccessDetectorError, one_line, RemoteError
from grasp_success_detector.files import cache_folder, DISK_ERRORS, fault_text, unfinished

#: What file systems call the version of a file; the first that is there counts.
_VERSIONS = ('ETag', 'etag', 'generation', 'mtime', 'LastModified', 'Last-Modified',
             'last_modified', 'created')
_KEY = re.compile(r'[0-9a-f]{40}-\d+')


@dataclass(frozen=True)
class Listing:
    """
    A file or folder at an address.

    :ivar address: without ``/`` at its end.
    :ivar objects: path within the folder (``''`` for a file), bytes and version of each file.
    """

    address: str
    objects: tuple[tuple[str, int, str], ...]

    @property
    def key(self) -> str:
        """Name of the cache's folder for this version: a hash, and how many parts its path has."""
        text = '\n'.join(map(repr, (self.address, *self.objects)))
        return f'{hashlib.sha1(text.encode()).hexdigest()}-{len(_parts(self.address))}'

    @property
    def place(self) -> Path:
        """Local path that it has once it was fetched; it ends like the address."""
        return cache_folder('remote').joinpath(self.key, *_parts(self.address))

    def below(self, name: str) -> 'Listing':
        """Return one folder of it."""
        return Listing(f'{self.address}/{name}', tuple(
            (path.removeprefix(f'{name}/'), size, version) for path, size, version in self.objects
            if path.startswith(f'{name}/')))

    def fetch(self) -> Path:
        """
        Return its local path, after fetching it unless it is there; it appears whole.

        :raises RemoteError: it cannot be fetched, or changes meanwhile.
        """
        tree = cache_folder('remote') / self.key
        if tree.is_dir():
            return self.place
        with _faults(self.address, 'fetched'):
            tree.parent.mkdir(parents=True, exist_ok=True)
            # Others that want the same wait, rather than fetch it a second time.
            lock = tree.with_suffix('.lock')
            with lock.open('w') as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                try:
                    if not tree.is_dir():
                        self._fetch_into(tree)
                finally:
                    lock.unlink(missing_ok=True)
        return self.place

    def _fetch_into(self, tree: Path) -> None:
        size = sum(size for _, size, _ in self.objects)
        if sys.stderr.isatty():
            print(f'fetching {self.address}: {counted(len(self.objects), "file")}, '
                  f'{size / 1e6:.1f} MB', file=sys.stderr)
        files, root = _opened(self.address)
        with unfinished(tree) as partial:
            here = partial.joinpath(*_parts(self.address))
            places = [here / path for path, _, _ in self.objects]
            for folder in {place.parent for place in places}:
                folder.mkdir(parents=True, exist_ok=True)
            files.get([f'{root}/{path}' if path else root for path, _, _ in self.objects],
                      [str(place) for place in places])
            for place, (path, expected, _) in zip(places, self.objects, strict=True):
                if (arrived := place.stat().st_size) != expected and expected >= 0:
                    raise RemoteError(f'{self.address}: {arrived} of the {expected} bytes of '
                                      f'{path or "it"} arrived; run the same command again')
            if _listed(files, root, self.address) != self:
                raise RemoteError(f'{self.address}: changed while it was fetched; run the same '
                                  'command again')
            partial.rename(tree)


def listings(given: str) -> list[Listing]:
    """
    List what lies at an address, or at all that match its pattern, in the order of names.

    :raises RemoteError: nothing lies there, or it cannot be listed.
    """
    with _faults(given, 'listed'):
        files, root = _opened(given)
        if not glob.has_magic(root) or files.exists(root):  # brackets may be part of a name
            return [_listed(files, root, _address(_parts(given)))]
        if found := sorted(files.glob(root)):
            scheme = _parts(given)[0]
            return [_listed(files, name, _address((scheme, *name.removeprefix(
                f'{scheme}:').strip('/').split('/')))) for name in found]
    raise RemoteError(f'{given}: matches nothing')


def local(given: str) -> str:
    """
    Return the path of the file or folder at an address, after fetching it; else what was given.

    :raises RemoteError: it cannot be fetched, or the address has a pattern that matches several.
    """
    if not is_address(given):
        return given
    found, *others = listings(given)
    if others:
        raise RemoteError(f'{given}: matches {1 + len(others)} names; expected one')
    return str(found.fetch())


def holds(given: str, *names: str) -> bool:
    """Return whether one of these files lies in the folder at an address."""
    with _faults(given, 'listed'):
        files, root = _opened(given)
        return any(files.exists(f'{root}/{name}') for name in names)


def origin(path: Path) -> tuple[str, str, tuple[str, ...]] | None:
    """Return address, key and further parts of the path of what is fetched; None for others."""
    parts = path.parts
    for at, part in enumerate(parts[1:], 1):
        if parts[at - 1] == 'remote' and _KEY.fullmatch(part):
            end = at + 1 + int(part.rpartition('-')[2])
            return _address(parts[at + 1:end]), part, parts[end:]
    return None


def named(path: Path) -> str:
    """Return the address of what is fetched, or will be; of other paths the path."""
    found = origin(path)
    return str(path) if found is None else '/'.join((found[0], *found[2]))


def fetched(address: str, key: str, rest: tuple[str, ...] = ()) -> Path:
    """
    Return the local path of what :func:`origin` told, on another machine too, after fetching it.

    :raises RemoteError: it cannot be fetched, or is no longer the same.
    """
    tree = cache_folder('remote') / key
    if not tree.is_dir():
        listing, = listings(address)
        if listing.key != key:
            raise RemoteError(f'{address}: was changed since the command began; run it again')
        listing.fetch()
    return tree.joinpath(*_parts(address), *rest)


def make_local(path: Path) -> None:
    """Fetch what a path of :attr:`Listing.place` stands for; other paths are left alone."""
    if found := origin(path):
        fetched(*found)


class _Pickler(pickle.Pickler):
    def reducer_override(self, value: object) -> Any:
        found = origin(value) if isinstance(value, Path) else None
        return NotImplemented if found is None else (fetched, found)


def pickled(value: Any) -> bytes:
    """Pickle a value: where it is unpickled, what its paths have of addresses is fetched first."""
    data = io.BytesIO()
    _Pickler(data).dump(value)
    return data.getvalue()


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
    with _faults(out, 'written'):
        files, root = _opened(out)
        place = cache_folder('out') / hashlib.sha1(_address(_parts(out)).encode()).hexdigest()
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
            with _faults(out, f'written, and the result stays in {place}'):
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


def _parts(address: str) -> tuple[str, ...]:
    """Return scheme, bucket and names of an address."""
    scheme, _, path = address.partition('://')
    names = [name for name in path.split('/') if name]
    if not names or '::' in address or not {'.', '..'}.isdisjoint(names):
        raise RemoteError(f'{address}: expected an address such as s3://bucket/bags/monday')
    return (scheme, *names)


def _address(parts: Sequence[str]) -> str:
    root = '/' if parts[0] in ('file', 'local') else ''
    return f'{parts[0]}://{root}{"/".join(parts[1:])}'


def _opened(given: str) -> tuple[Any, str]:
    """Return the file system of an address, and what the address is called there."""
    import fsspec

    files, root = fsspec.core.url_to_fs(_address(_parts(given)))
    return files, root


def _listed(files: Any, root: str, address: str) -> Listing:
    files.invalidate_cache()
    about = files.info(root)
    found = {'': about} if about['type'] == 'file' else {
        name.removeprefix(root).strip('/'): info
        for name, info in files.find(root, detail=True).items() if info['type'] == 'file'}
    if not found:
        raise RemoteError(f'{address}: no file lies there')
    if wrong := [name for name in found
                 if name and (not {'', '.', '..'}.isdisjoint(name.split('/')) or '\0' in name)]:
        raise RemoteError(f'{address}: {wrong[0]!r} is no name for a local file; rename it there')
    return Listing(address, tuple(
        (name, -1 if info.get('size') is None else int(info['size']),
         str(next((info[version] for version in _VERSIONS if info.get(version)), '')))
        for name, info in sorted(found.items())))


@contextmanager
def _faults(address: str, done: str) -> Iterator[None]:
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
