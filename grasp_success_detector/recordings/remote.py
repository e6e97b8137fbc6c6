"""
What lies at addresses of fsspec (``s3://``, ``gs://`` and others): list and fetch it.

What is read is first fetched into the user's cache, so that all else works on local paths. The
path of a fetched file tells its address and version, so that another machine can fetch it too.
"""

from dataclasses import dataclass
import glob
import hashlib
import io
from pathlib import Path
import pickle
import sys
from typing import Any

from grasp_success_detector.console import counted, is_address
from grasp_success_detector.errors import RemoteError
from grasp_success_detector.files import unfinished
from grasp_success_detector.recordings.addresses import address_of, faults, opened, parts_of
from grasp_success_detector.recordings.fetched_cache import (
    entry,
    fetching,
    KEY,
    make_room,
    use,
)

#: What file systems call the version of a file; the first that is there counts.
_VERSIONS = ('ETag', 'etag', 'generation', 'mtime', 'LastModified', 'Last-Modified',
             'last_modified', 'created')


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
        return f'{hashlib.sha1(text.encode()).hexdigest()}-{len(parts_of(self.address))}'

    @property
    def place(self) -> Path:
        """Local path that it has once it was fetched; it ends like the address."""
        return entry(self.key).joinpath(*parts_of(self.address))

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
        with faults(self.address, 'fetched'):
            if not use(self.key):
                with fetching(self.key):    # others that want the same wait
                    if not entry(self.key).is_dir():
                        self._fetch_into(entry(self.key))
        return self.place

    def _fetch_into(self, tree: Path) -> None:
        size = sum(max(size, 0) for _, size, _ in self.objects)
        make_room(size)
        if sys.stderr.isatty():
            print(f'fetching {self.address}: {counted(len(self.objects), "file")}, '
                  f'{size / 1e6:.1f} MB', file=sys.stderr)
        files, root = opened(self.address)
        with unfinished(tree) as partial:
            here = partial.joinpath(*parts_of(self.address))
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
    with faults(given, 'listed'):
        files, root = opened(given)
        if not glob.has_magic(root) or files.exists(root):  # brackets may be part of a name
            return [_listed(files, root, address_of(parts_of(given)))]
        if found := sorted(files.glob(root)):
            scheme = parts_of(given)[0]
            return [_listed(files, name, address_of((scheme, *name.removeprefix(
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
    with faults(given, 'listed'):
        files, root = opened(given)
        return any(files.exists(f'{root}/{name}') for name in names)


def origin(path: Path) -> tuple[str, str, tuple[str, ...]] | None:
    """Return address, key and further parts of the path of what is fetched; None for others."""
    parts = path.parts
    for at, part in enumerate(parts[1:], 1):
        if parts[at - 1] == 'remote' and KEY.fullmatch(part):
            end = at + 1 + int(part.rpartition('-')[2])
            return address_of(parts[at + 1:end]), part, parts[end:]
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
    with faults(address, 'fetched'):
        there = use(key)
    if not there:
        listing, = listings(address)
        if listing.key != key:
            raise RemoteError(f'{address}: was changed since the command began; run it again')
        listing.fetch()
    return entry(key).joinpath(*parts_of(address), *rest)


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
