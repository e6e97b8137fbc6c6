"""A rosbag2 of what the detector said, on the time of the bag that was played to it."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, NamedTuple

from rosbags.interfaces import (
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import StoragePlugin, Writer

from grasp_success_detector.data.bags import TYPESTORE

VERDICT_TOPIC, CONFIDENCE_TOPIC = '/grasp_success', '/grasp_success/confidence'

_TYPES = {VERDICT_TOPIC: 'std_msgs/msg/Bool', CONFIDENCE_TOPIC: 'std_msgs/msg/Float32'}

_BAG_VERSION: Final = 8  # of rosbag2's metadata: the oldest that rosbags writes

_FOREVER = QosTime(2147483647, 4294967295)

#: What the node offers: reliable, the newest answer only.
_OFFERED = Qos(QosHistory.KEEP_LAST, 1, QosReliability.RELIABLE, QosDurability.VOLATILE, _FOREVER,
               _FOREVER, QosLiveliness.AUTOMATIC, _FOREVER, False)


class SaidMessage(NamedTuple):
    """
    One message of the detector.

    :ivar at_ns: when, on the time of the bag that was played.
    :ivar value: bool of a verdict, float of a confidence.
    """

    topic: str
    at_ns: int
    value: bool | float


def write_verdict_bag(path: Path, messages: Iterable[SaidMessage]) -> None:
    """
    Write the messages as a rosbag2 folder (mcap).

    :param path: must not exist.
    """
    with Writer(path, version=_BAG_VERSION, storage_plugin=StoragePlugin.MCAP) as writer:
        connections: dict[str, Any] = {
            topic: writer.add_connection(topic, msgtype, typestore=TYPESTORE,
                                         offered_qos_profiles=[_OFFERED])
            for topic, msgtype in _TYPES.items()}
        for message in sorted(messages, key=lambda message: message.at_ns):
            msgtype = _TYPES[message.topic]
            writer.write(connections[message.topic], message.at_ns, TYPESTORE.serialize_cdr(
                TYPESTORE.types[msgtype](data=message.value), msgtype))
