"""Select frames of a recording, and find the label and attempt of each."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
import math
import os
from pathlib import Path
from typing import Any

from grasp_success_detector.errors import BagError, ConfigError
from grasp_success_detector.files import check_regular
from grasp_success_detector.labels import CLASS_NAMES, Label
from grasp_success_detector.recordings import ground_truth
from grasp_success_detector.recordings.bags import (
    choose_topic,
    declared_messages,
    GROUND_TRUTH_TOPIC,
)
from grasp_success_detector.recordings.ground_truth import AttemptsFrom
from grasp_success_detector.recordings.hand_messages import driver_events
from grasp_success_detector.recordings.index import index_recording, RecordingIndex
from grasp_success_detector.recordings.labels_file import SourceLabels
from grasp_success_detector.recordings.picture_index import index_pictures, PictureGroundTruth
from grasp_success_detector.recordings.reader import (
    ChosenFrame,
    ImageTopic,
    PICTURES,
    StorageFile,
)
from grasp_success_detector.recordings.remote import named
from grasp_success_detector.recordings.sources import safe_name, Source, SourceKind
from grasp_success_detector.settings import check_settings, setting

VIDEO_TOPIC = 'video'   #: used instead of a topic's name for a video
STAMP_NOT_SET = 'stamp not set, receive time used'  #: kind of damage: a header without a stamp


@dataclass(frozen=True)
class FrameSelection:
    """
    Which frames of a recording are selected, and where their labels come from.

    Times are in seconds from the first frame of the recording, without the jumps of its clock.

    :ivar label_hold_s: 0: a message labels only a frame recorded at the same time; None means 0
        for :data:`GROUND_TRUTH_TOPIC` and no limit for other topics.
    """

    topic: str | None = setting(
        None, metavar='TOPIC', help='image topic of bags that have several')
    label: str | None = setting(
        None, metavar='LABEL', help='success or failure, for all frames')
    labels: Path | None = setting(
        None, metavar='CSV',
        help="intervals: source,start_s,end_s,label[,attempt]; seconds from the source's first "
        'frame; frames outside of all intervals have no label; of pictures: '
        'file,label[,attempt][,split]')
    label_topic: str | None = setting(
        None, metavar='TOPIC', help='std_msgs/Bool; a frame has the label of the latest message')
    label_hold_s: float | None = setting(
        None, lowest=0, highest=math.inf, option='label-hold', metavar='S',
        help='how long a message of --label-topic labels the frames after it (no limit)')
    fps: float | None = setting(
        None, above=0, highest=10 ** 6, help='highest number of frames per second')
    every: int = setting(1, lowest=1, help='take every n-th frame')
    start_s: float | None = setting(
        None, option='start', metavar='S', help='seconds from the first frame')
    end_s: float | None = setting(
        None, highest=math.inf, option='end', metavar='S', help='seconds from the first frame')
    attempt_gap_s: float | None = setting(
        None, above=0, option='attempt-gap', metavar='S',
        help='a longer pause between two frames begins a new attempt, in sources without messages '
        'about attempts; without it such a source is one')

    attempts_from: AttemptsFrom = setting(
        AttemptsFrom.RECORDING, help='recording (its messages, labels or pauses) or driver: '
        "commands of the hand's driver, else the motion of its joints")

    def __post_init__(self) -> None:
        given = [name for name in ('label', 'labels', 'label_topic')
                 if getattr(self, name) is not None]
        one = 'only one of ' + ' and '.join(f'--{name.replace("_", "-")}' for name in given)
        check_settings(self, ConfigError, 'cannot select frames with', (
            *((name, topic is None or (topic.isprintable() and topic != ''), 'the name of a topic')
              for name, topic in (('topic', self.topic), ('label_topic', self.label_topic))),
            ('label', self.label in (None, *CLASS_NAMES), ' or '.join(CLASS_NAMES)),
            ('label_hold_s', self.label_hold_s is None or self.label_topic is not None,
             'none without --label-topic'),
            ('fps', self.fps is None or self.every == 1,
             f'none together with --every {self.every}'),
            ('start_s', (self.start_s or 0.) < (math.inf if self.end_s is None else self.end_s),
             f'below --end {self.end_s}'),
            *((name, len(given) < 2, one) for name in given[:1])), options=True)

    def bool_topic(self) -> str | None:
        """Return the topic that gives the labels, or None if ``label`` or ``labels`` does."""
        if self.label is not None or self.labels is not None:
            return None
        return GROUND_TRUTH_TOPIC if self.label_topic is None else self.label_topic

    def hold_ns(self) -> float:
        """Return how long a message of the label topic labels the frames after it, in ns."""
        if self.label_hold_s is not None:
            return self.label_hold_s * 1e9
        return 0. if self.bool_topic() == GROUND_TRUTH_TOPIC else math.inf

    def to_json(self) -> dict[str, Any]:
        """
        Return the fields for JSON, with the text of the labels file as ``labels_text``.

        :raises ConfigError: the labels file cannot be read.
        """
        values = asdict(self)
        if self.labels is not None:
            try:
                check_regular(self.labels)
                values |= {'labels': str(self.labels.resolve()),
                           'labels_text': self.labels.read_text(encoding='utf-8-sig')}
            except (OSError, UnicodeDecodeError) as error:
                fault = getattr(error, 'strerror', None) or error
                raise ConfigError(f'{self.labels}: cannot be read ({fault})') from error
        return values


@dataclass(frozen=True)
class SourcePlan:
    """The selected frames of one source, and why others were left out."""

    source: Source
    topic: ImageTopic | None = None     # None for a video or an unreadable source; PICTURES
    files: tuple[StorageFile, ...] = ()
    frames: tuple[ChosenFrame, ...] = ()
    messages: int = 0                   # number of frames of the topic, selected or not
    skipped: Mapping[str, int] = field(default_factory=dict)    # numbers of frames, by reason
    damage: Mapping[str, int] = field(default_factory=dict)     # numbers of faults, by kind
    unreadable: str = ''                # why the source cannot be read, '' if it can
    attempts_by: str = ''               # by what pictures were put together into attempts

    @property
    def topic_name(self) -> str:
        """Name of the topic, or ``VIDEO_TOPIC`` for a video."""
        return VIDEO_TOPIC if self.topic is None else self.topic.name

    def account(self) -> dict[str, Any]:
        """Return the source, and the numbers of frames found and left out, for JSON."""
        account = {'path': named(self.source.path), 'kind': self.source.kind.value,
                   'topic': self.topic_name, 'found': self.messages,
                   'skipped': dict(self.skipped), 'damage': dict(self.damage)}
        return account | ({
            'attempts_by': self.attempts_by,
            'attempts': len({frame.attempt for frame in self.frames}),
            'unread_files': dict(self.source.found.unread)} if self.attempts_by else {})


def plan_source(source: Source, selection: FrameSelection,
                labels: SourceLabels, unpack_into: Path, *,
                unlabelled: bool = False, outside: bool = False,
                verify_all: bool = True) -> SourcePlan:
    """
    Select the frames of one source, without reading pictures of bags and videos.

    Pictures of a folder are read where neither a CSV file nor their names tell their attempts.

    :param labels: what the labels file says of this source, as :func:`.read_labels` returns it.
    :param unpack_into: folder for decompressed files, to keep until the pictures have been read.
    :param unlabelled: also select frames without a label.
    :param outside: also select frames outside of all attempts (still counted in ``skipped``).
    :param verify_all: if False, checksums of chunks with selected frames are verified on reading.
    :raises BagError: the image topic of ``selection`` does not exist, or several are possible.
    :raises DatasetError: the labels of pictures are missing or contradict each other.
    """
    if source.kind is SourceKind.PICTURES:
        rows = labels if isinstance(labels, Mapping) else {}
        index, pictures = index_pictures(source, selection.label, rows, unlabelled)
        chosen, skipped = _select(source.name, PICTURES, index, selection, pictures, unlabelled,
                                  outside)
        return SourcePlan(
            source, PICTURES, tuple(index.files), tuple(chosen), len(index.frames[PICTURES]),
            dict(skipped + Counter(source.found.left_out)), dict(+index.damage), '',
            pictures.rule.value)
    intervals = () if isinstance(labels, Mapping) else labels
    try:
        index = index_recording(source, selection.bool_topic(), unpack_into)
    except BagError as error:
        return SourcePlan(source, unreadable=str(error))
    if not index.frames:
        return SourcePlan(source, damage=dict(index.damage),
                          unreadable=f'{source.path}: no image message in it')
    topic = None if source.kind is SourceKind.VIDEO else _choose_topic(source, selection, index)
    frames = index.frames[topic]
    if topic is not None:
        missing = declared_messages(source.path, topic.name) - len(frames)
        index.damage['frames missing that metadata.yaml counts'] += max(missing, 0)
        index.damage[STAMP_NOT_SET] += sum(frame.stamp_ns is None for frame in frames)
    if selection.attempts_from is AttemptsFrom.DRIVER:
        index.attempts = driver_events(source.path, index.files)
    truth = ground_truth.GroundTruth(
        None if selection.label is None else Label[selection.label.upper()],
        None if selection.labels is None else intervals,
        index.bools, selection.hold_ns(), index.attempts)
    chosen, skipped = _select(source.name, topic, index, selection, truth, unlabelled, outside)
    if not verify_all:
        index.unchecked_chunks -= {(frame.file, frame.location.container) for frame in chosen}
    index.check_chunks()
    return SourcePlan(source, topic, tuple(index.files), tuple(chosen), len(frames),
                      dict(skipped), dict(+index.damage))


def _select(source: str, topic: ImageTopic | None, index: RecordingIndex,
            selection: FrameSelection, truth: ground_truth.GroundTruth | PictureGroundTruth,
            unlabelled: bool, outside: bool) -> tuple[list[ChosenFrame], Counter[str]]:
    """Return the selected frames, in the order of recording, and why others were skipped."""
    frames = index.frames[topic]
    elapsed_ns, jumps = ground_truth.elapsed_times([frame.received_ns for frame in frames])
    stamps_ns = [frame.received_ns if frame.stamp_ns is None else frame.stamp_ns
                 for frame in frames]
    index.damage['clock set while recording'] += jumps
    index.damage['stamp earlier than the one before'] += sum(
        after < before for before, after in pairwise(stamps_ns))
    if isinstance(truth, ground_truth.GroundTruth):
        index.damage['interval of --labels outside of the recording'] += truth.outside(
            elapsed_ns[-1])
    pauses_attempts = ground_truth.attempts_by_pauses(elapsed_ns, selection.attempt_gap_s)
    start_ns = (selection.start_s or 0.) * 1e9
    end_ns = math.inf if selection.end_s is None else selection.end_s * 1e9
    skipped = Counter[str]()
    candidates: list[tuple[int, Label | None, str | None]] = []
    for number, frame in enumerate(frames):
        if not start_ns <= elapsed_ns[number] < end_ns:
            skipped['before --start or after --end'] += 1
            continue
        label, attempt = truth.label_and_attempt(
            frame.received_ns, elapsed_ns[number], pauses_attempts[number])
        if label is None and not unlabelled:
            skipped['no label'] += 1
            continue
        if attempt is None:
            skipped['outside of all attempts'] += 1
            if not outside:
                continue
        candidates.append((number, label, attempt))
    taken = _at_lower_rate([elapsed_ns[number] for number, _, _ in candidates],
                           selection.fps, selection.every)
    skipped['thinned out by --fps or --every'] += len(candidates) - len(taken)
    chosen, used = [], Counter[str]()
    stem = f'{source}__{VIDEO_TOPIC if topic is None else safe_name(topic.name)}'
    for number, label, attempt in (candidates[i] for i in taken):
        frame = frames[number]
        # A picture keeps its name, as far as any file system has it.
        name = (f'{source}__{safe_name(os.path.splitext(frame.member)[0])}' if frame.member else
                f'{stem}__{stamps_ns[number]}')
        used[name] += 1
        again = f'-{used[name]}' if used[name] > 1 else ''
        chosen.append(ChosenFrame(
            number, frame.file, frame.location, stamps_ns[number], label,
            '' if attempt is None else f'{source}/{attempt}', name + again, frame.member,
            frame.split))
    return chosen, +skipped


def _at_lower_rate(elapsed_ns: Sequence[int], fps: float | None, every: int) -> Sequence[int]:
    """Return the indices of the frames to keep: at most ``fps`` a second, or every n-th."""
    if fps is None:
        return range(0, len(elapsed_ns), every)
    # A hundredth of a frame period forgives stamps that were rounded or arrive a little early.
    slots = [math.floor(time * fps / 1e9 + .01) for time in elapsed_ns]
    return [i for i, slot in enumerate(slots) if i == 0 or slot != slots[i - 1]]


def _choose_topic(source: Source, selection: FrameSelection, index: RecordingIndex) -> ImageTopic:
    topics = sorted(filter(None, index.frames), key=lambda topic: topic.name)
    name = choose_topic(
        source.path, {topic.name: len(index.frames[topic]) for topic in topics}, selection.topic)
    chosen, *others = (topic for topic in topics if topic.name == name)
    index.damage['message of another type on the image topic'] += sum(
        len(index.frames[topic]) for topic in others)
    return chosen
