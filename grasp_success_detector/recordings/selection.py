"""From a source to the frames that go into the data set, each with its label and attempt."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
import json
from pathlib import Path
from typing import NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from grasp_success_detector.errors import BagError
from grasp_success_detector.labels import Label
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
from grasp_success_detector.recordings.options import ExtractionOptions
from grasp_success_detector.recordings.sources import safe_name, Source, SourceKind
from grasp_success_detector.recordings.storage import Locator
from grasp_success_detector.recordings.videos import video_frames

#: What stands in the manifest's topic column for a video.
VIDEO_TOPIC = 'video'

#: What is said of frames whose header has no stamp.
STAMP_NOT_SET = 'stamp not set, receive time used'


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


def plan_source(source: Source, options: ExtractionOptions, intervals: Sequence[Interval],
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
            return _plan_video(source, options, intervals, unlabelled)
        contents = read_contents(source, options.truth_topic(), unpack_into)
    except BagError as error:
        return SourcePlan(source, unreadable=str(error))
    if not contents.frames:
        return SourcePlan(source, damage=dict(contents.damage),
                          unreadable=f'{source.path}: no image message in it')
    topic = choose_topic(source, contents.frames, options.topic)
    frames = contents.frames[topic]
    damage = contents.damage
    if (missing := _declared(source.path, topic.name) - len(frames)) > 0:
        damage['frames missing that metadata.yaml counts'] += missing
    damage[STAMP_NOT_SET] += sum(f.stamp_ns is None for f in frames)
    chooser = _Chooser(source, options, intervals, topic.name, damage, contents,
                       unlabelled, outside)
    chosen = chooser.choose(frames)
    unchecked = contents.unchecked
    if checks_follow:
        unchecked = unchecked - {(frame.file, frame.locator.container) for frame in chosen}
    damage['damaged chunk'] += count_wrong(contents.files, unchecked)
    return SourcePlan(source, topic, contents.files, chosen, len(frames), dict(chooser.skipped),
                      dict(+damage))


def _plan_video(source: Source, options: ExtractionOptions, intervals: Sequence[Interval],
                unlabelled: bool) -> SourcePlan:
    damage: Counter[str] = Counter()
    frames = []
    for frame in video_frames(source.path, damage):
        damage['stamp not set, frame rate used'] += frame.guessed
        frames.append(RawFrame(frame.stamp_ns, frame.stamp_ns, 0, Locator(-1, frame.number, -1)))
    if not frames:
        return SourcePlan(source, unreadable=f'{source.path}: no frame can be decoded')
    chooser = _Chooser(source, options, intervals, VIDEO_TOPIC, damage, None, unlabelled)
    chosen = chooser.choose(frames)
    return SourcePlan(source, None, (StorageFile(source.path),), chosen, len(frames),
                      dict(chooser.skipped), dict(+damage))


class _Chooser:
    """Applies the options to one source's frames, in the order of recording."""

    def __init__(self, source: Source, options: ExtractionOptions, intervals: Sequence[Interval],
                 topic: str, damage: Counter[str], contents: BagContents | None,
                 unlabelled: bool, outside: bool = False) -> None:
        self._source, self._options, self._intervals = source, options, intervals
        self._unlabelled, self._outside = unlabelled, outside
        self._stem = f'{source.name}__{safe_name(topic)}'
        self._damage = damage
        self.skipped: Counter[str] = Counter()
        truth = options.truth_topic()
        self._labels = TopicLabels(
            contents.bools.get(truth or '', []) if contents else [], options.hold_ns())
        self._attempts = TopicAttempts(
            _parse_attempts(contents.attempts, damage) if contents else [])

    def choose(self, frames: Iterable[RawFrame]) -> tuple[ChosenFrame, ...]:
        options = self._options
        gap_ns = None if options.attempt_gap_s is None else options.attempt_gap_s * 1e9
        elapsed, gaps = Elapsed(), GapAttempts(gap_ns)
        thinning = Thinning(options.fps, options.every)
        start_ns = (options.start_s or 0.) * 1e9
        end_ns = float('inf') if options.end_s is None else options.end_s * 1e9
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
        if self._options.label is not None:
            return Label[self._options.label.upper()], attempt
        if self._options.labels is not None:
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
