"""Quality of service that users can override, and what to say where it does not fit."""

from collections.abc import Callable
from inspect import signature
from typing import Any

from rclpy.node import Node
from rclpy.qos import qos_policy_name_from_kind, QoSPolicyKind
from rclpy.qos_overriding_options import QoSOverridingOptions

try:
    from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
except ImportError:     # Humble
    from rclpy.qos_event import PublisherEventCallbacks, SubscriptionEventCallbacks

#: What ``qos_overrides.<topic>.<publisher|subscription>.<policy>`` may set.
OVERRIDABLE = (QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH, QoSPolicyKind.RELIABILITY,
               QoSPolicyKind.DURABILITY)

# What fits everything at the other end: asking for the least, offering the most.
_MENDS = {
    'subscription': {'RELIABILITY': 'best_effort', 'DURABILITY': 'volatile'},
    'publisher': {'RELIABILITY': 'reliable', 'DURABILITY': 'transient_local'},
}


def overrides(*without: QoSPolicyKind) -> QoSOverridingOptions:
    """Return the policies that parameters may override."""
    return QoSOverridingOptions([kind for kind in OVERRIDABLE if kind not in without])


def override_name(topic: str, end: str, policy: str) -> str:
    """
    Return the parameter that overrides a policy, by ROS' convention.

    :param end: ``publisher`` or ``subscription``.
    :param policy: such as ``reliability``.
    """
    return f'qos_overrides.{topic}.{end}.{policy.lower()}'


def publisher_events(node: Node, topic: str) -> PublisherEventCallbacks:
    """Return callbacks that tell which parameter lets a subscriber hear us."""
    def incompatible(event: Any) -> None:
        policy = qos_policy_name_from_kind(event.last_policy_kind)
        node.get_logger().warning(
            f'a subscriber of {topic} asks for a {policy.lower()} that is not offered and hears '
            f'nothing; {_mend(topic, "publisher", policy)}')
    return PublisherEventCallbacks(incompatible_qos=incompatible)


def subscription_events(
    node: Node, topic: str, changed: Callable[[], None], adapts: Callable[[], bool],
) -> SubscriptionEventCallbacks:
    """
    Return callbacks that tell which parameter lets us hear a camera.

    :param changed: called when publishers come or go.
    :param adapts: says whether reliability is chosen by what is offered; then it is no mistake.
    """
    def incompatible(event: Any) -> None:
        changed()
        policy = qos_policy_name_from_kind(event.last_policy_kind)
        if policy == 'RELIABILITY' and adapts():
            return
        node.get_logger().warning(
            f'a publisher of {topic} offers less {policy.lower()} than is asked for, and is not '
            f'heard; {_mend(topic, "subscription", policy)}')
    callbacks: dict[str, Any] = {'incompatible_qos': incompatible}
    if 'matched' in signature(SubscriptionEventCallbacks.__init__).parameters:    # not in Humble
        callbacks['matched'] = lambda event: changed()
    return SubscriptionEventCallbacks(**callbacks)


def _mend(topic: str, end: str, policy: str) -> str:
    value = _MENDS[end].get(policy)
    if value is None:
        return f'let the other side take its default {policy.lower()}'
    return f'start the node with -p {override_name(topic, end, policy)}:={value}'
