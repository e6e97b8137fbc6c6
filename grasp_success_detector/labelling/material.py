"""A source as it is labelled: its frames in order, their times, and how it is cut at first."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from zlib import crc32

import numpy as np

from grasp_success_detector.errors import BagError
from grasp_success_detector.labelling.cutting import (
    cut_by_events,
    cut_by_labels,
    cut_by_pauses,
    cut_by_times,
    Cuts,
)
from grasp_success_detector.labels import Label
from grasp_success_detector.recordings.bags import choose_topic, GROUND_TRUTH_TOPIC
from grasp_success_detector.recordings.ground_truth import AttemptsFrom, elapsed_times
from grasp_success_detector.recordings.hand_messages import attempts_by_motion, driver_events
from grasp_success_detector.recordings.index import index_recording, RecordingIndex
from grasp_success_detector.recordings.picture_index import index_pictures
from grasp_success_detector.recordings.reader import (
    ChosenFrame,
    ImageTopic,
    PICTURES,
    StorageFile,
)
from grasp_success_detector.recordings.sources import Source, SourceKind


@dataclass(frozen=True)
class Material:
    """
    One source and its frames, without their pictures.

    :ivar frames: all frames, in the order of recording.
    :ivar elapsed_ns: time of each frame since the first, as the intervals of a label file count.
    :ivar topic: image topic of a bag; None for a video.
    :ivar bytes_read: size of the files when they were indexed; it changes while a bag grows.
    :ivar attempts: name of the attempt of each picture of a folder; () for a recording.
    :ivar given: label that a folder gives to each of its pictures; () for a recording.
    :ivar cuts: how the source is cut by its messages; None if only its pictures could tell.
    """

    source: Source
    frames: tuple[ChosenFrame, ...]
    elapsed_ns: tuple[int, ...]
    topic: ImageTopic | None
    files: tuple[StorageFile, ...]
    bytes_read: int
    cuts: Cuts | None
    attempts: tuple[str, ...] = ()
    given: tuple[Label | None, ...] = ()

    def fingerprint(self, count: int) -> int:
        """Return a checksum of the times, or names, of the first ``count`` frames."""
        if self.attempts:
            return crc32('\0'.join(frame.member for frame in self.frames[:count]).encode(
                errors='surrogateescape'))
        return crc32(np.array(self.elapsed_ns[:count], np.int64).tobytes())

    @cached_property
    def period_ns(self) -> int:
        """Usual time between two frames."""
        steps = np.diff(np.array(self.elapsed_ns, np.int64))
        return int(np.median(steps[steps > 0])) if (steps > 0).any() else 10 ** 8

    def end_ns(self, last: int) -> int:
        """Return the time at which the label of a frame ends, exclusive, since the first frame."""
        after = next((time for time in self.elapsed_ns[last + 1:last + 3]
                      if time > self.elapsed_ns[last]), None)
        end = self.elapsed_ns[last] + self.period_ns
        return end if after is None else min(end, after)


def open_recording(source: Source, topic: str | None, unpack_into: Path,
                   attempts_from: AttemptsFrom = AttemptsFrom.RECORDING) -> Material:
    """
    Index a bag or video, and cut it by its messages and pauses.

    :param topic: image topic; None if the bag has only one.
    :param unpack_into: folder for decompressed files, to keep as long as the material is used.
    :param attempts_from: DRIVER: cut by commands and joints of the hand's driver alone.
    :raises BagError: it cannot be read, has no frames of the topic, or no motion of the hand.
    """
    size = bytes_of(source)
    index = index_recording(source, GROUND_TRUTH_TOPIC, unpack_into)
    if not index.frames:
        raise BagError(f'{source.path}: no image message in it')
    chosen = None if source.kind is SourceKind.VIDEO else _choose(source, topic, index)
    found = index.frames[chosen]
    received_ns = [frame.received_ns for frame in found]
    elapsed_ns, _ = elapsed_times(received_ns)
    if attempts_from is AttemptsFrom.DRIVER:
        driver_events(source.path, index.files)
        index.attempts, index.bools = [], []
    frames = tuple(ChosenFrame(
        number, frame.file, frame.location, frame.stamp_ns or frame.received_ns, None, '', '')
        for number, frame in enumerate(found))
    return Material(source, frames, tuple(elapsed_ns), chosen, tuple(index.files), size,
                    _cuts(index, received_ns, elapsed_ns, chosen is not None))


def open_pictures(source: Source) -> Material:
    """
    List the pictures of a folder or zip file, those of one attempt after another.

    :raises BagError: it holds no picture, or cannot be read.
    :raises DatasetError: labels that lie in it contradict each other.
    """
    index, truth = index_pictures(source, None, {}, True)
    found = [(frame, *truth.label_and_attempt(frame.received_ns, 0, ''))
             for frame in index.frames[PICTURES]]
    if not found:
        raise BagError(f'{source.path}: no picture in it')
    first = {attempt: number for number, (_, _, attempt) in reversed(list(enumerate(found)))}
    found.sort(key=lambda item: first[item[2]])
    frames = tuple(ChosenFrame(
        number, frame.file, frame.location, number, None, '', '', member=frame.member)
        for number, (frame, _, _) in enumerate(found))
    names = tuple(attempt or frame.member for frame, _, attempt in found)
    starts = tuple(i for i, name in enumerate(names) if i == 0 or name != names[i - 1])
    return Material(source, frames, tuple(range(len(frames))), PICTURES, tuple(index.files), 0,
                    Cuts(starts, how=truth.rule.value), names,
                    tuple(label for _, label, _ in found))


def bytes_of(source: Source) -> int:
    """Return the size of a source's files, 0 for those that have gone."""
    return sum(file.stat().st_size for file in source.files if file.exists())


def _choose(source: Source, wanted: str | None, index: RecordingIndex) -> ImageTopic:
    topics = [topic for topic in index.frames if topic is not None]
    name = choose_topic(
        source.path, {topic.name: len(index.frames[topic]) for topic in topics}, wanted)
    return max((topic for topic in topics if topic.name == name),
               key=lambda topic: len(index.frames[topic]))


def _cuts(index: RecordingIndex, received_ns: Sequence[int], elapsed_ns: Sequence[int],
          is_bag: bool) -> Cuts | None:
    if cuts := cut_by_events(received_ns, index.attempts) or cut_by_labels(
            received_ns, index.bools):
        return cuts
    if is_bag:
        times, how = attempts_by_motion(index.files)
        # A clock that was set while recording would put these times among the wrong frames.
        if times and received_ns == sorted(received_ns) and (
                cuts := cut_by_times(received_ns, times, how)):
            return cuts
    return cut_by_pauses(elapsed_ns)
