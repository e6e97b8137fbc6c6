"""Follow a hand by its joint states and commands: pose, phase, attempt, and what they say."""

from collections import deque
from dataclasses import dataclass, replace
from threading import Lock
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from grasp_success_detector.decision import HandEvidence, NS_PER_S
from grasp_success_detector.hand.attempts import opens
from grasp_success_detector.hand.closure import closure_deficit, flexion
from grasp_success_detector.hand.evidence import closed_on_nothing
from grasp_success_detector.hand.kinematics import Geometry
from grasp_success_detector.hand.model import HandModel
from grasp_success_detector.hand.motion import MotionTracker, Phase
from grasp_success_detector.hand.tactile import TouchFollower

#: Joint states of this time are averaged against the noise of the encoders (s).
_MEAN_S = .25

#: Share of the usual travel below which a hand that was told to close counts as not closed.
_NOT_CLOSED = .6


class Pose(NamedTuple):
    """
    Where the hand is at one moment.

    :ivar attempt: number of attempts that have begun; 0 before the first.
    :ivar measured: mean angles of the last moment, radians (16,) or (20,) in the order of FINGERS.
    :ivar commanded: angles that the joints were told to reach; None where none are published.
    :ivar effort: mean torques of the last moment; None where none are published.
    :ivar opened: mean flexion (rad) of the hand at its most open since it last opened.
    :ivar has_opened: whether it is open and was seen to open.
    :ivar stands_still: whether the fingers have not moved in the last moment.
    :ivar touch: features of the tactile sensors (2,); None without any, or where they are stale.
    :ivar geometry: of the hand; None: unknown.
    """

    phase: Phase
    attempt: int
    measured: NDArray[np.float64]
    commanded: NDArray[np.float64] | None
    effort: NDArray[np.float64] | None
    opened: float
    has_opened: bool
    stands_still: bool
    touch: NDArray[np.float64] | None = None
    geometry: Geometry | None = None


class PoseFollower:
    """Follow a hand's pose; positions are in radians, in the order of FINGERS."""

    def __init__(self, geometry: Geometry | None = None) -> None:
        self._geometry = geometry
        self._tracker = MotionTracker()
        self._recent: deque[tuple[int, NDArray[np.float64], NDArray[np.float64] | None]] = deque()
        self._commanded: NDArray[np.float64] | None = None
        self._touch = TouchFollower()

    @property
    def attempts(self) -> int:
        """Number of attempts that have begun."""
        return self._tracker.attempts

    def observe(self, stamp_ns: int, positions: NDArray[np.float64],
                effort: NDArray[np.float64] | None = None) -> None:
        """
        Take one joint state, with its stamp by the clock of the driver.

        :raises HandStateError: it came out of order and is left out.
        """
        self._tracker.observe(stamp_ns, positions)
        if self._recent and not 0 <= stamp_ns - self._recent[-1][0] < NS_PER_S:
            self._recent.clear()
        self._recent.append((stamp_ns, positions, effort))
        while stamp_ns - self._recent[0][0] > _MEAN_S * NS_PER_S:
            self._recent.popleft()

    def command(self, positions: NDArray[np.float64]) -> None:
        """Take the angles that the joints are told to reach."""
        self._commanded = positions

    def touched(self, time_ns: int, values: NDArray[np.float64]) -> None:
        """Take one message of the tactile sensors, with its time by the clock of ``pose``."""
        self._touch.observe(time_ns, values, self._tracker.phase is Phase.OPEN)

    def told(self, text: str) -> None:
        """Take a command such as ``grasp_3`` or ``home``."""
        self._tracker.told(not opens(text))
        self._commanded = None      # the driver itself chooses the angles now

    def pose(self, now_ns: int, stale_after_s: float = .5) -> Pose | None:
        """
        Return the pose; None before the first joint state.

        :param stale_after_s: tactile sensors that were silent for longer count for nothing.
        """
        if not self._recent:
            return None
        measured = np.mean([positions for _, positions, _ in self._recent], 0)
        efforts = [effort for _, _, effort in self._recent if effort is not None]
        commanded = self._commanded
        if commanded is not None and len(commanded) != len(measured):
            commanded = None
        return Pose(self._tracker.phase, self._tracker.attempts, measured, commanded,
                    np.mean(efforts, 0) if efforts else None, self._tracker.opened_flexion,
                    self._tracker.has_opened, self._tracker.stands_still,
                    self._touch.features(now_ns, stale_after_s), self._geometry)


@dataclass(frozen=True)
class HandState:
    """
    What a hand says at one moment.

    :ivar attempt: number of attempts that have begun; 0 before the first.
    :ivar evidence: its log-odds are None while the hand closes, while nothing tells where it
        should close, and for joints that are unfamiliar.
    :ivar gripped: whether something keeps a finger of the closed hand from closing.
    :ivar not_closed: whether the hand that stands still was closed by less than it usually is.
    :ivar why: why it cannot tell, or ''.
    :ivar pressed: share of the tactile sensors that are pressed; None where it is not known.
    """

    phase: Phase
    attempt: int
    evidence: HandEvidence
    gripped: bool = False
    not_closed: bool = False
    why: str = ''
    pressed: float | None = None


def judge_pose(pose: Pose, model: HandModel) -> HandState:
    """Return what a hand in a pose says."""
    state = _judge(pose, model)
    return state if pose.touch is None else replace(state, pressed=float(pose.touch[0]))


def _judge(pose: Pose, model: HandModel) -> HandState:
    joints, reference = model.joints, model.reference
    if pose.has_opened:     # it holds as much as a hand that is closed on nothing
        return HandState(pose.phase, pose.attempt, HandEvidence(
            joints.log_odds(np.zeros(16), np.zeros(16)), True))
    if pose.phase is Phase.OPENING:
        return HandState(pose.phase, pose.attempt, HandEvidence(joints.opening))
    cannot = HandEvidence(None)
    if pose.phase is not Phase.CLOSED:
        return HandState(
            pose.phase, pose.attempt, cannot,
            not_closed=pose.phase is Phase.CLOSING and pose.stands_still,
            why='the hand was not seen to close' if pose.phase is Phase.OPEN else
            'the hand closes')
    if pose.commanded is not None:
        closed = target = pose.commanded
        empty = bool((closure_deficit(pose.measured, closed) < joints.empty).all())
    elif reference is not None and len(reference.closed) == len(pose.measured):
        closed, target = np.array(reference.closed), pose.measured
        empty = closed_on_nothing(pose.measured, reference)
    else:
        return HandState(pose.phase, pose.attempt, cannot, why=(
            'neither commands nor a reference tell where the hand closes; make one with '
            'calibrate_hand'))
    log_odds = joints.log_odds(pose.measured, closed, pose.effort, pose.geometry)
    if log_odds is not None and pose.touch is not None and model.tactile is not None:
        log_odds = float(model.tactile.log_odds(np.array([[log_odds, *pose.touch]]))[0])
    travel = joints.travel if reference is None else reference.travel()
    # Fingers seldom quite reach a command, also where nothing stops them.
    gripped = not empty and (pose.commanded is None or (log_odds is not None and log_odds > 0))
    return HandState(
        pose.phase, pose.attempt, HandEvidence(log_odds, empty), gripped,
        float(flexion(target).mean()) - pose.opened < _NOT_CLOSED * travel,
        '' if log_odds is not None else 'such joints are unfamiliar')


class HandMonitor:
    """Follow one hand; all methods are thread-safe, times of reception are monotonic ns."""

    def __init__(self, model: HandModel, stale_after_s: float = .5,
                 geometry: Geometry | None = None) -> None:
        """Prepare; joint states older than ``stale_after_s`` count for nothing."""
        self.model, self.stale_after_s = model, stale_after_s
        self._lock = Lock()
        self._follower = PoseFollower(geometry)
        self._received_ns: int | None = None

    def observe(self, stamp_ns: int, positions: NDArray[np.float64],
                effort: NDArray[np.float64] | None = None,
                received_ns: int | None = None) -> bool:
        """
        Take one joint state, as :class:`PoseFollower`; return whether an attempt begins.

        :param received_ns: when it came; None: at its stamp.
        """
        with self._lock:
            before = self._follower.attempts
            self._follower.observe(stamp_ns, positions, effort)
            self._received_ns = stamp_ns if received_ns is None else received_ns
            return self._follower.attempts > before

    def touched(self, received_ns: int, values: NDArray[np.float64]) -> None:
        """Take one message of the tactile sensors."""
        with self._lock:
            self._follower.touched(received_ns, values)

    def command(self, positions: NDArray[np.float64]) -> None:
        """Take the angles that the joints are told to reach."""
        with self._lock:
            self._follower.command(positions)

    def told(self, text: str) -> bool:
        """Take a command such as ``grasp_3``; return whether an attempt begins with it."""
        with self._lock:
            before = self._follower.attempts
            self._follower.told(text)
            return self._follower.attempts > before

    def state(self, now_ns: int) -> HandState | None:
        """Return what the hand says; None without fresh joint states."""
        with self._lock:
            if self._received_ns is None or (
                    now_ns - self._received_ns > self.stale_after_s * NS_PER_S):
                return None
            pose = self._follower.pose(now_ns, self.stale_after_s)
        return None if pose is None else judge_pose(pose, self.model)

    def evidence(self, now_ns: int) -> HandEvidence | None:
        """Return what the hand says about the grasp; None without fresh joint states."""
        state = self.state(now_ns)
        return None if state is None else state.evidence
