"""Read a labels file, and find the recordings that its rows name."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
import os
from pathlib import Path
import sys

from grasp_success_detector.console import counted
from grasp_success_detector.errors import DatasetError
from grasp_success_detector.recordings.ground_truth import (
    holds_intervals,
    Interval,
    read_intervals,
)
from grasp_success_detector.recordings.picture_labels import (
    match_rows,
    PictureRows,
    read_picture_rows,
)
from grasp_success_detector.recordings.pictures import shown
from grasp_success_detector.recordings.remote import named
from grasp_success_detector.recordings.sources import safe_name, Source, SourceKind

_MOST_NAMED = 3

#: What a labels file says of one source: intervals, or rows of pictures.
SourceLabels = Sequence[Interval] | PictureRows


def read_labels(sources: Sequence[Source], path: Path | None) -> dict[str, SourceLabels]:
    """
    Read a labels file: intervals of bags and videos, or rows of pictures; None: there is none.

    A file may have rows of further recordings, which a line on stderr names.

    :returns: what the file says of each source, by its name; empty for those it does not know.
    :raises DatasetError: the file is damaged, is not of the kind that the sources need, names
        pictures that are not there, or a name in it fits several sources.
    """
    pictures = [source for source in sources if source.kind is SourceKind.PICTURES]
    others = [source for source in sources if source.kind is not SourceKind.PICTURES]
    labels: dict[str, SourceLabels] = {
        source.name: {} if source in pictures else () for source in sources}
    if path is None:
        return labels
    if pictures and (not others or not holds_intervals(path)):
        return labels | match_rows(path, read_picture_rows(path), pictures)
    intervals = read_intervals(path)
    names = match_names(path, intervals, others)
    used = set(names.values())
    unused = [name for name in intervals if name not in used]
    if unused and names:
        rows = sum(len(intervals[name]) for name in unused)
        print(f'note: {shown(path)}: {counted(rows, "row")} not used, whose source names no given '
              f'recording, or one that other rows name more exactly: {_some(unused)}',
              file=sys.stderr)
    return labels | {source: intervals[name] for source, name in names.items()}


def match_names(path: Path, names: Iterable[str], sources: Sequence[Source]) -> dict[str, str]:
    """
    Find the name that a labels file has for each recording.

    It may be a recording's path, the end of one (``rig.mcap``, ``monday/rig.mcap``), one of these
    without suffix, or ``Source.name``. Where several fit, the first of these ways counts, and of
    the ends the longest.

    :param path: the labels file.
    :param names: the names in it.
    :returns: name by ``Source.name``; sources that no name fits are left out.
    :raises DatasetError: a name fits several sources equally well.
    """
    found, wrong = dict[str, tuple[int, int, str]](), list[str]()
    # For each way the texts that name a source so, and these sources by name.
    ways = [defaultdict[str, dict[str, Source]](dict) for _ in range(3)]
    for source in sources:
        whole, plain = _ways_to_name(source)
        for by_text, texts in zip(ways, (whole, _ends(whole), _ends(plain)), strict=True):
            for text in texts:
                by_text[text][source.name] = source
    for name in names:
        text = f'/{name.removeprefix("./").rstrip("/")}'
        way = next((way for way, by_text in enumerate(ways) if text in by_text), 0)
        fitting = [*ways[way].get(text, {}).values()]
        if len(fitting) > 1:
            given = [shown(named(source.path)) for source in fitting]
            wrong.append(f'source {shown(name)} names {len(given)} recordings ({_some(given)}); '
                         f'expected more of its path, such as {given[0]}')
        for source in fitting:
            known = (way, -len(text), name)
            found[source.name] = min(found.get(source.name, known), known)
    if wrong:
        raise DatasetError(f'{shown(path)}: {"; ".join(wrong)}')
    return {source: name for source, (_, _, name) in found.items()}


def _ways_to_name(source: Source) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return a source's paths, and its names and paths without suffix, each behind a slash."""
    path = source.path
    # The file is in UTF-8; a locale of ASCII decodes the names of files otherwise.
    whole = tuple(f'/{os.fsencode(text).decode(errors="surrogateescape")}' for text in (
        named(path), os.path.abspath(path), os.path.realpath(path)))
    return whole, (*(os.path.splitext(text)[0] for text in whole), f'/{source.name}',
                   f'/{safe_name(path.stem)}')


def _ends(paths: Iterable[str]) -> Iterator[str]:
    """Yield paths and their ends, each from a slash on."""
    for path in paths:
        yield from (path[place:] for place, letter in enumerate(path) if letter == '/')


def _some(names: Sequence[str]) -> str:
    return ', '.join(map(shown, names[:_MOST_NAMED])) + ', ...' * (len(names) > _MOST_NAMED)
