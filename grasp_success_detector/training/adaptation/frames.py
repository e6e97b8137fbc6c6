"""The frames of a rig that an adaptation uses, decoded once for every view of the camera."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from grasp_success_detector.console import counted
from grasp_success_detector.decision import NS_PER_S
from grasp_success_detector.errors import DatasetError
from grasp_success_detector.evaluation.frame_sources import Recording
from grasp_success_detector.images.decoding import RgbImage
from grasp_success_detector.images.preprocessing import Preprocessing
from grasp_success_detector.inference.hand_finder import look
from grasp_success_detector.labels import CLASS_NAMES, Label
from grasp_success_detector.recordings.reader import ChosenFrame, RefusedFrame

#: Each label must occur in as many attempts: one to learn from and one to judge.
LEAST_ATTEMPTS = 2

#: The most frames without a label that are looked at, over all recordings.
_MOST_UNLABELLED = 200


class FrameOrigin(NamedTuple):
    """
    Where a frame comes from.

    :ivar label: None for a frame without one.
    :ivar seconds: time since the first frame of its recording.
    """

    source: str
    attempt: str
    label: Label | None
    seconds: float


@dataclass(frozen=True)
class RigFrames:
    """
    Frames of a rig, as inputs of networks.

    :ivar views: by name of the view, RGB uint8 (N, h, w, 3).
    :ivar preprocessings: crop, size and normalization of each view, by the same names.
    :ivar spans: seconds of the first and the last frame of each unlabelled attempt of a source.
    :ivar refused: number of frames that could not be decoded, by reason.
    :ivar unreadable: why files of pictures or of a data set cannot be decoded, by source and file.
    :ivar hashes: :func:`~.learnt_frames.frame_hash` of the frames with a label.
    """

    origins: tuple[FrameOrigin, ...]
    views: Mapping[str, NDArray[np.uint8]]
    preprocessings: Mapping[str, Preprocessing]
    spans: Mapping[tuple[str, str], tuple[float, float]]
    refused: Mapping[str, int]
    unreadable: Mapping[str, str] = field(default_factory=dict)
    hashes: tuple[str, ...] = ()

    def labelled(self) -> 'RigFrames':
        """Return the frames that have a label."""
        return self._chosen([i for i, at in enumerate(self.origins) if at.label is not None])

    def unlabelled(self) -> 'RigFrames':
        """Return the frames that have none."""
        return self._chosen([i for i, at in enumerate(self.origins) if at.label is None])

    def _chosen(self, places: list[int]) -> 'RigFrames':
        return replace(self, origins=tuple(self.origins[i] for i in places),
                       views={name: images[places] for name, images in self.views.items()})

    @property
    def labels(self) -> NDArray[np.float32]:
        """Return 1 for each success and 0 for each failure, float32 (N,)."""
        return np.array([at.label for at in self.origins], np.float32)

    @property
    def attempts(self) -> list[str]:
        """Return the attempt of each frame."""
        return [at.attempt for at in self.origins]


def check_labels(origins: Sequence[FrameOrigin]) -> None:
    """
    Refuse frames from which nothing can be learnt, or whose learning could not be judged.

    :raises DatasetError: no frame has a label, or a label occurs in fewer than two attempts.
    """
    attempts: dict[Label, set[str]] = {label: set() for label in Label}
    for at in origins:
        if at.label is not None:
            attempts[at.label].add(at.attempt)
    if not any(attempts.values()):
        raise DatasetError(
            f'none of the {counted(len(origins), "frame")} has a label; expected attempts of both '
            'labels: give their labels with --labels, or label them with label_attempts')
    if few := {label: names for label, names in attempts.items() if len(names) < LEAST_ATTEMPTS}:
        found = ' and '.join(f'{counted(len(names), "attempt")} with {CLASS_NAMES[label]} frames'
                             for label, names in attempts.items())
        lacking = ' and '.join(CLASS_NAMES[label] for label in few)
        raise DatasetError(
            f'{found}; expected at least {LEAST_ATTEMPTS} of each, one to learn from and one to '
            f'judge: label more of {lacking}')


def choose_frames(recording: Recording, per_attempt: int, unlabelled: int) -> list[ChosenFrame]:
    """
    Return some frames of a recording, spread evenly over its attempts, in recorded order.

    :param per_attempt: the most frames of each label of an attempt.
    :param unlabelled: the most frames of an attempt that has no label.
    """
    groups: dict[tuple[str, Label | None], list[ChosenFrame]] = {}
    for frame in recording.frames:
        if frame.attempt:
            groups.setdefault((frame.attempt, frame.label), []).append(frame)
    labelled = {attempt for attempt, label in groups if label is not None}
    chosen = []
    for (attempt, label), frames in groups.items():
        # Frames between the labels of an attempt were left out on purpose.
        if label is not None or attempt not in labelled:
            most = unlabelled if label is None else per_attempt
            if len(frames) > most:  # the middle of each of as many stretches of equal length
                frames = [frames[int((i + .5) * len(frames) / most)] for i in range(most)]
            chosen += frames
    return sorted(chosen, key=lambda frame: frame.number)


def read_frames(recordings: Sequence[Recording], preprocessings: Mapping[str, Preprocessing],
                per_attempt: int,
                on_frame: Callable[[int], None] = lambda total: None) -> RigFrames:
    """
    Read labelled frames, and some frames of attempts without labels, of all recordings.

    :param preprocessings: the views to make of each frame, by name.
    :param per_attempt: the most frames of each label of an attempt.
    :param on_frame: called after each frame with the number of frames that are read in all.
    :raises DatasetError: see :func:`check_labels`; or no frame of a label could be decoded.
    """
    check_labels([FrameOrigin(recording.name, frame.attempt, frame.label, 0.)
                  for recording in recordings for frame in recording.frames])
    without = {(recording.name, frame.attempt) for recording in recordings
               for frame in recording.frames if frame.label is None}
    each = max(1, min(3, _MOST_UNLABELLED // max(len(without), 1)))
    origins: list[FrameOrigin] = []
    inputs: dict[str, list[NDArray[np.uint8]]] = {name: [] for name in preprocessings}
    spans: dict[tuple[str, str], tuple[float, float]] = {}
    refused: dict[str, int] = {}
    unreadable = {f'{recording.name}/{file}': reason for recording in recordings
                  for file, reason in recording.account.get('unread_files', {}).items()}
    hashes: list[str] = []

    def make(picture: RgbImage) -> dict[str, NDArray[np.uint8]]:
        return {name: look(picture, view).image for name, view in preprocessings.items()}

    def half_suffices(height: int, width: int) -> bool:
        return all(view.half_suffices(height, width) for view in preprocessings.values())

    chosen = [choose_frames(recording, per_attempt, each) for recording in recordings]
    total = sum(map(len, chosen))
    for recording, mine in zip(recordings, chosen, strict=True):
        start_ns = recording.frames[0].stamp_ns
        learnt: list[ChosenFrame] = []
        for frame in recording.frames:
            if frame.attempt and frame.label is None:
                at = (frame.stamp_ns - start_ns) / NS_PER_S
                first, _ = spans.get((recording.name, frame.attempt), (at, at))
                spans[recording.name, frame.attempt] = first, at
        for frame, made in recording.read(mine, make, half_suffices):
            if isinstance(made, RefusedFrame):
                refused[made.reason] = refused.get(made.reason, 0) + 1
                if file := recording.file_of(frame):
                    unreadable[f'{recording.name}/{file}'] = made.reason
            else:
                if frame.label is not None:
                    learnt.append(frame)
                origins.append(FrameOrigin(recording.name, frame.attempt, frame.label,
                                           (frame.stamp_ns - start_ns) / NS_PER_S))
                for name, image in made.items():
                    inputs[name].append(image)
            on_frame(total)
        hashes += recording.hashes(learnt)
    check_labels(origins)
    return RigFrames(tuple(origins), {name: np.stack(images) for name, images in inputs.items()},
                     preprocessings, spans, refused, unreadable, tuple(hashes))
