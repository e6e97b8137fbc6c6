"""What the detector says at any moment: decided, published, repeated, and never stale."""

from collections.abc import Callable
from threading import Lock
import time

from std_msgs.msg import Header

from grasp_success_detector.decision import (
    Decision,
    DecisionConfig,
    NS_PER_S,
    Reason,
    unknown,
    WindowedDecider,
)
from grasp_success_detector.labels import Verdict
from grasp_success_detector.ros.node.diagnostics import FrameStatistics
from grasp_success_detector.ros.node.frame_judge import (
    BlindFrameError,
    JudgedFrame,
    ReceivedFrame,
    UnjudgedFrameError,
)
from grasp_success_detector.ros.node.outputs import VerdictOutputs
from grasp_success_detector.ros.node.verify_request import refusal, VerifyAnswer, VerifyRequest

#: The watchdog looks so often within ``stale_after_s``.
WATCHDOG_LOOKS = 10

#: And at least every so many seconds: questions time out, cameras come and go.
WATCHDOG_PERIOD_S = 0.1

#: UNKNOWN is repeated when nothing was published for so long, or for ``stale_after_s``.
HEARTBEAT_NS = NS_PER_S


class VerdictKeeper:
    """
    Keep the verdict; fed by the worker's thread, watched and questioned by the executor's.

    Nothing is done under its lock that takes longer than to publish a small message. Times are
    monotonic ns.
    """

    def __init__(self, statistics: FrameStatistics) -> None:
        self._statistics = statistics
        self._lock = Lock()
        self._outputs: VerdictOutputs | None = None
        self._decider = WindowedDecider(DecisionConfig())
        self._closed: Reason | None = Reason.INACTIVE     # why no frames are taken
        self._session = 0
        self._latest, self._latest_ns = unknown(Reason.INACTIVE), 0
        self._header = Header()
        self._verifications: list[VerifyRequest] = []

    @property
    def latest(self) -> Decision:
        """Return what was published last."""
        return self._latest

    @property
    def session(self) -> int:
        """Return the number of the present period; frames of earlier ones are not answered."""
        return self._session

    @property
    def watch_period_s(self) -> float:
        """Return how often ``watch`` is to be called, in seconds."""
        return min(self._decider.config.stale_after_s / WATCHDOG_LOOKS, WATCHDOG_PERIOD_S)

    def configure(self, config: DecisionConfig) -> None:
        """Weigh frames in another way from now on, those of the window too."""
        with self._lock:
            self._decider.configure(config)

    def open(self, outputs: VerdictOutputs) -> None:
        """Begin to answer frames."""
        with self._lock:
            self._outputs = outputs
            self._closed = None
            self._begin_period()
            # Due at once: the first look of the watchdog says that nothing is known yet.
            self._latest, self._latest_ns = unknown(Reason.NO_FRAMES), 0
            self._header = Header()

    def close(self, reason: Reason) -> None:
        """Publish a last ``false`` and answer no frame any more, nor one that is at work."""
        with self._lock:
            if self._outputs is None:
                return
            self._closed = reason
            self._begin_period()
            self._publish(unknown(reason))
            now_ns = time.monotonic_ns()
            for verification in self._verifications:
                verification.refuse(reason, now_ns)
            self._verifications.clear()
            if reason is Reason.INACTIVE:
                self._outputs = None

    def reset(self) -> None:
        """Forget all frames, also the one at work, and say so."""
        with self._lock:
            self._begin_period()
            if self._closed is None:
                self._publish(unknown(Reason.NO_FRAMES))

    def clock_jumped(self, stamp_ns: int) -> None:
        """Forget all frames; open questions count from the new time on."""
        self.reset()
        with self._lock:
            for verification in self._verifications:
                verification.restart(stamp_ns)

    def verify(self, stamp_ns: int, timeout_s: float, topic: str,
               answer: Callable[[VerifyAnswer], None]) -> None:
        """
        Ask about frames to come.

        :param stamp_ns: now, of the clock that frames are stamped with.
        :param answer: called once, from any thread, and must not take long.
        """
        with self._lock:
            if self._closed is not None:
                answer(refusal(self._closed))
                return
            self._verifications.append(VerifyRequest(
                self._decider.config, stamp_ns, time.monotonic_ns(), timeout_s, topic, answer))

    def answer(self, frame: ReceivedFrame, judged: JudgedFrame) -> Decision | None:
        """Decide and publish; None if the frame is of an earlier period."""
        with self._lock:
            if not self._is_open(frame):
                return None
            self._decider.observe(judged.stamp.ns, judged.probability, frame.received_ns)
            self._header = judged.message.header
            decision = self._decider.decide(time.monotonic_ns())
            self._publish(decision)
            self._statistics.add_judged(
                (frame.received_ns, *judged.done_ns, time.monotonic_ns()))
            self._verifications = [
                verification for verification in self._verifications
                if not verification.observe(
                    judged.stamp, judged.probability, frame.received_ns)]
            return decision

    def skip(self, frame: ReceivedFrame, error: UnjudgedFrameError) -> None:
        """Take note of a frame that could not be judged."""
        blindness = error.blindness if isinstance(error, BlindFrameError) else None
        with self._lock:
            if not self._is_open(frame):
                return
            if blindness is None:
                self._decider.observe_bad()
            else:
                self._decider.observe_blind(blindness, frame.received_ns)
            for verification in self._verifications:
                verification.observe_bad(frame.received_ns, error.reason, blindness)
            decision = self._decider.decide(time.monotonic_ns())
            if (decision.verdict is Verdict.UNKNOWN
                    and decision.reason is not self._latest.reason):
                self._publish(decision)

    def publish_overlay(self, frame: ReceivedFrame, publish: Callable[[], None]) -> None:
        """Call a function that publishes, unless the frame's period is over."""
        with self._lock:
            if self._is_open(frame):
                publish()

    def watch(self) -> None:
        """Turn the answer to ``false`` in time, and repeat it, when no frame does."""
        with self._lock:
            if self._outputs is None:
                return
            now_ns = time.monotonic_ns()
            self._verifications = [
                verification for verification in self._verifications
                if not verification.expire(now_ns)]
            stale_ns = int(self._decider.config.stale_after_s * NS_PER_S)
            # Asked about the next look: by then it would be too late.
            decision = (unknown(self._closed) if self._closed
                        else self._decider.decide(now_ns + stale_ns // WATCHDOG_LOOKS))
            overdue = now_ns - self._latest_ns >= min(stale_ns, HEARTBEAT_NS)
            if decision.verdict is Verdict.UNKNOWN and (
                    overdue or self._latest.verdict is not Verdict.UNKNOWN):
                self._publish(decision)

    def _is_open(self, frame: ReceivedFrame) -> bool:
        return self._closed is None and frame.session == self._session

    def _begin_period(self) -> None:
        self._session += 1
        self._decider.reset()

    def _publish(self, decision: Decision) -> None:
        self._latest, self._latest_ns = decision, time.monotonic_ns()
        if self._outputs is not None:
            self._outputs.publish(decision, self._header)
