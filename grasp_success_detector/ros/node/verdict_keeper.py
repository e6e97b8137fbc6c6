"""Keep the current verdict: decide, publish and repeat it, withdraw it when it is too old."""

from collections.abc import Callable
from threading import Lock
import time
from typing import Any

from std_msgs.msg import Header

from grasp_success_detector.decision import (
    Decision,
    DecisionConfig,
    FusedDecider,
    NS_PER_S,
    Reason,
    unknown,
    WindowedDecider,
)
from grasp_success_detector.hand.attempt_verdict import AttemptWatch
from grasp_success_detector.hand.monitor import HandMonitor
from grasp_success_detector.labels import Verdict
from grasp_success_detector.ros.node.diagnostics import FrameStatistics
from grasp_success_detector.ros.node.frame_judge import JudgedFrame, ReceivedFrame, UnjudgedError
from grasp_success_detector.ros.node.outputs import LONGEST_SILENCE_S, VerdictOutputs
from grasp_success_detector.ros.node.verify_request import refusal, VerifyAnswer, VerifyRequest

#: Number of calls of ``watch`` within ``stale_after_s``.
WATCHDOG_LOOKS = 10

#: Longest period of ``watch``, which also ends timed-out calls of ``~/verify``.
WATCHDOG_PERIOD_S = 0.1

#: UNKNOWN is repeated after this time, or after ``stale_after_s`` if that is shorter.
HEARTBEAT_NS = NS_PER_S

#: The Bool of any verdict is repeated after this time: twice within its deadline.
REPEAT_NS = round(0.4 * LONGEST_SILENCE_S * NS_PER_S)

#: Takes a published verdict, the threshold, and P(success) of the newest frame.
Tell = Callable[[Decision, float, float | None], None]


class VerdictKeeper:
    """
    Keep and publish the current verdict; all methods are thread-safe.

    The lock is held for no longer than the publishing of a small message. Times are monotonic ns.

    :ivar period: increases when all frames are forgotten; frames of earlier periods are ignored.
    :ivar latest: the decision published last.
    """

    def __init__(self, outputs: VerdictOutputs, statistics: FrameStatistics,
                 ros_now_ns: Callable[[], int], tell: Tell | None = None,
                 hand: HandMonitor | None = None) -> None:
        """
        Begin closed, with the reason INACTIVE.

        :param ros_now_ns: returns the time by the ROS clock, to compare with frames' stamps.
        :param tell: called with each verdict that is published, the threshold, and P(success) of
            the newest frame alone, None if the verdict comes of no judged frame.
        :param hand: what joints say; None: the camera alone decides.
        """
        self._tell, self._hand = tell, hand
        self._watch = AttemptWatch()
        self._outputs, self._statistics, self._ros_now_ns = outputs, statistics, ros_now_ns
        self._lock = Lock()
        self._decider = self._make_decider(DecisionConfig())
        self._closed: Reason | None = Reason.INACTIVE     # why no frames are taken
        self._held: Reason | None = None    # why no verdict is given, whatever frames show
        self.period = 0
        self.latest, self._published_ns = unknown(Reason.INACTIVE), 0   # the last one published
        self._sent_ns = 0       # when the last Bool was published
        self._header = Header()
        self._requests: list[VerifyRequest] = []

    @property
    def watch_period_s(self) -> float:
        """Return the period in seconds at which ``watch`` must be called."""
        return min(self._decider.config.stale_after_s / WATCHDOG_LOOKS, WATCHDOG_PERIOD_S)

    def configure(self, config: DecisionConfig) -> None:
        """Use another configuration from now on, for the frames in the window as well."""
        with self._lock:
            self._decider.configure(config)

    def begin_anew(self, config: DecisionConfig) -> None:
        """Forget all frames and use another configuration, also for waiting calls."""
        with self._lock:
            self._begin_period()
            self._decider.configure(config)
            for request in self._requests:
                request.begin_anew(config)

    def open(self) -> None:
        """Accept frames from now on, with an empty window."""
        with self._lock:
            self._closed = None
            self._begin_period()
            # Published at time 0, so that the watchdog's first call publishes NO_FRAMES.
            self.latest, self._published_ns = unknown(Reason.NO_FRAMES), 0
            self._header = Header()

    def close(self, reason: Reason) -> None:
        """Publish a last ``false`` and ignore further frames, also the one being judged."""
        with self._lock:
            self._closed = reason
            self._begin_period()
            self._publish(unknown(reason))
            self._refuse_all(reason)

    def hold(self, reason: Reason | None) -> None:
        """Say UNKNOWN for this reason, whatever frames show, until called with None."""
        with self._lock:
            if reason is self._held:
                return
            self._held = reason
            self._begin_period()
            if reason is not None:
                self._refuse_all(reason)
            if self._closed is None:
                self._publish(self._decide())

    def interrupt(self) -> None:
        """Forget all frames, as the next one is of another source; waiting calls go on."""
        with self._lock:
            self._begin_period()
            for request in self._requests:
                request.interrupt()

    def reset(self) -> None:
        """Forget all frames; waiting calls use later ones only."""
        with self._lock:
            self._begin_period()
            stamp_ns, now_ns = self._ros_now_ns(), time.monotonic_ns()
            for request in self._requests:
                request.reset(stamp_ns, now_ns)
            if self._closed is None:
                self._publish(self._decide())

    def verify(self, timeout_s: float, topic: str,
               answer: Callable[[VerifyAnswer], None]) -> None:
        """Answer a call of ``~/verify`` from later frames; arguments as for VerifyRequest."""
        with self._lock:
            if reason := self._closed or self._held:
                answer(refusal(reason))
                return
            self._requests.append(VerifyRequest(
                self._decider.config, self._ros_now_ns(), time.monotonic_ns(), timeout_s, topic,
                answer, self._make_decider, self._explain))

    def answer(self, frame: ReceivedFrame, judged: JudgedFrame) -> Decision | None:
        """Decide with this frame, publish, return the decision; None for an earlier period."""
        with self._lock:
            if not self._is_open(frame):
                return None
            if judged.unfamiliar:
                self._decider.observe_blind(Reason.UNFAMILIAR, frame.received_ns)
            else:
                self._decider.observe(judged.stamp.ns, judged.probability, frame.received_ns)
            self._header = judged.message.header
            decision = self._decide()
            self._publish(decision, judged.probability)
            before_ns = frame.received_ns + sum(judged.times)
            self._statistics.add_judged(frame.received_ns, judged.times._replace(
                publish=time.monotonic_ns() - before_ns))
            if judged.unfamiliar:
                for request in self._requests:
                    request.observe_bad(frame.received_ns, Reason.UNFAMILIAR.value,
                                        Reason.UNFAMILIAR)
            elif self._requests:
                ros_now_ns = self._ros_now_ns()
                self._requests = [request for request in self._requests if not request.observe(
                    judged.stamp, judged.probability, frame.received_ns, ros_now_ns)]
            return decision

    def skip(self, frame: ReceivedFrame, error: UnjudgedError) -> None:
        """Count a frame that could not be judged; publish if the verdict becomes UNKNOWN."""
        with self._lock:
            if not self._is_open(frame):
                return
            if error.blindness is None:
                self._decider.observe_bad()
            else:
                self._decider.observe_blind(error.blindness, frame.received_ns)
            for request in self._requests:
                request.observe_bad(frame.received_ns, error.reason, error.blindness)
            decision = self._decide()
            if decision.verdict is Verdict.UNKNOWN and (
                    decision.reason is not self.latest.reason):
                self._publish(decision)

    def publish_overlay(self, frame: ReceivedFrame, messages: list[tuple[Any, Any]]) -> None:
        """Publish pairs (publisher, message), unless the frame's period is over."""
        with self._lock:
            if self._is_open(frame):
                for publisher, message in messages:
                    publisher.publish(message)

    def watch(self) -> None:
        """Withdraw a verdict that is too old, repeat verdicts, end calls that wait too long."""
        with self._lock:
            now_ns = time.monotonic_ns()
            self._requests = [request for request in self._requests if not request.expire(now_ns)]
            decision = self._decide()
            stale_ns = int(self._decider.config.stale_after_s * NS_PER_S)
            overdue = now_ns - self._published_ns >= min(stale_ns, HEARTBEAT_NS)
            if decision.verdict is Verdict.UNKNOWN and (
                    overdue or self.latest.verdict is not Verdict.UNKNOWN):
                self._publish(decision)
            elif self._hand is not None and (
                    overdue or decision.verdict is not self.latest.verdict):
                self._publish(decision)     # of the hand alone: no frame publishes it
            elif now_ns - self._sent_ns >= REPEAT_NS:
                self._outputs.repeat(self.latest)
                self._sent_ns = now_ns

    def _decide(self) -> Decision:
        if reason := self._closed or self._held:
            return unknown(reason)
        now_ns = time.monotonic_ns()
        decision = self._decider.decide(now_ns)
        if self._hand is None:
            return decision
        decision, over = self._watch.observe(now_ns, decision, self._hand.state(now_ns))
        if over is not None:
            self._outputs.publish_attempt(over)
        return decision

    def _make_decider(self, config: DecisionConfig) -> WindowedDecider:
        if self._hand is None:
            return WindowedDecider(config)
        return FusedDecider(config, self._hand.model.fusion.probability, self._hand.evidence)

    def _explain(self, decision: Decision) -> Decision:
        if self._hand is None:
            return decision
        return self._watch.explain(decision, self._hand.state(time.monotonic_ns()))

    def _refuse_all(self, reason: Reason) -> None:
        now_ns = time.monotonic_ns()
        for request in self._requests:
            request.refuse(reason, now_ns)
        self._requests.clear()

    def _is_open(self, frame: ReceivedFrame) -> bool:
        return (self._closed or self._held) is None and frame.period == self.period

    def _begin_period(self) -> None:
        self.period += 1
        self._decider.reset()

    def _publish(self, decision: Decision, probability: float | None = None) -> None:
        self.latest = decision
        self._published_ns = self._sent_ns = time.monotonic_ns()
        self._outputs.publish(decision, self._header)
        if self._tell is not None:
            self._tell(decision, self._decider.config.threshold, probability)
