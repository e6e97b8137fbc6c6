"""Decide recorded attempts as the node does: from cameras, joint states and commands together."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np

from grasp_success_detector.decision import (
    Decision,
    DecisionConfig,
    fused,
    Fuser,
    NS_PER_S,
    Reason,
    unknown,
    WindowedDecider,
)
from grasp_success_detector.errors import HandStateError
from grasp_success_detector.evaluation.attempts import Judged, SPARSE
from grasp_success_detector.hand.attempt_verdict import AttemptVerdict, AttemptWatch
from grasp_success_detector.hand.calibration import LabelledPose
from grasp_success_detector.hand.closure import HandReference
from grasp_success_detector.hand.drivers import (
    COMMAND_NAMES,
    detect_driver,
    DriverKind,
    find_names,
    Side,
)
from grasp_success_detector.hand.kinematics import Geometry, geometry_of
from grasp_success_detector.hand.model import HandModel
from grasp_success_detector.hand.monitor import HandMonitor, Pose, PoseFollower
from grasp_success_detector.hand.motion import Phase
from grasp_success_detector.labels import Label
from grasp_success_detector.recordings.hand_messages import HandMessages, Samples

#: How often the node decides without a frame.
_WATCH_NS = NS_PER_S // 10


class Kind(IntEnum):
    """Kind of an event; of one time, they come in this order."""

    TOLD = 0            #: text of a command
    COMMANDED = 1       #: angles of a command
    MEASURED = 2        #: angles and torques
    TOUCHED = 3         #: readings of tactile sensors
    SHOWN = 4           #: a frame


#: Time in ns, kind, and what came.
Event = tuple[int, Kind, Any]


class HandStream(NamedTuple):
    """
    Joint states and commands of one hand, in the order of FINGERS.

    :ivar states: stamps in ns and angles (N, joints) in radians.
    :ivar commands: angles that the joints were told to reach; None if the recording has none.
    :ivar texts: time in ns and text of commands such as ``grasp_3``.
    :ivar touches: readings of the tactile sensors; None if the recording has none.
    :ivar geometry: of the hand; None: unknown.
    """

    states: Samples
    commands: Samples | None
    texts: Sequence[tuple[int, str]]
    touches: Samples | None = None
    geometry: Geometry | None = None

    def events(self) -> Iterator[Event]:
        """Yield all in the order of time."""
        rows: list[Event] = [(time_ns, Kind.TOLD, text) for time_ns, text in self.texts]
        for kind, samples in ((Kind.COMMANDED, self.commands), (Kind.TOUCHED, self.touches)):
            if samples is not None:
                rows += [(time_ns, kind, values) for time_ns, values in zip(
                    samples.times_ns.tolist(), samples.values, strict=True)]
        states = self.states
        efforts = [None] * len(states.values) if states.efforts is None else states.efforts
        rows += [(time_ns, Kind.MEASURED, state) for time_ns, *state in zip(
            states.times_ns.tolist(), states.values, efforts, strict=True)]
        yield from sorted(rows, key=lambda row: row[:2])


def hand_stream(found: HandMessages, driver: DriverKind | None = None, side: Side = Side.RIGHT,
                names: Sequence[str] = ()) -> HandStream:
    """
    Find the hand among the joint states of a recording.

    :param driver: None: told by the names of the joints, which do not tell the hand's geometry.
    :param names: the hand's joints in the order of FINGERS, instead of those of a driver.
    :raises HandStateError: no topic has the joints of a hand.
    """
    chosen: dict[bool, Samples] = {}
    wrong = 'the recording has no joint states'
    for topic, samples in sorted(found.joints.items(), key=lambda item: len(item[1].times_ns)):
        try:
            ordered = tuple(names)
            if not ordered:
                told = (driver, side) if driver is not None else detect_driver(samples.names)
                if told is None:
                    wrong = (f'{topic}: no driver of the hand has joints named '
                             f'{", ".join(samples.names[:3]) or "nothing"} ...')
                    continue
                ordered = find_names(samples.names, *told)
            places = [samples.names.index(name) for name in ordered]
        except (HandStateError, ValueError) as error:
            wrong = f'{topic}: {error}'
            continue
        chosen[topic.rpartition('/')[2] in COMMAND_NAMES] = Samples(
            ordered, samples.times_ns, samples.values[:, places],
            None if samples.efforts is None else samples.efforts[:, places])
    if False not in chosen:
        raise HandStateError(f'{wrong}; expected joint states of an Allegro hand')
    return HandStream(chosen[False], chosen.get(True), found.texts,
                      next(iter(found.tactile.values()), None),
                      None if driver is None else geometry_of(driver, side))


def poses_at(stream: HandStream, times_ns: Sequence[int]) -> list[Pose | None]:
    """Return the hand's pose at each of some times, in ns and in order; None before the first."""
    follower, poses, events = PoseFollower(stream.geometry), [], stream.events()
    event = next(events, None)
    for time_ns in times_ns:
        while event is not None and event[0] <= time_ns:
            _feed(follower, *event)
            event = next(events, None)
        poses.append(follower.pose(time_ns))
    return poses


def labelled_poses(cameras: Sequence[Judged], stream: HandStream,
                   reference: HandReference | None = None) -> list[LabelledPose]:
    """
    Return the pose at the labelled frames of the first camera where the hand is closed or opens.

    :param cameras: what each camera of one recording shows; all stamps are of one clock.
    :param reference: where the hand closes on nothing, for moments without a command.
    """
    seen = [_said(judged) for judged in cameras]
    frames = sorted((frame for frame in cameras[0].recording.frames if frame.label is not None),
                    key=lambda frame: frame.stamp_ns)
    found = []
    for frame, pose in zip(frames, poses_at(stream, [frame.stamp_ns for frame in frames]),
                           strict=True):
        if pose is None or frame.label is None or pose.phase not in (
                Phase.CLOSED, Phase.OPENING):
            continue
        closed = pose.commanded
        if closed is None and reference is not None:
            closed = np.array(reference.closed)
        if closed is not None and len(closed) == len(pose.measured):
            found.append(LabelledPose(
                frame.attempt, frame.label is Label.SUCCESS, pose.measured, closed, pose.opened,
                pose.effort, tuple(probability for said in seen if (
                    probability := _newest(said, frame.stamp_ns)) is not None), pose.touch,
                pose.phase is Phase.OPENING, pose.geometry))
    return found


def _said(judged: Judged) -> list[tuple[int, float | None]]:
    """Return stamp, and P(success) as the node averages it, of each frame in order of time."""
    frames, decider = judged.recording.frames, WindowedDecider(SPARSE)
    said, attempt = [], None
    for index in sorted(range(len(frames)), key=lambda index: frames[index].stamp_ns):
        if frames[index].attempt != attempt:
            decider.reset()
            attempt = frames[index].attempt
        _show(decider, judged, index)
        stamp_ns = frames[index].stamp_ns
        said.append((stamp_ns, decider.decide(stamp_ns).probability))
    return said


def _newest(said: Sequence[tuple[int, float | None]], time_ns: int) -> float | None:
    """Return what a camera said last; None if it could not tell, or is stale."""
    index = bisect_right(said, time_ns, key=lambda row: row[0]) - 1
    if index < 0 or time_ns - said[index][0] > SPARSE.stale_after_s * NS_PER_S:
        return None
    return said[index][1]


def _feed(hand: PoseFollower | HandMonitor, time_ns: int, kind: Kind, content: Any) -> bool:
    """Give a hand one event; return whether a monitor says that an attempt begins."""
    if kind is Kind.MEASURED:
        return bool(hand.observe(time_ns, *content))
    if kind is Kind.TOLD:
        hand.told(content)
    elif kind is Kind.COMMANDED:
        hand.command(content)
    else:
        hand.touched(time_ns, content)
    return False


@dataclass(frozen=True)
class FusedAttempt:
    """
    One attempt of a recording, decided from all its parts.

    :ivar outcome: label of its last labelled frame.
    :ivar decision: the decision after that frame.
    :ivar verdicts: verdicts on attempts that the hand itself began and ended meanwhile.
    """

    name: str
    outcome: Label
    decision: Decision
    verdicts: tuple[AttemptVerdict, ...] = ()


def decide_fused(cameras: Sequence[Judged], stream: HandStream | None, model: HandModel,
                 config: DecisionConfig, without_cameras: bool = False) -> list[FusedAttempt]:
    """
    Decide every labelled attempt of one recording, beginning anew with each.

    :param cameras: what each camera of the recording shows; all frames have stamps of one clock.
    :param stream: joint states and commands; None: decide from cameras alone.
    :param config: of each camera; what is fused has the node's FUSED_THRESHOLD.
    :param without_cameras: leave the cameras' pictures out; they tell only times and labels.
    """
    by_attempt: dict[str, list[tuple[int, int, int]]] = {}     # stamp, camera, index
    for number, judged in enumerate(cameras):
        for index, frame in enumerate(judged.recording.frames):
            by_attempt.setdefault(frame.attempt, []).append((frame.stamp_ns, number, index))
    events = [] if stream is None else list(stream.events())
    attempts, at = [], 0
    for name, rows in sorted(by_attempt.items(), key=lambda item: min(item[1])):
        rows.sort()
        labelled = [row for row in rows if cameras[row[1]].recording.frames[row[2]].label
                    is not None]
        if not labelled:
            continue
        end_ns = labelled[-1][0]
        mine = []
        while at < len(events) and events[at][0] <= end_ns:
            mine.append(events[at])
            at += 1
        attempts.append(_decide(name, cameras, [row for row in rows if row[0] <= end_ns], mine,
                                model, config, stream, without_cameras))
    return attempts


def _decide(name: str, cameras: Sequence[Judged], rows: Sequence[tuple[int, int, int]],
            events: Sequence[Event], model: HandModel,
            config: DecisionConfig, stream: HandStream | None, without_cameras: bool,
            ) -> FusedAttempt:
    deciders = [WindowedDecider(config) for _ in cameras]
    fuser = Fuser(fused(config), model.fusion.probability)
    monitor = HandMonitor(model, geometry=None if stream is None else stream.geometry)
    watch, verdicts = AttemptWatch(), []
    decision, decided_ns = unknown(Reason.NO_FRAMES), 0
    steps: list[Event] = [*events, *((row[0], Kind.SHOWN, row) for row in rows)]
    for time_ns, kind, value in sorted(steps, key=lambda step: step[:2]):
        if kind is not Kind.SHOWN:
            if _feed(monitor, time_ns, kind, value):
                for decider in deciders:
                    decider.reset()
        elif not without_cameras:
            _, number, index = value
            _show(deciders[number], cameras[number], index)
        if kind is not Kind.SHOWN and time_ns - decided_ns < _WATCH_NS:
            continue    # as the node, which does not decide at each joint state
        decided_ns = time_ns
        state = monitor.state(time_ns) if stream is not None else None
        decision = fuser.decide([decider.decide(time_ns) for decider in deciders],
                                None if state is None else state.evidence)
        decision, over = watch.observe(time_ns, decision, state)
        if over is not None:
            verdicts.append(over)
    last = rows[-1]
    label = cameras[last[1]].recording.frames[last[2]].label
    assert label is not None
    return FusedAttempt(name, label, decision, tuple(verdicts))


def _show(decider: WindowedDecider, judged: Judged, index: int) -> None:
    frame, probability = judged.recording.frames[index], float(judged.probabilities[index])
    if index in judged.blind:
        decider.observe_blind(judged.blind[index], received_ns=frame.stamp_ns)
    elif probability == probability:
        decider.observe(frame.stamp_ns, probability, received_ns=frame.stamp_ns)
    else:
        decider.observe_bad()
