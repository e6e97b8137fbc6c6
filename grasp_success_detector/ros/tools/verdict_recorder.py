"""Record what the detector publishes while a bag is played, and write it as a bag."""

from collections.abc import Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
import time
from typing import Any, Final, NamedTuple

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from rclpy.serialization import deserialize_message
from rclpy.subscription import Subscription
from rosbags.interfaces import (
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import get_types_from_msg, get_typestore, Stores
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Bool, Float32

from grasp_success_detector.decision import NS_PER_S
from grasp_success_detector.evaluation.replay import (
    bag_time_ns,
    Said,
    ShownFrame,
    without_header,
)
from grasp_success_detector.images.message_fields import header_stamp_ns
from grasp_success_detector.labels import Verdict

VERDICT_TOPIC, CONFIDENCE_TOPIC = '/grasp_success', '/grasp_success/confidence'
STAMPED_TOPIC = '/grasp_success/stamped'
DIAGNOSTICS_TOPIC = '/diagnostics'

#: Topic -> its type, and the depth that the node offers.
_TOPICS = {VERDICT_TOPIC: ('std_msgs/msg/Bool', 1),
           CONFIDENCE_TOPIC: ('std_msgs/msg/Float32', 1),
           STAMPED_TOPIC: ('vision_msgs/msg/Classification', 1),
           DIAGNOSTICS_TOPIC: ('diagnostic_msgs/msg/DiagnosticArray', 10)}

#: Deep, so that nothing is lost while this process is busy.
_VERDICT_QOS = QoSProfile(depth=1000)

_BAG_VERSION: Final = 8    # of rosbag2's metadata: the oldest that rosbags writes
_FOREVER = QosTime(2147483647, 4294967295)


class Published(NamedTuple):
    """
    One message of the detector.

    :ivar sent_ns: time of publication, ns.
    :ivar data: CDR, as it came over DDS.
    """

    topic: str
    sent_ns: int
    data: bytes


class VerdictRecorder:
    """
    Subscribe to the frames and to all that the detector publishes.

    :ivar frames: in order.
    :ivar published: messages of the detector, in order of arrival.
    """

    def __init__(self, node: Node) -> None:
        """Subscribe to the detector; to its stamped verdict only where vision_msgs is present."""
        self._node = node
        self.frames: list[ShownFrame] = []
        self.published: list[Published] = []
        topics = {VERDICT_TOPIC: Bool, CONFIDENCE_TOPIC: Float32,
                  DIAGNOSTICS_TOPIC: DiagnosticArray}
        try:
            self._classification: Any = import_module('vision_msgs.msg').Classification
        except ImportError:
            pass
        else:
            topics[STAMPED_TOPIC] = self._classification
        for topic, message_type in topics.items():
            self._subscribe(message_type, topic, _VERDICT_QOS, partial(self._keep, topic))

    def watch(self, topic: str, compressed: bool, reliability: QoSReliabilityPolicy) -> None:
        """
        Subscribe to the frames as well.

        :param reliability: the publisher's; a reliable one loses no frame on the way.
        """
        self._subscribe(CompressedImage if compressed else Image, topic,
                        QoSProfile(depth=50, reliability=reliability), self._on_frame)

    @property
    def figures(self) -> dict[str, str]:
        """Return the values of the detector's last diagnostics; empty before the first."""
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

    def _subscribe(self, message_type: Any, topic: str, qos: QoSProfile, take: Any) -> None:
        """Call ``take`` with each serialized message and the time of its publication in ns."""
        callback: Any = lambda data, info: take(data, info['source_timestamp'])  # noqa: E731
        if not hasattr(Subscription, 'CallbackType'):   # Humble does not tell the time
            callback = lambda data: take(data, time.time_ns())  # noqa: E731
        self._node.create_subscription(message_type, topic, callback, qos, raw=True)

    def _keep(self, topic: str, data: bytes, sent_ns: int) -> None:
        self.published.append(Published(topic, sent_ns, data))

    def _on_frame(self, data: bytes, sent_ns: int) -> None:
        try:
            self.frames.append(ShownFrame(sent_ns, header_stamp_ns(data)))
        except ValueError:
            pass  # not a message of this type; the node refuses it too


def write_verdict_bag(path: Path, published: Sequence[Published], frames: Sequence[ShownFrame],
                      rate: float) -> None:
    """
    Write messages of the detector as a rosbag2 folder (mcap), on the time of the played bag.

    :param path: must not exist.
    :param frames: relate the two times; without any the bag is empty.
    :param rate: at which the bag was played.
    """
    typestore = get_typestore(Stores.ROS2_JAZZY)
    # rosbags does not know vision_msgs; this is version 4.
    typestore.register(get_types_from_msg(
        'string class_id\nfloat64 score\n', 'vision_msgs/msg/ObjectHypothesis'))
    typestore.register(get_types_from_msg(
        'std_msgs/Header header\nvision_msgs/ObjectHypothesis[] results\n',
        'vision_msgs/msg/Classification'))
    timed = sorted(((bag_time_ns(message.sent_ns, frames, rate), message)
                    for message in published), key=lambda pair: pair[0]) if frames else []
    with Writer(path, version=_BAG_VERSION, storage_plugin=StoragePlugin.MCAP) as writer:
        connections: dict[str, Any] = {
            topic: writer.add_connection(topic, name, typestore=typestore, offered_qos_profiles=[
                Qos(QosHistory.KEEP_LAST, depth, QosReliability.RELIABLE, QosDurability.VOLATILE,
                    _FOREVER, _FOREVER, QosLiveliness.AUTOMATIC, _FOREVER, False)])
            for topic, (name, depth) in _TOPICS.items()
            if topic != STAMPED_TOPIC or any(topic == message.topic for message in published)}
        for at_ns, message in timed:
            writer.write(connections[message.topic], at_ns, message.data)
