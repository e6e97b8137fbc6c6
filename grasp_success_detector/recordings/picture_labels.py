"""
The label and the split of each picture of a folder or zip file.

They come from the names of folders (``success``, ``failure``; ``train``, ``val``, ``test`` above
them), from a CSV file ``file,label[,attempt][,split]``, or from one label for all.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
import csv
import io
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

from grasp_success_detector.errors import DatasetError, quoted
from grasp_success_detector.files import check_regular
from grasp_success_detector.labels import CLASS_NAMES, Label
from grasp_success_detector.recordings.pictures import Picture, PictureReader, shown
from grasp_success_detector.recordings.sources import Source

_COLUMNS: Final = ('file', 'label')
_MOST_NAMED: Final = 5

#: Names of the folders and values of the column that name a split.
SPLIT_NAMES: Final = {
    'train': 'train', 'training': 'train', 'val': 'val', 'valid': 'val', 'validation': 'val',
    'test': 'test', 'testing': 'test'}

#: Limit of a CSV that lies in a zip.
_LARGEST_CSV: Final = 1 << 28


class PictureRow(NamedTuple):
    """
    What a CSV file says of one picture.

    :ivar line: number of the line.
    :ivar label: None if the file leaves it empty.
    :ivar attempt: None if the file does not give it.
    :ivar split: one of train, val and test; '' if the file does not give it.
    """

    line: int
    file: str
    label: Label | None
    attempt: str | None
    split: str


class PictureTruth(NamedTuple):
    """
    Label, split and place of one picture.

    :ivar split: one of train, val and test; '' if none was given.
    :ivar attempt: attempt by the CSV file; None without.
    :ivar place: its path without the folders that name a label or a split.
    """

    picture: Picture
    label: Label | None
    split: str
    attempt: str | None
    place: str


#: Rows of a CSV file by ``Picture.member``.
PictureRows = Mapping[str, PictureRow]


def read_picture_rows(path: Path) -> list[PictureRow]:
    """
    Read a CSV file of pictures and their labels.

    :raises DatasetError: it cannot be read, lacks columns, or has invalid values, which the error
        names with their lines.
    """
    try:
        check_regular(path)
        # Names that are no UTF-8 are compared byte for byte.
        text = path.read_bytes().decode('utf-8-sig', 'surrogateescape')
    except OSError as error:
        raise DatasetError(f'{shown(path)}: cannot be read as a CSV of pictures '
                           f'({error.strerror})') from error
    return _parse(shown(path), text)


def _parse(name: str, text: str) -> list[PictureRow]:
    rows, wrong = [], list[str]()
    try:
        reader = csv.DictReader(io.StringIO(text, newline=''))
        reader.fieldnames = columns = [column.strip() for column in reader.fieldnames or ()]
        if missing := [column for column in _COLUMNS if column not in columns]:
            raise DatasetError(f'{name}: no column {", ".join(missing)}; expected a CSV with '
                               f'{",".join(_COLUMNS)}[,attempt][,split] for pictures')
        for values in reader:
            try:
                rows.append(_row(reader.line_num, values))
            except ValueError as error:
                wrong.append(f'line {reader.line_num}: {error}')
    except csv.Error as error:
        raise DatasetError(f'{name}: cannot be read as a CSV of pictures ({error})') from error
    _refuse(name, wrong)
    return rows


def _row(line: int, values: Mapping[str, str | None]) -> PictureRow:
    file, label, attempt, split = (
        (values.get(column) or '').strip() for column in (*_COLUMNS, 'attempt', 'split'))
    if not file:
        raise ValueError('no file')
    if label and label.lower() not in CLASS_NAMES:
        raise ValueError(f'label {quoted(label)} (expected {" or ".join(CLASS_NAMES)}; an empty '
                         'one leaves the picture out)')
    if split and split.lower() not in SPLIT_NAMES:
        raise ValueError(f'split {quoted(split)} (expected train, val or test)')
    return PictureRow(line, file, Label[label.upper()] if label else None, attempt or None,
                      SPLIT_NAMES[split.lower()] if split else '')


def _refuse(name: str, wrong: Sequence[str]) -> None:
    if wrong:
        more = len(wrong) - _MOST_NAMED
        raise DatasetError(f'{name}: ' + '; '.join(wrong[:_MOST_NAMED])
                           + (f'; and {more} more' if more > 0 else ''))


def match_rows(path: Path, rows: Iterable[PictureRow], sources: Sequence[Source],
               ) -> dict[str, PictureRows]:
    """
    Find the picture that each row of a CSV file names.

    A row may name it by its path within its folder or zip, by a path relative to the CSV file or
    to the working directory, or by its name alone if no other picture has it.

    :param path: the CSV file.
    :param sources: folders and zip files of pictures.
    :returns: for each source, by name, its rows by the picture's path within it.
    :raises DatasetError: a row names no picture or several, or two rows name the same one.
    """
    known: dict[str, list[tuple[str, str]]] = {}
    for source in sources:
        for picture in source.pictures:
            place = (source.name, picture.member)
            names = {picture.member, PurePosixPath(picture.member).name,
                     str((source.path / picture.member).resolve())}
            for name in names:
                known.setdefault(name, []).append(place)
    found: dict[str, dict[str, PictureRow]] = {source.name: {} for source in sources}
    absent, wrong = [], []
    for row in rows:
        name = row.file.replace('\\', '/').removeprefix('./')
        places = next(filter(None, (known.get(key) for key in (
            name, str((path.parent / row.file).resolve()), str(Path(row.file).resolve())))), [])
        if not places:
            absent.append(shown(row.file))
            continue
        if len(places) > 1:
            wrong.append(f'line {row.line}: {shown(row.file)} names {len(places)} pictures; '
                         'expected its path in the folder')
            continue
        (source_name, member), = places
        if (other := found[source_name].setdefault(member, row)) is not row:
            wrong.append(f'lines {other.line} and {row.line} both name {shown(row.file)}')
    if absent:
        named = ', '.join(absent[:_MOST_NAMED]) + ', ...' * (len(absent) > _MOST_NAMED)
        wrong.insert(0, f'{len(absent)} of its files are not there: {named} (expected paths of '
                     f'pictures in {", ".join(shown(source.path) for source in sources)})')
    _refuse(shown(path), wrong)
    return dict(found.items())


def rows_beside(source: Source) -> PictureRows:
    """Return the rows of the CSV file that lies in a source's folder or zip; {} without one."""
    if source.labels is None:
        return {}
    path = source.path / source.labels
    if source.path.is_dir():
        rows = read_picture_rows(path)
    else:
        with PictureReader(source.path) as reader:
            text = reader.text_of(source.labels, _LARGEST_CSV)
        rows = _parse(shown(path), text)
    folder = PurePosixPath(source.labels).parent
    inner = [row._replace(file=str(folder / row.file)) for row in rows]
    return match_rows(path, inner, [source])[source.name]


def label_pictures(source: Source, label: str | None, rows: PictureRows, beside: bool,
                   ) -> tuple[list[PictureTruth], Counter[str]]:
    """
    Find label and split of each picture of a source.

    :param label: label of all pictures; None to take it from ``rows`` or folders.
    :param rows: rows of a CSV file about the source's pictures; {} without one.
    :param beside: whether the CSV file lies in the folder, and was not given explicitly; then it
        must agree with the names of folders.
    :returns: the pictures in natural order of their places, and numbers of contradictions.
    :raises DatasetError: labels or splits contradict each other, or only one of the folders
        ``success`` and ``failure`` is there beside others.
    """
    truths, notes, wrong = [], Counter[str](), list[str]()
    others, classes = Counter[str](), set[str]()
    for picture in source.pictures:
        by_folder, split, place, folder = _by_folders(picture.member)
        classes |= {CLASS_NAMES[by_folder]} if by_folder is not None else set()
        if by_folder is None:
            others[folder] += 1
        row = rows.get(picture.member)
        value = by_folder
        if label is not None:
            value = Label[label.upper()]
        elif rows:
            value = None if row is None else row.label
            if None not in (value, by_folder) and value is not by_folder:
                if beside:
                    wrong.append(f'line {row.line if row else 0}: {shown(picture.member)} is '
                                 f'labelled {CLASS_NAMES[value or 0]}')
                notes['label of the CSV file, not of the folder'] += 1
        if row is not None and row.split and split and row.split != split:
            wrong.append(f'line {row.line}: {shown(picture.member)} is in split {row.split}')
        truths.append(PictureTruth(picture, value, row.split if row and row.split else split,
                                   row.attempt if row else None, place))
    _refuse(shown(source.path / (source.labels or '')) + ': its lines and the folders of the '
            'pictures contradict each other' if wrong else '', wrong)
    if label is not None and classes:
        raise DatasetError(
            f'{shown(source.path)}: holds folders {" and ".join(sorted(classes))}, which label '
            f'its pictures; leave --label {label} out, or give one of the folders alone')
    if label is None and not rows and len(classes) == 1 and set(others) - {''}:
        other, = set(CLASS_NAMES) - classes
        raise DatasetError(
            f'{shown(source.path)}: {_other_folders(others)} beside {classes.pop()}/; expected '
            f'{other}/: rename it, or label each picture by --labels CSV (file,label)')
    return truths, notes


def _by_folders(member: str) -> tuple[Label | None, str, str, str]:
    """Return label, split, place and first folder that tells neither, by the path's folders."""
    *folders, name = PurePosixPath(member).parts
    label, split, kept = None, '', list[str]()
    for folder in folders:
        lowered = folder.lower()
        if lowered in CLASS_NAMES:
            if label is not None and CLASS_NAMES[label] != lowered:
                raise DatasetError(f'{shown(member)}: lies in success/ and in failure/; expected '
                                   'one of them')
            label = Label[lowered.upper()]
        elif lowered in SPLIT_NAMES and not split and label is None:
            split = SPLIT_NAMES[lowered]
        else:
            kept.append(folder)
    return label, split, '/'.join([*kept, name]), kept[0] if kept else ''


def no_labels(source: Source) -> DatasetError:
    """Return the error of a source of which no picture has a label."""
    others = Counter(_by_folders(picture.member)[3] for picture in source.pictures)
    found = f'{_other_folders(others)}, ' if set(others) - {''} else ''
    return DatasetError(
        f'{shown(source.path)}: {found}no picture has a label; expected folders success/ and '
        'failure/, or --labels CSV (file,label[,attempt][,split]), or --label success|failure')


def _other_folders(others: Mapping[str, int]) -> str:
    names = sorted(name for name in others if name)
    more = len(names) - _MOST_NAMED
    return 'folders ' + ', '.join(shown(name) for name in names[:_MOST_NAMED]) + (
        f' and {more} more' if more > 0 else '')
