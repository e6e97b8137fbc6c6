"""Frames and verdicts that the demo receives over DDS, and the time between them."""

from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

from rclpy.node import Node
from rclpy.qos import QoSReliabilityPolicy

from grasp_success_detector.decision import NS_PER_S
from grasp_success_detector.evaluation.replay import match_by_time
from grasp_success_detector.labels import Verdict
from grasp_success_detector.ros.tools.demo_bag import Attempt, DemoBag
from grasp_success_detector.ros.tools.verdict_recorder import VerdictRecorder

#: Number of frames from which the rate is computed.
RATE_FRAMES = 30


class DemoAnswer(NamedTuple):
    """
    The detector's answer to one frame.

    :ivar probability: the published confidence.
    :ivar latency_s: from the frame's publication to the verdict's.
    """

    stamp_ns: int
    verdict: Verdict
    probability: float
    latency_s: float


@dataclass(frozen=True)
class DemoResult:
    """
    An attempt and the answers to all its frames, in order.

    The result is the answer to the last frame.
    """

    attempt: Attempt
    answers: tuple[DemoAnswer, ...]

    @property
    def verdict(self) -> Verdict:
        """Return the last verdict; UNKNOWN without any."""
        return self.answers[-1].verdict if self.answers else Verdict.UNKNOWN

    @property
    def probability(self) -> float | None:
        """Return the last confidence; None for UNKNOWN."""
        return None if self.verdict is Verdict.UNKNOWN else self.answers[-1].probability

    @property
    def correct(self) -> bool | None:
        """Return whether the last verdict is the truth; None where the truth is not known."""
        if self.attempt.success is None:
            return None
        return self.verdict is (Verdict.SUCCESS if self.attempt.success else Verdict.FAILURE)


class DemoMonitor:
    """
    Subscribe to frames and verdicts and match them.

    A Bool carries no stamp: it is matched by the time of publication, which DDS tells.
    """

    def __init__(self, node: Node, bag: DemoBag) -> None:
        self.bag = bag
        self._recorder = VerdictRecorder(node)
        self._recorder.watch(bag.topic, bag.compressed, QoSReliabilityPolicy.BEST_EFFORT)
        self._matched = 0       # messages that ``_answers`` rests on
        self._answers: dict[int, DemoAnswer] = {}

    @property
    def frames(self) -> int:
        """Return the number of frames received."""
        return len(self._recorder.frames)

    @property
    def newest_ns(self) -> int | None:
        """Return the stamp of the newest frame."""
        return self._recorder.frames[-1].stamp_ns if self._recorder.frames else None

    @property
    def answers(self) -> dict[int, DemoAnswer]:
        """Return the answer to each frame by its stamp in ns, in order."""
        received = len(self._recorder.frames) + len(self._recorder.published)
        if self._matched != received:
            self._matched = received
            self._answers = {
                stamp_ns: DemoAnswer(stamp_ns, answer.verdict, answer.confidence,
                                     answer.latency_s or 0.)
                for stamp_ns, answer in match_by_time(
                    self._recorder.frames, self._recorder.said()).items()}
        return self._answers

    @property
    def decided(self) -> int:
        """Return the number of frames with a verdict other than UNKNOWN."""
        return sum(answer.verdict is not Verdict.UNKNOWN for answer in self.answers.values())

    @property
    def rate_hz(self) -> float:
        """Return the rate of the last frames."""
        recent = self._recorder.frames[-RATE_FRAMES:]
        span_ns = recent[-1].sent_ns - recent[0].sent_ns if recent else 0
        return (len(recent) - 1) * NS_PER_S / span_ns if span_ns else 0.

    @property
    def latency_s(self) -> float | None:
        """Return the median time from a frame's publication to its verdict's."""
        return median(a.latency_s for a in self.answers.values()) if self.answers else None

    def result(self, attempt: Attempt) -> DemoResult:
        """Return the answers to the frames of an attempt."""
        return DemoResult(attempt, tuple(
            answer for answer in self.answers.values()
            if attempt.begin_ns <= answer.stamp_ns <= attempt.end_ns))
