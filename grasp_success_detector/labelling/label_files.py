"""The label files: CSV files of intervals or of pictures, as the other commands read them."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path, PurePosixPath

from grasp_success_detector.errors import DatasetError, LabellingError
from grasp_success_detector.files import csv_text
from grasp_success_detector.labelling.marks import Mark, SourceMarks
from grasp_success_detector.labelling.material import Material
from grasp_success_detector.labels import Label
from grasp_success_detector.recordings.ground_truth import Interval, read_intervals
from grasp_success_detector.recordings.labels_file import match_names
from grasp_success_detector.recordings.picture_labels import read_picture_rows
from grasp_success_detector.recordings.sources import safe_name, Source

_COLUMNS = ('source', 'start_s', 'end_s', 'label', 'attempt')


class IntervalsFile:
    """
    A label file of intervals; rows of sources that are not open stay in it.

    :param path: the file; it may exist already.
    :param materials: the open sources by key; the mapping may change while a bag grows.
    :param names: name of each source in the file, by key.
    :raises LabellingError: the file exists and is no label file of intervals, or a name in it fits
        several sources.
    """

    def __init__(self, path: Path, materials: Mapping[str, Material],
                 names: Mapping[str, str]) -> None:
        self._materials, self._names = materials, names
        try:
            self._kept = read_intervals(path) if path.exists() else {}
            self._had = match_names(
                path, self._kept, [material.source for material in materials.values()])
        except DatasetError as error:
            raise LabellingError(f'{error}; choose another --out') from error

    def text(self, sources: Mapping[str, SourceMarks], unlabelled: bool = False) -> str:
        """Return the text of the file; on request with the unlabelled attempts of the sources."""
        rows = [(name, row) for name, intervals in self._kept.items() for row in intervals]
        for key, marks in sources.items():
            rows += [(self._names[key], interval) for interval in _intervals(
                self._materials[key], marks, unlabelled)]
        return csv_text(_COLUMNS, [
            (name, _seconds(row.start_ns), _seconds(row.end_ns), _label_name(row.label),
             row.attempt or '') for name, row in rows])

    def take_over(self, key: str, marks: SourceMarks) -> str | None:
        """Label a source by the intervals that the file had for it, and cut it by its attempts."""
        material = self._materials[key]
        intervals = self._kept.pop(self._had.get(material.source.name, ''), [])
        if not marks.marks:
            return None
        for interval in intervals:
            for i, time in enumerate(material.elapsed_ns):
                if (interval.label is not None
                        and interval.start_ns <= time < interval.end_ns):
                    marks.marks[i] = Mark[interval.label.name].value
        if not any(interval.attempt for interval in intervals):
            return None
        begins = [intervals[0].start_ns, *(
            after.start_ns for before, after in pairwise(intervals)
            if after.attempt != before.attempt)]
        marks.starts = sorted({0, *(
            next((i for i, time in enumerate(material.elapsed_ns) if time >= begin), 0)
            for begin in begins[1:])})
        return 'the attempts of the label file'


class PicturesFile:
    """
    A label file of pictures, ``file,label,attempt``; rows of other pictures stay in it.

    :param path: the file; it may exist already.
    :param materials: the open folders and zip files of pictures by key.
    :raises LabellingError: the file exists and is no label file of pictures.
    """

    def __init__(self, path: Path, materials: Mapping[str, Material]) -> None:
        self._materials = materials
        try:
            rows = read_picture_rows(path) if path.exists() else []
        except DatasetError as error:
            raise LabellingError(f'{error}; choose another --out') from error
        self._kept = {row.file.removeprefix('./'): row for row in rows}
        used = Counter(name for material in materials.values() for frame in material.frames
                       for name in {frame.member, PurePosixPath(frame.member).name})
        self._names = {key: [
            frame.member if used[frame.member] == 1 else str(Path(key) / frame.member)
            for frame in material.frames] for key, material in materials.items()}

    def text(self, sources: Mapping[str, SourceMarks], unlabelled: bool = False) -> str:
        """Return the text of the file; on request with the unlabelled pictures of the sources."""
        rows = [(_cell(name), _label_name(row.label), row.attempt or '')
                for name, row in self._kept.items()]
        for key, marks in sources.items():
            names = self._names[key]
            for span, label, _ in marks.runs(unlabelled):
                start = marks.span_at(span.start).start
                rows += [(_cell(names[i]), _label_name(label),
                          _cell(self._materials[key].attempts[start]))
                         for i in range(span.start, span.end)]
        return csv_text(('file', 'label', 'attempt'), rows)

    def take_over(self, key: str, marks: SourceMarks) -> str | None:
        """Label the pictures that the file, or their folders, have labelled."""
        for i, name in enumerate(self._names[key]):
            row = self._kept.pop(name, None)
            if marks.marks:
                label = self._materials[key].given[i] if row is None else row.label
                if label is not None:
                    marks.marks[i] = Mark[label.name].value
        return None


def _cell(name: str) -> str:
    """Return a name that a spreadsheet does not compute; readers drop the ``./``."""
    return f'./{name}' if name[:1] in '=+-@ ' else name


def _label_name(label: Label | None) -> str:
    return '' if label is None else label.name.lower()


def _intervals(material: Material, marks: SourceMarks, unlabelled: bool) -> Iterator[Interval]:
    times = material.elapsed_ns
    for span, label, number in marks.runs(unlabelled):
        # Frames of the same time cannot have different labels: the first one's holds.
        start = span.start
        while start < span.end and start and times[start] == times[start - 1]:
            start += 1
        if start < span.end:
            yield Interval(times[start], material.end_ns(span.end - 1), label, str(number))


def _seconds(time_ns: int) -> str:
    """Return a time in seconds, exact to the nanosecond."""
    whole, rest = divmod(time_ns, 10 ** 9)
    return f'{whole}.{rest:09}'.rstrip('0').rstrip('.')


def names_in_file(sources: Sequence[Source]) -> list[str]:
    """
    Return the name of each source in the label file, by which the other commands find it.

    It is the file's name where that tells the sources apart. A name that a CSV file in UTF-8
    cannot hold, that has other than printable characters, or that a spreadsheet would compute
    (``=...``) is replaced by the safe name that the other commands also know.
    """
    names = [_plain(source.path.name) or safe_name(source.path.stem) for source in sources]
    return [name if names.count(name) == 1 else _plain(str(source.path)) or source.name
            for name, source in zip(names, sources, strict=True)]


def _plain(name: str) -> str:
    """Return a name as it is if a CSV file can hold it, else ''."""
    fine = name.isprintable() and name == name.strip() and name[:1] not in '=+-@'
    return name if fine else ''
