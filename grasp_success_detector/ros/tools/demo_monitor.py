"""What the demo sees over DDS: frames, verdicts, and the time between them."""

from dataclasses import dataclass
from statistics import median
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Bool, Float32

from grasp_success_detector.decision import NS_PER_S
from grasp_success_detector.evaluation.replay import match_by_time, ShownFrame, without_header
from grasp_success_detector.labels import Verdict
from grasp_success_detector.ros.tools.demo_bag import Attempt, DemoBag
from grasp_success_detector.ros.tools.verdict_recorder import with_time

#: Frames that the rate is taken over.
RATE_FRAMES = 30

#: Deep, so that nothing is lost while this process draws.
VERDICT_QOS = QoSProfile(depth=200)


@dataclass(frozen=True)
class DemoAnswer:
    """
    What the detector said of one frame.

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
    An attempt and what the detector had said at its end.

    :ivar answers: of all its frames, in order.
    """

    attempt: Attempt
    answers: tuple[DemoAnswer, ...]

    @property
    def verdict(self) -> Verdict:
        """Return the last verdict; UNKNOWN if there was none."""
        return self.answers[-1].verdict if self.answers else Verdict.UNKNOWN

    @property
    def probability(self) -> float | None:
        """Return the last confidence; None for UNKNOWN."""
        return None if self.verdict is Verdict.UNKNOWN else self.answers[-1].probability

    @property
    def correct(self) -> bool | None:
        """Say whether the last verdict is the truth; None where the truth is not known."""
        if self.attempt.success is None:
            return None
        return self.verdict is (Verdict.SUCCESS if self.attempt.success else Verdict.FAILURE)


class DemoMonitor:
    """
    Subscribe to frames and verdicts and put them together.

    A Bool carries no stamp: it is matched by the time at which DDS says each was sent.
    """

    def __init__(self, node: Node, bag: DemoBag) -> None:
        self.bag = bag
        self._stamps: list[int] = []        # of the frames that came in
        self._sent: list[int] = []          # when each was published, ns
        self._confidences: list[tuple[int, float]] = []     # (when published, value)
        self._verdicts: list[tuple[int, bool]] = []
        self._answers: tuple[int, dict[int, DemoAnswer]] = (0, {})
        node.create_subscription(
            CompressedImage if bag.compressed else Image, bag.topic, with_time(self._on_frame),
            QoSProfile(depth=50, reliability=QoSReliabilityPolicy.BEST_EFFORT))
        node.create_subscription(
            Float32, 'grasp_success/confidence', with_time(self._on_confidence), VERDICT_QOS)
        node.create_subscription(
            Bool, 'grasp_success', with_time(self._on_verdict), VERDICT_QOS)

    @property
    def frames(self) -> int:
        """Count the frames that came in."""
        return len(self._stamps)

    @property
    def newest_ns(self) -> int | None:
        """Return the stamp of the newest frame."""
        return self._stamps[-1] if self._stamps else None

    @property
    def answers(self) -> dict[int, DemoAnswer]:
        """Return what was said of each frame, by its stamp in ns, in order."""
        heard = len(self._stamps) + len(self._verdicts) + len(self._confidences)
        if self._answers[0] != heard:
            self._answers = heard, self._match()
        return self._answers[1]

    @property
    def decided(self) -> int:
        """Count frames with a verdict that is not UNKNOWN."""
        return sum(answer.verdict is not Verdict.UNKNOWN for answer in self.answers.values())

    @property
    def latest(self) -> DemoAnswer | None:
        """Return the newest answer."""
        return next(reversed(self.answers.values()), None)

    @property
    def attempt(self) -> Attempt | None:
        """Return the attempt of the newest frame."""
        return None if self.newest_ns is None else self.bag.attempt_at(self.newest_ns)

    @property
    def truth(self) -> bool | None:
        """Return the ground truth of the newest frame, None where it has none."""
        return None if self.newest_ns is None else self.bag.truth.get(self.newest_ns)

    @property
    def rate_hz(self) -> float:
        """Return the rate of the last frames."""
        recent = self._sent[-RATE_FRAMES:]
        if len(recent) < 2 or recent[-1] == recent[0]:
            return 0.
        return (len(recent) - 1) * NS_PER_S / (recent[-1] - recent[0])

    @property
    def latency_s(self) -> float | None:
        """Return the median time from a frame's publication to its verdict's."""
        return median(a.latency_s for a in self.answers.values()) if self.answers else None

    def result(self, attempt: Attempt) -> DemoResult:
        """Return what was said during an attempt."""
        return DemoResult(attempt, tuple(
            answer for answer in self.answers.values()
            if attempt.begin_ns <= answer.stamp_ns <= attempt.end_ns))

    def _match(self) -> dict[int, DemoAnswer]:
        frames = [ShownFrame(*pair) for pair in zip(self._sent, self._stamps, strict=True)]
        return {stamp_ns: DemoAnswer(stamp_ns, answer.verdict, answer.confidence,
                                 answer.latency_s or 0.)
                for stamp_ns, answer in match_by_time(
                    frames, without_header(self._verdicts, self._confidences)).items()}

    def _on_frame(self, message: Any, sent_ns: int) -> None:
        stamp = message.header.stamp
        self._stamps.append(stamp.sec * NS_PER_S + stamp.nanosec)
        self._sent.append(sent_ns)

    def _on_confidence(self, message: Float32, sent_ns: int) -> None:
        self._confidences.append((sent_ns, message.data))

    def _on_verdict(self, message: Bool, sent_ns: int) -> None:
        self._verdicts.append((sent_ns, message.data))
