"""What the node publishes for one decision."""

from importlib import import_module
from typing import Any

from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode, LifecyclePublisher
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from sensor_msgs.msg import Image
from std_msgs.msg import Bool, Float32, Header

from grasp_success_detector.decision import Decision
from grasp_success_detector.labels import Verdict

#: Reliable, so that a ``false`` is not lost; depth 1, since only the newest answer counts.
VERDICT_QOS = QoSProfile(depth=1, reliability=QoSReliabilityPolicy.RELIABLE)


class VerdictOutputs:
    """
    Publishers of the verdict in its several forms.

    Topic names are relative: ``/grasp_success`` for a node in the root namespace,
    ``/left_hand/grasp_success`` for one in ``/left_hand``, so that several cameras do not mix.
    As lifecycle publishers they say nothing while the node is not active.
    """

    def __init__(self, node: LifecycleNode) -> None:
        """Create the publishers; ``grasp_success/stamped`` only where vision_msgs is installed."""
        self._node = node
        self._bool = node.create_lifecycle_publisher(Bool, 'grasp_success', VERDICT_QOS)
        self._confidence = node.create_lifecycle_publisher(
            Float32, 'grasp_success/confidence', VERDICT_QOS)
        self._overlay = node.create_lifecycle_publisher(
            Image, 'grasp_success/overlay', QoSProfile(depth=1))
        self._vision_msgs = _vision_msgs()
        self._stamped: LifecyclePublisher[Any] | None = None
        if self._vision_msgs is not None:
            self._stamped = node.create_lifecycle_publisher(
                self._vision_msgs.Classification, 'grasp_success/stamped', VERDICT_QOS)

    @property
    def overlay_wanted(self) -> bool:
        """Say whether anybody looks at the overlay."""
        return bool(self._overlay.get_subscription_count() > 0)

    def publish(self, decision: Decision, header: Header) -> None:
        """
        Publish a decision.

        :param header: of the newest frame that it rests on.
        """
        # The confidence first: who reads both on the Bool's arrival has the matching one.
        self._confidence.publish(Float32(data=decision.confidence))
        self._bool.publish(Bool(data=decision.holds_object))
        if self._stamped is not None:
            self._stamped.publish(self._classification(decision, header))

    def publish_overlay(self, image: Image) -> None:
        """Publish a picture that was drawn because ``overlay_wanted``."""
        self._overlay.publish(image)

    def flush(self, timeout_s: float) -> None:
        """Wait until subscribers have the last Bool, so that ending now does not lose it."""
        self._bool.wait_for_all_acked(Duration(seconds=timeout_s))

    def destroy(self) -> None:
        """Remove all publishers."""
        for publisher in (self._bool, self._confidence, self._overlay, self._stamped):
            if publisher is not None:
                self._node.destroy_lifecycle_publisher(publisher)

    def _classification(self, decision: Decision, header: Header) -> Any:
        assert self._vision_msgs is not None
        hypothesis = self._vision_msgs.ObjectHypothesis
        results = [hypothesis(class_id=decision.verdict.value, score=decision.confidence)]
        if decision.verdict is Verdict.UNKNOWN:
            # The type has no field for a reason; a second hypothesis of score 0 names it.
            results.append(hypothesis(class_id=decision.reason.value, score=0.))
        return self._vision_msgs.Classification(header=header, results=results)


def _vision_msgs() -> Any:
    try:
        return import_module('vision_msgs.msg')
    except ImportError:
        return None
