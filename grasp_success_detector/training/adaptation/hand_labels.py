"""Labels for frames without any: where the joints tell them, and agree over time."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from grasp_success_detector.console import counted
from grasp_success_detector.decision import NS_PER_S
from grasp_success_detector.errors import HandStateError
from grasp_success_detector.evaluation.frame_sources import Recording
from grasp_success_detector.evaluation.hand_replay import hand_stream, poses_at
from grasp_success_detector.hand.model import HandModel
from grasp_success_detector.hand.monitor import judge_pose, Pose
from grasp_success_detector.hand.motion import Phase
from grasp_success_detector.labels import CLASS_NAMES, Label
from grasp_success_detector.recordings.hand_messages import read_hand_messages
from grasp_success_detector.training.adaptation.frames import LEAST_ATTEMPTS

#: Log-odds of the joints (P(success) of 12 or 88 %) from which they give a label: 98 % of these
#: are right in simulation (docs/adaptation.md).
_SURE = 2.
#: A hand that closes or is closed must say the same for as long before and after a frame.
_AGREE_NS = NS_PER_S // 2


def labelled_by_hand(recordings: Sequence[Recording], model: HandModel,
                     ) -> tuple[list[Recording], str]:
    """
    Replace all labels of recordings by those that the hand's joint states give.

    An open hand that is going to close, a closing one and one that has opened hold nothing; of a
    closed one the joints tell, where they are sure and say the same over time. Other frames get no
    label. A recording that is not cut into attempts is cut where the hand begins to close.

    :returns: the recordings, and why these labels do not suffice to learn and to judge; '' if they
        do.
    """
    labelled, why = [], []
    for recording in recordings:
        try:
            labelled.append(_labelled(recording, model))
        except HandStateError as error:
            why.append(f'{recording.name}: {error}')
            labelled.append(_without(recording))
    counts = {label: len({frame.attempt for recording in labelled for frame in recording.frames
                          if frame.label is label}) for label in Label}
    if min(counts.values()) >= LEAST_ATTEMPTS:
        return labelled, ''
    return labelled, '; '.join([
        'the joint states tell ' + ' and '.join(
            f'{counted(counts[label], "attempt")} with {CLASS_NAMES[label]} frames'
            for label in reversed(Label)) + f', {LEAST_ATTEMPTS} of each are needed', *why[:1]])


def _without(recording: Recording) -> Recording:
    return replace(recording, frames=tuple(
        frame._replace(label=None) for frame in recording.frames))


def _labelled(recording: Recording, model: HandModel) -> Recording:
    if recording.files is None or not recording.continuous or recording.sequential:
        raise HandStateError('pictures and videos have no joint states')
    stream = hand_stream(read_hand_messages(recording.files))
    frames = list(recording.frames)
    order = sorted(range(len(frames)), key=lambda i: frames[i].stamp_ns)
    stamps_ns = [frames[i].stamp_ns for i in order]
    poses = poses_at(stream, stamps_ns)
    numbers = np.cumsum([before is not None and pose is not None and before.attempt != pose.attempt
                         for before, pose in zip([None, *poses], poses, strict=False)])
    cut = len({frame.attempt for frame in frames}) > 1
    for i, label, number in zip(order, _labels(poses, stamps_ns, model), numbers.tolist(),
                                strict=True):
        attempt = frames[i].attempt if cut else f'{frames[i].attempt}/{number}'
        frames[i] = frames[i]._replace(label=label, attempt=attempt)
    return replace(recording, frames=tuple(frames))


def _labels(poses: Sequence[Pose | None], stamps_ns: Sequence[int],
            model: HandModel) -> Iterator[Label | None]:
    """Yield the label of each pose, in order of time."""
    said = [None if pose is None else _said(pose, model) for pose in poses]
    grips = [pose is not None and pose.phase in (Phase.CLOSING, Phase.CLOSED) for pose in poses]
    closes = None   # number of the attempt that begins next
    for i in reversed(range(len(poses))):
        pose = poses[i]
        if pose is None or pose.phase is Phase.OPENING:
            closes = None
        elif pose.phase is not Phase.OPEN:
            closes = pose.attempt
        elif closes == pose.attempt + 1:
            # Another may be one that was closed before the first joint state.
            said[i] = Label.FAILURE
    for i, at in enumerate(stamps_ns):
        near = range(bisect_left(stamps_ns, at - _AGREE_NS),
                     bisect_right(stamps_ns, at + _AGREE_NS))
        yield said[i] if not grips[i] or all(
            said[j] is said[i] for j in near if grips[j]) else None


def _said(pose: Pose, model: HandModel) -> Label | None:
    if pose.phase is Phase.CLOSING:
        # One that stands still may have met a large object.
        return None if pose.stands_still else Label.FAILURE
    # What an opening hand still holds, its joints do not tell surely enough for a label.
    log_odds = None if pose.phase is Phase.OPENING else judge_pose(pose, model).evidence.log_odds
    if log_odds is None or abs(log_odds) < _SURE:
        return None
    return Label.SUCCESS if log_odds > 0 else Label.FAILURE
