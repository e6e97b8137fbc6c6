"""The node's ROS parameters: declared, checked and changed."""

from collections.abc import Callable, Iterable
from dataclasses import Field, fields
from difflib import get_close_matches
from enum import Enum
from typing import Any

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.node import Node
from rclpy.parameter import Parameter

from grasp_success_detector.errors import ConfigError, GraspSuccessDetectorError
from grasp_success_detector.ros.node.parameters import Change, Parameters
from grasp_success_detector.settings import expected_values, fits

#: Beginnings of parameters that rclpy declares itself, some of them later, some in newer versions.
_GENERIC = ('use_sim_time', 'qos_overrides.', 'start_type_description_service')


class DeclaredParameters:
    """
    The ROS parameters of one node.

    An invalid override (command line, YAML) does not prevent the node's construction. Its error
    is kept until *configure*, which fails with it unless a valid value has been set meanwhile.

    :ivar loaded: judge of the checkpoint that the next change sets, if it has been loaded already.
    """

    def __init__(self, node: Node, pipeline: Callable[[], Any],
                 owner: type[Any] = Parameters) -> None:
        """
        Declare all.

        :param pipeline: returns the node's, or None while it is unconfigured.
        :param owner: the dataclass whose fields are the parameters.
        """
        self._node, self._pipeline, self._owner = node, pipeline, owner
        self.loaded: Any = None
        self._fields = {declared.name: declared for declared in fields(owner)}
        self._rejected: dict[str, str] = {}     # name -> error of its override
        self._unknown: list[str] = []           # errors of overrides that no parameter takes
        overrides = node._parameter_overrides   # private: rclpy cannot tell which one is wrong
        for name, declared in self._fields.items():
            if name in overrides and (wrong := _complaint(owner, declared, overrides[name].value)):
                self._rejected[name] = wrong
            node.declare_parameter(name, default_value(declared), _descriptor(owner, declared),
                                   ignore_override=name in self._rejected)
        self._unknown = [
            f'there is no parameter {name}{_nearest(name, self._fields)}' for name in overrides
            if not node.has_parameter(name) and not name.startswith(_GENERIC)]
        node.add_on_set_parameters_callback(self._check)
        # Humble has no callback that comes after the change; there the check applies the values.
        self._told_after = hasattr(node, 'add_post_set_parameters_callback')
        if self._told_after:
            node.add_post_set_parameters_callback(self._apply)

    def values(self) -> Any:
        """Return all values; raises a ConfigError that names every invalid override."""
        if wrong := [*self._unknown, *self._rejected.values()]:
            raise ConfigError('; '.join(wrong))
        return self._with([])

    # Quoted, here and elsewhere: before Kilted the class cannot be subscripted.
    def to_load(self, parameters: 'list[Parameter[Any]]') -> Any:
        """Return the values to load a new checkpoint with; None if there is none to load."""
        ours = self._ours(parameters)
        if self._pipeline() is None or not _changes_checkpoint(ours):
            return None
        self._refuse_values(ours)
        return self._with(ours)

    def _with(self, changes: 'list[Parameter[Any]]') -> Any:
        """Return the present values with some of them changed."""
        values: dict[str, Any] = {
            name: self._node.get_parameter(name).value for name in self._fields}
        values |= {change.name: change.value for change in changes}
        return self._owner(**{name: _plain(value) for name, value in values.items()})

    def _ours(self, parameters: 'list[Parameter[Any]]') -> 'list[Parameter[Any]]':
        return [parameter for parameter in parameters if parameter.name in self._fields]

    def _check(self, parameters: 'list[Parameter[Any]]') -> SetParametersResult:
        ours = self._ours(parameters)
        try:
            self._refuse(ours)
        except GraspSuccessDetectorError as error:
            self.loaded = None
            return SetParametersResult(successful=False, reason=str(error))
        for parameter in ours:
            self._rejected.pop(parameter.name, None)
        if not self._told_after:
            self._apply(ours)
        return SetParametersResult(successful=True)

    def _refuse(self, ours: 'list[Parameter[Any]]') -> None:
        self._refuse_values(ours)
        if not ours or (pipeline := self._pipeline()) is None:
            return
        values = self._with(ours)
        if _changes_checkpoint(ours) and self.loaded is None:   # not set by a service
            self.loaded = pipeline.load(values)
        (self.loaded or pipeline.judge).check(values)

    def _refuse_values(self, ours: 'list[Parameter[Any]]') -> None:
        pipeline = self._pipeline()
        for change in (Change.START, Change.CONFIGURE):
            names = [parameter.name for parameter in ours
                     if self._fields[parameter.name].metadata['change'] is change]
            if names and (change is Change.START or pipeline is not None):
                raise ConfigError(f'{", ".join(names)}: {change.value}')
        if wrong := [complaint for parameter in ours if (
                complaint := _complaint(
                    self._owner, self._fields[parameter.name], parameter.value))]:
            raise ConfigError('; '.join(wrong))

    def _apply(self, parameters: 'list[Parameter[Any]]') -> None:
        ours = self._ours(parameters)
        if ours and (pipeline := self._pipeline()) is not None:
            pipeline.apply(self._with(ours), self.loaded)
        self.loaded = None


def _changes_checkpoint(ours: 'list[Parameter[Any]]') -> bool:
    return any(parameter.name == 'checkpoint' for parameter in ours)


def default_value(declared: Field[Any]) -> Any:
    """Return a field's default as ROS takes it: an enum's value, a list for a tuple."""
    default = declared.default
    if isinstance(default, Enum):
        return default.value
    return list(default) if isinstance(default, tuple) else default


def _nearest(name: str, known: Iterable[str]) -> str:
    """Return a question for the known name that is most like a misspelt one."""
    nearest = get_close_matches(name, known, 1)
    return f'; did you mean {nearest[0]}?' if nearest else '; `ros2 param list` names them all'


def _plain(value: Any) -> Any:
    """Return a parameter's value, a tuple in place of an array."""
    return value if value is None or isinstance(value, int | float | str) else tuple(value)


def _takes_doubles(declared: Field[Any]) -> bool:
    return isinstance(declared.default, float | tuple)


def _expected(owner: type, declared: Field[Any]) -> str:
    """Return a description of the values that a parameter takes."""
    point = ', with a decimal point' if _takes_doubles(declared) else ''
    return expected_values(owner, declared) + point


def _complaint(owner: type, declared: Field[Any], value: Any) -> str | None:
    """Return why a value cannot be used; None if it can."""
    plain = _plain(value)
    parts = plain if isinstance(plain, tuple) else (plain,)
    # As in rclpy, 1 is not a double.
    whole = _takes_doubles(declared) and any(type(part) is int for part in parts)
    if fits(owner, declared, plain) and not whole:
        return None
    shown = list(plain) if isinstance(plain, tuple) else plain
    return f'parameter {declared.name} = {shown!r}: expected {_expected(owner, declared)}'


def _descriptor(owner: type, declared: Field[Any]) -> ParameterDescriptor:
    metadata = declared.metadata
    # START is not read-only: rclpy's own refusal would not say what to do.
    descriptor = ParameterDescriptor(
        description=metadata['help'],
        additional_constraints=f'{_expected(owner, declared)}; {metadata["change"].value}')
    lowest, highest = metadata['lowest'], metadata['highest']
    if declared.type is float:
        descriptor.floating_point_range = [FloatingPointRange(from_value=lowest, to_value=highest)]
    elif declared.type is int:
        descriptor.integer_range = [IntegerRange(from_value=lowest, to_value=highest)]
    return descriptor
