"""Subscription to the camera: quality of service that fits the camera, and a bounded rate."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from inspect import signature
import time
from typing import Any

from rclpy import qos
from rclpy.lifecycle import LifecycleNode
from rclpy.qos_overriding_options import QoSOverridingOptions

from grasp_success_detector.decision import NS_PER_S
from grasp_success_detector.ros.node.parameters import Reliability

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:     # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks

#: Period at which publishers are looked up, since not every middleware reports new ones.
LOOK_PERIOD_NS = NS_PER_S

#: Policies that parameters ``qos_overrides.<topic>.<publisher|subscription>.<policy>`` may set.
OVERRIDABLE = (qos.QoSPolicyKind.HISTORY, qos.QoSPolicyKind.DEPTH, qos.QoSPolicyKind.RELIABILITY,
               qos.QoSPolicyKind.DURABILITY)

# Values compatible with every other end: subscriptions request the least, publishers offer most.
_FITTING = {
    'subscription': {'RELIABILITY': 'best_effort', 'DURABILITY': 'volatile'},
    'publisher': {'RELIABILITY': 'reliable', 'DURABILITY': 'transient_local'},
}


@dataclass(eq=False)
class _Listener:
    """One subscription: whether it has received anything, and the last message received."""

    subscription: Any = None
    heard: bool = False
    last: bytes | None = None


class CameraSubscription:
    """
    Subscribe to a camera and adapt to the reliability that it offers.

    A best-effort subscription receives from every camera, but Fast DDS with its default buffers
    loses nearly all raw images of 640 x 480 pixels. A reliable one loses none, but receives
    nothing from best-effort cameras. ``auto`` therefore requests reliable if every publisher
    offers it. When that changes, the old subscription is kept until the new one has received a
    frame, so that no frame is lost.
    """

    def __init__(self, node: LifecycleNode, message_type: Any, reliability: Reliability,
                 take: Callable[[bytes, int | None], None]) -> None:
        """
        Only prepare.

        :param take: called after ``open`` with each serialized message and its publisher's
            sequence number, None where the middleware counts none.
        """
        self._node, self._message_type, self._take = node, message_type, take
        compressed = message_type.__name__ == 'CompressedImage'
        self.topic = _image_topic(node, compressed)
        self._other_topic = _image_topic(node, not compressed)
        self._other_transport = 'raw' if compressed else 'compressed'
        self._override = override_name(self.topic, 'subscription', 'reliability')
        # Overrides overrule ``reliability``; only this private attribute of rclpy holds them.
        self._overridden = self._override in node._parameter_overrides
        self._auto = reliability is Reliability.AUTO and not self._overridden
        self._requested = (qos.QoSReliabilityPolicy.RELIABLE if reliability is Reliability.RELIABLE
                           else qos.QoSReliabilityPolicy.BEST_EFFORT)
        self._listeners: list[_Listener] = []   # the last one is the current one
        self._changed = False
        self._looked_ns = 0

    @property
    def is_open(self) -> bool:
        """Return whether the topic is subscribed to."""
        return bool(self._listeners)

    @property
    def reliability(self) -> str:
        """Return the requested reliability, ``'reliable'`` or ``'best_effort'``."""
        if self._overridden and self.is_open:
            return str(self._node.get_parameter(self._override).value)
        return str(self._requested.name.lower())

    def hint(self) -> str:
        """Return advice if only the other transport's topic has publishers; else ''."""
        if self._node.count_publishers(self.topic) or not (
                self._node.count_publishers(self._other_topic)):
            return ''
        return (f'{self.topic} has no publisher, {self._other_topic} has: set image_transport to '
                f'{self._other_transport}, or remap the topic')

    def open(self) -> None:
        """Subscribe."""
        if self._auto:
            self._requested = self._offered()
        self._subscribe()

    def close(self) -> None:
        """Unsubscribe."""
        self._keep(0)

    def adapt(self) -> None:
        """Subscribe anew if the offered reliability has changed; to be called periodically."""
        if self.is_open and self._listeners[-1].heard:
            self._keep(1)
        now_ns = time.monotonic_ns()
        due = self._changed or now_ns - self._looked_ns >= LOOK_PERIOD_NS
        if not (self.is_open and self._auto and due):
            return
        self._changed, self._looked_ns = False, now_ns
        offered = self._offered()
        if offered is not self._requested:
            self._keep(1)
            self._requested = offered
            self._subscribe()
            self._node.get_logger().info(
                f'{self.topic}: reliability {self.reliability}, as its publishers offer')

    def _subscribe(self) -> None:
        listener = _Listener()
        self._listeners.append(listener)
        # Reliability is declared only if overridden: a declared parameter keeps its first value.
        options = overrides(*([] if self._overridden else [qos.QoSPolicyKind.RELIABILITY]))
        # Raw bytes: deserializing is work for the worker, and a malformed message is its error.
        listener.subscription = self._node.create_subscription(
            self._message_type, self.topic, partial(self._hear, listener),
            qos.QoSProfile(depth=1, reliability=self._requested), raw=True,
            qos_overriding_options=options, event_callbacks=self._events())

    def _keep(self, count: int) -> None:
        """Remove all but the newest ``count`` subscriptions."""
        while len(self._listeners) > count:
            self._node.destroy_subscription(self._listeners.pop(0).subscription)

    def _hear(self, listener: _Listener, data: bytes, info: Any) -> None:
        if not self._listeners:
            return
        newest = self._listeners[-1]
        if listener is not newest:
            if newest.heard:
                return
            listener.last = data
        elif not listener.heard:
            listener.heard = True
            if any(former.last == data for former in self._listeners[:-1]):
                return      # received on both
        self._take(data, info.get('publication_sequence_number'))     # not in Humble

    def _offered(self) -> qos.QoSReliabilityPolicy:
        """Return the best reliability that all publishers offer; unchanged without publishers."""
        offers = {info.qos_profile.reliability
                  for info in self._node.get_publishers_info_by_topic(self.topic)}
        if not offers:
            return self._requested
        policies = qos.QoSReliabilityPolicy
        return policies.RELIABLE if offers == {policies.RELIABLE} else policies.BEST_EFFORT

    def _events(self) -> SubscriptionEventCallbacks:
        def changed(event: Any) -> None:
            self._changed = True

        def incompatible(event: Any) -> None:
            self._changed = True
            policy = qos.qos_policy_name_from_kind(event.last_policy_kind)
            if policy != 'RELIABILITY' or not self._auto:
                self._node.get_logger().warning(
                    f'a publisher of {self.topic} offers less {policy.lower()} than is requested, '
                    'so that nothing is received from it; '
                    f'{qos_advice(self.topic, "subscription", policy)}')
        callbacks: dict[str, Any] = {'incompatible_qos': incompatible}
        if 'matched' in signature(SubscriptionEventCallbacks.__init__).parameters:  # not in Humble
            callbacks['matched'] = changed
        return SubscriptionEventCallbacks(**callbacks)


class RateLimit:
    """Admit a limited number of frames per second on average."""

    def __init__(self, max_rate: float) -> None:
        """Admit ``max_rate`` frames per second; 0 admits every frame."""
        self._period_ns = round(NS_PER_S / max_rate) if max_rate else 0
        self._next_ns = 0

    def admits(self, now_ns: int) -> bool:
        """Return whether a frame received at ``now_ns`` (monotonic) is admitted."""
        if now_ns < self._next_ns:
            return False
        # From when it was due, so that a frame which comes late does not delay the next one.
        self._next_ns = max(self._next_ns + self._period_ns, now_ns)
        return True


def overrides(*without: qos.QoSPolicyKind) -> QoSOverridingOptions:
    """Return options that let parameters override ``OVERRIDABLE`` except ``without``."""
    return QoSOverridingOptions([kind for kind in OVERRIDABLE if kind not in without])


def override_name(topic: str, end: str, policy: str) -> str:
    """Return the parameter's name for a policy; ``end`` is publisher or subscription."""
    return f'qos_overrides.{topic}.{end}.{policy.lower()}'


def qos_advice(topic: str, end: str, policy: str) -> str:
    """Return advice for the user on a QoS policy that the other end of a topic rejects."""
    value = _FITTING[end].get(policy)
    if value is None:
        return f'let the other side take its default {policy.lower()}'
    return f'start the node with -p {override_name(topic, end, policy)}:={value}'


def _image_topic(node: LifecycleNode, compressed: bool) -> str:
    """Return the full name; remapping ``image`` also moves ``image/compressed``."""
    remapped = str(node.resolve_topic_name('image/compressed'))
    if compressed and remapped != node.resolve_topic_name('image/compressed', only_expand=True):
        return remapped
    return f'{node.resolve_topic_name("image")}{"/compressed" if compressed else ""}'
