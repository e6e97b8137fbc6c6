"""Find the pictures of a folder or zip file, and read their bytes."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
import os
from pathlib import Path, PurePosixPath
import re
import stat
from typing import Final, NamedTuple
import zipfile

from grasp_success_detector.errors import BagError, one_line
from grasp_success_detector.files import check_regular

#: Suffixes of picture files, in lower case.
PICTURE_SUFFIXES: Final = ('.jpg', '.jpeg', '.png', '.webp', '.bmp', '.tif', '.tiff')

#: Suffixes of pictures that OpenCV cannot read.
_FOREIGN_SUFFIXES: Final = ('.avif', '.dng', '.gif', '.heic', '.heif', '.jxl')

#: CSV files of labels that count if they lie in the folder or zip, the first of them; the latter
#: is that of a data set.
LABEL_FILES: Final = ('labels.csv', 'manifest.csv')

#: Files of these kinds lie beside pictures for a reason.
_COMPANIONS: Final = ('.csv', '.json', '.jsonl', '.md', '.txt', '.html', '.yaml', '.yml', '.pdf')

#: Limits against zip bombs and folders given by mistake, such as the whole disk.
_MOST_FILES: Final = 1_000_000
_LARGEST_BYTES: Final = 1 << 29
_LARGEST_RATIO: Final = 1000


class Picture(NamedTuple):
    """
    A picture of a folder or zip file.

    :ivar member: its path within the folder or zip, with ``/``.
    :ivar number: index among the entries of the zip; -1 in a folder.
    :ivar size: bytes of the file.
    :ivar crc: CRC-32 that the zip states; -1 in a folder.
    """

    member: str
    number: int
    size: int
    crc: int


class Found(NamedTuple):
    """
    What a folder or zip file holds.

    :ivar pictures: in natural order of their paths.
    :ivar left_out: numbers of other files, by reason.
    :ivar recordings: paths of bags within it.
    :ivar labels: path within it of the first of ``LABEL_FILES`` that it holds; None without one.
    :ivar unread: of the files left out, those that could be pictures: path, and how to mend it.
    """

    pictures: tuple[Picture, ...]
    left_out: dict[str, int]
    recordings: tuple[str, ...] = ()
    labels: str | None = None
    unread: Mapping[str, str] = {}


def is_picture(name: str) -> bool:
    """Return whether a file's suffix is one of a picture."""
    return name.lower().endswith(PICTURE_SUFFIXES)


def shown(name: object) -> str:
    """Return a name as text on one line that any terminal can print: files have any names."""
    return ''.join(letter if letter.isprintable() else
                   letter.encode('unicode_escape').decode() for letter in str(name))


def with_reasons(files: Mapping[str, str], most: int = 5) -> str:
    """Return the first of some files, each with the reason that ``files`` gives for it."""
    more = f' and {len(files) - most} more' if len(files) > most else ''
    return ', '.join(f'{shown(name)} ({reason})' for name, reason
                     in islice(files.items(), most)) + more


def natural(name: str) -> list[tuple[int, str]]:
    """Return a sorting key by which take_10 comes after take_9."""
    return [(int(part), '') if part.isdecimal() else (-1, part)
            for part in re.split(r'(\d+)', name)]


def find_in_folder(folder: Path, bag_suffixes: tuple[str, ...]) -> Found:
    """
    List the pictures below a folder; links are not followed out of it.

    :raises BagError: the folder cannot be read, or holds very many files.
    """
    pictures, recordings = list[Picture](), list[str]()
    left_out, unread = Counter[str](), dict[str, str]()
    inside = os.path.realpath(folder) + os.sep
    for number, (path, member) in enumerate(_files_below(folder, inside, left_out)):
        if number >= _MOST_FILES:
            raise BagError(f'{shown(folder)}: more than {_MOST_FILES:,} files; expected a folder '
                           'of pictures')
        name = member.lower()
        if name.endswith(bag_suffixes):
            recordings.append(member)
        try:
            status = os.stat(path)
        except OSError:
            left_out['broken link'] += 1
            unread[member] = 'broken link; put the picture itself here'
            continue
        if not stat.S_ISREG(status.st_mode):
            left_out['no regular file'] += 1
        elif os.path.islink(path) and not os.path.realpath(path).startswith(inside):
            left_out['link out of the folder'] += 1
        elif is_picture(name):
            pictures.append(Picture(member, -1, status.st_size, -1))
        else:
            _count_other(member, left_out, unread)
    pictures.sort(key=lambda picture: natural(picture.member))
    labels = next((name for name in LABEL_FILES if (folder / name).is_file()), None)
    return Found(tuple(pictures), dict(left_out), tuple(recordings), labels,
                 dict(sorted(unread.items(), key=lambda item: natural(item[0]))))


def _files_below(folder: Path, inside: str, left_out: Counter[str]) -> Iterator[tuple[str, str]]:
    """Yield path and path within the folder of all files that are not hidden."""
    def refuse(error: OSError) -> None:
        if error.filename == str(folder):
            raise BagError(f'{shown(folder)}: cannot be read ({error.strerror})') from error
        left_out['folder that cannot be read'] += 1

    for root, folders, names in os.walk(folder, onerror=refuse):
        kept = [name for name in folders if not _is_hidden(name)]
        left_out['link out of the folder'] += sum(
            os.path.islink(path := os.path.join(root, name))
            and not os.path.realpath(path).startswith(inside) for name in kept)
        folders[:] = kept
        below = os.path.relpath(root, folder)
        for name in names:
            if not _is_hidden(name):
                yield os.path.join(root, name), name if below == '.' else f'{below}/{name}'


def _is_hidden(name: str) -> bool:
    return name.startswith('.') or name in ('__MACOSX', 'Thumbs.db')


def _count_other(name: str, left_out: Counter[str], unread: dict[str, str]) -> None:
    suffix = PurePosixPath(name).suffix.lower()
    if suffix in _FOREIGN_SUFFIXES:
        unread[name] = f'{suffix} cannot be read; convert it to .jpg'
    if suffix not in _COMPANIONS:
        left_out[f'{shown(suffix)} file' if suffix else 'file without a suffix'] += 1


def find_in_zip(path: Path) -> Found:
    """
    List the pictures in a zip file, without unpacking them.

    :raises BagError: it is no zip file, names files outside of it, or unpacks to far more bytes
        than pictures do.
    """
    left_out, unread = Counter[str](), dict[str, str]()
    pictures, labels = list[Picture](), list[str]()
    with open_zip(path) as archive:
        entries = archive.infolist()
        if outside := [entry.filename for entry in entries
                       if entry.filename.startswith(('/', '\\')) or '..' in re.split(
                           r'[/\\]', entry.filename)]:
            raise BagError(f'{shown(path)}: names files outside of it, such as '
                           f'{shown(outside[0])}; expected paths below the folder that was '
                           'packed: pack it again')
        unpacked = sum(entry.file_size for entry in entries)
        packed = max(path.stat().st_size, 1)
        if len(entries) > _MOST_FILES or (
                unpacked > _LARGEST_BYTES and unpacked > _LARGEST_RATIO * packed):
            raise BagError(
                f'{shown(path)}: {packed:,} bytes unpack to {unpacked:,} bytes in '
                f'{len(entries):,} files; expected pictures: at most {_LARGEST_RATIO} times as '
                f'many bytes, and {_MOST_FILES:,} files')
        for number, entry in enumerate(entries):
            name = entry.filename.replace('\\', '/')
            if entry.is_dir() or any(map(_is_hidden, name.split('/'))):
                continue
            if stat.S_ISLNK(entry.external_attr >> 16):
                left_out['link'] += 1
            elif entry.flag_bits & 1:
                left_out['encrypted file'] += 1
            elif is_picture(name):
                pictures.append(Picture(name, number, entry.file_size, entry.CRC))
            elif PurePosixPath(name).name in LABEL_FILES:
                labels.append(name)
            else:
                _count_other(name, left_out, unread)
    pictures.sort(key=lambda picture: (natural(picture.member), picture.number))
    # The outermost one; a zip often holds one folder with everything in it.
    labels.sort(key=lambda name: (name.count('/'), LABEL_FILES.index(PurePosixPath(name).name)))
    return Found(tuple(pictures), dict(left_out), (), labels[0] if labels else None, unread)


@contextmanager
def open_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a zip file; raise BagError if it is none or cannot be read."""
    try:
        check_regular(path)
        archive = zipfile.ZipFile(path)
    except OSError as error:
        raise BagError(f'{shown(path)}: cannot be read ({error.strerror})') from error
    except Exception as error:  # a damaged directory raises errors of any kind
        raise BagError(f'{shown(path)}: not a readable zip file ({one_line(error)}); expected a '
                       'zip of pictures') from error
    with archive:
        yield archive


class PictureReader:
    """Reads pictures of one folder or zip file; to be used in a with statement."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._zip = None if root.is_dir() else zipfile.ZipFile(root)

    def __enter__(self) -> 'PictureReader':
        return self

    def __exit__(self, *exception: object) -> None:
        if self._zip is not None:
            self._zip.close()

    def read(self, member: str, number: int) -> bytes:
        """
        Return the bytes of a picture.

        :raises ValueError: it is gone, larger than 512 MiB, or its part of the zip is damaged.
        """
        try:
            data = (_read_file(self._root / member) if self._zip is None else
                    self._read_entry(self._zip, number))
        except ValueError:
            raise
        except OSError as error:
            raise ValueError(f'{shown(member)}: cannot be read ({error.strerror})') from error
        except Exception as error:  # zipfile raises errors of any kind for damaged entries
            raise ValueError(f'{shown(member)}: damaged in the zip ({one_line(error)})') from error
        if len(data) > _LARGEST_BYTES:
            raise ValueError(f'{shown(member)}: more than {_LARGEST_BYTES >> 20} MiB')
        return data

    def text_of(self, member: str, largest: int) -> str:
        """
        Return a text file of a zip, the first of this name.

        :raises BagError: it cannot be read or has more bytes than ``largest``.
        """
        assert self._zip is not None
        try:
            with self._zip.open(member) as file:
                data = file.read(largest + 1)
        except Exception as error:  # zipfile raises errors of any kind for damaged entries
            raise BagError(f'{shown(self._root)}: {member} cannot be read ({one_line(error)}); '
                           'pack the zip again') from error
        if len(data) > largest:
            raise BagError(f'{shown(self._root)}: {member} has more than {largest:,} bytes')
        return data.decode('utf-8-sig', 'surrogateescape')

    @staticmethod
    def _read_entry(archive: zipfile.ZipFile, number: int) -> bytes:
        with archive.open(archive.infolist()[number]) as file:
            return file.read(_LARGEST_BYTES + 1)


def _read_file(path: Path) -> bytes:
    # It may have been replaced by a pipe or device meanwhile, which must not block.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with open(descriptor, 'rb') as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError(f'{shown(path)}: no regular file')
        return file.read(_LARGEST_BYTES + 1)
