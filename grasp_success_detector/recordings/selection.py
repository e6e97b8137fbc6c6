"""From a source to the frames that go into the data set, each with its label and attempt."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
import json
import math
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from grasp_success_detector.errors import BagError, ConfigError
from grasp_success_detector.labels import CLASS_NAMES, Label
from grasp_success_detector.recordings.bags import GROUND_TRUTH_TOPIC
from grasp_success_detector.recordings.index import (
    BagContents,
    choose_topic,
    count_wrong,
    ImageTopic,
    RawFrame,
    read_contents,
    StorageFile,
)
from grasp_success_detector.recordings.labels import (
    attempt_around,
    AttemptEvent,
    Elapsed,
    GapAttempts,
    Interval,
    interval_at,
    Thinning,
    TopicAttempts,
    TopicLabels,
)
from grasp_success_detector.recordings.sources import safe_name, Source, SourceKind
from grasp_success_detector.recordings.storage import Locator
from grasp_success_detector.recordings.videos import video_frames
from grasp_success_detector.settings import check_settings, setting

#: What stands in the manifest's topic column for a video.
VIDEO_TOPIC = 'video'

#: What is said of frames whose header has no stamp.
STAMP_NOT_SET = 'stamp not set, receive time used'


@dataclass(frozen=True)
class FrameSelection:
    """
    Which frames of a recording are taken, and where their labels come from.

    Times are in seconds from the first frame of the recording; jumps of its clock are left out.

    :ivar topic: image topic; None: the only one of the bag.
    :ivar label: ``success`` or ``failure``, for all frames.
    :ivar labels: CSV file of labelled intervals.
    :ivar label_topic: ``std_msgs/Bool`` topic; a frame has the label of the latest message.
    :ivar label_hold_s: how long a message labels the frames after it; 0: only a frame recorded at
        the same time; None: 0 for :data:`GROUND_TRUTH_TOPIC`, without limit for other topics.
    :ivar fps: highest number of frames per second.
    :ivar every: take every n-th frame.
    :ivar start_s: time of the first frame taken.
    :ivar end_s: time before which the last frame lies.
    :ivar attempt_gap_s: a longer pause between two frames begins a new attempt, in recordings
        that have no messages about their attempts.
    """

    topic: str | None = None
    label: str | None = None
    labels: Path | None = None
    label_topic: str | None = None
    label_hold_s: float | None = setting(None, lowest=0, highest=math.inf)
    fps: float | None = setting(None, above=0, highest=1e9)
    every: int = setting(1, lowest=1)
    start_s: float | None = None
    end_s: float | None = setting(None, highest=math.inf)
    attempt_gap_s: float | None = setting(None, above=0)

    def __post_init__(self) -> None:
        given = [name for name in ('label', 'labels', 'label_topic')
                 if getattr(self, name) is not None]
        check_settings(self, ConfigError, 'cannot select frames with', (
            ('label', self.label in (None, *CLASS_NAMES), ' or '.join(CLASS_NAMES)),
            ('fps', self.fps is None or self.every == 1, f'none together with every {self.every}'),
            ('start_s', (self.start_s or 0.) < (math.inf if self.end_s is None else self.end_s),
             f'below end_s {self.end_s}'),
            *((name, len(given) < 2, f'only one of {" and ".join(given)}') for name in given)))

    def bool_topic(self) -> str | None:
        """Return the topic that the labels come from; None if they do not come from a topic."""
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
        Return all values as JSON has them, and the text of the labels file as ``labels_text``.

        :raises ConfigError: the labels file cannot be read.
        """
        values = asdict(self)
        if self.labels is not None:
            try:
                values |= {'labels': str(self.labels.resolve()),
                           'labels_text': self.labels.read_text(encoding='utf-8-sig')}
            except (OSError, UnicodeDecodeError) as error:
                raise ConfigError(f'{self.labels}: cannot be read ({error})') from error
        return values


class ChosenFrame(NamedTuple):
    """
    A frame to write.

    :ivar number: among all frames of its topic, from 0.
    :ivar file: index of the source's file that holds it.
    :ivar label: None only where frames without label were asked for.
    :ivar attempt: '' only where frames outside of all attempts were asked for.
    :ivar stem: name of the file to write, without suffix.
    """

    number: int
    file: int
    locator: Locator
    stamp_ns: int
    label: Label | None
    attempt: str
    stem: str


@dataclass(frozen=True)
class SourcePlan:
    """
    What is to be written of one source.

    :ivar topic: None for a video.
    :ivar messages: frames that the topic has, also those that were not chosen.
    :ivar skipped: why the others were not chosen.
    :ivar damage: what is wrong with the recording, by kind.
    :ivar unreadable: why nothing of the source could be read; else ''.
    """

    source: Source
    topic: ImageTopic | None = None
    files: tuple[StorageFile, ...] = ()
    frames: tuple[ChosenFrame, ...] = ()
    messages: int = 0
    skipped: Mapping[str, int] = field(default_factory=dict)
    damage: Mapping[str, int] = field(default_factory=dict)
    unreadable: str = ''


def plan_source(source: Source, selection: FrameSelection, intervals: Sequence[Interval],
                unpack_into: Path, unlabelled: bool = False, outside: bool = False,
                checks_follow: bool = False,
                ) -> SourcePlan:
    """
    Decide what to write of one source.

    :param intervals: the source's own, from the labels file.
    :param unlabelled: choose frames without label too, as far as they belong to an attempt.
    :param outside: choose those of a bag that belong to none as well; they still count as skipped.
    :param checks_follow: whoever reads the chosen frames takes note of chunks with a wrong
        checksum; only those without any such frame are checked here.
    :raises BagError: its image topic must be chosen by the user, or does not exist.
    """
    try:
        if source.kind is SourceKind.VIDEO:
            return _plan_video(source, selection, intervals, unlabelled)
        contents = read_contents(source, selection.bool_topic(), unpack_into)
    except BagError as error:
        return SourcePlan(source, unreadable=str(error))
    if not contents.frames:
        return SourcePlan(source, damage=dict(contents.damage),
                          unreadable=f'{source.path}: no image message in it')
    topic = choose_topic(source, contents.frames, selection.topic)
    frames = contents.frames[topic]
    damage = contents.damage
    if (missing := _declared(source.path, topic.name) - len(frames)) > 0:
        damage['frames missing that metadata.yaml counts'] += missing
    damage[STAMP_NOT_SET] += sum(f.stamp_ns is None for f in frames)
    chooser = _Chooser(source, selection, intervals, topic.name, damage, contents,
                       unlabelled, outside)
    chosen = chooser.choose(frames)
    unchecked = contents.unchecked
    if checks_follow:
        unchecked = unchecked - {(frame.file, frame.locator.container) for frame in chosen}
    damage['damaged chunk'] += count_wrong(contents.files, unchecked)
    return SourcePlan(source, topic, contents.files, chosen, len(frames), dict(chooser.skipped),
                      dict(+damage))


def _plan_video(source: Source, selection: FrameSelection, intervals: Sequence[Interval],
                unlabelled: bool) -> SourcePlan:
    damage: Counter[str] = Counter()
    frames = []
    for frame in video_frames(source.path, damage):
        damage['stamp not set, frame rate used'] += frame.guessed
        frames.append(RawFrame(frame.stamp_ns, frame.stamp_ns, 0, Locator(-1, frame.number, -1)))
    if not frames:
        return SourcePlan(source, unreadable=f'{source.path}: no frame can be decoded')
    chooser = _Chooser(source, selection, intervals, VIDEO_TOPIC, damage, None, unlabelled)
    chosen = chooser.choose(frames)
    return SourcePlan(source, None, (StorageFile(source.path),), chosen, len(frames),
                      dict(chooser.skipped), dict(+damage))


class _Chooser:
    """Applies the options to one source's frames, in the order of recording."""

    def __init__(self, source: Source, selection: FrameSelection, intervals: Sequence[Interval],
                 topic: str, damage: Counter[str], contents: BagContents | None,
                 unlabelled: bool, outside: bool = False) -> None:
        self._source, self._selection, self._intervals = source, selection, intervals
        self._unlabelled, self._outside = unlabelled, outside
        self._stem = f'{source.name}__{safe_name(topic)}'
        self._damage = damage
        self.skipped: Counter[str] = Counter()
        truth = selection.bool_topic()
        self._labels = TopicLabels(
            contents.bools.get(truth or '', []) if contents else [], selection.hold_ns())
        self._attempts = TopicAttempts(
            _parse_attempts(contents.attempts, damage) if contents else [])

    def choose(self, frames: Iterable[RawFrame]) -> tuple[ChosenFrame, ...]:
        selection = self._selection
        gap_ns = None if selection.attempt_gap_s is None else selection.attempt_gap_s * 1e9
        elapsed, gaps = Elapsed(), GapAttempts(gap_ns)
        thinning = Thinning(selection.fps, selection.every)
        start_ns = (selection.start_s or 0.) * 1e9
        end_ns = float('inf') if selection.end_s is None else selection.end_s * 1e9
        chosen = []
        stems: Counter[str] = Counter()
        previous_stamp = None
        for index, frame in enumerate(frames):
            elapsed_ns = elapsed.add(frame.received_ns)
            gap_attempt = gaps.at(elapsed_ns)
            stamp_ns = frame.received_ns if frame.stamp_ns is None else frame.stamp_ns
            if previous_stamp is not None and stamp_ns < previous_stamp:
                self._damage['stamp earlier than the one before'] += 1
            previous_stamp = stamp_ns
            if not start_ns <= elapsed_ns < end_ns:
                self.skipped['before --start or after --end'] += 1
                continue
            label, attempt = self._truth(frame.received_ns, elapsed_ns, gap_attempt)
            if label is None and not self._unlabelled:
                self.skipped['no label'] += 1
                continue
            if attempt is None:
                self.skipped['outside of all attempts'] += 1
                if not self._outside:
                    continue
            if not thinning.takes(elapsed_ns):
                self.skipped['thinned out by --fps or --every'] += 1
                continue
            stem = f'{self._stem}__{stamp_ns}'
            stems[stem] += 1
            if stems[stem] > 1:
                stem = f'{stem}-{stems[stem]}'
            chosen.append(ChosenFrame(index, frame.file, frame.locator, stamp_ns, label,
                                      '' if attempt is None else f'{self._source.name}/{attempt}',
                                      stem))
        self._damage['clock set while recording'] += elapsed.jumps
        return tuple(chosen)

    def _truth(self, received_ns: int, elapsed_ns: int, gap_attempt: str,
               ) -> tuple[Label | None, str | None]:
        """Return the frame's label and attempt."""
        attempt = self._attempts.at(received_ns) if self._attempts else gap_attempt
        if self._selection.label is not None:
            return Label[self._selection.label.upper()], attempt
        if self._selection.labels is not None:
            interval = interval_at(self._intervals, elapsed_ns)
            if interval is None:
                return None, attempt_around(self._intervals, elapsed_ns, attempt)
            return interval.label, interval.attempt or attempt
        return self._labels.at(received_ns), attempt


def _parse_attempts(messages: Iterable[tuple[int, str]], damage: Counter[str],
                    ) -> list[AttemptEvent]:
    events = []
    for received_ns, text in messages:
        try:
            event = json.loads(text)
            events.append(AttemptEvent(
                received_ns, {'begin': True, 'end': False}[event['event']],
                str(event['attempt'])))
        except (ValueError, KeyError, TypeError):
            damage['damaged attempt message'] += 1
    return events


def _declared(bag: Path, topic: str) -> int:
    """Return how many messages of a topic metadata.yaml counts; 0 where it doesn't say."""
    try:
        information = YAML(typ='safe').load((bag / 'metadata.yaml').read_text())
        return sum(int(entry['message_count'])
                   for entry in information['rosbag2_bagfile_information'][
                       'topics_with_message_count']
                   if entry['topic_metadata']['name'] == topic)
    except (OSError, ValueError, KeyError, TypeError, YAMLError):
        return 0
