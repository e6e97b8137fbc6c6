"""Publish the messages of a bag as they were recorded: same bytes, same order, same times."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from importlib import import_module
import math
import struct
import time
from typing import Any

from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import (
    QoSDurabilityPolicy,
    QoSHistoryPolicy,
    QoSProfile,
    QoSReliabilityPolicy,
)
from rosbags.highlevel import AnyReader
from rosbags.interfaces import Connection, QosDurability, QosHistory, QosReliability
from rosgraph_msgs.msg import Clock

from grasp_success_detector.decision import NS_PER_S
from grasp_success_detector.errors import BagError, ConfigError
from grasp_success_detector.settings import check_settings, setting

#: Longest time to wait for acknowledgement of the last messages, seconds.
FLUSH_S = 2.

#: Period of looking at subscribers.
POLL_S = 0.02

#: Time without a change of subscribers before playing. Discovery tells this side first, the other
#: side learns of the match later; and a subscriber that adapts to what is offered subscribes anew.
SETTLE_S = 1.


@dataclass(frozen=True)
class Playback:
    """
    Settings of :class:`BagPlayer`.

    :ivar topics: topics to play; if empty, all.
    :ivar clock_hz: messages on ``/clock`` per second of real time, with the bag's time; 0: none.
    """

    rate: float = setting(1., above=0, metavar='R', help='2 plays twice as fast as recorded')
    topics: tuple[str, ...] = setting(
        (), metavar='TOPIC', help='play these only (default: all)')
    clock_hz: float = setting(0., lowest=0)
    restamp: bool = setting(False, help='set header stamps to now (default: as recorded)')

    def __post_init__(self) -> None:
        check_settings(self, ConfigError, 'playing:')


class BagPlayer:
    """Publishers for the topics of one open bag, and the loop that publishes its messages."""

    def __init__(self, node: Node, reader: AnyReader, playback: Playback) -> None:
        """
        Create a publisher for every topic to be played.

        :raises BagError: a topic of ``playback.topics`` is not in the bag.
        """
        self._node, self._reader, self._playback = node, reader, playback
        recorded = {connection.topic for connection in reader.connections}
        if missing := sorted(set(playback.topics) - recorded):
            raise BagError(f'{reader.paths[0]}: no topic {", ".join(missing)}; topics here: '
                           f'{", ".join(sorted(recorded)) or "none"}')
        #: topic -> reason why it is not played
        self.skipped: dict[str, str] = {}
        self._publishers: dict[str, Publisher[Any]] = {}
        self._stamped: set[str] = set()
        self._played: list[Connection] = []
        for connection in reader.connections:
            if not playback.topics or connection.topic in playback.topics:
                self._add(connection)
        self._clock = node.create_publisher(Clock, '/clock', 10) if playback.clock_hz else None

    @property
    def message_count(self) -> int:
        """Return the number of messages of the played topics."""
        return sum(connection.msgcount for connection in self._played)

    def wait_for_subscribers(self, timeout_s: float, topics: Collection[str] = (),
                             least: int = 1) -> list[str]:
        """
        Wait until every topic has subscribers, so that they do not miss the first messages.

        :param topics: topics to wait for, as named in the bag; if empty, all that are played.
        :param least: number of nodes that must have subscribed to each topic.
        :returns: topics with fewer subscribed nodes after the time-out.
        :raises ConfigError: a topic is not played.
        """
        if unknown := sorted(set(topics) - set(self._publishers)):
            raise ConfigError(f'cannot wait for {", ".join(unknown)}: not among the topics played')
        awaited = [publisher for topic, publisher in self._publishers.items()
                   if not topics or topic in topics]
        deadline = time.monotonic() + timeout_s
        while lonely := [publisher.topic_name for publisher in awaited
                         if self._listeners(publisher) < least]:
            if time.monotonic() >= deadline:
                break
            time.sleep(POLL_S)
        if len(lonely) < len(awaited):
            _settle(awaited)
        return lonely

    def _listeners(self, publisher: 'Publisher[Any]') -> int:
        """Return the number of subscribed nodes; those that are not connected do not count."""
        nodes = {(info.node_namespace, info.node_name) for info
                 in self._node.get_subscriptions_info_by_topic(publisher.topic_name)}
        return min(len(nodes), publisher.get_subscription_count())

    def play(self, on_message: Callable[[], None] = lambda: None) -> int:
        """
        Publish all messages once, and wait until reliable subscribers have received them.

        A message that is late is published at once; none is left out.

        :param on_message: called after each message.
        :returns: number of messages published.
        """
        count = bag_begin_ns = 0
        begin = time.monotonic()
        # Without connections the reader would return all messages.
        messages = self._reader.messages(self._played) if self._played else ()
        for connection, bag_ns, raw in messages:
            if count == 0:
                bag_begin_ns = bag_ns
            self._sleep(begin, (bag_ns - bag_begin_ns) / NS_PER_S / self._playback.rate,
                        bag_begin_ns)
            self._publishers[connection.topic].publish(self._serialized(connection, raw))
            count += 1
            on_message()
        for publisher in self._publishers.values():
            publisher.wait_for_all_acked(Duration(seconds=FLUSH_S))
        return count

    def _add(self, connection: Connection) -> None:
        topic = connection.topic
        if topic not in self._publishers:
            try:
                message_type = message_class(connection.msgtype)
            except (ImportError, AttributeError, ValueError):
                self.skipped[topic] = f'{connection.msgtype} is not installed here'
                return
            self._publishers[topic] = self._node.create_publisher(
                message_type, topic, recorded_qos(connection))
            if next(iter(message_type.get_fields_and_field_types().values()), '') == (
                    'std_msgs/Header'):
                self._stamped.add(topic)
        self._played.append(connection)

    def _serialized(self, connection: Connection, raw: bytes) -> bytes:
        if not self._reader.is2:
            raw = bytes(self._reader.typestore.ros1_to_cdr(raw, connection.msgtype))
        if self._playback.restamp and connection.topic in self._stamped:
            return restamped(raw, time.time_ns())
        return bytes(raw)

    def _sleep(self, begin: float, due_s: float, bag_begin_ns: int) -> None:
        """Wait until ``due_s`` after ``begin``, publishing the clock meanwhile."""
        left_s = math.inf
        while left_s > 0.:
            passed_s = time.monotonic() - begin
            pause_s = due_s - passed_s
            if self._clock is not None:
                now_ns = bag_begin_ns + int(
                    min(passed_s, due_s) * self._playback.rate * NS_PER_S)
                message = Clock()
                message.clock.sec, message.clock.nanosec = divmod(now_ns, NS_PER_S)
                self._clock.publish(message)
                pause_s = min(pause_s, 1. / self._playback.clock_hz)
            time.sleep(max(0., pause_s))
            left_s = begin + due_s - time.monotonic()


def message_class(name: str) -> Any:
    """
    Import a message class.

    :param name: name of the type, such as ``sensor_msgs/msg/Image``.
    :raises ImportError: its package is not installed.
    :raises AttributeError: the package has no such message.
    :raises ValueError: the name is not of this form.
    """
    package, kind, message = name.split('/')
    return getattr(import_module(f'{package}.{kind}'), message)


def recorded_qos(connection: Connection) -> QoSProfile:
    """Return the QoS of the recorded publisher; reliable with depth 10 if the bag has none."""
    offered = getattr(connection.ext, 'offered_qos_profiles', ())
    if not offered:
        return QoSProfile(depth=10)
    first = offered[0]
    profile = QoSProfile(depth=max(1, first.depth))     # reliable, volatile, keep the last
    if first.history is QosHistory.KEEP_ALL:
        profile.history = QoSHistoryPolicy.KEEP_ALL
    if first.reliability is QosReliability.BEST_EFFORT:
        profile.reliability = QoSReliabilityPolicy.BEST_EFFORT
    if first.durability is QosDurability.TRANSIENT_LOCAL:
        profile.durability = QoSDurabilityPolicy.TRANSIENT_LOCAL
    return profile


def restamped(raw: bytes, now_ns: int) -> bytes:
    """
    Return a serialized message (CDR), which begins with a ``std_msgs/Header``, with a new stamp.

    The stamp follows the encapsulation of four bytes, the second of which is odd if little-endian.
    """
    if len(raw) < 12:
        return raw
    changed = bytearray(raw)
    struct.pack_into('<iI' if raw[1] & 1 else '>iI', changed, 4, *divmod(now_ns, NS_PER_S))
    return bytes(changed)


def _settle(publishers: 'Sequence[Publisher[Any]]') -> None:
    """Wait until no subscriber has come or gone for SETTLE_S; at most five times SETTLE_S."""
    counts: list[int] = []
    began = changed = time.monotonic()
    while (now := time.monotonic()) - changed < SETTLE_S and now - began < 5 * SETTLE_S:
        if (found := [publisher.get_subscription_count() for publisher in publishers]) != counts:
            counts, changed = found, now
        time.sleep(POLL_S)
