"""Parameters of the node: defaults, limits and descriptions."""

from dataclasses import dataclass, fields
from enum import Enum
from typing import Any

from grasp_success_detector.decision import DecisionConfig, FUSED_THRESHOLD
from grasp_success_detector.errors import ConfigError
from grasp_success_detector.files import CHECKPOINT_HELP
from grasp_success_detector.hand.drivers import DriverKind, Side
from grasp_success_detector.images.visibility import VisibilityConfig
from grasp_success_detector.inference.engine import AUTO, ENGINE_HELP, PRECISION_HELP
from grasp_success_detector.networks.familiarity import FAMILIARITY_QUANTILE
from grasp_success_detector.ros.node.image_conversion import ImageDecoder
from grasp_success_detector.settings import check_settings, setting


class Change(Enum):
    """When a parameter may change; the value tells a user how to change it."""

    RUNNING = 'changes at once, in any state'
    LOADED = 'changes in any state; a configured node judges with the former one while it loads'
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


class RoiMode(Enum):
    """What is cut out of a frame; AUTO: ``roi`` where it is set, else what the checkpoint says."""

    AUTO = 'auto'
    FIXED = 'fixed'
    HAND = 'hand'
    TF = 'tf'


def _parameter(default: Any, text: str, change: Change = Change.RUNNING, **limits: Any) -> Any:
    return setting(default, help=text, change=change, **limits)


def _parameter_of(owner: type, name: str, **limits: float) -> Any:
    """Return a parameter for a configuration's field; limits of ROS parameters are inclusive."""
    declared = {declared.name: declared for declared in fields(owner)}[name]
    known = {limit: declared.metadata[limit] for limit in ('lowest', 'highest')}
    return _parameter(declared.default, declared.metadata['help'], **(known | limits))


@dataclass(frozen=True)
class HandParameters:
    """Values of the parameters that tell which hand takes part in the verdict."""

    driver: DriverKind = _parameter(
        DriverKind.NONE, 'Driver that moves the hand: none (the camera alone decides), v4, '
        'plexus, v5, v5_sense or v6.', Change.CONFIGURE)
    hand: Side = _parameter(Side.RIGHT, 'Side of the hand: right or left.', Change.CONFIGURE)
    hand_number: int = _parameter(
        0, 'Number of the hand in the topics of the drivers v5 and v5_sense.', Change.CONFIGURE,
        lowest=0, highest=99)
    joint_states_topic: str = _parameter(
        '', 'sensor_msgs/JointState of the hand; empty: that of the driver.', Change.CONFIGURE)
    joint_names: str = _parameter(
        '', 'Names of the joints, separated by commas: index, middle, ring, thumb (, little), '
        "each from its base to its tip; empty: the driver's.", Change.CONFIGURE)
    hand_model: str = _parameter(
        '', 'File of calibrate_hand; empty: the one that ships, of simulated attempts.',
        Change.CONFIGURE)

    @property
    def uses_hand(self) -> bool:
        """Return whether joint states take part in the verdict."""
        return self.driver is not DriverKind.NONE or self.joint_states_topic != ''


@dataclass(frozen=True)
class Parameters(HandParameters):
    """Values of the node's parameters; the node declares a parameter for each field."""

    checkpoint: str = _parameter(
        '', f'Checkpoint: {CHECKPOINT_HELP}; empty: the first of these.', Change.LOADED)
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
    roi_mode: RoiMode = _parameter(
        RoiMode.AUTO, 'What is cut out of a frame. fixed: roi; hand: the hand, which is looked '
        'for in roi; tf: the hand, where TF and CameraInfo say that it is; auto: roi where it is '
        'set, else what the checkpoint has learned from.')
    palm_frame: str = _parameter(
        '', 'Frame of the palm in TF, for roi_mode tf; empty: that of the driver, where it is '
        'known.', Change.CONFIGURE)
    hand_size_m: float = _parameter(
        0.2, 'Diameter in metres of a ball around the origin of palm_frame that holds the hand, '
        'for roi_mode tf.', lowest=0.01, highest=2.)
    camera_info_topic: str = _parameter(
        '', 'sensor_msgs/CameraInfo, for roi_mode tf; empty: camera_info beside the image topic.',
        Change.CONFIGURE)

    threshold: float = _parameter(
        0., 'Mean P(success) from which the verdict is SUCCESS; 0: the threshold in the '
        f'checkpoint. Fused with joint states: {FUSED_THRESHOLD}.', lowest=0., highest=1.)
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
    record_doubtful: str = _parameter(
        '', 'Folder for bags of the seconds around doubtful verdicts, for label_attempts; empty: '
        'none.', Change.CONFIGURE)
    record_doubtful_max_mb: int = _parameter(
        1000, 'Size of record_doubtful in 10^6 bytes from which no more is recorded.',
        Change.CONFIGURE, lowest=1, highest=10 ** 6)
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


@dataclass(frozen=True)
class FusionParameters(HandParameters):
    """Values of the parameters of fusion_node."""

    cameras: str = _parameter(
        '', 'Namespaces of the detectors that are fused, separated by commas: left,right means '
        'left/grasp_success/confidence and right/grasp_success/confidence.',
        Change.CONFIGURE)
    threshold: float = _parameter(
        FUSED_THRESHOLD, 'P(success) of all parts from which the verdict is SUCCESS.',
        lowest=0.01, highest=1.)
    hysteresis: float = _parameter_of(DecisionConfig, 'hysteresis', highest=0.99)
    undecided: float = _parameter_of(DecisionConfig, 'undecided', highest=0.99)
    stale_after_s: float = _parameter(
        1.2, 'Seconds after which a part that is silent counts for nothing.', lowest=0.05,
        highest=60.)
    window_s: float = _parameter(
        0.5, 'Span that the detectors average (their window_s): what they say earlier after a '
        'call of ~/verify does not answer it.', lowest=0., highest=60.)
    verify_timeout_s: float = _parameter(
        3., 'Seconds after which ~/verify answers UNKNOWN if the parts gave no verdict.',
        lowest=0.05, highest=600.)
    autostart: bool = _parameter(
        True, 'Go to active by itself; false: wait for a lifecycle manager.', Change.START)

    def __post_init__(self) -> None:
        """Raise a ConfigError if values are out of range, or there is nothing to fuse."""
        check_settings(self, ConfigError, 'parameters:')

    @property
    def names(self) -> tuple[str, ...]:
        """Return the cameras' namespaces."""
        return tuple(name.strip().strip('/') for name in self.cameras.split(',') if name.strip())

    def decision(self) -> DecisionConfig:
        """Return the decision's settings."""
        return DecisionConfig(self.threshold, self.hysteresis, self.undecided,
                              stale_after_s=self.stale_after_s)
