"""Turn recordings into a data set: plan each source, write its frames in batches, finish."""


from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
import os
from pathlib import Path
import shutil
from typing import Any

from grasp_success_detector.datasets.executors import Crew, ready
from grasp_success_detector.datasets.frame_writer import Batch, BatchResult, write_batch
from grasp_success_detector.datasets.journal import differences, Journal
from grasp_success_detector.datasets.leaks import (
    describe_leaks,
    exact_leaks,
    fingerprints,
    near_leaks,
    repeated,
    SAME_BITS,
)
from grasp_success_detector.datasets.manifest import (
    JOURNAL,
    ManifestRow,
    MARKER,
    read_marker,
    write_manifest,
    write_marker,
)
from grasp_success_detector.datasets.options import DatasetOptions, SplitBy
from grasp_success_detector.datasets.splits import balanced_split, SPLITS
from grasp_success_detector.errors import DatasetError
from grasp_success_detector.labels import CLASS_NAMES, Label
from grasp_success_detector.recordings.labels import intervals_of, read_intervals
from grasp_success_detector.recordings.selection import (
    FrameSelection,
    plan_source,
    SourcePlan,
    VIDEO_TOPIC,
)
from grasp_success_detector.recordings.sources import Source


def finish(sources: Sequence[Source], options: DatasetOptions, out: Path, crew: Crew,
           journal: Journal, plan: Mapping[str, Any]) -> dict[str, Any]:
    """
    Make a data set out of the frames that the journal names.

    :return: the content of dataset.json, which is written last.
    :raises DatasetError: the same picture would be in two splits.
    """
    rows = [
        ManifestRow(file, Label(label), source.name, topic, stamp_ns, attempt, '', sha256)
        for source in sources
        for _, (file, sha256, label, topic, stamp_ns, attempt) in sorted(
            journal.progress(source.name).rows.items())]
    kept = rows
    looks, bad = None, set[int]()
    if options.dedupe:
        looks, bad = fingerprints(out, [row.file for row in rows], crew)
        drop = repeated(looks, [row.label for row in rows])
        stay = [i for i in range(len(rows)) if i not in drop | bad]
        kept, looks = [rows[i] for i in stay], looks[stay]
    groups = [row.attempt if options.split_by is SplitBy.ATTEMPT else row.source for row in kept]
    split_of = balanced_split(groups, [row.label for row in kept], options.split, options.seed)
    kept = [row._replace(split=split_of[group])
            for row, group in zip(kept, groups, strict=True)]
    leaks = exact_leaks(kept)
    if looks is not None:
        leaks = leaks or near_leaks(kept, looks, SAME_BITS)
    if leaks:
        raise DatasetError(
            f'{out}: {describe_leaks(leaks)}; nothing needs to be extracted again: run the same '
            'command with --dedupe, or with --split-by source, or leave one of the sources out')
    # The journal still names what is deleted here, so that this can be stopped and repeated.
    names = {row.file for row in kept}
    for label in CLASS_NAMES:
        for name in os.listdir(out / label):
            if f'{label}/{name}' not in names:
                os.unlink(out / label / name)
    write_manifest(out, kept)
    description = describe(kept) | {
        'near_duplicates_dropped': len(rows) - len(kept) - len(bad),
        'undecodable_dropped': len(bad),
        'sources': {s.name: journal.progress(s.name).summary for s in sources}, 'plan': plan}
    write_marker(out, description)
    return description


def describe(rows: Sequence[ManifestRow]) -> dict[str, Any]:
    """Count the frames by split and label, and the attempts by split."""
    frames = Counter((row.split, row.label) for row in rows)
    attempts = Counter(split for _, split in {(row.attempt, row.split) for row in rows})
    return {'frames': len(rows), 'splits': {split: {
        'attempts': attempts[split],
        **{label.name.lower(): frames[split, label] for label in Label}} for split in SPLITS}}


_BATCH_FRAMES = 48

#: Holds what compressed files contain while their frames are read.
_UNPACKED = '.unpacked'


@dataclass(frozen=True)
class ExtractionReport:
    """
    What an extraction did.

    :ivar description: the content of dataset.json; without frames, what it would have been.
    :ivar frames: frames in the data set.
    :ivar already: it was complete before; nothing was done.
    """

    description: dict[str, Any]
    frames: int
    already: bool = False


OnFrames = Callable[[int, int], None]


def extract(sources: Sequence[Source], selection: FrameSelection, options: DatasetOptions,
            out: Path, crew: Crew, on_frames: OnFrames = lambda done, total: None,
            ) -> ExtractionReport:
    """
    Extract the labelled frames of all sources into a data set, or go on with one.

    Stopped at any moment, by any means, the same call continues it; the result does not depend on
    how often that happened, nor on the crew.

    :param out: folder of the data set; new, empty, or begun by the same call.
    :param on_frames: called now and then with the frames done and the frames known so far.
    :raises BagError: a source's image topic must be chosen.
    :raises DatasetError: ``out`` holds something else, or the data set leaks between its splits.
    """
    plan = ({'sources': [source.identity() for source in sources]} | selection.to_json()
            | options.to_json())
    # How frames are divided can be changed as long as the data set isn't finished.
    begun = {name: value for name, value in plan.items()
             if name not in ('split', 'split_by', 'seed', 'dedupe')}
    if (out / MARKER).exists():
        description = read_marker(out)
        if description['plan'] != plan:
            raise DatasetError(f'{out}: holds a finished data set, made with '
                               f'{differences(description["plan"], plan)}; choose another --out')
        (out / JOURNAL).unlink(missing_ok=True)
        return ExtractionReport(description, int(description['frames']), already=True)
    if out.exists() and not (out / JOURNAL).is_file() and (
            not out.is_dir() or any(out.iterdir())):
        raise DatasetError(f'{out}: is not empty and no data set of extract_frames; choose '
                           'another --out')
    intervals = read_intervals(selection.labels) if selection.labels is not None else {}
    out.mkdir(parents=True, exist_ok=True)
    for label in CLASS_NAMES:
        (out / label).mkdir(exist_ok=True)
    journal = Journal(out, begun)
    work = _Work(sources, selection, options, out, crew, journal, on_frames, {
        source.name: intervals_of(source, intervals) for source in sources})
    try:
        work.run()
        if not any(progress.rows for progress in journal.sources.values()):
            return ExtractionReport(
                {'sources': {s.name: journal.progress(s.name).summary for s in sources}}, 0)
        shutil.rmtree(out / _UNPACKED, ignore_errors=True)
        description = finish(sources, options, out, crew, journal, plan)
        journal.remove()
        return ExtractionReport(description, int(description['frames']))
    finally:
        if not any(progress.rows for progress in journal.sources.values()):
            _remove_empty(out, journal)
        journal.close()


class _Work:
    """Keeps the crew busy, a bounded number of tasks ahead, and the journal in order."""

    def __init__(self, sources: Sequence[Source], selection: FrameSelection,
                 options: DatasetOptions, out: Path, crew: Crew, journal: Journal,
                 on_frames: OnFrames, intervals: dict[str, Any]) -> None:
        self._sources, self._selection, self._options, self._out = (
            sources, selection, options, out)
        self._crew, self._journal, self._on_frames = crew, journal, on_frames
        self._intervals = intervals
        self._waiting: deque[tuple[SourcePlan, Batch | None, Future[BatchResult] | None]] = deque()
        self._done = self._total = 0

    def run(self) -> None:
        for plan in self._plans():
            progress = self._journal.progress(plan.source.name)
            settled = progress.rows.keys() | progress.refused.keys()
            frames = [frame for frame in plan.frames if frame.number not in settled]
            self._total += len(plan.frames)
            self._done += len(plan.frames) - len(frames)
            size = len(frames) if plan.topic is None else _BATCH_FRAMES
            for start in range(0, len(frames), max(size, 1)):
                batch = Batch(plan.files, plan.topic, tuple(frames[start:start + size]),
                              self._out.absolute(), self._options.output)
                self._waiting.append((
                    plan, batch, self._crew.executor.submit(write_batch, batch)))
                self._keep_up()
            self._waiting.append((plan, None, None))
        while self._waiting:
            self._advance()

    def _keep_up(self) -> None:
        """Let no more tasks wait than the crew soon gets to."""
        while True:
            while self._waiting and (self._waiting[0][2] is None or self._waiting[0][2].done()):
                self._settle()
            undone = sum(future is not None and not future.done()
                         for _, _, future in self._waiting)
            if undone <= 3 * self._crew.size and len(self._waiting) < 60 * self._crew.size:
                return
            self._advance()

    def _advance(self) -> None:
        """Bring the oldest task nearer to its end, or settle it."""
        future = self._waiting[0][2]
        if self._crew.helps and future is not None and not future.done():
            for i in reversed(range(len(self._waiting))):
                plan, batch, waiting = self._waiting[i]
                if batch is not None and waiting is not None and waiting.cancel():
                    del self._waiting[i]
                    self._record(plan, batch, write_batch(batch))
                    return
        self._settle()

    def _plans(self) -> Iterator[SourcePlan]:
        """Plan the sources in their order, some of them ahead."""
        todo = deque(source for source in self._sources
                     if self._journal.progress(source.name).summary is None)
        ahead: deque[tuple[Source, Future[SourcePlan]]] = deque()
        while todo or ahead:
            # The others may not have begun yet: what is needed first is done here.
            first = todo.popleft() if self._crew.helps and not ahead else None
            while todo and len(ahead) < self._crew.size:
                source = todo.popleft()
                ahead.append((source, self._crew.executor.submit(self._planning(source))))
            if first is not None:
                yield self._planning(first)()
                continue
            source, future = ahead.popleft()
            if self._crew.helps and future.cancel():
                future = ready(self._planning(source)())
            yield future.result()

    def _planning(self, source: Source) -> Callable[[], SourcePlan]:
        """Return what plans a source, in any process."""
        return partial(plan_source, source, self._selection, self._intervals[source.name],
                       (self._out / _UNPACKED).absolute(), checks_follow=True)

    def _settle(self) -> None:
        """Put the oldest task's result into the journal."""
        plan, batch, future = self._waiting.popleft()
        name = plan.source.name
        if batch is None or future is None:
            shutil.rmtree(self._out / _UNPACKED / name, ignore_errors=True)
            self._journal.add_source(name, _summary(plan, self._journal))
            return
        self._record(plan, batch, future.result())

    def _record(self, plan: SourcePlan, batch: Batch, result: BatchResult) -> None:
        topic = VIDEO_TOPIC if plan.topic is None else plan.topic.name
        written = {frame.number for frame in result.written}
        self._journal.add_batch(plan.source.name, result, {
            frame.number: (int(frame.label), topic, frame.stamp_ns, frame.attempt)
            for frame in batch.frames if frame.number in written and frame.label is not None})
        self._done += len(result.written) + len(result.refused)
        self._on_frames(self._done, self._total)


def _summary(plan: SourcePlan, journal: Journal) -> dict[str, Any]:
    """Account for every frame of a source."""
    progress = journal.progress(plan.source.name)
    refused: dict[str, int] = {}
    for reason in progress.refused.values():
        refused[reason] = refused.get(reason, 0) + 1
    damage = Counter(plan.damage) + Counter({'damaged chunk': len(progress.wrong_chunks)})
    return {
        'path': str(plan.source.path), 'kind': plan.source.kind.value,
        'topic': VIDEO_TOPIC if plan.topic is None else plan.topic.name,
        'found': plan.messages, 'written': len(progress.rows), 'skipped': dict(plan.skipped),
        'refused': refused, 'damage': dict(damage), 'unreadable': plan.unreadable}


def _remove_empty(out: Path, journal: Journal) -> None:
    """Leave nothing where nothing came out."""
    journal.remove()
    shutil.rmtree(out / _UNPACKED, ignore_errors=True)
    for folder in (*(out / label for label in CLASS_NAMES), out):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
