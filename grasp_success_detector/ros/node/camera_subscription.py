"""The camera's topic: subscribed with a quality of service that fits, and at a bounded rate."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
import time
from typing import Any

from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSPolicyKind, QoSProfile, QoSReliabilityPolicy

from grasp_success_detector.decision import NS_PER_S
from grasp_success_detector.ros.node.qos import override_name, overrides, subscription_events

#: How often to look who publishes, where the middleware does not say that it changed.
LOOK_PERIOD_NS = NS_PER_S


@dataclass(eq=False)
class _Ear:
    """One subscription: whether it heard anything yet, and the last that it heard."""

    subscription: Any = None
    heard: bool = False
    last: bytes | None = None


class CameraSubscription:
    """
    Subscribe to a camera and adapt to what it offers.

    Best effort is heard from every camera, but Fast DDS with its default buffers loses nearly all
    raw images of 640 x 480 pixels that way; reliable loses none, but is deaf to best-effort
    cameras. ``auto`` therefore asks for reliable where every publisher offers it; when that
    changes, it listens in the former way until a frame came in the new one, so that none is lost.
    """

    def __init__(self, node: LifecycleNode, message_type: Any, reliability: str,
                 take: Callable[[bytes], None]) -> None:
        """
        Prepare; ``open`` subscribes.

        :param message_type: Image or CompressedImage.
        :param reliability: value of the parameter of that name.
        :param take: called in the executor's thread with every serialized message.
        """
        self._node, self._message_type, self._take = node, message_type, take
        self.topic = _image_topic(node, message_type.__name__ == 'CompressedImage')
        self._given = override_name(self.topic, 'subscription', 'reliability')
        # Overrides, where given, have the last word; rclpy offers no other way to know of them.
        self._overridden = self._given in node._parameter_overrides
        self._auto = reliability == 'auto' and not self._overridden
        self._reliability: QoSReliabilityPolicy = {
            'reliable': QoSReliabilityPolicy.RELIABLE}.get(
                reliability, QoSReliabilityPolicy.BEST_EFFORT)
        self._ears: list[_Ear] = []     # the one that counts is the last
        self._changed = False
        self._looked_ns = 0

    @property
    def is_open(self) -> bool:
        """Say whether frames are asked for."""
        return bool(self._ears)

    @property
    def publishers(self) -> int:
        """Count who publishes on the topic, whether heard or not."""
        return int(self._node.count_publishers(self.topic))

    @property
    def reliability(self) -> str:
        """Return what is asked of the camera."""
        if self._overridden and self.is_open:
            return str(self._node.get_parameter(self._given).value)
        return str(self._reliability.name.lower())

    def open(self) -> None:
        """Subscribe."""
        if self._auto:
            self._reliability = self._offered()
        self._listen()

    def _listen(self) -> None:
        ear = _Ear()
        self._ears.append(ear)
        # In its own options only where it was given: a declared one is fixed for ever.
        options = overrides(*([] if self._overridden else [QoSPolicyKind.RELIABILITY]))
        # Raw bytes: deserializing is work for the worker, and a malformed message is its error.
        ear.subscription = self._node.create_subscription(
            self._message_type, self.topic, partial(self._hear, ear),
            QoSProfile(depth=1, reliability=self._reliability), raw=True,
            qos_overriding_options=options, event_callbacks=subscription_events(
                self._node, self.topic, self._note_change, lambda: self._auto))

    def close(self) -> None:
        """Unsubscribe."""
        self._keep(0)

    def _keep(self, count: int) -> None:
        """Unsubscribe all but the latest so many."""
        while len(self._ears) > count:
            self._node.destroy_subscription(self._ears.pop(0).subscription)

    def _hear(self, ear: _Ear, data: bytes) -> None:
        if not self._ears:
            return
        newest = self._ears[-1]
        if ear is not newest:
            if newest.heard:
                return
            ear.last = data
        elif not ear.heard:
            ear.heard = True
            if any(former.last == data for former in self._ears[:-1]):
                return      # heard both ways
        self._take(data)

    def adapt(self) -> None:
        """Subscribe again if what the publishers offer has changed; to be called often."""
        if self.is_open and self._ears[-1].heard:
            self._keep(1)
        now_ns = time.monotonic_ns()
        due = self._changed or now_ns - self._looked_ns >= LOOK_PERIOD_NS
        if not (self.is_open and self._auto and due):
            return
        self._changed, self._looked_ns = False, now_ns
        offered = self._offered()
        if offered is not self._reliability:
            self._keep(1)
            self._reliability = offered
            self._listen()
            self._node.get_logger().info(
                f'{self.topic}: frames are asked for {self.reliability}, as its publishers offer')

    def _note_change(self) -> None:
        self._changed = True

    def _offered(self) -> QoSReliabilityPolicy:
        """Return the best reliability that every publisher offers; without any, as before."""
        offers = [info.qos_profile.reliability
                  for info in self._node.get_publishers_info_by_topic(self.topic)]
        if not offers:
            return self._reliability
        reliable = QoSReliabilityPolicy.RELIABLE
        return (reliable if all(offer == reliable for offer in offers)
                else QoSReliabilityPolicy.BEST_EFFORT)


class RateLimit:
    """Let so many through per second on average, however they come."""

    def __init__(self, max_rate: float) -> None:
        """Begin; 0 lets everything through."""
        self.max_rate = max_rate
        self._next_ns = 0

    def admits(self, now_ns: int) -> bool:
        """Say whether one that comes now goes through."""
        if not self.max_rate:
            return True
        if now_ns < self._next_ns:
            return False
        period_ns = round(NS_PER_S / self.max_rate)
        # From when it was due, so that a frame which comes late does not delay the next one.
        self._next_ns = max(self._next_ns, now_ns - period_ns) + period_ns
        return True


def _image_topic(node: LifecycleNode, compressed: bool) -> str:
    """Return the full name; remapping ``image`` also moves ``image/compressed``."""
    if not compressed:
        return str(node.resolve_topic_name('image'))
    remapped = node.resolve_topic_name('image/compressed')
    if remapped != node.resolve_topic_name('image/compressed', only_expand=True):
        return str(remapped)
    return f'{node.resolve_topic_name("image")}/compressed'
