"""Every parameter of the node, declared once: type, default, description, range."""

from collections.abc import Callable
from dataclasses import dataclass, Field, field, fields
from typing import Any

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.node import Node
from rclpy.parameter import Parameter

from grasp_success_detector.decision import DecisionConfig
from grasp_success_detector.errors import ConfigError
from grasp_success_detector.ros.decoders import DECODERS, NATIVE


def _parameter(
    default: Any, description: str, *, lowest: float | None = None,
    highest: float | None = None, choices: tuple[str, ...] = (), read_only: bool = False,
) -> Any:
    return field(default=default, metadata={
        'description': description, 'lowest': lowest, 'highest': highest, 'choices': choices,
        'read_only': read_only})


@dataclass(frozen=True)
class Parameters:
    """Values of the node's parameters; the fields are what the node declares."""

    checkpoint: str = _parameter(
        '', 'Checkpoint file (.safetensors); empty: the one that ships with the package.')
    device: str = _parameter(
        'auto', 'Where the network runs: auto, cpu, cuda, cuda:1, ...')
    threads: int = _parameter(
        0, 'CPU threads of the network; 0: as many as torch takes.', lowest=0, highest=256)
    image_transport: str = _parameter(
        'raw', 'raw: sensor_msgs/Image on "image"; compressed: sensor_msgs/CompressedImage on '
        '"image/compressed".', choices=('raw', 'compressed'))
    image_decoder: str = _parameter(
        NATIVE, 'What turns messages into pixels: this package, or an installed cv_bridge.',
        choices=DECODERS)
    reliability: str = _parameter(
        'best_effort', 'Asked of the camera. best_effort: receives from every one, but may lose '
        'raw images of some 0.5 MB and more; reliable: loses none, from reliable cameras only.',
        choices=('best_effort', 'reliable'))
    threshold: float = _parameter(
        0., 'P(success) from which the verdict is SUCCESS; 0: the threshold in the checkpoint.',
        lowest=0., highest=1.)
    window_s: float = _parameter(
        DecisionConfig.window_s, 'Span of frame stamps that is averaged, in seconds.',
        lowest=0., highest=60.)
    min_frames: int = _parameter(
        DecisionConfig.min_frames, 'Frames within the window that a verdict needs.',
        lowest=1, highest=1000)
    stale_after_s: float = _parameter(
        DecisionConfig.stale_after_s, 'Seconds without a frame judged, after which the verdict '
        'is UNKNOWN (false).', lowest=0.05, highest=60.)
    max_bad_frames: int = _parameter(
        DecisionConfig.max_bad_frames, 'So many undecodable frames in a row mean UNKNOWN (false).',
        lowest=1, highest=1000)
    autostart: bool = _parameter(
        True, 'Go to active by itself; false: wait for a lifecycle manager.', read_only=True)


class DeclaredParameters:
    """
    The parameters of one node: declared, checked, read.

    An override (command line, YAML) that cannot be used does not stop the node from being made:
    the line that says so is kept until *configure* asks for the values, so that *configure* is
    what fails, and a corrected parameter mends it.
    """

    def __init__(self, node: Node, may_change: Callable[[], bool]) -> None:
        """
        Declare all parameters.

        :param may_change: says whether values may change now; they are read in *configure*.
        """
        self._node = node
        self._may_change = may_change
        self._rejected: dict[str, str] = {}     # name -> why its override cannot be used
        self._fields = {declared.name: declared for declared in fields(Parameters)}
        overrides = node._parameter_overrides   # rclpy offers no other way to name the culprit
        for name, declared in self._fields.items():
            given = overrides[name].value if name in overrides else declared.default
            if wrong := _complaint(declared, given):
                self._rejected[name] = wrong
            node.declare_parameter(name, declared.default, _descriptor(declared),
                                   ignore_override=name in self._rejected)
        node.add_on_set_parameters_callback(self._check)

    def values(self) -> Parameters:
        """
        Read all values.

        :raises ConfigError: naming every override that cannot be used.
        """
        if self._rejected:
            raise ConfigError('; '.join(self._rejected.values()))
        return Parameters(**{name: self._node.get_parameter(name).value for name in self._fields})

    # Quoted, here and elsewhere: before Kilted the class cannot be subscripted.
    def _check(self, parameters: 'list[Parameter[Any]]') -> SetParametersResult:
        ours = [parameter for parameter in parameters if parameter.name in self._fields]
        if ours and not self._may_change():
            names = ', '.join(parameter.name for parameter in ours)
            return SetParametersResult(successful=False, reason=(
                f'{names}: read in configure; deactivate and clean up the node first, set it, '
                'then configure and activate'))
        complaints = [_complaint(self._fields[parameter.name], parameter.value)
                      for parameter in ours]
        if wrong := '; '.join(filter(None, complaints)):
            return SetParametersResult(successful=False, reason=wrong)
        for parameter in ours:
            self._rejected.pop(parameter.name, None)
        return SetParametersResult(successful=True)


def _expected(declared: Field[Any]) -> str:
    """Say in words which values a parameter takes."""
    metadata = declared.metadata
    if metadata['choices']:
        return 'one of ' + ', '.join(metadata['choices'])
    if declared.type is float:
        return f'a number from {metadata["lowest"]} to {metadata["highest"]}, such as 1.0'
    if declared.type is int:
        return f'a whole number from {metadata["lowest"]} to {metadata["highest"]}'
    return 'true or false' if declared.type is bool else 'text'


def _complaint(declared: Field[Any], value: Any) -> str | None:
    """Return why a value cannot be used, None where it can."""
    metadata = declared.metadata
    fits = type(value) is declared.type     # as rclpy: 1 is no double, true is no integer
    if fits and metadata['choices']:
        fits = value in metadata['choices']
    if fits and metadata['lowest'] is not None:
        fits = metadata['lowest'] <= value <= metadata['highest']
    return None if fits else (
        f'parameter {declared.name} = {value!r}: expected {_expected(declared)}')


def _descriptor(declared: Field[Any]) -> ParameterDescriptor:
    metadata = declared.metadata
    descriptor = ParameterDescriptor(
        description=metadata['description'], read_only=metadata['read_only'],
        additional_constraints=_expected(declared))
    if declared.type is float:
        descriptor.floating_point_range = [
            FloatingPointRange(from_value=metadata['lowest'], to_value=metadata['highest'])]
    elif declared.type is int:
        descriptor.integer_range = [
            IntegerRange(from_value=metadata['lowest'], to_value=metadata['highest'])]
    return descriptor
