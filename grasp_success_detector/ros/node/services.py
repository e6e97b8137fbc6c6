"""The node's services: verify, enable, reset."""

from collections.abc import Callable
from typing import Any

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.lifecycle import LifecycleNode
from rclpy.task import Future
from std_srvs.srv import SetBool, Trigger

from grasp_success_detector.labels import Verdict
from grasp_success_detector.ros.node.verdict_keeper import VerdictKeeper
from grasp_success_detector.ros.node.verify_request import VerifyAnswer


class DetectorServices:
    """
    Serve ``~/verify``, ``~/enable`` and ``~/reset``, in every state of the node.

    A question to verify waits as a coroutine, so that any number of clients wait at once and the
    executor's thread does not.
    """

    def __init__(self, node: LifecycleNode, keeper: VerdictKeeper, topic: Callable[[], str],
                 timeout_s: Callable[[], float], enable: Callable[[bool], str | None]) -> None:
        """
        Create the services.

        :param topic: names where frames come from.
        :param timeout_s: says how long a question may wait, in seconds.
        :param enable: takes frames or stops to, and returns why it cannot.
        """
        self._node, self._keeper = node, keeper
        self._topic, self._timeout_s, self._enable = topic, timeout_s, enable
        # Reentrant: in an exclusive group one waiting client would keep all others out.
        node.create_service(Trigger, '~/verify', self._on_verify,
                            callback_group=ReentrantCallbackGroup())
        node.create_service(SetBool, '~/enable', self._on_enable)
        node.create_service(Trigger, '~/reset', self._on_reset)

    async def _on_verify(self, request: Trigger.Request, response: Trigger.Response) -> Any:
        """Answer when the frames to come have; ``success`` for a verdict of SUCCESS only."""
        future: Any = Future(executor=self._node.executor)

        def answered(answer: VerifyAnswer) -> None:
            future.set_result(answer)
            if executor := self._node.executor:
                executor.wake()     # it looks at futures when something else wakes it
        self._keeper.verify(self._node.get_clock().now().nanoseconds, self._timeout_s(),
                            self._topic(), answered)
        answer = await future
        response.success = answer.decision.verdict is Verdict.SUCCESS
        response.message = answer.to_json()
        return response

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> Any:
        problem = self._enable(request.data)
        response.success = problem is None
        response.message = problem or ('enabled' if request.data else 'disabled')
        return response

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Any:
        self._keeper.reset()
        response.success = True
        response.message = 'all frames so far are forgotten'
        return response
