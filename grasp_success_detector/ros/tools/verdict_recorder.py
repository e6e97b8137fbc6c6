"""Everything that the detector says while a bag is played, as it was published."""

from collections.abc import Callable
from importlib import import_module
import time
from typing import Any, NamedTuple

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from rclpy.serialization import deserialize_message
from rclpy.subscription import Subscription
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Bool, Float32

from grasp_success_detector.decision import NS_PER_S
from grasp_success_detector.evaluation.replay import Said, ShownFrame, without_header
from grasp_success_detector.images.message_fields import header_stamp_ns
from grasp_success_detector.labels import Verdict

VERDICT_TOPIC, CONFIDENCE_TOPIC = '/grasp_success', '/grasp_success/confidence'
STAMPED_TOPIC = '/grasp_success/stamped'
DIAGNOSTICS_TOPIC = '/diagnostics'

#: Deep, so that nothing is lost while this process is busy.
_VERDICT_QOS = QoSProfile(depth=1000)


class Published(NamedTuple):
    """
    One message of the detector.

    :ivar sent_ns: when it was published.
    :ivar data: CDR, as it came over DDS.
    """

    topic: str
    sent_ns: int
    data: bytes


class VerdictRecorder:
    """
    Listens to the frames and to the detector, without taking messages apart.

    :ivar frames: in order.
    :ivar published: by the detector, in order of arrival.
    """

    def __init__(self, node: Node) -> None:
        """Listen to the detector; to its stamped verdict only where vision_msgs is installed."""
        self._node = node
        self.frames: list[ShownFrame] = []
        self.published: list[Published] = []
        try:
            self._classification: Any = import_module('vision_msgs.msg').Classification
        except ImportError:
            self._classification = None
        topics = {VERDICT_TOPIC: Bool, CONFIDENCE_TOPIC: Float32,
                  DIAGNOSTICS_TOPIC: DiagnosticArray}
        if self._classification is not None:
            topics[STAMPED_TOPIC] = self._classification
        for topic, message_type in topics.items():
            node.create_subscription(message_type, topic, with_time(self._keep(topic)),
                                     _VERDICT_QOS, raw=True)

    def watch(self, topic: str, compressed: bool, reliability: QoSReliabilityPolicy) -> None:
        """
        Listen to the frames from now on.

        :param reliability: with which they are published; a reliable one loses none on the way.
        """
        self._node.create_subscription(
            CompressedImage if compressed else Image, topic, with_time(self._on_frame),
            QoSProfile(depth=50, reliability=reliability), raw=True)

    @property
    def figures(self) -> dict[str, str]:
        """Return the detector's own last figures; empty before it told any."""
        for message in reversed(self.published):
            if message.topic == DIAGNOSTICS_TOPIC:
                for status in deserialize_message(message.data, DiagnosticArray).status:
                    if status.name.endswith(': detector'):
                        return {pair.key: pair.value for pair in status.values}
        return {}

    def said(self) -> list[Said]:
        """Return the verdicts without header, in order."""
        verdicts, confidences = (
            sorted((message.sent_ns, deserialize_message(message.data, message_type).data)
                   for message in self.published if message.topic == topic)
            for topic, message_type in ((VERDICT_TOPIC, Bool), (CONFIDENCE_TOPIC, Float32)))
        return without_header(verdicts, confidences)

    def said_stamped(self) -> list[Said]:
        """Return the verdicts with the header of the frame, in order; none without vision_msgs."""
        said = []
        for message in self.published:
            if message.topic == STAMPED_TOPIC:
                told = deserialize_message(message.data, self._classification)
                stamp = told.header.stamp
                said.append(Said(message.sent_ns, Verdict(told.results[0].class_id),
                                 told.results[0].score, stamp.sec * NS_PER_S + stamp.nanosec))
        return sorted(said, key=lambda verdict: verdict.sent_ns)

    def _keep(self, topic: str) -> Callable[[bytes, int], None]:
        return lambda data, sent_ns: self.published.append(Published(topic, sent_ns, data))

    def _on_frame(self, data: bytes, sent_ns: int) -> None:
        try:
            self.frames.append(ShownFrame(sent_ns, header_stamp_ns(data)))
        except ValueError:
            pass  # not a message of this type; the node refuses it too


def with_time(callback: Callable[[Any, int], None]) -> Callable[..., None]:
    """Make a subscription's callback that also gets when the message was published, in ns."""
    if hasattr(Subscription, 'CallbackType'):
        return lambda message, info: callback(message, info['source_timestamp'])
    return lambda message: callback(message, time.time_ns())    # Humble tells no times
