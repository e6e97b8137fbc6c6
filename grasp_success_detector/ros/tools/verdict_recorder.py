"""Play a bag to a detector, record the detector's messages, and write them as a bag."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
import json
import math
from pathlib import Path
import time
from typing import Any, NamedTuple

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
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

from grasp_success_detector.decision import NS_PER_S
from grasp_success_detector.evaluation import replay
from grasp_success_detector.images.message_fields import header_stamp_ns
from grasp_success_detector.labels import Verdict
from grasp_success_detector.recordings.bags import BAG_VERSION, open_bag
from grasp_success_detector.ros.tools import child_process
from grasp_success_detector.ros.tools.bag_player import message_class, recorded_qos
from grasp_success_detector.ros.tools.demo_bag import DemoBag

#: Time-out for the detector to subscribe with the player's reliability, seconds.
ADAPT_TIMEOUT_S = 15.

#: Time to record after the last frame, for its verdict and the last diagnostics, seconds.
LAST_VERDICT_S = 1.5

VERDICT_TOPIC, CONFIDENCE_TOPIC = '/grasp_success', '/grasp_success/confidence'
STAMPED_TOPIC = '/grasp_success/stamped'
DIAGNOSTICS_TOPIC = '/diagnostics'

#: Topic -> its type, and the depth that the node offers.
_TOPICS = {VERDICT_TOPIC: ('std_msgs/msg/Bool', 1),
           CONFIDENCE_TOPIC: ('std_msgs/msg/Float32', 1),
           STAMPED_TOPIC: ('vision_msgs/msg/Classification', 1),
           DIAGNOSTICS_TOPIC: ('diagnostic_msgs/msg/DiagnosticArray', 10)}


class Published(NamedTuple):
    """One message of the detector: topic, time of publication in ns, and serialized data."""

    topic: str
    sent_ns: int
    data: bytes


class VerdictRecorder(Node):
    """
    A node that records frames and the detector's verdicts and diagnostics.

    :ivar frames: received frames, in order of arrival.
    :ivar published: messages of the detector, in order of arrival.
    """

    def __init__(self, name: str, by_header: bool = True) -> None:
        """
        Subscribe to the detector; to the stamped verdict only if vision_msgs is installed.

        :param by_header: whether stamped verdicts have the header of a frame; that of several
            cameras together has none.
        """
        super().__init__(name, start_parameter_services=False)
        self._by_header = by_header
        self.frames: list[replay.ShownFrame] = []
        self.published: list[Published] = []
        for topic, (type_name, _) in _TOPICS.items():
            try:
                message_type = message_class(type_name)
            except ImportError:
                continue
            # Deep, so that nothing is lost while this process is busy.
            self._subscribe(message_type, topic, QoSProfile(depth=1000),
                            partial(self._keep, topic))

    def watch(self, bag: DemoBag, reliability: QoSReliabilityPolicy) -> None:
        """
        Subscribe to the bag's frames as well.

        :param reliability: reliability that the publisher of the frames offers.
        """
        self._subscribe(CompressedImage if bag.compressed else Image, bag.topic,
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

    def matched(self) -> tuple[replay.Matched, bool]:
        """Return verdicts matched to frames, and whether by headers (True) or times (False)."""
        if self._by_header and (stamped := self._messages(STAMPED_TOPIC)):
            return replay.match_by_header(self.frames, [
                replay.Said(sent_ns, Verdict(message.results[0].class_id),
                            message.results[0].score,
                            message.header.stamp.sec * NS_PER_S + message.header.stamp.nanosec)
                for sent_ns, message in stamped]), True
        verdicts, confidences = ([(sent_ns, message.data) for sent_ns, message
                                  in self._messages(topic)]
                                 for topic in (VERDICT_TOPIC, CONFIDENCE_TOPIC))
        said = replay.without_header(verdicts, confidences)
        return replay.Matched(replay.match_by_time(self.frames, said), {}), False

    def write_bag(self, path: Path, rate: float) -> None:
        """
        Write the detector's messages as a rosbag2 folder (mcap), at times of the played bag.

        :param path: folder to write, which must not exist; without frames it gets no messages.
        :param rate: rate at which the bag was played.
        """
        typestore = get_typestore(Stores.ROS2_JAZZY)
        # rosbags does not know vision_msgs; this is version 4.
        typestore.register(get_types_from_msg(
            'string class_id\nfloat64 score\n', 'vision_msgs/msg/ObjectHypothesis'))
        typestore.register(get_types_from_msg(
            'std_msgs/Header header\nvision_msgs/ObjectHypothesis[] results\n',
            'vision_msgs/msg/Classification'))
        timed = sorted(((replay.bag_time_ns(message.sent_ns, self.frames, rate), message)
                        for message in self.published),
                       key=lambda pair: pair[0]) if self.frames else []
        topics = {message.topic for message in self.published}
        with Writer(path, version=BAG_VERSION, storage_plugin=StoragePlugin.MCAP) as writer:
            connections = {
                topic: writer.add_connection(
                    topic, name, typestore=typestore, offered_qos_profiles=[_qos(depth)])
                for topic, (name, depth) in _TOPICS.items()
                if topic != STAMPED_TOPIC or topic in topics}
            for at_ns, message in timed:
                writer.write(connections[message.topic], at_ns, message.data)

    def _messages(self, topic: str) -> list[tuple[int, Any]]:
        """Return the time of publication in ns and the message, in order of these times."""
        published = sorted((message for message in self.published if message.topic == topic),
                           key=lambda message: message.sent_ns)
        return [(message.sent_ns, deserialize_message(
            message.data, message_class(_TOPICS[topic][0]))) for message in published]

    def _subscribe(self, message_type: Any, topic: str, qos: QoSProfile, take: Any) -> None:
        """Call ``take`` with each serialized message and the time of its publication in ns."""
        callback: Any = lambda data, info: take(data, info['source_timestamp'])  # noqa: E731
        if not hasattr(Subscription, 'CallbackType'):   # Humble does not tell the time
            callback = lambda data: take(data, time.time_ns())  # noqa: E731
        self.create_subscription(message_type, topic, callback, qos, raw=True)

    def _keep(self, topic: str, data: bytes, sent_ns: int) -> None:
        self.published.append(Published(topic, sent_ns, data))

    def _on_frame(self, data: bytes, sent_ns: int) -> None:
        try:
            self.frames.append(replay.ShownFrame(sent_ns, header_stamp_ns(data)))
        except ValueError:
            pass  # not a message of this type; the node refuses it too


def _qos(depth: int) -> Qos:
    forever = QosTime(2147483647, 4294967295)
    return Qos(QosHistory.KEEP_LAST, depth, QosReliability.RELIABLE, QosDurability.VOLATILE,
               forever, forever, QosLiveliness.AUTOMATIC, forever, False)


def play_to_detector(recorder: VerdictRecorder, bag: DemoBag, rate: float,
                     parameters: Mapping[str, Any], on_step: Callable[[str], None]) -> None:
    """
    Start a detector, play a bag's frames to it once, and record until the last verdict.

    Of a bag of several cameras, one for each of them is started, and what fuses them and the hand.

    :param recorder: a new recorder; its node is destroyed, its records stay readable.
    :param rate: playing speed relative to the recording.
    :param parameters: parameters of each detector, by name.
    :param on_step: called many times a second with the present step, such as ``'playing'``.
    :raises ChildError: the detector or the player failed, or another process publishes on the
        same topics.
    """
    with open_bag(bag.path) as reader:
        reliability = {connection.topic: recorded_qos(connection).reliability
                       for connection in reader.connections}
    # The player waits for two subscribers: the detector, and the recorder, which comes last.
    player_arguments = [str(bag.path), '--topics', *bag.played, '--rate', str(rate), '--wait-for',
                        bag.topic, '--subscribers', '2', '--wait', '20']
    executor = SingleThreadedExecutor()
    executor.add_node(recorder)

    def wait(phase: str, timeout_s: float, is_over: Callable[[], bool]) -> bool:
        deadline = time.monotonic() + timeout_s
        while not (over := is_over()) and time.monotonic() < deadline:
            executor.spin_once(timeout_sec=.05)
            for child in children:
                if child.poll() is not None:
                    raise child.error()
            on_step(phase)
        return over

    def detectors_have_adapted() -> bool:
        return all(any(info.qos_profile.reliability is reliability[topic]
                       for info in recorder.get_subscriptions_info_by_topic(topic))
                   for topic in bag.cameras or (bag.topic,))

    try:
        with ExitStack() as stack:
            children = [stack.enter_context(child_process.child_process(*command))
                        for command in _commands(bag, parameters)]
            if not wait('the detector loads its network', child_process.START_TIMEOUT_S,
                        lambda: all(map(recorder.count_subscribers, bag.played))):
                raise children[0].error(
                    f'is not active after {child_process.START_TIMEOUT_S:.0f} s')
            publishers = {topic: recorder.count_publishers(topic) for topic in bag.played}
            publishers[VERDICT_TOPIC] = recorder.count_publishers(VERDICT_TOPIC) - 1
            if others := [topic for topic, count in publishers.items() if count > 0]:
                raise child_process.ChildError(
                    f'{others[0]}: another process on this ROS_DOMAIN_ID publishes it, a camera, '
                    'a driver or a detector; end it, or set another ROS_DOMAIN_ID')
            player = stack.enter_context(
                child_process.child_process('play_bag', player_arguments))
            wait('playing', ADAPT_TIMEOUT_S, detectors_have_adapted)
            recorder.watch(bag, reliability[bag.topic])
            wait('playing', math.inf, lambda: player.poll() is not None)
            if player.returncode:
                raise player.error()
            wait('done', LAST_VERDICT_S, lambda: False)
    finally:
        executor.shutdown(timeout_sec=.5)
        recorder.destroy_node()


def _commands(bag: DemoBag, parameters: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """Return the commands, with arguments, that judge a bag."""
    transport, name = ('compressed', 'image/compressed') if bag.compressed else ('raw', 'image')
    # rcl reads a value as YAML, where an unquoted 1 would be a number; JSON is YAML.
    given = [word for parameter, value in {'image_transport': transport, **parameters}.items()
             for word in ('-p', f'{parameter}:={json.dumps(value, ensure_ascii=False)}')]
    if not bag.cameras:
        return [('detector_node', ['--ros-args', '-r', f'{name}:={bag.topic}', *given])]
    places = {topic.split('/')[1]: topic for topic in bag.cameras}
    return [
        *(('detector_node', ['--ros-args', '-r', f'__ns:=/{place}', '-r', f'{name}:={topic}',
                             *given]) for place, topic in places.items()),
        ('fusion_node', ['--ros-args', '-p', f'cameras:={",".join(places)}',
                         '-p', 'driver:=v5'])]
