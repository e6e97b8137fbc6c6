"""Services that set parameters, which load a new checkpoint aside before they change it."""

from collections.abc import Callable
from threading import Thread
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rcl_interfaces.srv import SetParameters, SetParametersAtomically
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.exceptions import ParameterNotDeclaredException
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import qos_profile_parameters
from rclpy.task import Future

from grasp_success_detector.errors import ConfigError, GraspSuccessDetectorError, one_line
from grasp_success_detector.ros.node.declared_parameters import DeclaredParameters
from grasp_success_detector.ros.node.parameters import Parameters


class ParameterServices:
    """
    The node's ``set_parameters`` and ``set_parameters_atomically``, in place of rclpy's.

    To load a checkpoint takes seconds. A callback that waited for it would block the executor, so
    that no frame would be taken and no verdict repeated; these services wait as coroutines while
    a thread loads.
    """

    def __init__(self, node: Node, declared: DeclaredParameters,
                 pipeline: Callable[[], Any]) -> None:
        """Replace the services; ``pipeline`` returns the node's, None while unconfigured."""
        self._node, self._declared, self._pipeline = node, declared, pipeline
        self._loading = ''
        prefix = f'{node.get_fully_qualified_name()}/set_parameters'
        for service in list(node.services):
            if node.resolve_service_name(service.srv_name).startswith(prefix):
                node.destroy_service(service)
        # Reentrant: in an exclusive group a waiting call would block every other callback.
        group = ReentrantCallbackGroup()
        for kind, name, callback in (
                (SetParameters, '~/set_parameters', self._on_set),
                (SetParametersAtomically, '~/set_parameters_atomically', self._on_set_together)):
            node.create_service(kind, name, callback, qos_profile=qos_profile_parameters,
                                callback_group=group)

    async def _on_set(self, request: Any, response: Any) -> Any:
        for message in request.parameters:
            response.results.append(await self._set([message]))
        return response

    async def _on_set_together(self, request: Any, response: Any) -> Any:
        response.result = await self._set(request.parameters)
        return response

    async def _set(self, messages: Any) -> SetParametersResult:
        parameters = [Parameter.from_parameter_msg(message) for message in messages]
        try:
            if (values := self._declared.to_load(parameters)) is not None:
                self._declared.loaded = await self._load(values)
            return self._node.set_parameters_atomically(parameters)
        except (ConfigError, ParameterNotDeclaredException) as error:
            return SetParametersResult(successful=False, reason=str(error))
        finally:
            self._declared.loaded = None

    async def _load(self, values: Parameters) -> Any:
        """Return the judge of these parameters; raises a ConfigError if they cannot be used."""
        if self._loading:
            raise ConfigError(f'checkpoint: {self._loading} is still being loaded; set it again '
                              'when that has ended')
        self._loading = values.checkpoint or 'the default checkpoint'
        executor, pipeline = self._node.executor, self._pipeline()
        future: Any = Future(executor=executor)

        def load() -> None:
            try:
                result = pipeline.load(values)
            except GraspSuccessDetectorError as error:
                result = ConfigError(str(error))
            except Exception as error:  # noqa: BLE001 - whatever an engine raises refuses it
                result = ConfigError(f'{type(error).__name__}: {one_line(error)}')
            future.set_result(result)
            if executor is not None:
                executor.wake()     # it looks at futures only when it wakes
        # A daemon: a checkpoint that is still being loaded does not delay the end.
        Thread(target=load, name='checkpoint', daemon=True).start()
        try:
            result = await future
        finally:
            self._loading = ''
        if isinstance(result, ConfigError):
            raise result
        if self._pipeline() is not pipeline:
            raise ConfigError('checkpoint: the node was cleaned up while it was loaded; set it '
                              'again')
        return result
