"""The parts of a configured node, from camera to verdict, and its worker thread."""

from collections.abc import Callable
import time
from typing import Any

from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.lifecycle import LifecycleNode

from grasp_success_detector.decision import NO_CLOCK, NS_PER_S, Reason
from grasp_success_detector.errors import one_line
from grasp_success_detector.ros.node.camera_subscription import CameraSubscription, RateLimit
from grasp_success_detector.ros.node.diagnostics import FrameStatistics
from grasp_success_detector.ros.node.doubtful_recorder import DoubtfulRecorder
from grasp_success_detector.ros.node.frame_judge import FrameJudge, ReceivedFrame, UnjudgedError
from grasp_success_detector.ros.node.frame_source import FrameSource, read_header
from grasp_success_detector.ros.node.hand_locator import HandLocator
from grasp_success_detector.ros.node.hand_subscription import HandSubscription
from grasp_success_detector.ros.node.latest_item_worker import LatestItemWorker
from grasp_success_detector.ros.node.outputs import draw_overlay, VerdictOutputs
from grasp_success_detector.ros.node.parameters import Parameters, RoiMode
from grasp_success_detector.ros.node.verdict_keeper import VerdictKeeper
from grasp_success_detector.ros.node.verify_request import VerifyAnswer

BAD_FRAME_LOG_PERIOD_S = 5.

#: Unfamiliar frames in a row, some seconds of a camera, from which the rig counts as new.
NEW_RIG_FRAMES = 30


class DetectionPipeline:
    """
    All parts of a configured node: camera -> worker -> judge -> keeper -> outputs.

    The executor's thread takes messages and watches the clock; one worker thread decodes, judges
    and publishes. Between ``start`` and ``stop`` the node is active.
    """

    def __init__(
            self, node: LifecycleNode, values: Parameters, statistics: FrameStatistics) -> None:
        """Load the checkpoint (raises GraspSuccessDetectorError) and create the publishers."""
        self._node, self._statistics = node, statistics
        self.judge = self.load(values)
        self.camera = CameraSubscription(
            node, self.judge.message_type, values.reliability, self._take)
        self._recorder = self._doubtful_recorder(values)
        self.hand = None if not values.uses_hand else HandSubscription(
            node, values, values.stale_after_s, lambda: self.keeper.interrupt())
        self.locator: HandLocator | None = None
        self._outputs = VerdictOutputs(node, attempts=self.hand is not None)
        self.keeper = VerdictKeeper(
            self._outputs, statistics, lambda: node.get_clock().now().nanoseconds,
            None if self._recorder is None else self._recorder.said,
            None if self.hand is None else self.hand.monitor)
        self._source = FrameSource()
        self._worker = LatestItemWorker(self._work_on, 'inference')
        # Time-outs and heartbeats are real time, also where the simulated clock stands still.
        self._watchdog = node.create_timer(
            1., self._watch, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._watchdog.cancel()
        self.apply(values)

    @property
    def is_active(self) -> bool:
        """Return whether the node is active; it may be disabled meanwhile."""
        return not self._watchdog.is_canceled()

    @staticmethod
    def load(values: Parameters) -> FrameJudge:
        """Return a judge that is ready for frames; raises GraspSuccessDetectorError."""
        judge = FrameJudge(values)
        judge.check(values)
        return judge

    def describe(self, values: Parameters) -> str:
        """Return checkpoint, threshold and engine for the log."""
        return (f'checkpoint {self.judge.facts["checkpoint"]}, threshold '
                f'{values.decision(self.judge.threshold).threshold:.4f}, '
                f'{self.judge.facts["engine"]}')

    def apply(self, values: Parameters, judge: FrameJudge | None = None) -> None:
        """
        Use ``values``, which FrameJudge.check has accepted, from the next frame on.

        :param judge: of another checkpoint, which takes the place of the present one. Frames that
            the present one has judged or is judging count no more.
        """
        self._verify_timeout_s = values.verify_timeout_s
        self._locate(values)
        if judge is None:
            self.judge.apply(values)
            self.keeper.configure(values.decision(self.judge.threshold))
        else:
            judge.apply(values)
            # In this order: no frame of the new period comes before this callback has ended.
            self.keeper.begin_anew(values.decision(judge.threshold))
            self.judge = judge
            self._node.get_logger().info(f'changed to {self.describe(values)}')
        if self.hand is not None:
            self.hand.monitor.stale_after_s = values.stale_after_s
        self._limit = RateLimit(values.max_rate)
        self._watchdog.timer_period_ns = round(self.keeper.watch_period_s * NS_PER_S)

    def start(self) -> None:
        """Subscribe to the camera and start the worker and the watchdog."""
        self._worker.start()
        if self._recorder is not None:
            self._recorder.start()
        self._watchdog.reset()
        self._open()

    def stop(self) -> None:
        """Publish a last ``false`` and take no more frames."""
        if not self.is_active:
            return
        self.keeper.close(Reason.INACTIVE)
        self._close_topics()
        self._watchdog.cancel()
        self._outputs.flush(0.3)
        if not self._worker.stop(timeout_s=1.):
            self._node.get_logger().warning('a frame is still being judged and will be dropped')
        if self._recorder is not None:
            self._recorder.stop(timeout_s=1.)

    def free(self) -> None:
        """Stop, and remove publishers, timer and network."""
        self.stop()
        self._node.destroy_timer(self._watchdog)
        self._outputs.destroy()
        self.judge.free()

    def enable(self, enabled: bool) -> None:
        """Subscribe to the camera, or unsubscribe while the node stays active."""
        if enabled and not self.camera.is_open:
            self._open()
        elif not enabled:
            self.keeper.close(Reason.DISABLED)
            self._close_topics()

    def reset(self) -> None:
        """Forget all frames so far; the verdict is UNKNOWN until new ones are judged."""
        self.keeper.reset()

    def verify(self, answer: Callable[[VerifyAnswer], None]) -> None:
        """Judge frames taken from now on; ``answer`` is called once, from any thread."""
        self._look_at_clock()
        self.keeper.verify(self._verify_timeout_s, self.camera.topic, answer)

    def _locate(self, values: Parameters) -> None:
        """Follow the hand by TF if ``values`` say so, and no longer if they do not."""
        if values.roi_mode is not RoiMode.TF:
            if self.locator is not None:
                self.locator.close()
            self.locator = None
            return
        if self.locator is None:
            self.locator = HandLocator(self._node, values, self.camera.topic)
            if self.camera.is_open:
                self.locator.open()
        self.locator.apply(values)

    def _doubtful_recorder(self, values: Parameters) -> DoubtfulRecorder | None:
        if not values.record_doubtful:
            return None
        name = self.judge.message_type.__name__
        full_name = self._node.resolve_topic_name
        topics = {self.camera.topic: f'sensor_msgs/msg/{name}',
                  full_name('grasp_success'): 'std_msgs/msg/Bool',
                  full_name('grasp_success/confidence'): 'std_msgs/msg/Float32'}
        return DoubtfulRecorder(values.record_doubtful, values.record_doubtful_max_mb, topics,
                                self._node.get_logger())

    def _open(self) -> None:
        self._unfamiliar = 0
        self.judge.start_anew()
        self._source = FrameSource(stamps=not self.judge.uses_receive_time)
        self.keeper.open()
        self._look_at_clock()
        self.camera.open()
        for followed in (self.hand, self.locator):
            if followed is not None:
                followed.open()

    def _close_topics(self) -> None:
        self.camera.close()
        for followed in (self.hand, self.locator):
            if followed is not None:
                followed.close()

    def _watch(self) -> None:
        self._look_at_clock()
        self.keeper.watch()
        self.camera.adapt()

    def _look_at_clock(self) -> None:
        """Give no verdict while the simulated time that was asked for does not exist."""
        clock: Any = self._node.get_clock()
        missing = clock.ros_time_is_active and (
            clock.now().nanoseconds == 0 or not self._node.count_publishers('/clock'))
        if missing:
            self._node.get_logger().warning(NO_CLOCK, throttle_duration_sec=BAD_FRAME_LOG_PERIOD_S)
        self.keeper.hold(Reason.NO_CLOCK if missing else None)

    def _take(self, data: bytes, sequence: int | None) -> None:
        """Hand the newest message to the worker; runs in the executor's thread."""
        now_ns = time.monotonic_ns()
        if self._recorder is not None:
            self._recorder.frame(data)
        header = read_header(data)
        if header is not None and self._source.look(header, sequence, now_ns):
            self.keeper.interrupt()
        if self._source.is_ambiguous(now_ns):
            self._statistics.add_received(now_ns)
            self._skip(ReceivedFrame(data, now_ns, self.keeper.period), UnjudgedError(
                Reason.AMBIGUOUS_SOURCE.value,
                f'several cameras publish on {self.camera.topic}: the frames change between '
                'sources; give each camera a topic of its own', Reason.AMBIGUOUS_SOURCE))
            return
        if not self._limit.admits(now_ns):
            self._statistics.add_received(now_ns, limited=True)
            return
        replaced = self._worker.offer(ReceivedFrame(data, now_ns, self.keeper.period))
        self._statistics.add_received(now_ns, replaced)

    def _work_on(self, frame: ReceivedFrame) -> None:
        """Judge and answer one frame; runs in the worker's thread."""
        judge = self.judge      # another one may take its place meanwhile
        try:
            judged = judge.judge(frame, self.locator)
            decision = self.keeper.answer(frame, judged)
            self._note_familiarity(judged.unfamiliar)
            if decision and (publishers := self._outputs.overlay_publishers()):
                drawn = draw_overlay(judge.picture(judged), decision, judged.box)
                self.keeper.publish_overlay(frame, [
                    (publisher, self._outputs.overlay_message(
                        publisher, drawn, judged.message.header)) for publisher in publishers])
        except UnjudgedError as error:
            self._skip(frame, error)
        except Exception as error:  # noqa: BLE001 - the thread must live on for the next frame
            self._skip(frame, UnjudgedError(
                'internal', f'{type(error).__name__}: {one_line(error)}'))

    def _note_familiarity(self, unfamiliar: bool) -> None:
        """Count unfamiliar frames; say once that the rig is new if there are many in a row."""
        if not unfamiliar:
            self._unfamiliar = min(self._unfamiliar, 0)     # below 0: it was said already
            return
        self._statistics.add_bad(Reason.UNFAMILIAR.value)
        self._unfamiliar += self._unfamiliar >= 0
        if self._unfamiliar >= NEW_RIG_FRAMES:
            self._unfamiliar = -1
            self._node.get_logger().warning(
                f'the checkpoint has not seen this kind of picture: {NEW_RIG_FRAMES} frames in a '
                'row are unfamiliar, and the verdict is UNKNOWN (false); adapt it to this rig '
                'with adapt_classifier')

    def _skip(self, frame: ReceivedFrame, error: UnjudgedError) -> None:
        self._statistics.add_bad(error.reason)
        self._node.get_logger().warning(
            f'frame dropped: {error}', throttle_duration_sec=BAD_FRAME_LOG_PERIOD_S)
        self.keeper.skip(frame, error)
