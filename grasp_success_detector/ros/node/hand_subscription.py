"""Subscriptions to the driver of the hand: joint states, commands, and tactile sensors."""

from collections.abc import Callable
from functools import partial
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import JointState
from std_msgs.msg import Float32MultiArray, Float64MultiArray, String

from grasp_success_detector.decision import NS_PER_S
from grasp_success_detector.errors import HandStateError, one_line
from grasp_success_detector.hand.drivers import (
    detect_driver,
    DriverKind,
    DRIVERS,
    find_names,
    in_order,
    read_names,
)
from grasp_success_detector.hand.kinematics import geometry_of
from grasp_success_detector.hand.model import read_hand
from grasp_success_detector.hand.monitor import HandMonitor
from grasp_success_detector.ros.node.parameters import HandParameters

#: Least time between joint states that are looked at: drivers publish up to 1000 a second.
_LEAST_STEP_NS = NS_PER_S // 100

_LOG_PERIOD_S = 10.

#: Torques beyond it, in any driver's unit, are damage.
_LARGEST_EFFORT = 1e6

_TYPES = {'sensor_msgs/msg/JointState': JointState, 'std_msgs/msg/String': String,
          'std_msgs/msg/Float32MultiArray': Float32MultiArray,
          'std_msgs/msg/Float64MultiArray': Float64MultiArray}


class HandSubscription:
    """
    Follow a hand by the topics of its driver.

    :ivar monitor: what the joints say.
    """

    def __init__(self, node: LifecycleNode, values: HandParameters, stale_after_s: float,
                 begins: Callable[[], None]) -> None:
        """
        Read the file of the hand; nothing is subscribed to before ``open``.

        :param begins: called at the start of each attempt, in the executor's thread.
        :raises HandStateError: the file, or the names of the joints, cannot be used.
        """
        self._node, self._begins = node, begins
        model = read_hand(values.hand_model)
        self._kind, self._side = values.driver, values.hand
        self.monitor = HandMonitor(model, stale_after_s, geometry_of(self._kind, self._side))
        self._names = read_names(values.joint_names)
        driver = None if self._kind is DriverKind.NONE else DRIVERS[self._kind]
        self.topic = values.joint_states_topic or (
            '' if driver is None else driver.joint_states.format(number=values.hand_number))
        self._commands = {} if driver is None else {
            topic.format(number=values.hand_number): _TYPES[kind]
            for topic, kind in driver.commands.items() if kind in _TYPES}
        self._tactile = None if driver is None or driver.tactile is None else (
            driver.tactile[0].format(number=values.hand_number), _TYPES[driver.tactile[1]])
        self._order: tuple[tuple[str, ...], tuple[str, ...]] | None = None
        self._subscriptions: list[Any] = []
        self._next_ns = self._next_touch_ns = self._received = self._touched = self._bad = 0
        self._wrong = ''
        self._hash = model.sha256

    def open(self) -> None:
        """Subscribe to joint states, commands and tactile sensors."""
        if self._subscriptions:
            return
        # Best effort receives from every driver, and the next joint state comes soon.
        profile = QoSProfile(depth=5, reliability=QoSReliabilityPolicy.BEST_EFFORT)
        self._subscribe(JointState, self.topic, self._take, profile)
        if self._tactile is not None:
            self._subscribe(self._tactile[1], self._tactile[0], self._take_touch, profile)
        for topic, kind in self._commands.items():
            self._subscribe(kind, topic, partial(self._take_command, kind), QoSProfile(depth=10))

    def close(self) -> None:
        """Unsubscribe."""
        while self._subscriptions:
            self._node.destroy_subscription(self._subscriptions.pop())

    def facts(self) -> dict[str, str]:
        """Return keys and values for the diagnostics."""
        state = self.monitor.state(time.monotonic_ns())
        facts = {'hand_topic': self.topic, 'hand_received': str(self._received),
                 'hand_bad': str(self._bad), 'hand_tactile_received': str(self._touched),
                 'hand_model_sha256': self._hash}
        if state is None:
            return facts | {'hand_phase': '', 'hand_why': self._wrong or (
                f'no joint states on {self.topic}' if not self._received else
                f'no joint states any more on {self.topic}')}
        log_odds = state.evidence.log_odds
        return facts | {
            'hand_phase': state.phase.value, 'hand_attempt': str(state.attempt),
            'hand_log_odds': '' if log_odds is None else f'{log_odds:.2f}',
            'hand_empty': str(state.evidence.empty).lower(), 'hand_why': state.why,
            'hand_pressed': '' if state.pressed is None else f'{state.pressed:.2f}'}

    def _subscribe(self, kind: Any, topic: str, take: Any, profile: QoSProfile) -> None:
        self._subscriptions.append(self._node.create_subscription(
            kind, topic, take, profile, raw=True))

    def _take(self, data: bytes) -> None:
        now_ns = time.monotonic_ns()
        if now_ns < self._next_ns:
            return
        self._next_ns = now_ns + _LEAST_STEP_NS
        try:
            message = _deserialize(data, JointState)
            positions = self._ordered(message)
            if positions is None:
                return
            self._received += 1
            stamp_ns = message.header.stamp.sec * NS_PER_S + message.header.stamp.nanosec
            effort = None if self._order is None else in_order(
                message.name, message.effort, self._order[1], largest=_LARGEST_EFFORT)
            if self.monitor.observe(stamp_ns or now_ns, positions, effort, now_ns):
                self._begins()
        except HandStateError as error:
            self._refuse(error)

    def _take_touch(self, data: bytes) -> None:
        now_ns = time.monotonic_ns()
        if self._tactile is None or now_ns < self._next_touch_ns:
            return
        self._next_touch_ns = now_ns + _LEAST_STEP_NS
        try:
            readings = np.array(_deserialize(data, self._tactile[1]).data, np.float64)
        except HandStateError as error:
            self._refuse(error)
            return
        self._touched += 1
        self.monitor.touched(now_ns, readings)

    def _take_command(self, kind: Any, data: bytes) -> None:
        try:
            message = _deserialize(data, kind)
            if kind is String:
                if self.monitor.told(message.data):
                    self._begins()
            elif (positions := self._ordered(message)) is not None:
                self.monitor.command(positions)
        except HandStateError as error:
            self._refuse(error)

    def _ordered(self, message: JointState) -> NDArray[np.float64] | None:
        """Return the angles of the hand's joints; None if the message is of another device."""
        published = tuple(message.name)
        if self._order is None or self._order[0] != published:
            names = self._names
            if not names and self._kind is DriverKind.NONE:
                told = detect_driver(published)
                names = () if told is None else find_names(published, *told)
            elif not names:
                names = find_names(published, self._kind, self._side)
            if missing := [name for name in names if name not in published]:
                raise HandStateError(f'the joint states lack {", ".join(missing[:4])}')
            if not names:
                raise HandStateError('no driver of the hand has joints of these names: '
                                     f'{", ".join(published[:4]) or "none"}')
            self._order = published, names
        return in_order(published, message.position, self._order[1])

    def _refuse(self, error: HandStateError) -> None:
        """Note a message that says nothing; an arm may publish on the same topic."""
        self._bad += 1
        self._wrong = str(error)
        if not self._received:
            self._node.get_logger().warning(
                f'{self.topic}: {error}', throttle_duration_sec=_LOG_PERIOD_S)


def _deserialize(data: bytes, kind: Any) -> Any:
    try:
        return deserialize_message(data, kind)
    except Exception as error:  # rclpy raises what its C layer raised
        raise HandStateError(f'no {kind.__name__}: {one_line(error)}') from error
