"""One verdict from several detectors and the hand: a managed ROS 2 node without a network."""

from collections.abc import Callable
from functools import partial
import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.qos import QoSProfile
from std_msgs.msg import Float32, Header

from grasp_success_detector.decision import (
    Decision,
    Fuser,
    NS_PER_S,
    Reason,
    unknown,
)
from grasp_success_detector.errors import ConfigError, GraspSuccessDetectorError
from grasp_success_detector.hand.attempt_verdict import AttemptWatch
from grasp_success_detector.hand.model import read_hand
from grasp_success_detector.hand.monitor import HandState
from grasp_success_detector.labels import Verdict
from grasp_success_detector.ros.node.declared_parameters import DeclaredParameters
from grasp_success_detector.ros.node.hand_subscription import HandSubscription
from grasp_success_detector.ros.node.outputs import VerdictOutputs
from grasp_success_detector.ros.node.parameters import FusionParameters
from grasp_success_detector.ros.node.verify_request import refusal, VerifyAnswer
from grasp_success_detector.ros.node.verify_service import VerifyService

NODE_NAME = 'grasp_success_fusion'

#: Period at which silence is noticed, and at which the verdict is repeated at the latest (s).
WATCH_PERIOD_S, REPEAT_S = .05, .4

DIAGNOSTICS_PERIOD_S = 1.


class FusionNode(LifecycleNode):
    """
    Lifecycle node that fuses the confidence of detectors, and what joints say.

    A detector's confidence of 0 means UNKNOWN and counts for nothing, as does silence. Stamps are
    not compared, so that the cameras may have clocks and rates of their own.
    """

    def __init__(self, **node_arguments: Any) -> None:
        """Create the node, unconfigured; ``node_arguments`` go to ``rclpy.node.Node``."""
        super().__init__(NODE_NAME, **node_arguments)
        self._parts: _Parts | None = None
        self._declared = DeclaredParameters(self, lambda: self._parts, FusionParameters)
        VerifyService(self, self._verify)
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 10)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(DIAGNOSTICS_PERIOD_S, self._publish_diagnostics, clock=steady)
        self.create_timer(WATCH_PERIOD_S, self._watch, clock=steady)

    @property
    def autostart(self) -> bool:
        """Return the parameter ``autostart``: whether to configure and activate at start."""
        return bool(self.get_parameter('autostart').value)

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Read the parameters and the file of the hand, and create the publishers."""
        try:
            self._parts = _Parts(self, self._declared.values())
        except GraspSuccessDetectorError as error:
            self.get_logger().error(f'configure failed: {error}')
            return TransitionCallbackReturn.FAILURE
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe to the detectors and to the hand."""
        assert self._parts is not None
        done = super().on_activate(state)
        self._parts.open()
        self.get_logger().info(f'active: fuses {", ".join(self._parts.topics) or "no camera"}')
        return done

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Publish a last ``false`` and unsubscribe."""
        if self._parts is not None:
            self._parts.close()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Remove the publishers; if the node is active, publish a last ``false`` first."""
        if self._parts is not None:
            self._parts.close()
            self._parts.outputs.destroy()
            self._parts = None
        return TransitionCallbackReturn.SUCCESS

    on_shutdown = on_cleanup
    on_error = on_cleanup

    def _verify(self, answered: Callable[[VerifyAnswer], None]) -> None:
        if self._parts is None or not self._parts.is_open:
            answered(refusal(Reason.INACTIVE))
        else:
            self._parts.verify(answered)

    def _watch(self) -> None:
        if self._parts is not None and self._parts.is_open:
            self._parts.decide()

    def _publish_diagnostics(self) -> None:
        parts = self._parts
        latest = unknown(Reason.INACTIVE) if parts is None else parts.latest
        values = {'verdict': latest.verdict.value, 'reason': latest.reason.value,
                  'confidence': f'{latest.confidence:.4f}',
                  'failure': '' if latest.failure is None else latest.failure.value}
        values |= {} if parts is None else parts.facts()
        status = DiagnosticStatus(
            name=f'{self.get_fully_qualified_name()}: fusion',
            level=DiagnosticStatus.WARN if latest.verdict is Verdict.UNKNOWN
            else DiagnosticStatus.OK,
            message=f'{latest.verdict.value} ({latest.reason.value})',
            values=[KeyValue(key=key, value=value) for key, value in values.items()])
        array = DiagnosticArray(status=[status])
        array.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(array)


class _Parts:
    """The parts of a configured node; all runs in the executor's thread."""

    def __init__(self, node: LifecycleNode, values: FusionParameters) -> None:
        if not values.names and not values.uses_hand:
            raise ConfigError('nothing to fuse; give cameras, such as left,right, or a driver')
        self._node = node
        self.topics = [node.resolve_topic_name(f'{name}/grasp_success/confidence')
                       for name in values.names]
        self.hand = HandSubscription(
            node, values, values.stale_after_s, self._begin) if values.uses_hand else None
        model = read_hand(values.hand_model) if self.hand is None else self.hand.monitor.model
        self._fuse = model.fusion.probability
        self._fuser = Fuser(values.decision(), self._fuse)
        self._values = values
        self._calls: list[tuple[int, Callable[[VerifyAnswer], None]]] = []  # times of the calls
        self._watch = AttemptWatch()
        self.outputs = VerdictOutputs(node, overlay=False, attempts=self.hand is not None)
        self.latest, self._sent_ns = unknown(Reason.INACTIVE), 0
        self._heard: dict[str, tuple[float, int]] = {}      # confidence, time of reception
        self._subscriptions: list[Any] = []
        self.is_open = False

    def apply(self, values: FusionParameters, judge: Callable[[], None] | None = None) -> None:
        """Use the parameters that may change; as of a detector's pipeline, which has a judge."""
        self._fuser.config, self._values = values.decision(), values
        if self.hand is not None:
            self.hand.monitor.stale_after_s = values.stale_after_s

    @property
    def judge(self) -> '_Parts':
        """What checks parameters."""
        return self

    def check(self, values: FusionParameters) -> None:
        """Raise a ConfigError for values that do not fit."""
        values.decision()

    def open(self) -> None:
        for topic in self.topics:
            self._subscriptions.append(self._node.create_subscription(
                Float32, topic, partial(self._hear, topic), QoSProfile(depth=1)))
        if self.hand is not None:
            self.hand.open()
        self.is_open = True

    def close(self) -> None:
        if not self.is_open:
            return
        self.is_open = False
        while self._subscriptions:
            self._node.destroy_subscription(self._subscriptions.pop())
        if self.hand is not None:
            self.hand.close()
        self._heard.clear()
        self._publish(unknown(Reason.INACTIVE))
        self.outputs.flush(.3)
        while self._calls:
            called_ns, answered = self._calls.pop()
            answered(refusal(Reason.INACTIVE, (time.monotonic_ns() - called_ns) / NS_PER_S))

    def verify(self, answered: Callable[[VerifyAnswer], None]) -> None:
        """Answer from what the parts say later by ``window_s`` or more."""
        self._calls.append((time.monotonic_ns(), answered))

    def decide(self) -> None:
        """Decide, and publish what has changed or must be repeated."""
        now_ns = time.monotonic_ns()
        state = None if self.hand is None else self.hand.monitor.state(now_ns)
        decision = self._fuser.decide(
            [self._camera(topic, now_ns) for topic in self.topics] or [unknown(Reason.NO_FRAMES)],
            None if state is None else state.evidence)
        if self.hand is not None:
            decision, over = self._watch.observe(now_ns, decision, state)
            if over is not None:
                self.outputs.publish_attempt(over)
        if self._calls:
            self._calls = [call for call in self._calls if not self._answer(*call, now_ns, state)]
        changed = (decision.verdict, decision.probability, decision.failure) != (
            self.latest.verdict, self.latest.probability, self.latest.failure)
        if changed or now_ns - self._sent_ns >= REPEAT_S * NS_PER_S:
            self._publish(decision)

    def _answer(self, called_ns: int, answered: Callable[[VerifyAnswer], None], now_ns: int,
                state: HandState | None) -> bool:
        """Answer a call of ``~/verify`` if it can be answered or has waited long enough."""
        from_ns = called_ns + self._values.window_s * NS_PER_S
        decision, seconds = unknown(Reason.STALE), (now_ns - called_ns) / NS_PER_S
        cameras = {topic: self._camera(topic, now_ns) for topic in self.topics}
        # A camera that still speaks is waited for, so that the fastest does not decide alone.
        awaited = [topic for topic, camera in cameras.items()
                   if camera.reason not in (Reason.NO_FRAMES, Reason.STALE)
                   and self._heard[topic][1] < from_ns]
        if now_ns >= from_ns and not awaited:
            decision = self._watch.explain(Fuser(self._fuser.config, self._fuse).decide(
                list(cameras.values()) or [unknown(Reason.NO_FRAMES)],
                None if state is None else state.evidence), state)
        if decision.verdict is Verdict.UNKNOWN and seconds < self._values.verify_timeout_s:
            return False
        says = ', '.join([f'{topic} {camera.reason.value}' for topic, camera in cameras.items()]
                         + ([] if self.hand is None else [
                             'no joint states' if state is None else
                             state.why or f'hand {state.phase.value}']))
        answered(VerifyAnswer(decision, seconds, (
            f'not known within {self._values.verify_timeout_s} s: {says}'
            if decision.verdict is Verdict.UNKNOWN else
            f'{decision.verdict.value}: P(success) {decision.probability:.2f} of {says}')))
        return True

    def facts(self) -> dict[str, str]:
        """Return keys and values for the diagnostics."""
        now_ns = time.monotonic_ns()
        told = {f'camera {topic}': self._camera(topic, now_ns).reason.value
                for topic in self.topics}
        return told | ({} if self.hand is None else self.hand.facts())

    def _hear(self, topic: str, message: Float32) -> None:
        # A value that is no probability is damage, and counts as UNKNOWN.
        valid = 0. < message.data <= 1.
        self._heard[topic] = message.data if valid else 0., time.monotonic_ns()
        self.decide()

    def _camera(self, topic: str, now_ns: int) -> Decision:
        if topic not in self._heard:
            return unknown(Reason.NO_FRAMES)
        confidence, heard_ns = self._heard[topic]
        if now_ns - heard_ns > self._fuser.config.stale_after_s * NS_PER_S:
            return unknown(Reason.STALE)
        if not confidence:
            return unknown(Reason.UNDECIDED)
        return Decision(
            Verdict.SUCCESS if confidence >= self._fuser.config.threshold else Verdict.FAILURE,
            Reason.DECIDED, confidence, 1)

    def _begin(self) -> None:
        """Forget at the start of an attempt what the detectors said before it."""
        self._heard.clear()
        self._fuser.reset()

    def _publish(self, decision: Decision) -> None:
        self.latest, self._sent_ns = decision, time.monotonic_ns()
        self.outputs.publish(decision, Header(stamp=self._node.get_clock().now().to_msg()))
