"""The detector as a managed ROS 2 node: camera frames in, verdicts out."""

from collections.abc import Callable
import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, JumpThreshold
from rclpy.clock_type import ClockType
from rclpy.duration import Duration
from rclpy.impl.logging_severity import LoggingSeverity
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from grasp_success_detector.decision import NS_PER_S, Reason
from grasp_success_detector.errors import GraspSuccessDetectorError, one_line
from grasp_success_detector.ros.node.camera_subscription import CameraSubscription, RateLimit
from grasp_success_detector.ros.node.declared_parameters import DeclaredParameters
from grasp_success_detector.ros.node.diagnostics import build_status, FrameStatistics
from grasp_success_detector.ros.node.frame_judge import (
    FrameJudge,
    ReceivedFrame,
    UnjudgedFrameError,
)
from grasp_success_detector.ros.node.inference_worker import LatestItemWorker
from grasp_success_detector.ros.node.outputs import draw_overlay, VerdictOutputs
from grasp_success_detector.ros.node.parameters import Parameters
from grasp_success_detector.ros.node.services import DetectorServices
from grasp_success_detector.ros.node.verdict_keeper import VerdictKeeper

NODE_NAME = 'grasp_success_detector'
DIAGNOSTICS_PERIOD_S = 1.
BAD_FRAME_LOG_PERIOD_S = 5.

#: What ``Parameters`` are when nobody has been asked yet.
UNCONFIGURED = Parameters()


class DetectorNode(LifecycleNode):
    """
    Says from camera frames whether the hand holds the object.

    *configure* loads the checkpoint, *activate* subscribes, *deactivate* publishes a last
    ``false`` and unsubscribes, *cleanup* frees the network. The executor's thread takes messages
    and watches the clock; one worker thread decodes, judges and publishes.
    """

    def __init__(self, **node_arguments: Any) -> None:
        """Create the node, unconfigured; arguments are those of ``rclpy.node.Node``."""
        super().__init__(NODE_NAME, **node_arguments)
        self._judge: FrameJudge | None = None
        self._outputs: VerdictOutputs | None = None
        self._camera: CameraSubscription | None = None
        self._watchdog: Any = None      # there while the node is active
        self._values = UNCONFIGURED
        self._declared = DeclaredParameters(
            self, lambda: self._judge is not None, self._check, self._apply)
        self._limit = RateLimit(0.)
        self._statistics = FrameStatistics()
        self._keeper = VerdictKeeper(self._statistics)
        self._worker = LatestItemWorker(self._work_on, 'inference')
        # Time-outs and heartbeats are real time, also where use_sim_time lets the ROS clock stand.
        self._steady_clock = Clock(clock_type=ClockType.STEADY_TIME)
        self._jumps = self.get_clock().create_jump_callback(
            JumpThreshold(min_forward=None, min_backward=Duration(nanoseconds=-1),
                          on_clock_change=True), post_callback=self._on_clock_jump)
        # Not below the namespace: diagnostic tools listen to this one topic.
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 10)
        self.create_timer(
            DIAGNOSTICS_PERIOD_S, self._publish_diagnostics, clock=self._steady_clock)
        DetectorServices(
            self, self._keeper, lambda: self._camera.topic if self._camera else '',
            lambda: self._values.verify_timeout_s, self._enable)

    @property
    def autostart(self) -> bool:
        """Say whether the node shall go to active by itself."""
        return bool(self.get_parameter('autostart').value)

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Read the parameters, load and warm up the checkpoint, create the publishers."""
        failed = self._try('configure', self._configure)
        return super().on_configure(state) if failed is None else failed

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start to take frames."""
        failed = self._try('activate', lambda: self._activate(state))
        # Always an error, which leads to unconfigured; a mere failure would lead to inactive.
        return (TransitionCallbackReturn.SUCCESS if failed is None
                else TransitionCallbackReturn.ERROR)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Publish a last ``false`` and take no more frames."""
        self._stop()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the network and the publishers."""
        self._free()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """End from any state, with a last ``false`` where the node was active."""
        self._stop()
        self._free()
        return TransitionCallbackReturn.SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Go back to unconfigured, from where *configure* may be tried again."""
        self._stop()
        self._free()
        return TransitionCallbackReturn.SUCCESS

    def _try(self, name: str, transition: Callable[[], None]) -> TransitionCallbackReturn | None:
        """Run a transition and say in one line why it failed; None if it did not."""
        try:
            transition()
        except GraspSuccessDetectorError as error:
            self.get_logger().error(f'{name} failed: {error}')
            self._free()
            return TransitionCallbackReturn.FAILURE
        except Exception as error:  # noqa: BLE001 - rclpy would swallow it without a word
            self.get_logger().error(f'{name} failed: {type(error).__name__}: {one_line(error)}')
            self._free()
            return TransitionCallbackReturn.ERROR
        return None

    def _configure(self) -> None:
        values = self._declared.values()
        judge = FrameJudge(values)
        self._outputs = VerdictOutputs(self)
        self._camera = CameraSubscription(self, judge.message_type, values.reliability, self._take)
        self._judge = judge
        self._apply(values)
        self.get_logger().info(
            f'configured: checkpoint {judge.facts["checkpoint"]}, threshold '
            f'{values.decision(judge.threshold).threshold:.4f}, {judge.facts["engine"]}')

    def _activate(self, state: LifecycleState) -> None:
        super().on_activate(state)      # lets the publishers speak
        self._worker.start()
        self._watchdog = self.create_timer(
            self._keeper.watch_period_s, self._watch, clock=self._steady_clock)
        self._open()
        assert self._camera is not None
        self.get_logger().info(f'active: frames from {self._camera.topic}')

    def _open(self) -> None:
        """Take frames."""
        assert self._judge is not None and self._camera is not None and self._outputs is not None
        self._judge.start_anew()
        self._keeper.open(self._outputs)
        self._camera.open()

    def _enable(self, enabled: bool) -> str | None:
        """Take frames or stop to while the node stays active; return why it cannot."""
        if self._watchdog is None or self._camera is None:
            return 'the node is not active; configure and activate it'
        if enabled and not self._camera.is_open:
            self._open()
        elif not enabled:
            self._keeper.close(Reason.DISABLED)
            self._camera.close()
        return None

    def _stop(self) -> None:
        if self._watchdog is None:
            return
        self._keeper.close(Reason.INACTIVE)
        if self._camera is not None:
            self._camera.close()
        self.destroy_timer(self._watchdog)
        self._watchdog = None
        if self._outputs is not None:
            self._outputs.flush(0.3)
        if not self._worker.stop(timeout_s=1.):
            self.get_logger().warning('a frame is still being judged; its answer is dropped')

    def _free(self) -> None:
        self._stop()
        if self._outputs is not None:
            self._outputs.destroy()
        if self._judge is not None:
            self._judge.free()
        self._judge = self._outputs = self._camera = None

    def _check(self, values: Parameters) -> None:
        if self._judge is not None:
            self._judge.check(values)

    def _apply(self, values: Parameters) -> None:
        """Use other values from the next frame on."""
        assert self._judge is not None
        self._values = values
        self._judge.configure(values)
        self._keeper.configure(values.decision(self._judge.threshold))
        self._limit = RateLimit(values.max_rate)
        if self._watchdog is not None:
            self._watchdog.timer_period_ns = round(self._keeper.watch_period_s * NS_PER_S)

    def _take(self, data: bytes) -> None:
        """Hand the newest message to the worker; runs in the executor's thread."""
        now_ns = time.monotonic_ns()
        if not self._limit.admits(now_ns):
            self._statistics.add_limited(now_ns)
            return
        replaced = self._worker.offer(ReceivedFrame(data, now_ns, self._keeper.session))
        self._statistics.add_received(now_ns, replaced)

    def _work_on(self, frame: ReceivedFrame) -> None:
        """Judge and answer one frame; runs in the worker's thread."""
        try:
            self._judge_and_answer(frame)
        except UnjudgedFrameError as error:
            self._skip(frame, error)
        except Exception as error:  # noqa: BLE001 - the next frame shall find the thread alive
            self._skip(frame, UnjudgedFrameError(
                'internal', f'{type(error).__name__}: {one_line(error)}'))

    def _judge_and_answer(self, frame: ReceivedFrame) -> None:
        judge, outputs = self._judge, self._outputs
        if judge is None or outputs is None:    # cleaned up meanwhile
            return
        judged = judge.judge(frame)
        decision = self._keeper.answer(frame, judged)
        if decision is not None and outputs.overlay_wanted:
            messages = outputs.overlay_messages(
                draw_overlay(judge.picture(judged), decision), judged.message.header)
            self._keeper.publish_overlay(frame, lambda: outputs.publish_overlay(messages))

    def _skip(self, frame: ReceivedFrame, error: UnjudgedFrameError) -> None:
        """Take note of a frame that cannot be judged."""
        self._statistics.add_bad(error.reason)
        self.get_logger().warning(
            f'frame dropped: {error}', throttle_duration_sec=BAD_FRAME_LOG_PERIOD_S)
        self._keeper.skip(frame, error)

    def _watch(self) -> None:
        self._keeper.watch()
        if self._camera is not None:
            self._camera.adapt()

    def _on_clock_jump(self, jump: Any) -> None:
        # Frames stamped before and after do not belong together.
        self._keeper.clock_jumped(self.get_clock().now().nanoseconds)

    def _publish_diagnostics(self) -> None:
        facts = dict(self._judge.facts) if self._judge else {}
        if self._camera is not None:
            facts['publishers'] = str(self._camera.publishers)
            facts['reliability'] = self._camera.reliability
        debug = self.get_logger().is_enabled_for(LoggingSeverity.DEBUG)
        status = build_status(
            self.get_fully_qualified_name(), self._camera.topic if self._camera else '',
            self._keeper.latest, self._statistics.snapshot(time.monotonic_ns(), debug), facts)
        array = DiagnosticArray(status=[status])
        array.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(array)
