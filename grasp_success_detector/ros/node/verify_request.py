"""A waiting call of ``~/verify``, answered from frames taken after the call; needs no ROS."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
import json
from typing import TYPE_CHECKING

from grasp_success_detector.decision import (
    Decision,
    DecisionConfig,
    NO_CLOCK,
    NS_PER_S,
    Reason,
    unknown,
    WindowedDecider,
)
from grasp_success_detector.labels import Verdict

#: How far a frame's stamp may be ahead of the ROS clock before its clock counts as another one.
AHEAD_NS = NS_PER_S

if TYPE_CHECKING:
    from grasp_success_detector.ros.node.frame_judge import Stamp


@dataclass(frozen=True)
class VerifyAnswer:
    """Answer to one call of ``~/verify``."""

    decision: Decision
    seconds: float      #: time from the call to its answer
    text: str           #: explanation in one line

    def to_json(self) -> str:
        """Return the answer as one JSON object; ``probability`` is null for UNKNOWN."""
        decision = self.decision
        known = decision.verdict is not Verdict.UNKNOWN
        return json.dumps({
            'verdict': decision.verdict.value,
            'probability': decision.probability if known else None,
            'frames': decision.frames,
            'seconds': round(self.seconds, 3),
            'reason': (decision.failure or decision.reason).value,
            'text': self.text,
        })


class VerifyRequest:
    """
    One waiting call, with a window of its own that holds only frames taken after the call.

    Such a frame was received after the call, and its stamp, if the camera's, is later as well. A
    stamp ahead of the ROS clock tells nothing about when the frame was taken: it does not count.
    """

    def __init__(self, config: DecisionConfig, stamp_ns: int, now_ns: int, timeout_s: float,
                 topic: str, answer: Callable[[VerifyAnswer], None],
                 make: Callable[[DecisionConfig], WindowedDecider] = WindowedDecider,
                 explain: Callable[[Decision], Decision] = lambda decision: decision) -> None:
        """
        Begin to wait; ``answer`` is called once, from any thread, and must return quickly.

        :param stamp_ns: time of the call by the ROS clock, to compare with frames' stamps.
        :param now_ns: time of the call by the monotonic clock.
        :param topic: the camera's topic, which the answer's text names.
        :param make: makes the decider of the window.
        :param explain: returns a decision with the reason of a failure.
        """
        self._make, self._explain = make, explain
        self._decider = make(config)
        self._called_ns, self._timeout_s = now_ns, timeout_s
        self._topic, self._answer = topic, answer
        self.reset(stamp_ns, now_ns)

    def reset(self, stamp_ns: int, now_ns: int) -> None:
        """Use only frames taken after this time; the time-out still counts from the call."""
        self._decider.reset()
        self._stamp_ns, self._from_ns = stamp_ns, now_ns
        # By how much the newest frame that did not count was stamped before the call, or ahead.
        self._early_ns = self._ahead_ns = 0
        self._bad: str | None = None                 # why the last later frame was not judged

    def interrupt(self) -> None:
        """Forget all frames so far."""
        self._decider.reset()

    def begin_anew(self, config: DecisionConfig) -> None:
        """Forget all frames so far, and decide from later ones with another configuration."""
        self._decider = self._make(config)

    def observe(self, stamp: Stamp, probability: float, received_ns: int,
                ros_now_ns: int) -> bool:
        """Add a judged frame; return whether the call has been answered with it."""
        if received_ns <= self._from_ns:
            return False
        if not stamp.received:
            self._early_ns = max(self._stamp_ns - stamp.ns, 0)
            self._ahead_ns = max(stamp.ns - ros_now_ns - AHEAD_NS, 0)
            if stamp.ns <= self._stamp_ns or self._ahead_ns:
                return False
        self._decider.observe(stamp.ns, probability, received_ns)
        decision = self._decider.decide(received_ns)
        if decision.verdict is Verdict.UNKNOWN:
            return False
        self._say(decision, received_ns)
        return True

    def _say(self, decision: Decision, now_ns: int) -> None:
        decision = self._explain(decision)
        why = '' if decision.failure is None else f' ({decision.failure.value})'
        self._answer(VerifyAnswer(decision, self._seconds(now_ns), (
            f'{decision.verdict.value}{why}: mean P(success) {decision.probability:.2f} of '
            f'{decision.frames} frames')))

    def observe_bad(self, received_ns: int, why: str, blindness: Reason | None) -> None:
        """Count a frame that could not be judged; ``why`` is the UnjudgedError's reason."""
        if received_ns <= self._from_ns:
            return
        self._bad = why
        if blindness is None:
            self._decider.observe_bad()
        else:
            self._decider.observe_blind(blindness, received_ns)

    def expire(self, now_ns: int) -> bool:
        """Answer UNKNOWN if the call has timed out, and return whether it has."""
        if self._seconds(now_ns) < self._timeout_s:
            return False
        decision = self._decider.decide(now_ns)
        if decision.verdict is not Verdict.UNKNOWN:
            if not decision.frames:     # the hand alone tells it
                self._say(decision, now_ns)
                return True
            decision = unknown(Reason.STALE)    # it would have been answered already
        self._answer(VerifyAnswer(decision, self._seconds(now_ns), (
            f'not known within {self._timeout_s} s: {self._why(decision)}')))
        return True

    def refuse(self, reason: Reason, now_ns: int) -> None:
        """Answer UNKNOWN at once, because the node takes no more frames."""
        self._answer(refusal(reason, self._seconds(now_ns)))

    def _seconds(self, now_ns: int) -> float:
        return (now_ns - self._called_ns) / NS_PER_S

    def _why(self, decision: Decision) -> str:
        if decision.reason is Reason.UNDECIDED:
            return f'mean P(success) {decision.probability:.2f} lies in the undecided band'
        if decision.reason is Reason.CONTRADICTION:
            return 'the camera sees a held object, but the hand is closed on nothing'
        if decision.reason is Reason.TOO_FEW_FRAMES:
            return (f'fewer than min_frames = {self._decider.config.min_frames} frames within '
                    f'window_s = {self._decider.config.window_s}')
        if self._bad is not None:
            return f'frames came, but the last one could not be judged ({self._bad})'
        if self._early_ns:
            return (f'frames came, but the newest was stamped {self._early_ns / NS_PER_S:.2f} s '
                    "before the request; if that is not the camera's delay, its clock differs: "
                    'set use_receive_time to true')
        if self._ahead_ns:
            return (f'frames came, but the newest was stamped '
                    f"{(self._ahead_ns + AHEAD_NS) / NS_PER_S:.2f} s ahead of this node's clock, "
                    'so that it may be older than the request; set both to one time, '
                    'use_sim_time as the camera has it, or use_receive_time to true')
        if decision.reason is Reason.NO_FRAMES:
            return (f'no frame came on {self._topic} and was judged; is the camera running, and '
                    'does it publish there?')
        return f'no more frames came on {self._topic}'


def refusal(reason: Reason, seconds: float = 0.) -> VerifyAnswer:
    """Return the answer of a node that takes no frames: INACTIVE, DISABLED or NO_CLOCK."""
    text = {
        Reason.INACTIVE: 'the node is not active; configure and activate it',
        Reason.DISABLED: 'the node is disabled; call ~/enable with true',
        Reason.NO_CLOCK: NO_CLOCK,
    }[reason]
    return VerifyAnswer(unknown(reason), seconds, text)
