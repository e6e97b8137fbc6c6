"""The data set that a command works on: one of extract_frames, or one made of other sources."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TYPE_CHECKING

from grasp_success_detector.console import counted, counts_text, progress_bar, stderr_console
from grasp_success_detector.errors import ConfigError, DatasetError
from grasp_success_detector.recordings.pictures import with_reasons
from grasp_success_detector.recordings.selection import FrameSelection

if TYPE_CHECKING:
    from grasp_success_detector.datasets.workers import Workers


def dataset_of(given: Sequence[str], selection: FrameSelection, out: Path,
               processes: int = 1, splits: bool = True, dedupe: bool = False,
               workers: 'Workers | None' = None) -> Path:
    """
    Return the only path given if it is a data set; else extract these sources into ``out``.

    What was found is printed. The same call continues an extraction.

    :param selection: options about frames and labels of the sources.
    :param processes: number of processes that call this; only one can extract.
    :param splits: whether the splits are printed as well.
    :param dedupe: whether near duplicates with the same label are left out.
    :param workers: what extracts them; None: a process per core.
    :raises ConfigError: a data set was given together with something else.
    :raises DatasetError: no frame came out of the sources.
    """
    # They load OpenCV, which --help does not need.
    from grasp_success_detector.datasets.dataset import is_dataset, local_datasets
    from grasp_success_detector.datasets.extraction import extract
    from grasp_success_detector.datasets.frame_writer import PictureOptions
    from grasp_success_detector.datasets.splits import SplitOptions
    from grasp_success_detector.datasets.workers import open_workers
    from grasp_success_detector.recordings.sources import find_sources

    given = local_datasets(given)
    if datasets := [Path(text) for text in given if is_dataset(Path(text))]:
        if len(given) > 1:
            raise ConfigError(f'{datasets[0]}: is a data set of extract_frames; expected it '
                              'alone, or bags, videos and pictures')
        if selection != FrameSelection() or dedupe:
            raise ConfigError(f'{datasets[0]}: is a data set of extract_frames, which has its '
                              'frames and labels; leave the options for topic, labels and '
                              'duplicates out')
        return datasets[0]
    if processes > 1:
        raise ConfigError(f'{given[0]}: is no data set of extract_frames; with several devices '
                          'extract it first: extract_frames SOURCE... --out DATASET')
    sources = find_sources(given)
    with (open_workers() if workers is None else nullcontext(workers) as workers,
          progress_bar(stderr_console(), 'frames') as bar):
        task = bar.add_task('reading', total=None)
        made = extract(sources, selection, PictureOptions(), SplitOptions(few=True, dedupe=dedupe),
                       out, workers, lambda done, total:
                       bar.update(task, completed=done, total=total))
    for line in source_lines(made, selection):
        print(line)
    if not made['frames']:
        raise DatasetError(f'no labelled frame in {", ".join(map(str, given))}; expected a data '
                           'set of extract_frames, or bags, videos or pictures with labels')
    for line in split_lines(made) if splits else ():
        print(line)
    return out


def source_lines(made: Mapping[str, Any], selection: FrameSelection) -> Iterator[str]:
    """Yield lines about the frames of each source, and what was left out."""
    for name, source in made['sources'].items():
        yield from _lines_of(name, source, selection)


def split_lines(made: Mapping[str, Any]) -> Iterator[str]:
    """Yield lines about the splits of a data set, and what was left out of them."""
    if dropped := made.get('near_duplicates_dropped'):
        yield f'{counted(dropped, "near duplicate")} left out'
    if dropped := made.get('undecodable_dropped'):
        yield f'{counted(dropped, "copied frame")} left out that cannot be decoded'
    if made.get('splits_drawn'):
        yield ('splits as given; drawn from the frames without one, or from train: '
               + ', '.join(made['splits_drawn']))
    for name, counts in made['splits'].items():
        yield (f'{name:6}{counts["success"]:7} success {counts["failure"]:7} failure '
               f'{counts["attempts"]:5} attempts')
    if made.get('leaks'):
        yield f'WRONG: {made["leaks"]}; the given splits were kept'


def _lines_of(name: str, source: Mapping[str, Any], selection: FrameSelection) -> list[str]:
    """Return lines with the counts of a source's written, skipped and damaged frames."""
    if source['unreadable']:
        return [f'{name}: nothing could be read: {source["unreadable"]}']
    pictures = 'attempts_by' in source
    what = 'pictures' if pictures else f'frames of {source["topic"]}'
    lines = [f'{name}: {source["written"]} of {source["found"]} {what}']
    if pictures:
        lines.append(f'  {counted(source["attempts"], "attempt")}: {source["attempts_by"]}')
    lines += [f'  {title}: {counts_text(source[title])}'
              for title in ('skipped', 'refused', 'damage') if source[title]]
    if unread := source.get('unread_files', {}) | source.get('refused_files', {}):
        lines.append(f'    {with_reasons(unread)}')
    if source['skipped'].get('no label') == source['found']:
        lines.append('  no frame has a label: ' + (
            f'no interval of {selection.labels} covers any' if selection.labels is not None else
            f'no std_msgs/Bool of {selection.label_topic} counts for any; name another topic'
            if selection.label_topic is not None else 'give --label, --labels or --label-topic'))
    return lines
