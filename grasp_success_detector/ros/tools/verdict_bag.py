"""A rosbag2 of what the detector said, on the time of the bag that was played to it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

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

from grasp_success_detector.evaluation.replay import bag_time_ns, ShownFrame
from grasp_success_detector.ros.tools.verdict_recorder import (
    CONFIDENCE_TOPIC,
    DIAGNOSTICS_TOPIC,
    Published,
    STAMPED_TOPIC,
    VERDICT_TOPIC,
)

_TYPESTORE = get_typestore(Stores.ROS2_JAZZY)
# Not among those that rosbags knows; vision_msgs 4.
for _name, _definition in (
        ('ObjectHypothesis', 'string class_id\nfloat64 score\n'),
        ('Classification',
         'std_msgs/Header header\nvision_msgs/ObjectHypothesis[] results\n')):
    _TYPESTORE.register(get_types_from_msg(_definition, f'vision_msgs/msg/{_name}'))

_BAG_VERSION: Final = 8  # of rosbag2's metadata: the oldest that rosbags writes

_FOREVER = QosTime(2147483647, 4294967295)


def _reliable(depth: int) -> Qos:
    return Qos(QosHistory.KEEP_LAST, depth, QosReliability.RELIABLE, QosDurability.VOLATILE,
               _FOREVER, _FOREVER, QosLiveliness.AUTOMATIC, _FOREVER, False)


#: Topic -> its type, and the queue's depth that the node offers.
_TOPICS = {VERDICT_TOPIC: ('std_msgs/msg/Bool', 1),
           CONFIDENCE_TOPIC: ('std_msgs/msg/Float32', 1),
           STAMPED_TOPIC: ('vision_msgs/msg/Classification', 1),
           DIAGNOSTICS_TOPIC: ('diagnostic_msgs/msg/DiagnosticArray', 10)}


def write_verdict_bag(path: Path, published: Sequence[Published], frames: Sequence[ShownFrame],
                      rate: float) -> None:
    """
    Write the messages as a rosbag2 folder (mcap), byte for byte.

    :param path: must not exist.
    :param frames: what the messages' times are told by; without any the bag is empty.
    :param rate: at which the bag was played.
    """
    timed = sorted(((bag_time_ns(message.sent_ns, frames, rate), message)
                    for message in published), key=lambda pair: pair[0]) if frames else []
    with Writer(path, version=_BAG_VERSION, storage_plugin=StoragePlugin.MCAP) as writer:
        connections: dict[str, Any] = {
            topic: writer.add_connection(topic, _TOPICS[topic][0], typestore=_TYPESTORE,
                                         offered_qos_profiles=[_reliable(_TOPICS[topic][1])])
            for topic in _TOPICS
            if topic != STAMPED_TOPIC or any(topic == message.topic for message in published)}
        for at_ns, message in timed:
            writer.write(connections[message.topic], at_ns, message.data)
