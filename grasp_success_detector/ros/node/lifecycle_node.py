"""The detector as a managed ROS 2 node: lifecycle transitions, services and diagnostics."""

from collections.abc import Callable
import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, JumpThreshold
from rclpy.clock_type import ClockType
from rclpy.duration import Duration
from rclpy.impl.logging_severity import LoggingSeverity
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from std_srvs.srv import SetBool, Trigger

from grasp_success_detector.decision import Reason, unknown
from grasp_success_detector.errors import GraspSuccessDetectorError, one_line
from grasp_success_detector.ros.node.declared_parameters import DeclaredParameters
from grasp_success_detector.ros.node.diagnostics import FrameStatistics
from grasp_success_detector.ros.node.parameter_services import ParameterServices
from grasp_success_detector.ros.node.pipeline import DetectionPipeline
from grasp_success_detector.ros.node.verify_request import refusal, VerifyAnswer
from grasp_success_detector.ros.node.verify_service import VerifyService

NODE_NAME = 'grasp_success_detector'
DIAGNOSTICS_PERIOD_S = 1.

#: Least time between two warnings about a topic without publishers, seconds.
HINT_PERIOD_S = 10.


class DetectorNode(LifecycleNode):
    """
    Lifecycle node that decides from camera frames whether the hand holds the object.

    ``_pipeline`` exists from *configure* to *cleanup*. The services ``~/verify``, ``~/enable``
    and ``~/reset`` and the diagnostics answer in every state.
    """

    def __init__(self, **node_arguments: Any) -> None:
        """Create the node, unconfigured; ``node_arguments`` go to ``rclpy.node.Node``."""
        super().__init__(NODE_NAME, **node_arguments)
        self._pipeline: DetectionPipeline | None = None
        self._declared = DeclaredParameters(self, lambda: self._pipeline)
        ParameterServices(self, self._declared, lambda: self._pipeline)
        self._statistics = FrameStatistics()
        self._jumps = self.get_clock().create_jump_callback(
            JumpThreshold(min_forward=None, min_backward=Duration(nanoseconds=-1),
                          on_clock_change=True), post_callback=self._on_clock_jump)
        # Not below the namespace: diagnostic tools listen to this one topic.
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 10)
        self.create_timer(DIAGNOSTICS_PERIOD_S, self._publish_diagnostics,
                          clock=Clock(clock_type=ClockType.STEADY_TIME))
        VerifyService(self, self._verify)
        self.create_service(SetBool, '~/enable', self._on_enable)
        self.create_service(Trigger, '~/reset', self._on_reset)

    @property
    def autostart(self) -> bool:
        """Return the parameter ``autostart``: whether to configure and activate at start."""
        return bool(self.get_parameter('autostart').value)

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Read the parameters, load and warm up the checkpoint, create the publishers."""
        failed = self._try('configure', self._configure)
        return super().on_configure(state) if failed is None else failed

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe to the camera and start to judge frames."""
        failed = self._try('activate', lambda: self._activate(state))
        # ERROR in any case, which leads to unconfigured; FAILURE would lead to inactive.
        return (TransitionCallbackReturn.SUCCESS if failed is None
                else TransitionCallbackReturn.ERROR)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Publish a last ``false`` and unsubscribe."""
        if self._pipeline is not None:
            self._pipeline.stop()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free network and publishers; if the node is active, publish a last ``false`` first."""
        self._free()
        return TransitionCallbackReturn.SUCCESS

    on_shutdown = on_cleanup    # from any state
    on_error = on_cleanup       # to unconfigured, from where *configure* may be tried again

    def _try(self, name: str, transition: Callable[[], None]) -> TransitionCallbackReturn | None:
        """Run a transition; on failure log the reason in one line and return the result."""
        try:
            transition()
            return None
        except GraspSuccessDetectorError as error:
            text, result = str(error), TransitionCallbackReturn.FAILURE
        except Exception as error:  # noqa: BLE001 - rclpy would not report it
            text = f'{type(error).__name__}: {one_line(error)}'
            result = TransitionCallbackReturn.ERROR
        self.get_logger().error(f'{name} failed: {text}')
        self._free()
        return result

    def _configure(self) -> None:
        values = self._declared.values()
        self._pipeline = DetectionPipeline(self, values, self._statistics)
        self.get_logger().info(f'configured: {self._pipeline.describe(values)}')

    def _activate(self, state: LifecycleState) -> None:
        assert self._pipeline is not None
        super().on_activate(state)      # enables the publishers
        self._pipeline.start()
        self.get_logger().info(f'active: frames from {self._pipeline.camera.topic}')

    def _free(self) -> None:
        if self._pipeline is not None:
            self._pipeline.free()
            self._pipeline = None

    def _verify(self, answered: Callable[[VerifyAnswer], None]) -> None:
        if self._pipeline is None:
            answered(refusal(Reason.INACTIVE))
        else:
            self._pipeline.verify(answered)

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> Any:
        if self._pipeline is None or not self._pipeline.is_active:
            response.message = 'the node is not active; configure and activate it'
            return response
        self._pipeline.enable(request.data)
        response.success = True
        response.message = 'enabled' if request.data else 'disabled'
        return response

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Any:
        if self._pipeline is not None:
            self._pipeline.reset()
        response.success = True
        response.message = 'all frames so far are forgotten'
        return response

    def _on_clock_jump(self, jump: Any) -> None:
        # Frames stamped before and after do not belong together.
        if self._pipeline is not None:
            self._pipeline.reset()

    def _publish_diagnostics(self) -> None:
        topic, latest, facts, hint = '', unknown(Reason.INACTIVE), {}, ''
        if (pipeline := self._pipeline) is not None:
            topic, latest = pipeline.camera.topic, pipeline.keeper.latest
            # Publishers are counted also where their QoS does not match.
            facts = {**pipeline.judge.facts, 'publishers': str(self.count_publishers(topic)),
                     'reliability': pipeline.camera.reliability}
            if pipeline.hand is not None:
                facts |= pipeline.hand.facts() | {
                    'failure': '' if latest.failure is None else latest.failure.value}
            if pipeline.locator is not None:
                facts |= pipeline.locator.facts()
            if pipeline.camera.is_open and (hint := pipeline.camera.hint()):
                self.get_logger().warning(hint, throttle_duration_sec=HINT_PERIOD_S)
        status = self._statistics.status(
            self.get_fully_qualified_name(), topic, latest, facts, time.monotonic_ns(),
            stages=self.get_logger().is_enabled_for(LoggingSeverity.DEBUG))
        if hint:
            status.message += f'; {hint}'
        array = DiagnosticArray(status=[status])
        array.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(array)
