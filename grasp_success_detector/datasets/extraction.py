"""Extraction of a data set: select frames of recordings, write them and split them."""

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial
import json
from operator import attrgetter
import os
from pathlib import Path
import shutil
from typing import Any

from grasp_success_detector.datasets import dataset, inspection
from grasp_success_detector.datasets.frame_writer import PictureOptions, write_batch
from grasp_success_detector.datasets.journal import BatchResult, differences, Journal
from grasp_success_detector.datasets.splits import (
    completed_split,
    shares_of_few,
    SplitBy,
    SplitOptions,
    SPLITS,
)
from grasp_success_detector.datasets.workers import Workers
from grasp_success_detector.errors import DatasetError
from grasp_success_detector.files import fault_text
from grasp_success_detector.images.fingerprints import near_duplicates
from grasp_success_detector.labels import CLASS_NAMES, Label
from grasp_success_detector.recordings.labels_file import read_labels
from grasp_success_detector.recordings.reader import PICTURES
from grasp_success_detector.recordings.selection import FrameSelection, plan_source, SourcePlan
from grasp_success_detector.recordings.sources import Source

_BATCH_FRAMES = 48

#: Folder for decompressed recordings while their frames are read.
_UNPACKED = '.unpacked'


def extract(sources: Sequence[Source], selection: FrameSelection, pictures: PictureOptions,
            split: SplitOptions, out: Path, workers: Workers,
            on_frames: Callable[[int, int], None]) -> dict[str, Any]:
    """
    Extract the labelled frames of all sources into a data set, or continue an extraction.

    The same call continues an extraction that was stopped at any moment. The result depends
    neither on such stops nor on the workers.

    :param out: folder of the data set: a new or empty one, or one begun by the same call.
    :param on_frames: called repeatedly with the numbers of frames done and of frames known so far.
    :returns: content of dataset.json; if no frame was found, ``frames`` is 0 without ``splits``.
    :raises BagError: the image topic does not exist in a source, or several are possible.
    :raises DatasetError: ``out`` holds something else, is not writable, or splits share pictures.
    """
    # The split options can be changed as long as the data set isn't finished.
    begun = {'sources': [source.identity() for source in sources], **selection.to_json(),
             'output': asdict(pictures)}
    chosen = {name: value for name, value in asdict(split).items() if name != 'few' or value}
    begun, plan = json.loads(json.dumps([begun, begun | chosen],
                                        default=attrgetter('value')))
    try:
        if (out / dataset.MARKER).exists():
            description = dataset.read_marker(out)
            if different := differences(description.get('plan', {}), plan):
                raise DatasetError(f'{out}: holds a finished data set, made with {different}; '
                                   'choose another --out')
            (out / dataset.JOURNAL).unlink(missing_ok=True)
            return description
        if not (out / dataset.JOURNAL).is_file() and out.exists() and (
                not out.is_dir() or any(path.name != _UNPACKED for path in out.iterdir())):
            raise DatasetError(f'{out}: is not empty and no data set of extract_frames; choose '
                               'another --out')
        labels = read_labels(sources, selection.labels)
        out.mkdir(parents=True, exist_ok=True)
        with Journal.open(out, begun) as journal:   # first, as it marks the folder as ours
            try:
                for label in CLASS_NAMES:
                    (out / label).mkdir(exist_ok=True)
                tasks = deque(
                    partial(_plan, Path.cwd(), source, selection, labels[source.name],
                            (out / _UNPACKED).absolute())
                    for source in sources if journal.sources[source.name].summary is None)
                _write_frames(tasks, pictures, out, workers, journal, on_frames)
                origin = {'sources': {s.name: journal.sources[s.name].summary for s in sources},
                          'plan': plan}
                if not journal.has_frames:
                    for label in CLASS_NAMES:   # frames of an earlier selection, never recorded
                        shutil.rmtree(out / label)
                    return {'frames': 0, **origin}
                shutil.rmtree(out / _UNPACKED, ignore_errors=True)
                rows = [dataset.ManifestRow(
                    frame.file, Label(frame.label), source.name, frame.topic, frame.stamp_ns,
                    frame.attempt, frame.split, frame.sha256, frame.origin)
                    for source in sources
                    for _, frame in sorted(journal.sources[source.name].written.items())]
                description = _finish(rows, split, out, workers, origin)
                journal.remove()
                return description
            finally:
                if not journal.has_frames:
                    _remove_unused(out, journal)
    except OSError as error:
        raise DatasetError(f'{out}: cannot be written ({fault_text(error, out)}); once it can be, '
                           'the same command goes on') from error


def _plan(here: Path, source: Source, selection: FrameSelection, labels: Any,
          unpack_into: Path) -> SourcePlan:
    """Plan a source whose paths are relative to a folder, in which a worker need not run."""
    absolute = replace(source, path=here / source.path,
                       files=tuple(here / file for file in source.files))
    plan = plan_source(absolute, selection, labels, unpack_into, verify_all=False)
    return replace(plan, source=source)


def _write_frames(tasks: 'deque[partial[Any]]', pictures: PictureOptions, out: Path,
                  workers: Workers, journal: Journal,
                  on_frames: Callable[[int, int], None]) -> None:
    """Run the tasks, which plan sources, and write their frames that the journal lacks."""
    plans: dict[str, SourcePlan] = {}
    batches_left: Counter[str] = Counter()
    done = total = 0
    # Frames before the plans of further sources, so that not many plans are held at a time.
    for _, result in workers.run(tasks, lambda task: task.func is write_batch, _files):
        if isinstance(result, SourcePlan):
            name = result.source.name
            progress = journal.sources[name]
            settled = progress.written.keys() | progress.refused.keys()
            todo = [frame for frame in result.frames if frame.number not in settled]
            # A video is read from its start each time, so that it is one batch.
            size = _BATCH_FRAMES * workers.grain if result.topic else len(todo) or 1
            batches = [partial(write_batch, name, result.files, result.topic, todo[i:i + size],
                               out.absolute(), pictures) for i in range(0, len(todo), size)]
            tasks.extendleft(reversed(batches))
            plans[name], batches_left[name] = result, len(batches)
            total += len(result.frames)
            done += len(result.frames) - len(todo)
        else:
            assert isinstance(result, BatchResult)
            name = result.source
            journal.add(result._asdict())
            batches_left[name] -= 1
            done += len(result.written) + len(result.refused)
            on_frames(done, total)
        if not batches_left[name]:
            shutil.rmtree(out / _UNPACKED / name, ignore_errors=True)
            journal.add({'source': name, 'done': _summary(plans.pop(name), journal)})


def _files(task: 'partial[Any]') -> Iterator[Path]:
    """Return the files that a task of :func:`_write_frames` reads."""
    first, second, *_ = task.args   # of _plan the folder and the source, of write_batch the files
    return ((file.path for file in second) if task.func is write_batch else
            (first / file for file in second.files))


def _summary(plan: SourcePlan, journal: Journal) -> dict[str, Any]:
    """Return numbers of written, refused and skipped frames, and of faults, of a source."""
    progress = journal.sources[plan.source.name]
    damage = Counter(plan.damage) + Counter({'damaged chunk': len(progress.wrong_chunks)})
    account = plan.account() | {
        'written': len(progress.written), 'refused': dict(Counter(progress.refused.values())),
        'damage': dict(damage), 'unreadable': plan.unreadable}
    if plan.topic != PICTURES:
        return account
    return account | {
        'attempts': len({frame.attempt for frame in progress.written.values()}),
        'refused_files': {frame.member: progress.refused[frame.number] for frame in plan.frames
                          if frame.number in progress.refused}}


def _finish(rows: Sequence[dataset.ManifestRow], options: SplitOptions, out: Path,
            workers: Workers, origin: Mapping[str, Any]) -> dict[str, Any]:
    """Assign frames to splits, write manifest.csv, then dataset.json, and return the latter."""
    kept, fingerprints, undecodable = list(rows), list[int](), set[int]()
    if options.dedupe:
        measured = inspection.measure_pictures(out, rows, workers)
        undecodable = {i for i, picture in enumerate(measured) if not picture.width}
        dropped = undecodable | near_duplicates(
            [picture.fingerprint for picture in measured], [row.label for row in rows])
        kept = [row for i, row in enumerate(rows) if i not in dropped]
        fingerprints = [p.fingerprint for i, p in enumerate(measured) if i not in dropped]
    given = any(row.split for row in kept)
    groups = [row.attempt if options.split_by is SplitBy.ATTEMPT or given else row.source
              for row in kept]
    labels = [row.label for row in kept]
    shares = shares_of_few(groups, labels, options.split) if options.few else options.split
    split_of, drawn = completed_split(groups, labels, [row.split for row in kept], shares,
                                      options.seed)
    kept = [row._replace(split=split_of[group])
            for row, group in zip(kept, groups, strict=True)]
    if given and not options.dedupe:
        fingerprints = [p.fingerprint for p in inspection.measure_pictures(out, kept, workers)]
    leaks = inspection.exact_leaks(kept) or inspection.near_leaks(kept, fingerprints)
    # Splits that the source gives are kept, leaks and all; who made them must know.
    if leaks and not given:
        raise DatasetError(
            f'{out}: {inspection.describe_leaks(leaks)}; nothing needs to be extracted again: run '
            'the same command with --dedupe, or leave one of the sources out; extract_frames also '
            'has --split-by source')
    # The journal still names what is deleted here, so that this can be stopped and repeated.
    names = {row.file for row in kept}
    for label in CLASS_NAMES:
        for name in os.listdir(out / label):
            if f'{label}/{name}' not in names:
                os.unlink(out / label / name)
    dataset.write_manifest(out, kept)
    frames = Counter((row.split, row.label) for row in kept)
    attempts = Counter(split for _, split in {(row.attempt, row.split) for row in kept})
    description = {
        'frames': len(kept),
        'splits': {split: {'attempts': attempts[split], **{
            CLASS_NAMES[label]: frames[split, label] for label in Label}} for split in SPLITS},
        'near_duplicates_dropped': len(rows) - len(kept) - len(undecodable),
        'undecodable_dropped': len(undecodable),
        **({'splits_drawn': drawn, 'leaks': inspection.describe_leaks(leaks) if leaks else ''}
           if given else {}), **origin}
    dataset.write_marker(out, description)
    return description


def _remove_unused(out: Path, journal: Journal) -> None:
    """Remove a data set without frames."""
    shutil.rmtree(out / _UNPACKED, ignore_errors=True)
    # When stopped, other processes may just have written some: then the same command can go on.
    with suppress(OSError):
        for folder in (out / label for label in CLASS_NAMES):
            if folder.exists():
                folder.rmdir()
        journal.remove()
        out.rmdir()
