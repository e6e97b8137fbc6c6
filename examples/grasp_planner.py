#!/usr/bin/env python3
"""
A client of the detector: after each attempt ask whether the hand holds the object, and act on it.

    python3 grasp_planner.py
    python3 grasp_planner.py --ros-args -p detector:=/left/grasp_success_detector -p max_retries:=2

The arm's controller publishes ``attempt_done`` (std_msgs/Empty) when the hand has closed and
lifted. The answer of ``verify`` is based on frames taken after that, so the arm must hold still
until ``next_step`` (std_msgs/String) tells it what to do: place, retry, or stop. A detector that
is killed or hangs misses the deadline of its verdicts, which means stop within 1.5 s.

Try it without an arm, beside a running detector:

    ros2 topic pub --once /attempt_done std_msgs/msg/Empty
"""

import json
from typing import NamedTuple

import rclpy
from rclpy.duration import Duration
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import QoSLivelinessPolicy, QoSProfile
from rclpy.task import Future
from std_msgs.msg import Bool, Empty, String
from std_srvs.srv import Trigger

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:     # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks

#: Longest silence that the detector offers.
SECOND = Duration(seconds=1.)


class Step(NamedTuple):
    """The next step (place, retry or stop) and the reason for it."""

    name: str
    why: str


class GraspPlanner(Node):
    """Ask the detector after every attempt and publish the next step."""

    def __init__(self) -> None:
        super().__init__('grasp_planner')
        detector = self.declare_parameter('detector', 'grasp_success_detector').value
        self._max_retries = self.declare_parameter('max_retries', 3).value
        # Longer than the detector's verify_timeout_s: exceeded only if the detector has ended.
        self._timeout_s = self.declare_parameter('answer_timeout_s', 5.).value
        self._failures = 0
        self._service = self.resolve_service_name(f'{detector}/verify')
        self._verify = self.create_client(Trigger, self._service)
        self._next = self.create_publisher(String, 'next_step', 10)
        self.create_subscription(Empty, 'attempt_done', self._on_attempt_done, 10)
        self._silent = False
        self._answer = None
        # Its verdicts stand beside the detector: /left/grasp_success.
        self.create_subscription(
            Bool, ''.join([*detector.rpartition('/')[:2], 'grasp_success']), self._on_verdict,
            QoSProfile(depth=1, deadline=SECOND, liveliness=QoSLivelinessPolicy.MANUAL_BY_TOPIC,
                       liveliness_lease_duration=SECOND),
            event_callbacks=SubscriptionEventCallbacks(
                deadline=lambda event: self._on_silence(),
                liveliness=lambda event: event.alive_count or self._on_silence()))

    def _on_verdict(self, message: Bool) -> None:
        self._silent = False

    def _on_silence(self) -> None:
        self._silent = True
        if self._answer is not None and not self._answer.done():
            self._give_up(self._answer)

    def _on_attempt_done(self, message: Empty) -> None:
        if not self._verify.service_is_ready():
            self._go_on(Step('stop', f'no detector serves {self._service}'))
            return
        if self._silent:
            self._go_on(Step('stop', 'the detector is silent'))
            return
        answer = self._answer = self._verify.call_async(Trigger.Request())
        timer = self.create_timer(self._timeout_s, lambda: self._give_up(answer))
        # Called in any case: with the answer, or cancelled when the time is over.
        answer.add_done_callback(lambda _: self._on_answer(answer, timer))

    def _give_up(self, answer: Future) -> None:
        self._verify.remove_pending_request(answer)
        answer.cancel()

    def _on_answer(self, answer: Future, timer: object) -> None:
        self.destroy_timer(timer)
        if answer.cancelled():
            self._go_on(Step('stop', 'the detector is silent' if self._silent else (
                f'no answer within {self._timeout_s} s')))
        else:
            self._go_on(self.choose(json.loads(answer.result().message)))

    def choose(self, answer: dict) -> Step:
        """
        Choose what comes next.

        UNKNOWN is not a failure: the hand may hold the object, and opening it for another try
        would drop it. So the arm stops, and a person (or another sensor) looks.

        :param answer: verdict, probability, frames, seconds and reason.
        """
        if answer['verdict'] == 'success':
            self._failures = 0
            return Step('place', f'P(success) {answer["probability"]:.2f}')
        if answer['verdict'] == 'unknown':
            return Step('stop', f'unknown: {answer["reason"]}')
        self._failures += 1
        if self._failures > self._max_retries:
            self._failures = 0
            return Step('stop', f'failed {self._max_retries + 1} times')
        return Step('retry', f'P(success) {answer["probability"]:.2f}')

    def _go_on(self, step: Step) -> None:
        self.get_logger().info(f'{step.name}: {step.why}')
        self._next.publish(String(data=step.name))


def main() -> None:
    """Run the planner until Ctrl-C."""
    rclpy.init()
    try:
        rclpy.spin(GraspPlanner())
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        rclpy.try_shutdown()


if __name__ == '__main__':
    main()
