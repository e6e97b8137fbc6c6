"""Parameters of the node: defaults, limits and descriptions; declared, checked and changed."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, Field, fields
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

from grasp_success_detector.decision import DecisionConfig
from grasp_success_detector.errors import ConfigError
from grasp_success_detector.files import CHECKPOINT_HELP
from grasp_success_detector.images.visibility import VisibilityConfig
from grasp_success_detector.inference.engine import AUTO, ENGINE_HELP, PRECISION_HELP
from grasp_success_detector.networks.familiarity import FAMILIARITY_QUANTILE
from grasp_success_detector.ros.node.image_conversion import ImageDecoder
from grasp_success_detector.settings import check_settings, expected_values, fits, setting

#: Beginnings of parameters that rclpy declares itself, some of them later, some in newer versions.
_GENERIC = ('use_sim_time', 'qos_overrides.', 'start_type_description_service')


class Change(Enum):
    """When a parameter may change; the value tells a user how to change it."""

    RUNNING = 'changes at once, in any state'
    CONFIGURE = ('read in configure; deactivate and clean up the node first, set it, then '
                 'configure and activate')
    START = ('read at start; give it on the command line or in the parameter file and start the '
             'node again')


class Transport(Enum):
    """Transport of the images: sensor_msgs/Image (raw) or sensor_msgs/CompressedImage."""

    RAW = 'raw'
    COMPRESSED = 'compressed'


class Reliability(Enum):
    """Reliability to request of the camera; AUTO requests what all its publishers offer."""

    AUTO = 'auto'
    BEST_EFFORT = 'best_effort'
    RELIABLE = 'reliable'


def _parameter(default: Any, text: str, change: Change = Change.RUNNING, **limits: Any) -> Any:
    return setting(default, help=text, change=change, **limits)


def _parameter_of(owner: type, name: str, **limits: float) -> Any:
    """Return a parameter for a configuration's field; limits of ROS parameters are inclusive."""
    declared = {declared.name: declared for declared in fields(owner)}[name]
    known = {limit: declared.metadata[limit] for limit in ('lowest', 'highest')}
    return _parameter(declared.default, declared.metadata['help'], **(known | limits))


@dataclass(frozen=True)
class Parameters:
    """Values of the node's parameters; the node declares a parameter for each field."""

    checkpoint: str = _parameter(
        '', f'Checkpoint: {CHECKPOINT_HELP}; empty: the first of these.',
        Change.CONFIGURE)
    device: str = _parameter(
        'auto', 'Where the network runs: auto, cpu, cuda, cuda:1, ...; with OpenVINO also gpu, '
        'npu.', Change.CONFIGURE)
    engine: str = _parameter(AUTO, ENGINE_HELP, Change.CONFIGURE)
    precision: str = _parameter(AUTO, PRECISION_HELP, Change.CONFIGURE)
    threads: int = _parameter(
        0, 'CPU threads of the network; 0: chosen by the engine.', Change.CONFIGURE,
        lowest=0, highest=256)

    image_transport: Transport = _parameter(
        Transport.RAW, 'raw: sensor_msgs/Image on "image"; compressed: '
        'sensor_msgs/CompressedImage on "image/compressed".', Change.CONFIGURE)
    image_decoder: ImageDecoder = _parameter(
        ImageDecoder.NATIVE, 'What decodes images: native (this package) or an installed '
        'cv_bridge.', Change.CONFIGURE)
    reliability: Reliability = _parameter(
        Reliability.AUTO, 'Requested of the camera. auto: reliable where every camera on the '
        'topic offers it, else best effort; best_effort; reliable.', Change.CONFIGURE)
    use_receive_time: bool = _parameter(
        False, 'Use the time of reception as the stamp of a frame: for cameras whose clock is not '
        'the one of this machine.', Change.CONFIGURE)
    max_rate: float = _parameter(
        0., 'Largest number of frames judged per second; 0: as many as the network can judge.',
        lowest=0., highest=1000.)
    roi: tuple[float, float, float, float] = _parameter(
        (0., 0., 0., 0.), 'Region of interest [x, y, width, height] as fractions of the frame, '
        'origin at the top left; all 0: the one in the checkpoint.', lowest=0., highest=1.)

    threshold: float = _parameter(
        0., 'Mean P(success) from which the verdict is SUCCESS; 0: the threshold in the '
        'checkpoint.', lowest=0., highest=1.)
    hysteresis: float = _parameter_of(DecisionConfig, 'hysteresis', highest=0.99)
    undecided: float = _parameter_of(DecisionConfig, 'undecided', highest=0.99)
    window_s: float = _parameter_of(DecisionConfig, 'window_s', highest=60.)
    min_frames: int = _parameter_of(DecisionConfig, 'min_frames', highest=1000)
    stale_after_s: float = _parameter_of(
        DecisionConfig, 'stale_after_s', lowest=0.05, highest=60.)
    max_bad_frames: int = _parameter_of(DecisionConfig, 'max_bad_frames', highest=1000)
    max_black: float = _parameter_of(VisibilityConfig, 'max_black')
    max_white: float = _parameter_of(VisibilityConfig, 'max_white')
    frozen_after_s: float = _parameter_of(VisibilityConfig, 'frozen_after_s', highest=3600.)

    familiarity_quantile: float = _parameter(
        FAMILIARITY_QUANTILE, 'Share of the frames that the checkpoint knows which count as '
        'familiar; others are UNKNOWN (false). 0: all frames are judged.', lowest=0., highest=1.)

    verify_timeout_s: float = _parameter(
        2., 'Seconds after which ~/verify answers UNKNOWN if the frames gave no verdict.',
        lowest=0.05, highest=600.)
    autostart: bool = _parameter(
        True, 'Go to active by itself; false: wait for a lifecycle manager.', Change.START)

    def __post_init__(self) -> None:
        """Raise a ConfigError if values are out of range or contradict each other."""
        check_settings(self, ConfigError, 'parameters:')
        if not self.max_rate:
            return
        if self.min_frames > 1 + self.window_s * self.max_rate:
            raise ConfigError(
                f'max_rate = {self.max_rate} and window_s = {self.window_s} leave '
                f'{1 + int(self.window_s * self.max_rate)} frames in the window, so that '
                f'min_frames = {self.min_frames} is never reached; raise max_rate or window_s, or '
                'lower min_frames')
        if self.stale_after_s * self.max_rate <= 1.:
            raise ConfigError(
                f'max_rate = {self.max_rate} leaves {1 / self.max_rate:.2f} s between frames, no '
                f'less than stale_after_s = {self.stale_after_s}; raise one of them')

    def decision(self, checkpoint_threshold: float) -> DecisionConfig:
        """Return the decision's settings, with the checkpoint's threshold if none is set."""
        return DecisionConfig(
            self.threshold or checkpoint_threshold, self.hysteresis, self.undecided,
            self.window_s, self.min_frames, self.stale_after_s, self.max_bad_frames)

    def visibility(self) -> VisibilityConfig:
        """Return the limits beyond which the camera counts as blind."""
        return VisibilityConfig(self.max_black, self.max_white, self.frozen_after_s)


class DeclaredParameters:
    """
    The ROS parameters of one node.

    An invalid override (command line, YAML) does not prevent the node's construction. Its error
    is kept until *configure*, which fails with it unless a valid value has been set meanwhile.
    """

    def __init__(self, node: Node, pipeline: Callable[[], Any]) -> None:
        """Declare all; ``pipeline`` returns the node's, or None while it is unconfigured."""
        self._node, self._pipeline = node, pipeline
        self._fields = {declared.name: declared for declared in fields(Parameters)}
        self._rejected: dict[str, str] = {}     # name -> error of its override
        self._unknown: list[str] = []           # errors of overrides that no parameter takes
        overrides = node._parameter_overrides   # private: rclpy cannot tell which one is wrong
        for name, declared in self._fields.items():
            if name in overrides and (wrong := _complaint(declared, overrides[name].value)):
                self._rejected[name] = wrong
            node.declare_parameter(name, default_value(declared), _descriptor(declared),
                                   ignore_override=name in self._rejected)
        self._unknown = [
            f'there is no parameter {name}{_nearest(name, self._fields)}' for name in overrides
            if not node.has_parameter(name) and not name.startswith(_GENERIC)]
        node.add_on_set_parameters_callback(self._check)
        # Humble has no callback that comes after the change; there the check applies the values.
        self._told_after = hasattr(node, 'add_post_set_parameters_callback')
        if self._told_after:
            node.add_post_set_parameters_callback(self._apply)

    def values(self) -> Parameters:
        """Return all values; raises a ConfigError that names every invalid override."""
        if wrong := [*self._unknown, *self._rejected.values()]:
            raise ConfigError('; '.join(wrong))
        return self._with([])

    # Quoted, here and elsewhere: before Kilted the class cannot be subscripted.
    def _with(self, changes: 'list[Parameter[Any]]') -> Parameters:
        """Return the present values with some of them changed."""
        values: dict[str, Any] = {
            name: self._node.get_parameter(name).value for name in self._fields}
        values |= {change.name: change.value for change in changes}
        return Parameters(**{name: _plain(value) for name, value in values.items()})

    def _ours(self, parameters: 'list[Parameter[Any]]') -> 'list[Parameter[Any]]':
        return [parameter for parameter in parameters if parameter.name in self._fields]

    def _check(self, parameters: 'list[Parameter[Any]]') -> SetParametersResult:
        ours = self._ours(parameters)
        try:
            self._refuse(ours)
        except ConfigError as error:
            return SetParametersResult(successful=False, reason=str(error))
        for parameter in ours:
            self._rejected.pop(parameter.name, None)
        if not self._told_after:
            self._apply(ours)
        return SetParametersResult(successful=True)

    def _refuse(self, ours: 'list[Parameter[Any]]') -> None:
        pipeline = self._pipeline()
        for change in (Change.START, Change.CONFIGURE):
            names = [parameter.name for parameter in ours
                     if self._fields[parameter.name].metadata['change'] is change]
            if names and (change is Change.START or pipeline is not None):
                raise ConfigError(f'{", ".join(names)}: {change.value}')
        if wrong := [complaint for parameter in ours if (
                complaint := _complaint(self._fields[parameter.name], parameter.value))]:
            raise ConfigError('; '.join(wrong))
        if ours and pipeline is not None:
            pipeline.judge.check(self._with(ours))

    def _apply(self, parameters: 'list[Parameter[Any]]') -> None:
        ours = self._ours(parameters)
        if ours and (pipeline := self._pipeline()) is not None:
            pipeline.apply(self._with(ours))


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


def _expected(declared: Field[Any]) -> str:
    """Return a description of the values that a parameter takes."""
    point = ', with a decimal point' if _takes_doubles(declared) else ''
    return expected_values(Parameters, declared) + point


def _complaint(declared: Field[Any], value: Any) -> str | None:
    """Return why a value cannot be used; None if it can."""
    plain = _plain(value)
    parts = plain if isinstance(plain, tuple) else (plain,)
    # As in rclpy, 1 is not a double.
    whole = _takes_doubles(declared) and any(type(part) is int for part in parts)
    if fits(Parameters, declared, plain) and not whole:
        return None
    shown = list(plain) if isinstance(plain, tuple) else plain
    return f'parameter {declared.name} = {shown!r}: expected {_expected(declared)}'


def _descriptor(declared: Field[Any]) -> ParameterDescriptor:
    metadata = declared.metadata
    # START is not read-only: rclpy's own refusal would not say what to do.
    descriptor = ParameterDescriptor(
        description=metadata['help'],
        additional_constraints=f'{_expected(declared)}; {metadata["change"].value}')
    lowest, highest = metadata['lowest'], metadata['highest']
    if declared.type is float:
        descriptor.floating_point_range = [FloatingPointRange(from_value=lowest, to_value=highest)]
    elif declared.type is int:
        descriptor.integer_range = [IntegerRange(from_value=lowest, to_value=highest)]
    return descriptor
