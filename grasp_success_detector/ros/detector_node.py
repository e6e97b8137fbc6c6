"""The detector as a managed ROS 2 node: camera frames in, verdicts out."""

import argparse
from collections.abc import Sequence
from threading import Lock
import time
from typing import Any, NamedTuple

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from std_msgs.msg import Header

from grasp_success_detector.console import command
from grasp_success_detector.decision import (
    Decision,
    DecisionConfig,
    NS_PER_S,
    Reason,
    unknown,
    WindowedDecider,
)
from grasp_success_detector.errors import GraspSuccessDetectorError
from grasp_success_detector.labels import Verdict
from grasp_success_detector.ros.decoders import to_image_message
from grasp_success_detector.ros.diagnostics import build_status, FrameStatistics
from grasp_success_detector.ros.frame_judge import FrameJudge, JudgedFrame, UnjudgedFrameError
from grasp_success_detector.ros.inference_worker import LatestItemWorker
from grasp_success_detector.ros.outputs import VerdictOutputs
from grasp_success_detector.ros.overlay import draw_overlay
from grasp_success_detector.ros.parameters import DeclaredParameters, Parameters
from grasp_success_detector.ros.process import (
    full_arguments,
    own_arguments,
    ros_process,
    run_managed_node,
)

NODE_NAME = 'grasp_success_detector'
DIAGNOSTICS_PERIOD_S = 1.
BAD_FRAME_LOG_PERIOD_S = 5.

RELIABILITIES = {
    'best_effort': QoSReliabilityPolicy.BEST_EFFORT,
    'reliable': QoSReliabilityPolicy.RELIABLE,
}

#: The watchdog looks so often within ``stale_after_s``.
WATCHDOG_LOOKS = 10


class Frame(NamedTuple):
    """
    One message as it came in, still serialized: a frame that is dropped costs nothing more.

    :ivar received_ns: monotonic ns.
    :ivar session: count of activations; a frame of an earlier one is not answered any more.
    """

    data: bytes
    received_ns: int
    session: int


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
        self._configured = False
        self._declared = DeclaredParameters(self, may_change=lambda: not self._configured)
        self._lock = Lock()     # guards session, decider and what was published last
        self._session = 0
        self._active = False
        self._latest = unknown(Reason.INACTIVE)
        self._latest_ns = 0
        self._latest_header = Header()
        self._statistics = FrameStatistics()
        self._worker = LatestItemWorker(self._work_on, 'inference')
        self._topic = ''
        self._facts: dict[str, str] = {}
        # Time-outs and heartbeats are real time, also where use_sim_time lets the ROS clock stand.
        self._steady_clock = Clock(clock_type=ClockType.STEADY_TIME)
        # Not below the namespace: diagnostic tools listen to this one topic.
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 10)
        self.create_timer(
            DIAGNOSTICS_PERIOD_S, self._publish_diagnostics, clock=self._steady_clock)
        # ~/verify, ~/enable and ~/reset belong here.

    @property
    def autostart(self) -> bool:
        """Say whether the node shall go to active by itself."""
        return bool(self.get_parameter('autostart').value)

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Read the parameters, load and warm up the checkpoint, create the publishers."""
        try:
            self._configure(self._declared.values())
        except GraspSuccessDetectorError as error:
            self.get_logger().error(f'configure failed: {error}')
            return TransitionCallbackReturn.FAILURE
        except Exception as error:  # noqa: BLE001 - rclpy would swallow it without a word
            self.get_logger().error(f'configure failed: {type(error).__name__}: {error}')
            return TransitionCallbackReturn.ERROR
        return super().on_configure(state)

    def _configure(self, values: Parameters) -> None:
        self._judge: FrameJudge | None = FrameJudge.load(values)
        threshold = values.threshold or self._judge.threshold
        self._decider = WindowedDecider(DecisionConfig(
            threshold, values.window_s, values.min_frames, values.stale_after_s,
            values.max_bad_frames))
        self._topic = self._image_topic(values.image_transport == 'compressed')
        self._image_qos = QoSProfile(
            depth=1, reliability=RELIABILITIES[values.reliability])
        self._outputs = VerdictOutputs(self)
        self._facts = {**self._judge.facts, 'threshold': f'{threshold:.4f}'}
        self._configured = True
        self.get_logger().info('configured: ' + ', '.join(
            f'{name} {self._facts[name]}' for name in ('checkpoint', 'device', 'threshold')))

    def _image_topic(self, compressed: bool) -> str:
        """Return the full name; remapping ``image`` also moves ``image/compressed``."""
        if not compressed:
            return str(self.resolve_topic_name('image'))
        remapped = self.resolve_topic_name('image/compressed')
        if remapped != self.resolve_topic_name('image/compressed', only_expand=True):
            return str(remapped)
        return f'{self.resolve_topic_name("image")}/compressed'

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start to take frames."""
        assert self._judge is not None
        super().on_activate(state)
        self._decider.reset()
        self._worker.start()
        with self._lock:
            self._session += 1
            self._active = True
            self._latest, self._latest_ns = unknown(Reason.NO_FRAMES), 0
            self._latest_header = Header()
        period_s = self._decider.config.stale_after_s / WATCHDOG_LOOKS
        self._watchdog = self.create_timer(period_s, self._watch, clock=self._steady_clock)
        # Raw bytes: deserializing is work for the worker, and a malformed message is its error.
        self._subscription = self.create_subscription(
            self._judge.message_type, self._topic, self._take, self._image_qos, raw=True)
        self.get_logger().info(f'active: frames from {self._topic}')
        return TransitionCallbackReturn.SUCCESS

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

    def _stop(self) -> None:
        with self._lock:
            if not self._active:
                return
            # From here on a frame that is still being judged is not answered any more.
            self._active = False
            self._publish(unknown(Reason.INACTIVE))
        self.destroy_subscription(self._subscription)
        self.destroy_timer(self._watchdog)
        self._outputs.flush(0.3)
        if not self._worker.stop(timeout_s=1.):
            self.get_logger().warning('a frame is still being judged; its answer is dropped')

    def _free(self) -> None:
        if self._configured:
            self._outputs.destroy()
        self._judge = None
        self._configured = False

    def _take(self, data: bytes) -> None:
        """Hand the newest message to the worker; runs in the executor's thread."""
        now_ns = time.monotonic_ns()
        replaced = self._worker.offer(Frame(data, now_ns, self._session))
        self._statistics.add_received(now_ns, replaced)

    def _work_on(self, frame: Frame) -> None:
        """Judge and answer one frame; runs in the worker's thread."""
        try:
            assert self._judge is not None
            self._answer(frame, self._judge.judge(frame.data))
        except UnjudgedFrameError as error:
            self._skip(frame, error)
        except Exception as error:  # noqa: BLE001 - the next frame shall find the thread alive
            self._skip(frame, UnjudgedFrameError('internal', f'{type(error).__name__}: {error}'))

    def _answer(self, frame: Frame, judged: JudgedFrame) -> None:
        """Decide and publish."""
        stamp = judged.header.stamp
        # A driver that leaves the stamp empty: its frames still follow each other in time.
        stamp_ns = stamp.sec * NS_PER_S + stamp.nanosec or frame.received_ns
        with self._lock:
            if not self._active or frame.session != self._session:
                return
            self._decider.observe(stamp_ns, judged.probability, frame.received_ns)
            self._latest_header = judged.header
            decision = self._decider.decide(time.monotonic_ns())
            self._publish(decision)
            self._statistics.add_judged(self._latest_ns - frame.received_ns)
            if self._outputs.overlay_wanted:
                self._outputs.publish_overlay(
                    to_image_message(draw_overlay(judged.image, decision), judged.header))

    def _skip(self, frame: Frame, error: UnjudgedFrameError) -> None:
        """Take note of a frame that cannot be judged."""
        self._statistics.add_bad(error.reason)
        self.get_logger().warning(
            f'frame dropped: {error}', throttle_duration_sec=BAD_FRAME_LOG_PERIOD_S)
        with self._lock:
            if not self._active or frame.session != self._session:
                return
            self._decider.observe_bad()
            decision = self._decider.decide(time.monotonic_ns())
            if decision.reason is Reason.BAD_FRAMES and self._latest.reason is not decision.reason:
                self._publish(decision)

    def _watch(self) -> None:
        """Turn the answer to ``false`` in time, and repeat it, when no frame does."""
        with self._lock:
            if not self._active:
                return
            now_ns = time.monotonic_ns()
            stale_ns = int(self._decider.config.stale_after_s * NS_PER_S)
            # Asked about the next look: by then it would be too late.
            decision = self._decider.decide(now_ns + stale_ns // WATCHDOG_LOOKS)
            overdue = now_ns - self._latest_ns >= stale_ns
            if decision.verdict is Verdict.UNKNOWN and (
                    overdue or self._latest.verdict is not Verdict.UNKNOWN):
                self._publish(decision)

    def _publish(self, decision: Decision) -> None:
        self._latest, self._latest_ns = decision, time.monotonic_ns()
        self._outputs.publish(decision, self._latest_header)

    def _publish_diagnostics(self) -> None:
        with self._lock:
            decision = self._latest if self._active else unknown(Reason.INACTIVE)
        status = build_status(
            self.get_fully_qualified_name(), self._topic, decision,
            self._statistics.snapshot(time.monotonic_ns()), self._facts)
        array = DiagnosticArray(status=[status])
        array.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(array)


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the node as a process."""
    arguments = full_arguments(argv, 'detector_node')
    parser = argparse.ArgumentParser(
        prog='detector_node', formatter_class=argparse.RawDescriptionHelpFormatter,
        description='Say from camera frames whether the hand holds the object (a ROS 2 node).',
        epilog="""examples:
  detector_node --ros-args -r image:=/camera/image_raw
  detector_node --ros-args -r image:=/camera/image_raw -p image_transport:=compressed
  detector_node --ros-args -p checkpoint:=my.safetensors -p threshold:=0.7 -r __ns:=/left_hand
  detector_node --ros-args --params-file detector.yaml""")
    parser.parse_args(own_arguments(arguments))
    with ros_process(arguments):
        node = DetectorNode()
        return run_managed_node(node, node.autostart)


if __name__ == '__main__':
    raise SystemExit(main(None))
