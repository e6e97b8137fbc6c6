"""The frames that an evaluation judges, of recordings and data sets, in recorded order."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from grasp_success_detector.console import counted
from grasp_success_detector.datasets.dataset import (
    is_dataset,
    local_datasets,
    read_manifest,
    read_marker,
    StoredFrame,
)
from grasp_success_detector.datasets.splits import SPLITS
from grasp_success_detector.errors import BagError, ConfigError, DatasetError, ImageDecodeError
from grasp_success_detector.images.decoding import decode_message, HalfSuffices, RgbImage
from grasp_success_detector.networks.learnt_frames import frame_hash
from grasp_success_detector.recordings import reader
from grasp_success_detector.recordings.bags import GROUND_TRUTH_TOPIC
from grasp_success_detector.recordings.ground_truth import holds_intervals, read_intervals
from grasp_success_detector.recordings.labels_file import read_labels, SourceLabels
from grasp_success_detector.recordings.selection import FrameSelection, plan_source, SourcePlan
from grasp_success_detector.recordings.sources import find_sources
from grasp_success_detector.recordings.storage import MessageLocation

Made = TypeVar('Made')

#: Splits of a data set that can be chosen.
SPLIT_CHOICES = (*SPLITS, 'all')


@dataclass(frozen=True)
class Recording:
    """
    One recording, or one source of a data set.

    :ivar name: name that no other recording of the evaluation has.
    :ivar frames: in recorded order; some or all may have no label.
    :ivar account: its entry in metrics.json: path, topic, frames left out, damage.
    :ivar topic: image topic of a bag, ``PICTURES`` for pictures; None for a video or data set.
    :ivar files: files of a bag or video, or the folder of pictures; None for a data set.
    """

    name: str
    path: Path
    frames: tuple[reader.ChosenFrame, ...]
    account: dict[str, Any]
    topic: reader.ImageTopic | None = None
    files: tuple[reader.StorageFile, ...] | None = None

    @property
    def sequential(self) -> bool:
        """Return whether frames can only be read one after the other, as those of a video."""
        return self.files is not None and self.topic is None

    @property
    def continuous(self) -> bool:
        """Return whether it was recorded with time stamps, as bags and videos are."""
        return self.files is not None and self.topic != reader.PICTURES

    @property
    def paths(self) -> Iterator[Path]:
        """Return the files that hold its frames."""
        return ((self.path / frame.stem for frame in self.frames) if self.files is None else
                (file.path for file in self.files))

    def file_of(self, frame: reader.ChosenFrame) -> str:
        """Return a frame's file within its folder; '' for a frame of a bag or video."""
        return frame.stem if self.files is None else frame.member

    def hashes(self, frames: Sequence[reader.ChosenFrame]) -> Iterator[str]:
        """Yield :func:`frame_hash` of the frames that can be read, which are not decoded."""
        if self.files is None:
            stored = {row.file: row.hash for row in read_manifest(self.path)}
            yield from (stored[frame.stem] for frame in frames if frame.stem in stored)
            return
        for _, made in reader.read_frames(self.files, self.topic, frames,
                                          lambda message: frame_hash(message.data), frame_hash):
            if isinstance(made, str):
                yield made

    def read(self, frames: Sequence[reader.ChosenFrame], make: Callable[[RgbImage], Made],
             half_suffices: HalfSuffices | None = None,
             ) -> Iterator[tuple[reader.ChosenFrame, Made | reader.RefusedFrame]]:
        """
        Yield some of the frames, each with what ``make`` returns for its image.

        :param make: takes an RGB image, uint8 (H, W, 3).
        :param half_suffices: maps height and width to whether half the resolution suffices.
        """
        def of_message(message: Any) -> Made:
            return make(decode_message(message, half_suffices))

        if self.files is not None:
            yield from reader.read_frames(self.files, self.topic, frames, of_message, make)
            return
        for frame in frames:
            try:
                yield frame, of_message(StoredFrame(self.path / frame.stem))
            except (ImageDecodeError, OSError) as error:
                reason = getattr(error, 'reason', 'unreadable_file')
                yield frame, reader.RefusedFrame(frame.number, reason, str(error))


def open_recordings(given: Sequence[str], selection: FrameSelection, unpack_into: Path,
                    split: str | None = None, outside: bool = False,
                    labels: SourceLabels | None = None) -> list[Recording]:
    """
    Open recordings and select their frames, without reading images.

    :param given: data sets of extract_frames; bags, videos and pictures, or globs of them;
        addresses of all these.
    :param selection: which frames of these are taken, and their labels.
    :param unpack_into: folder for the content of compressed bags; must exist while images are
        read.
    :param split: split to judge of data sets, and of pictures that have splits, one of
        ``SPLIT_CHOICES``; None means test.
    :param outside: also take frames of bags that belong to no attempt; their attempt is ''.
    :param labels: what the labels file says of the only recording given, where it was read for
        more of them; None: it is read.
    :raises BagError: a path is no recording, cannot be read, or has no selected frame.
    :raises DatasetError: the labels given match no frame, or a data set has no frame of the split.
    :raises ConfigError: a split was given without a data set or pictures with splits, or a
        selection for data sets alone.
    """
    given = local_datasets(given)
    datasets = [Path(text) for text in dict.fromkeys(given) if is_dataset(Path(text))]
    others = [text for text in given if Path(text) not in datasets]
    if not others and selection != FrameSelection():
        raise ConfigError('options for topic, labels and frames are for bags, videos and '
                          'pictures; a data set has its labels, and all frames of a split are '
                          'judged')
    recordings = [recording for folder in datasets
                  for recording in _of_dataset(folder, split or 'test')]
    if others:
        recordings += _of_sources(others, selection, unpack_into, outside, split or 'test',
                                  labels)
    if split not in (None, 'all') and not datasets and not any(
            frame.split for recording in recordings for frame in recording.frames):
        raise ConfigError(f'--split {split}: expected a data set of extract_frames, or pictures '
                          'with splits, among the sources; bags and videos are not split')
    names = Counter(recording.name for recording in recordings)
    if twice := [name for name, times in names.items() if times > 1]:
        raise DatasetError(f'{", ".join(twice)}: more than one source has this name; evaluate '
                           'data sets and recordings of the same bags one after the other')
    return recordings


def _of_sources(given: Sequence[str], selection: FrameSelection, unpack_into: Path,
                outside: bool, split: str, read: SourceLabels | None) -> list[Recording]:
    sources = find_sources(given)
    labels = read_labels(sources, selection.labels) if read is None else {sources[0].name: read}
    recordings = []
    for source in sources:
        plan = _of_split(plan_source(source, selection, labels[source.name], unpack_into,
                                     unlabelled=True, outside=outside), split)
        if plan.unreadable:
            raise BagError(plan.unreadable)
        if not plan.frames:
            left_out = ', '.join(f'{count} {why}' for why, count in plan.skipped.items())
            raise BagError(f'{source.path}: no frame to judge ({left_out}); choose others')
        recordings.append(Recording(
            source.name, source.path, plan.frames, plan.account(), plan.topic, plan.files))
    asked = [f'--{name.replace("_", "-")} {value}' for name in ('label', 'labels', 'label_topic')
             if (value := getattr(selection, name)) is not None]
    if asked and not any(frame.label is not None for r in recordings for frame in r.frames):
        known = ('' if selection.labels is None or not holds_intervals(selection.labels) else
                 f' (it knows {", ".join(sorted(read_intervals(selection.labels)))})')
        raise DatasetError(
            f'{asked[0]}: gives no frame of {", ".join(r.name for r in recordings)} a label'
            f'{known}; expected labels for these sources and times, or leave the option out')
    return recordings


def _of_split(plan: SourcePlan, split: str) -> SourcePlan:
    """Leave out the frames of other splits, if a source of pictures gives them."""
    kept = tuple(frame for frame in plan.frames if frame.split in ('', split) or split == 'all')
    if left_out := len(plan.frames) - len(kept):
        return replace(plan, frames=kept, skipped={
            **plan.skipped, f'not in split {split}': left_out})
    return plan


def _of_dataset(folder: Path, split: str) -> list[Recording]:
    rows = [row for row in read_manifest(folder) if split in (row.split, 'all')]
    if not rows:
        raise DatasetError(f'{folder}: has no {split} frames; choose another --split')
    if missing := [row.file for row in rows if not (folder / row.file).is_file()]:
        raise DatasetError(f'{folder}: {counted(len(missing), "frame")} missing, such as '
                           f'{missing[0]}; remove the folder and extract it again')
    by_source: dict[str, list[reader.ChosenFrame]] = {}
    for number, row in enumerate(rows):
        by_source.setdefault(row.source, []).append(reader.ChosenFrame(
            number, 0, MessageLocation(-1, number, -1), row.stamp_ns, row.label, row.attempt,
            row.file))
    return [Recording(name, folder, tuple(frames), {
        'path': str(folder), 'kind': 'data set', 'split': split, 'found': len(frames),
        'skipped': {}, 'damage': {}}) for name, frames in by_source.items()]


@dataclass(frozen=True)
class LabelOrigin:
    """
    Where labels come from.

    :ivar simulated: whether labels and pictures come from the simulation.
    :ivar text: a sentence for the report.
    """

    simulated: bool
    text: str


def label_origin(dataset: Path | None) -> LabelOrigin:
    """Return where the labels of a data set come from; it may have been deleted meanwhile."""
    try:
        plan = {} if dataset is None else read_marker(dataset).get('plan')
    except DatasetError:
        return LabelOrigin(False, f'The data set is no longer at {dataset}, so that this page '
                                  'cannot tell where its labels come from.')
    if not plan:
        return LabelOrigin(False, 'The data set does not tell where its labels come from.')
    # Only the identity of pictures counts them.
    pictures = ['pictures' in source for source in plan.get('sources', ())]
    return _joined(_origin(plan, kind) for kind in sorted(set(pictures) or {False}))


def origin_of(recordings: Sequence[Recording], selection: FrameSelection) -> LabelOrigin:
    """
    Return where the labels of recordings come from.

    :param selection: the options with which bags and videos were opened.
    """
    datasets = {recording.path for recording in recordings if recording.files is None}
    bags = [recording for recording in recordings if recording.files is not None]
    origins = [label_origin(path) for path in sorted(datasets)]
    if bags:
        labelled = any(frame.label is not None for bag in bags for frame in bag.frames)
        origins += [_origin(vars(selection), kind) for kind in sorted({
            bag.topic == reader.PICTURES for bag in bags})] if labelled else [
                LabelOrigin(False, 'These recordings have no labels.')]
    return _joined(origins)


def _joined(origins: Iterable[LabelOrigin]) -> LabelOrigin:
    origins = list(origins)
    return LabelOrigin(all(origin.simulated for origin in origins),
                       ' '.join(dict.fromkeys(origin.text for origin in origins)))


def _origin(options: Mapping[str, Any], pictures: bool) -> LabelOrigin:
    for field, text in (('labels', 'Labels from {}.'),
                        ('label', 'All frames were labelled {}.'),
                        ('label_topic', 'Labels from the topic {}.')):
        if options.get(field) not in (None, GROUND_TRUTH_TOPIC):
            return LabelOrigin(False, text.format(options[field]))
    if pictures:
        return LabelOrigin(False, 'Labels of pictures from the folders that they lie in, or from '
                                  'the CSV file beside them.')
    # Only bags of the simulation hold their labels without being told where.
    return LabelOrigin(True, f'Simulated attempts: labels from the topic {GROUND_TRUTH_TOPIC} of '
                             'the simulation. No picture is a photograph.')
