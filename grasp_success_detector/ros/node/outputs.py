"""Publishers of the verdict, and the overlay that shows it on the frame."""

from array import array
from contextlib import suppress
from importlib import import_module
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode, LifecyclePublisher
from rclpy.qos import (
    qos_policy_name_from_kind,
    QoSDurabilityPolicy,
    QoSLivelinessPolicy,
    QoSProfile,
    QoSReliabilityPolicy,
)
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Bool, Float32, Header, String

from grasp_success_detector.decision import Decision
from grasp_success_detector.hand.attempt_verdict import AttemptVerdict
from grasp_success_detector.images.encoding import encode_jpeg
from grasp_success_detector.labels import Verdict
from grasp_success_detector.networks.hand_boxes import HandBox
from grasp_success_detector.ros.node.camera_subscription import overrides, qos_advice
from grasp_success_detector.ros.node.image_conversion import to_image_message

try:
    from rclpy.event_handler import PublisherEventCallbacks
except ImportError:     # Humble
    from rclpy.qos_event import PublisherEventCallbacks

#: Longest silence on grasp_success while the node is active, which it offers as deadline and as
#: lease of its liveliness. Subscribers that ask for it hear of a killed or stopped node.
LONGEST_SILENCE_S = 1.

#: RGB colours of verdicts, which colour-blind people can tell apart too.
COLOURS = {
    Verdict.SUCCESS: (0, 158, 115),
    Verdict.FAILURE: (213, 94, 0),
    Verdict.UNKNOWN: (128, 128, 128),
}


def draw_overlay(frame: NDArray[np.uint8], decision: Decision, box: HandBox | None = None,
                 ) -> NDArray[np.uint8]:
    """
    Return a copy of a frame with a border in the verdict's colour and one line of text.

    :param frame: RGB uint8 (H, W, 3) of any size, which the result has as well.
    :param box: the hand, which is framed.
    """
    drawn = np.ascontiguousarray(frame).copy()
    height, width = drawn.shape[:2]
    colour = COLOURS[decision.verdict]
    border = max(1, min(height, width) // 60)
    cv2.rectangle(drawn, (0, 0), (width - 1, height - 1), colour, border * 2)
    if box is not None:
        left, top, right, bottom = box.in_pixels(width, height)
        cv2.rectangle(drawn, (left, top), (right, bottom), colour, border)
    text = decision.verdict.name + (
        f' ({decision.reason.value})' if decision.verdict is Verdict.UNKNOWN
        else f'  P(success) {decision.confidence:.2f}')
    scale, thickness = height / 400, max(1, height // 240)
    (text_width, text_height), below = cv2.getTextSize(
        text, cv2.FONT_HERSHEY_SIMPLEX, scale, thickness)
    pad = max(2, text_height // 2)
    bottom = text_height + below + 2 * pad
    cv2.rectangle(drawn, (0, 0), (text_width + 2 * pad, bottom), colour, cv2.FILLED)
    cv2.putText(drawn, text, (pad, pad + text_height), cv2.FONT_HERSHEY_SIMPLEX, scale,
                (255, 255, 255), thickness, cv2.LINE_AA)
    return drawn


class VerdictOutputs:
    """
    Publishers of the verdict.

    Topic names are relative, ``/left_hand/grasp_success`` for a node in ``/left_hand``, so that
    several cameras do not mix. Lifecycle publishers are silent while the node is not active.
    """

    def __init__(self, node: LifecycleNode, overlay: bool = True, attempts: bool = False) -> None:
        """
        Create the publishers; ``grasp_success/stamped`` only where vision_msgs is installed.

        :param overlay: whether there are frames to draw verdicts on.
        :param attempts: whether verdicts on attempts are published.
        """
        self._node = node
        self._publishers: list[LifecyclePublisher] = []
        self._vision_msgs: Any = None
        with suppress(ImportError):
            self._vision_msgs = import_module('vision_msgs.msg')
        try:
            self._bool = self._create(
                Bool, 'grasp_success', deadline=Duration(seconds=LONGEST_SILENCE_S),
                # By topic: a process whose threads hang publishes nothing, but DDS still runs.
                liveliness=QoSLivelinessPolicy.MANUAL_BY_TOPIC,
                liveliness_lease_duration=Duration(seconds=LONGEST_SILENCE_S))
            self._confidence = self._create(Float32, 'grasp_success/confidence')
            self._stamped = self._vision_msgs and self._create(
                self._vision_msgs.Classification, 'grasp_success/stamped')
            self._overlay = overlay and self._create(Image, 'grasp_success/overlay')
            self._compressed = overlay and self._create(
                CompressedImage, 'grasp_success/overlay/compressed')
            self._attempt = attempts and self._create(
                String, 'grasp_success/attempt', durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
        except Exception:
            self.destroy()
            raise

    def _create(self, message_type: Any, name: str, **policies: Any) -> Any:
        topic = self._node.resolve_topic_name(name)

        def incompatible(event: Any) -> None:
            policy = qos_policy_name_from_kind(event.last_policy_kind)
            self._node.get_logger().warning(
                f'a subscriber of {topic} asks for a {policy.lower()} that is not offered and '
                f'receives nothing; {qos_advice(topic, "publisher", policy)}')
        # Reliable, so that a ``false`` is not lost; depth 1, since only the newest answer counts.
        # A new profile for each: overrides are written into it.
        qos = QoSProfile(depth=1, reliability=QoSReliabilityPolicy.RELIABLE, **policies)
        publisher = self._node.create_lifecycle_publisher(
            message_type, name, qos, qos_overriding_options=overrides(),
            event_callbacks=PublisherEventCallbacks(incompatible_qos=incompatible))
        self._publishers.append(publisher)
        return publisher

    def publish(self, decision: Decision, header: Header) -> None:
        """Publish a decision with the header of the newest judged frame."""
        # The confidence first: a reader of both has the matching one when the Bool arrives.
        self._confidence.publish(Float32(data=decision.confidence))
        self._bool.publish(Bool(data=decision.holds_object))
        if self._stamped is not None:
            self._stamped.publish(self._classification(decision, header))

    def repeat(self, decision: Decision) -> None:
        """Publish the Bool again, so that its deadline is kept."""
        self._bool.publish(Bool(data=decision.holds_object))

    def publish_attempt(self, verdict: AttemptVerdict) -> None:
        """Publish the verdict on an attempt, which later subscribers receive as well."""
        if self._attempt:
            self._attempt.publish(String(data=verdict.to_json()))

    def overlay_publishers(self) -> list[LifecyclePublisher]:
        """Return those publishers of the overlay that have a subscriber."""
        return [publisher for publisher in (self._overlay, self._compressed)
                if publisher and publisher.get_subscription_count() > 0]

    def overlay_message(self, publisher: LifecyclePublisher, drawn: NDArray[np.uint8],
                        header: Header) -> Image | CompressedImage:
        """Return ``drawn``, RGB uint8 (H, W, 3), as a message of the publisher's type."""
        if publisher is self._overlay:
            return to_image_message(drawn, header)
        return CompressedImage(header=header, format='rgb8; jpeg compressed bgr8',
                               data=array('B', encode_jpeg(drawn)))

    def flush(self, timeout_s: float) -> None:
        """Wait until reliable subscribers have acknowledged the last Bool, or for the time-out."""
        self._bool.wait_for_all_acked(Duration(seconds=timeout_s))

    def destroy(self) -> None:
        """Remove all publishers."""
        while self._publishers:
            self._node.destroy_lifecycle_publisher(self._publishers.pop())

    def _classification(self, decision: Decision, header: Header) -> Any:
        assert self._vision_msgs is not None
        hypothesis = self._vision_msgs.ObjectHypothesis
        results = [hypothesis(class_id=decision.verdict.value, score=decision.confidence)]
        if decision.verdict is Verdict.UNKNOWN or decision.failure is not None:
            # The type has no field for a reason; a second hypothesis of score 0 names it.
            reason = decision.failure or decision.reason
            results.append(hypothesis(class_id=reason.value, score=0.))
        return self._vision_msgs.Classification(header=header, results=results)
