"""Parameters as ROS has them: declared, checked, read, changed while the node runs."""

from collections.abc import Callable
from dataclasses import Field, fields
from typing import Any

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.node import Node
from rclpy.parameter import Parameter

from grasp_success_detector.errors import ConfigError
from grasp_success_detector.ros.node.parameters import Change, Parameters


class DeclaredParameters:
    """
    The parameters of one node: declared, checked, read.

    An override (command line, YAML) that cannot be used does not stop the node from being made:
    the line that says so is kept until *configure* asks for the values, so that *configure* is
    what fails, and a corrected parameter mends it.
    """

    def __init__(self, node: Node, is_configured: Callable[[], bool],
                 check: Callable[[Parameters], None],
                 apply: Callable[[Parameters], None]) -> None:
        """
        Declare all parameters.

        :param is_configured: says whether values were read in *configure* and are in use.
        :param check: refuses, by a ConfigError, values that a configured node cannot take.
        :param apply: makes a configured node use new values, which were checked, all at once.
        """
        self._node = node
        self._is_configured, self._check_more, self._apply = is_configured, check, apply
        self._rejected: dict[str, str] = {}     # name -> why its override cannot be used
        self._fields = {declared.name: declared for declared in fields(Parameters)}
        overrides = node._parameter_overrides   # rclpy offers no other way to name the culprit
        for name, declared in self._fields.items():
            given = overrides[name].value if name in overrides else declared.default
            if wrong := _complaint(declared, given):
                self._rejected[name] = wrong
            default = declared.default
            node.declare_parameter(
                name, list(default) if isinstance(default, tuple) else default,
                _descriptor(declared), ignore_override=name in self._rejected)
        node.add_on_set_parameters_callback(self._check)
        # Humble has no callback for after the fact; there the check is followed by the setting.
        self._told_after = hasattr(node, 'add_post_set_parameters_callback')
        if self._told_after:
            node.add_post_set_parameters_callback(self._apply_if_ours)

    def values(self) -> Parameters:
        """
        Read all values.

        :raises ConfigError: naming every override that cannot be used.
        """
        if self._rejected:
            raise ConfigError('; '.join(self._rejected.values()))
        values = self._with({})
        values.check_together()
        return values

    def _with(self, changes: dict[str, Any]) -> Parameters:
        values = {name: self._node.get_parameter(name).value for name in self._fields} | changes
        plain: dict[str, Any] = {
            name: value if isinstance(value, bool | int | float | str) else tuple(value)
            for name, value in values.items()}
        return Parameters(**plain)

    # Quoted, here and elsewhere: before Kilted the class cannot be subscripted.
    def _check(self, parameters: 'list[Parameter[Any]]') -> SetParametersResult:
        ours = [parameter for parameter in parameters if parameter.name in self._fields]
        try:
            self._refuse(ours)
        except ConfigError as error:
            return SetParametersResult(successful=False, reason=str(error))
        for parameter in ours:
            self._rejected.pop(parameter.name, None)
        if ours and not self._told_after and self._is_configured():
            self._apply(self._with({parameter.name: parameter.value for parameter in ours}))
        return SetParametersResult(successful=True)

    def _refuse(self, ours: 'list[Parameter[Any]]') -> None:
        for change in (Change.START, Change.CONFIGURE):
            names = [parameter.name for parameter in ours
                     if self._fields[parameter.name].metadata['change'] is change]
            if names and (change is Change.START or self._is_configured()):
                raise ConfigError(f'{", ".join(names)}: {change.value}')
        complaints = [_complaint(self._fields[parameter.name], parameter.value)
                      for parameter in ours]
        if wrong := '; '.join(filter(None, complaints)):
            raise ConfigError(wrong)
        if ours and self._is_configured():
            values = self._with({parameter.name: parameter.value for parameter in ours})
            values.check_together()
            self._check_more(values)

    def _apply_if_ours(self, parameters: 'list[Parameter[Any]]') -> None:
        if self._is_configured() and any(p.name in self._fields for p in parameters):
            self._apply(self._with({}))


def _expected(declared: Field[Any]) -> str:
    """Say in words which values a parameter takes."""
    metadata = declared.metadata
    if metadata['choices']:
        return 'one of ' + ', '.join(metadata['choices'])
    if isinstance(declared.default, tuple):
        return (f'{len(declared.default)} numbers from {metadata["lowest"]} to '
                f'{metadata["highest"]}, such as [0.0, 0.25, 1.0, 0.5]')
    if declared.type is float:
        return (f'a number from {metadata["lowest"]} to {metadata["highest"]}, with a decimal '
                'point')
    if declared.type is int:
        return f'a whole number from {metadata["lowest"]} to {metadata["highest"]}'
    return 'true or false' if declared.type is bool else 'text'


def _complaint(declared: Field[Any], value: Any) -> str | None:
    """Return why a value cannot be used, None where it can."""
    metadata = declared.metadata
    if isinstance(declared.default, tuple):
        numbers = [] if value is None or isinstance(value, str | int | float) else list(value)
        fits = len(numbers) == len(declared.default) and all(
            type(number) is float and metadata['lowest'] <= number <= metadata['highest']
            for number in numbers)
        return None if fits else (
            f'parameter {declared.name} = {numbers or value!r}: expected {_expected(declared)}')
    fits = type(value) is declared.type     # as rclpy: 1 is no double, true is no integer
    if fits and metadata['choices']:
        fits = value in metadata['choices']
    if fits and metadata['lowest'] is not None:
        fits = metadata['lowest'] <= value <= metadata['highest']
    return None if fits else (
        f'parameter {declared.name} = {value!r}: expected {_expected(declared)}')


def _descriptor(declared: Field[Any]) -> ParameterDescriptor:
    metadata = declared.metadata
    # Not read-only for START: rclpy's own refusal would not say what to do.
    descriptor = ParameterDescriptor(
        description=metadata['description'], additional_constraints='; '.join(
            (_expected(declared), metadata['change'].value)))
    if declared.type is float:
        descriptor.floating_point_range = [
            FloatingPointRange(from_value=metadata['lowest'], to_value=metadata['highest'])]
    elif declared.type is int:
        descriptor.integer_range = [
            IntegerRange(from_value=metadata['lowest'], to_value=metadata['highest'])]
    return descriptor
