"""Find recordings (bags and videos), and give each a unique name."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
import glob
from pathlib import Path
import re
from zlib import crc32

from grasp_success_detector.errors import BagError

STORAGE_SUFFIXES = ('.mcap', '.db3', '.mcap.zstd', '.db3.zstd')
_BAG_SUFFIXES = ('.bag', '.bag.active')
VIDEO_SUFFIXES = ('.mp4', '.webm', '.avi', '.mkv')


class SourceKind(str, Enum):
    """Kind of a recording."""

    BAG = 'bag'
    VIDEO = 'video'


@dataclass(frozen=True)
class Source:
    """One recording."""

    name: str                   # unique in a data set; safe as part of a file name
    path: Path                  # path as given: a file or a rosbag2 folder
    kind: SourceKind
    files: tuple[Path, ...]     # its data files, in the order of recording

    def identity(self) -> dict[str, object]:
        """Return name, path and size, by which a continued extraction knows its sources."""
        return {'name': self.name, 'path': str(self.path.resolve()),
                'bytes': sum(file.stat().st_size for file in self.files)}


def find_sources(given: Sequence[str | Path]) -> list[Source]:
    """
    Return the recordings at the given paths and glob patterns, in the order given.

    :raises BagError: a path is missing or is no recording; the error names all of these.
    """
    paths: list[Path] = []
    wrong: list[str] = []
    for text in map(str, given):
        # A name that exists is taken as it is: brackets may be part of it.
        matches = [text] if Path(text).exists() else sorted(glob.glob(text, recursive=True))
        if not matches:
            wrong.append(f'{text}: no such bag or video')
        paths += [path for match in matches if (path := Path(match)) not in paths]
    sources = [Source(name, path, *_files_of(path))
               for name, path in zip(_unique_names(paths), paths, strict=True)]
    wrong += [f'{source.path}: no recording; expected a rosbag2 folder, .mcap, .db3, .bag or a '
              f'video ({", ".join(VIDEO_SUFFIXES)})' for source in sources if not source.files]
    if wrong:
        raise BagError('; '.join(wrong))
    return sources


def safe_name(text: str) -> str:
    """Return a text changed to suit file names on any file system, without ``__``."""
    name = re.sub(r'[^A-Za-z0-9.-]+', '_', text).strip('_.') or 'unnamed'
    data = text.encode('utf-8', 'surrogateescape')  # a file's name may be no UTF-8
    return name if len(name) <= 90 else f'{name[:80]}-{crc32(data):08x}'


def _files_of(path: Path) -> tuple[SourceKind, tuple[Path, ...]]:
    name = path.name.lower()
    if path.is_dir():
        # By what lies there, not by metadata.yaml: it may be missing, stale or damaged.
        return SourceKind.BAG, tuple(sorted(
            (file for file in path.iterdir()
             if file.is_file() and file.name.lower().endswith(STORAGE_SUFFIXES)),
            key=lambda file: _natural(file.name)))
    if name.endswith(VIDEO_SUFFIXES):
        return SourceKind.VIDEO, (path,)
    return SourceKind.BAG, (path,) if name.endswith((*STORAGE_SUFFIXES, *_BAG_SUFFIXES)) else ()


def _natural(name: str) -> list[tuple[int, str]]:
    """Sort bag_10 behind bag_9."""
    return [(int(part), '') if part.isdecimal() else (-1, part)
            for part in re.split(r'(\d+)', name)]


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
    suffix = next((suffix for suffix in (*STORAGE_SUFFIXES, *_BAG_SUFFIXES, *VIDEO_SUFFIXES)
                   if last.lower().endswith(suffix)), '')
    return safe_name('.'.join([*folders, last[:len(last) - len(suffix)]]))
