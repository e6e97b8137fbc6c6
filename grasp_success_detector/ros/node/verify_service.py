"""The service ``~/verify`` of a node: calls wait as coroutines for an answer."""

from collections.abc import Callable
from typing import Any

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from rclpy.task import Future
from std_srvs.srv import Trigger

from grasp_success_detector.labels import Verdict
from grasp_success_detector.ros.node.verify_request import VerifyAnswer


class VerifyService:
    """Serve ``~/verify``; ``success`` of a response is true for a verdict of SUCCESS only."""

    def __init__(self, node: Node, verify: Callable[[Callable[[VerifyAnswer], None]], None],
                 ) -> None:
        """Serve; ``verify`` takes what is to be called once, from any thread, with the answer."""
        self._node, self._verify = node, verify
        # Reentrant: in an exclusive group one waiting client would block all others.
        node.create_service(Trigger, '~/verify', self._on_call,
                            callback_group=ReentrantCallbackGroup())

    async def _on_call(self, request: Trigger.Request, response: Trigger.Response) -> Any:
        # A coroutine, so that any number of calls wait at once without blocking the executor.
        future: Any = Future(executor=self._node.executor)

        def answered(answer: VerifyAnswer) -> None:
            future.set_result(answer)
            if executor := self._node.executor:
                executor.wake()     # it looks at futures only when it wakes
        self._verify(answered)
        answer = await future
        response.success = answer.decision.verdict is Verdict.SUCCESS
        response.message = answer.to_json()
        return response
