"""Find recordings (bags, videos, pictures), and give each a unique name."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
import glob
import os
from pathlib import Path
import re
from zlib import crc32

from grasp_success_detector.console import is_address
from grasp_success_detector.errors import BagError
from grasp_success_detector.labels import CLASS_NAMES
from grasp_success_detector.recordings import remote
from grasp_success_detector.recordings.pictures import (
    find_in_folder,
    find_in_zip,
    Found,
    is_picture,
    natural,
    Picture,
    PICTURE_SUFFIXES,
    shown,
    with_reasons,
)

STORAGE_SUFFIXES = ('.mcap', '.db3', '.mcap.zstd', '.db3.zstd')
_BAG_SUFFIXES = ('.bag', '.bag.active')
# In folders of inspect_dataset, evaluations and trainings, whose pictures are no recordings.
_RESULT_FILES = ('contact_sheet.png', 'report.html')
VIDEO_SUFFIXES = ('.mp4', '.webm', '.avi', '.mkv')


class SourceKind(str, Enum):
    """Kind of a recording."""

    BAG = 'bag'
    VIDEO = 'video'
    PICTURES = 'pictures'


@dataclass(frozen=True)
class Source:
    """
    One recording.

    :ivar name: unique in a data set; safe as part of a file name.
    :ivar path: path as given: a file, a rosbag2 folder, a folder or zip of pictures, or the folder
        of pictures that were given one by one. A bag or video at an address is fetched to its path
        where it is read first.
    :ivar files: its data files, in the order of recording.
    :ivar found: its pictures, if it is of kind PICTURES.
    """

    name: str
    path: Path
    kind: SourceKind
    files: tuple[Path, ...]
    found: Found = field(default=Found((), {}), repr=False)

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """Return its pictures; none for a bag or video."""
        return self.found.pictures

    @property
    def labels(self) -> str | None:
        """Return the path within it of its own CSV file of labels; None without one."""
        return self.found.labels

    def identity(self) -> dict[str, object]:
        """Return name, path and size, by which a continued extraction knows its sources."""
        known: dict[str, object] = {'name': self.name, 'path': str(self.path.resolve())}
        if found := remote.origin(self.path):   # its key stands for its content
            return known | {'path': remote.named(self.path), 'version': found[1]}
        if self.kind is not SourceKind.PICTURES:
            return known | {'bytes': sum(file.stat().st_size for file in self.files)}
        listed = '\n'.join(f'{p.member} {p.size}' for p in self.pictures)
        labels = self.path / self.labels if self.labels and self.path.is_dir() else None
        return known | {
            'bytes': sum(picture.size for picture in self.pictures),
            'pictures': len(self.pictures), 'listed': f'{_crc(listed):08x}',
            'labels': labels and f'{crc32(labels.read_bytes()):08x}'}


def find_sources(given: Sequence[str | Path]) -> list[Source]:
    """
    Return the recordings at the given paths, addresses and glob patterns, in the order given.

    A folder that holds rosbag2 folders stands for all of these.

    Pictures that are given one by one are one recording for each folder that they lie in; for
    ``success/1.jpg`` it is the folder that ``success`` lies in.

    :raises BagError: a path is missing or is no recording (the error names all of these), or two
        paths hold the same file.
    :raises RemoteError: what lies at an address cannot be listed or fetched.
    """
    unread: dict[Path, list[Path]] = {}
    paths: list[Path] = []
    wrong: list[str] = []
    single: dict[Path, list[Path]] = {}
    for text in map(str, given):
        # A name that exists is taken as it is: brackets may be part of it.
        matches = [text] if Path(text).exists() else _at_address(text, unread) if is_address(
            text) else sorted(glob.glob(text, recursive=True), key=natural)
        if not matches:
            wrong.append(f'{shown(text)}: no such bag, video or picture')
        for path in map(Path, matches):
            if is_picture(path.name) and path.is_file():
                folder = _folder_of(path)
                single.setdefault(folder, []).append(path)
                path = folder
            paths += [each for each in _bags_in(path) or [path] if each not in paths]
    sources = []
    for name, path in zip(_unique_names(paths), paths, strict=True):
        try:
            if path in single and str(path) not in map(str, given):
                sources.append(_of_single_pictures(name, path, single[path]))
            elif files := unread.get(path):
                kind = (SourceKind.VIDEO if path.name.lower().endswith(VIDEO_SUFFIXES)
                        else SourceKind.BAG)
                sources.append(Source(name, path, kind, tuple(files)))
            elif (source := _source(name, path)) is not None:
                sources.append(source)
            else:
                wrong.append(
                    f'{shown(remote.named(path))}: no recording, no pictures, no data set; '
                    'expected a rosbag2 folder, .mcap, .db3, .bag, a video '
                    f'({", ".join(VIDEO_SUFFIXES)}), or a folder or .zip with pictures '
                    f'({", ".join(PICTURE_SUFFIXES)})')
        except BagError as error:
            wrong.append(str(error))
    if wrong:
        raise BagError('; '.join(wrong))
    _refuse_twice(sources)
    return sources


def _refuse_twice(sources: Sequence[Source]) -> None:
    """Raise BagError if two sources have a file in common: its frames would count twice."""
    found: dict[str, Source] = {}
    for source in sources if len(sources) > 1 else ():
        place = os.path.realpath(source.path)
        for file in ((f'{place}/{picture.member}' for picture in source.pictures)
                     if source.kind is SourceKind.PICTURES else
                     map(os.path.realpath, source.files)):
            if (other := found.setdefault(file, source)) is not source:
                both = ' and '.join(shown(remote.named(each.path)) for each in (other, source))
                raise BagError(f'{both}: have {shown(file)} in common; expected each recording '
                               'once')


def _at_address(address: str, unread: dict[Path, list[Path]]) -> list[str]:
    """
    Return the local paths of the recordings at an address; all but bags and videos are fetched.

    :param unread: receives the files of bags and videos: who reads one fetches it.
    """
    found = remote.listings(address)
    if len(found) > 1 and any(is_picture(each.address) for each in found):
        raise BagError(f'{address}: matches single pictures; expected their folder or .zip')
    paths = []
    for each in found:
        names = [name for name, _, _ in each.objects if not name.startswith('.')]
        bags = {name.partition('/')[0] for name in names if name.count('/') == 1
                and name.lower().endswith(STORAGE_SUFFIXES)}
        # As in _bags_in: a folder that holds bags and nothing else stands for these.
        for unit in [each.below(name) for name in sorted(bags, key=natural)] if bags == {
                name.partition('/')[0] for name in names} else [each]:
            if files := _files_by_name(unit):
                unread[unit.place] = files
            else:
                unit.fetch()
            paths.append(str(unit.place))
    return paths


def _files_by_name(listing: remote.Listing) -> list[Path]:
    """Return the files of a bag or video; none if more than names must tell what it is."""
    names = [name for name, _, _ in listing.objects]
    if names == ['']:
        return [listing.place] if listing.address.lower().endswith(
            (*STORAGE_SUFFIXES, *_BAG_SUFFIXES, *VIDEO_SUFFIXES)) else []
    if any(map(is_picture, names)):
        return []
    return [listing.place / name for name in sorted(names, key=natural)
            if '/' not in name and name.lower().endswith(STORAGE_SUFFIXES)]


def _folder_of(picture: Path) -> Path:
    """Return the folder that a single picture belongs to: above those of its label and split."""
    folder = picture.parent
    if folder.name.lower() not in CLASS_NAMES:
        return folder
    folder = folder.parent
    return folder.parent if folder.name.lower() in ('train', 'val', 'test') else folder


def _of_single_pictures(name: str, folder: Path, pictures: Iterable[Path]) -> Source:
    found = [Picture(path.relative_to(folder).as_posix(), -1, path.stat().st_size, -1)
             for path in dict.fromkeys(pictures)]
    found.sort(key=lambda picture: natural(picture.member))
    return Source(name, folder, SourceKind.PICTURES, (), Found(tuple(found), {}))


def _source(name: str, path: Path) -> Source | None:
    """Return the recording at a path; None if there is none."""
    lowered = path.name.lower()
    if path.is_dir():
        # By what lies there, not by metadata.yaml: it may be missing, stale or damaged.
        files = tuple(sorted(
            (file for file in path.iterdir()
             if file.is_file() and file.name.lower().endswith(STORAGE_SUFFIXES)),
            key=lambda file: natural(file.name)))
        if files and not _holds_pictures(path):
            return Source(name, path, SourceKind.BAG, files)
        found = find_in_folder(path, (*STORAGE_SUFFIXES, *_BAG_SUFFIXES))
        if found.pictures and found.recordings:
            raise BagError(
                f'{shown(path)}: holds a bag ({shown(found.recordings[0])}) and '
                f'{len(found.pictures)} pictures ({shown(found.pictures[0].member)}, ...); '
                'expected one of them: give the bag file or the folder of the pictures')
        return _of_pictures(name, path, (), found)
    if lowered.endswith('.zip'):
        return _of_pictures(name, path, (path,), find_in_zip(path))
    if lowered.endswith(VIDEO_SUFFIXES):
        return Source(name, path, SourceKind.VIDEO, (path,))
    if lowered.endswith((*STORAGE_SUFFIXES, *_BAG_SUFFIXES)):
        return Source(name, path, SourceKind.BAG, (path,))
    return None


def _of_pictures(name: str, path: Path, files: tuple[Path, ...], found: Found) -> Source | None:
    if found.unread and not (found.pictures or found.recordings):
        raise BagError(f'{shown(path)}: no picture can be read: {with_reasons(found.unread)}')
    return Source(name, path, SourceKind.PICTURES, files, found) if found.pictures else None


def _bags_in(folder: Path) -> list[Path]:
    """Return the rosbag2 folders in a folder without other recordings; else an empty list."""
    if not folder.is_dir():
        return []
    try:
        inside = sorted((path for path in folder.iterdir() if not path.name.startswith('.')),
                        key=lambda path: natural(path.name))
        folders = [path for path in inside if path.is_dir() and not path.is_symlink()
                   and not any((path / name).is_file() for name in _RESULT_FILES)]
        others = [path.name for path in inside if path not in folders]
        if any(is_picture(name) or name.lower().endswith(STORAGE_SUFFIXES) for name in others):
            return []
        are_bags = all(any(name.lower().endswith(STORAGE_SUFFIXES) for name in os.listdir(path))
                       and not _holds_pictures(path) for path in folders)
    except OSError:
        return []   # the error is raised where the folder is read
    return folders if are_bags else []


def _holds_pictures(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        return any(is_picture(entry.name) or (entry.is_dir() and entry.name.lower() in CLASS_NAMES)
                   for entry in entries)


def _crc(text: str) -> int:
    return crc32(text.encode('utf-8', 'surrogateescape'))   # a file's name may be no UTF-8


def safe_name(text: str) -> str:
    """Return a text changed to suit file names on any file system, without ``__``."""
    name = re.sub(r'[^A-Za-z0-9.-]+', '_', text).strip('_.') or 'unnamed'
    return name if len(name) <= 90 else f'{name[:80]}-{_crc(text):08x}'


def _unique_names(paths: Iterable[Path]) -> list[str]:
    """Name each source by its last parts, as few as tell it from the others."""
    parts = [path.resolve().parts for path in paths]
    names, taken = [], Counter[str]()
    for own in parts:
        depth = next((n for n in range(1, len(own)) if sum(
            _name(other, n) == _name(own, n) for other in parts) == 1), len(own))
        name = _name(own, depth)
        taken[name] += 1
        names.append(name if taken[name] == 1 else f'{name}.{taken[name]}')
    return names


def _name(parts: tuple[str, ...], depth: int) -> str:
    *folders, last = parts[-depth:]
    suffix = next((suffix for suffix in (
        *STORAGE_SUFFIXES, *_BAG_SUFFIXES, *VIDEO_SUFFIXES, '.zip')
                   if last.lower().endswith(suffix)), '')
    return safe_name('.'.join([*folders, last[:len(last) - len(suffix)]]))
