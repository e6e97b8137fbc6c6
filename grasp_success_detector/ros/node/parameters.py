"""Every parameter of the node, stated once: type, default, description, range, when it acts."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from grasp_success_detector.decision import DecisionConfig
from grasp_success_detector.errors import ConfigError
from grasp_success_detector.images.visibility import VisibilityConfig
from grasp_success_detector.inference.engine import AUTO, ENGINE, PRECISION
from grasp_success_detector.ros.node.decoders import DECODERS, NATIVE


class Change(Enum):
    """When a parameter may change; the value says what to do where it may not."""

    RUNNING = 'changes at once, in any state'
    CONFIGURE = ('read in configure; deactivate and clean up the node first, set it, then '
                 'configure and activate')
    START = ('read at start; give it on the command line or in the parameter file and start the '
             'node again')


def _parameter(
    default: Any, description: str, change: Change, *, lowest: float | None = None,
    highest: float | None = None, choices: tuple[str, ...] = (),
) -> Any:
    return field(default=default, metadata={
        'description': description, 'lowest': lowest, 'highest': highest, 'choices': choices,
        'change': change})


@dataclass(frozen=True)
class Parameters:
    """Values of the node's parameters; the fields are what the node declares."""

    checkpoint: str = _parameter(
        '', 'Checkpoint file (.safetensors); empty: the one that ships with the package.',
        Change.CONFIGURE)
    device: str = _parameter(
        'auto', 'Where the network runs: auto, cpu, cuda, cuda:1, ...; with OpenVINO also gpu, '
        'npu.', Change.CONFIGURE)
    engine: str = _parameter(AUTO, ENGINE, Change.CONFIGURE)
    precision: str = _parameter(AUTO, PRECISION, Change.CONFIGURE)
    threads: int = _parameter(
        0, 'CPU threads of the network; 0: as many as the engine takes.', Change.CONFIGURE,
        lowest=0, highest=256)

    image_transport: str = _parameter(
        'raw', 'raw: sensor_msgs/Image on "image"; compressed: sensor_msgs/CompressedImage on '
        '"image/compressed".', Change.CONFIGURE, choices=('raw', 'compressed'))
    image_decoder: str = _parameter(
        NATIVE, 'What turns messages into pixels: this package, or an installed cv_bridge.',
        Change.CONFIGURE, choices=DECODERS)
    reliability: str = _parameter(
        'auto', 'Asked of the camera. auto: reliable where every camera on the topic offers it, '
        'else best effort; best_effort; reliable.', Change.CONFIGURE,
        choices=('auto', 'best_effort', 'reliable'))
    use_receive_time: bool = _parameter(
        False, 'Take the time at which a frame was received for its stamp: for cameras whose '
        'clock is not the one of this machine.', Change.CONFIGURE)
    max_rate: float = _parameter(
        0., 'Frames judged per second at most; 0: as many as come and can be judged.',
        Change.RUNNING, lowest=0., highest=1000.)
    roi: tuple[float, float, float, float] = _parameter(
        (0., 0., 0., 0.), 'Region of interest [x, y, width, height] as fractions of the frame, '
        'origin at the top left; all 0: the one in the checkpoint.', Change.RUNNING,
        lowest=0., highest=1.)

    threshold: float = _parameter(
        0., 'Mean P(success) from which the verdict is SUCCESS; 0: the threshold in the '
        'checkpoint.', Change.RUNNING, lowest=0., highest=1.)
    hysteresis: float = _parameter(
        DecisionConfig.hysteresis, 'A SUCCESS lasts until the mean is below the threshold by this '
        'share of it.', Change.RUNNING, lowest=0., highest=0.99)
    undecided: float = _parameter(
        DecisionConfig.undecided, 'A mean below the threshold by less than this share of it is '
        'UNKNOWN (false) instead of FAILURE.', Change.RUNNING, lowest=0., highest=0.99)
    window_s: float = _parameter(
        DecisionConfig.window_s, 'Span of frame stamps that is averaged, in seconds.',
        Change.RUNNING, lowest=0., highest=60.)
    min_frames: int = _parameter(
        DecisionConfig.min_frames, 'Frames within the window that a verdict needs.',
        Change.RUNNING, lowest=1, highest=1000)
    stale_after_s: float = _parameter(
        DecisionConfig.stale_after_s, 'Seconds without a frame judged, after which the verdict '
        'is UNKNOWN (false).', Change.RUNNING, lowest=0.05, highest=60.)
    max_bad_frames: int = _parameter(
        DecisionConfig.max_bad_frames, 'So many undecodable frames in a row mean UNKNOWN (false).',
        Change.RUNNING, lowest=1, highest=1000)

    max_black: float = _parameter(
        VisibilityConfig.max_black, 'Share of black pixels above which the camera counts as blind '
        '(UNKNOWN, false); 1: never.', Change.RUNNING, lowest=0., highest=1.)
    max_white: float = _parameter(
        VisibilityConfig.max_white, 'Share of white pixels above which the camera counts as blind '
        '(UNKNOWN, false); 1: never.', Change.RUNNING, lowest=0., highest=1.)
    frozen_after_s: float = _parameter(
        VisibilityConfig.frozen_after_s, 'Seconds of frames that are all the same picture, after '
        'which the camera counts as frozen (UNKNOWN, false); 0: never, for noiseless simulators.',
        Change.RUNNING, lowest=0., highest=3600.)

    verify_timeout_s: float = _parameter(
        2., 'Seconds after which ~/verify answers UNKNOWN when it knows no better.',
        Change.RUNNING, lowest=0.05, highest=600.)
    autostart: bool = _parameter(
        True, 'Go to active by itself; false: wait for a lifecycle manager.', Change.START)

    def check_together(self) -> None:
        """
        Check what single values cannot tell.

        :raises ConfigError: naming the values that do not go together.
        """
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
        """Return how frames are weighed."""
        return DecisionConfig(
            self.threshold or checkpoint_threshold, self.hysteresis, self.undecided,
            self.window_s, self.min_frames, self.stale_after_s, self.max_bad_frames)

    def visibility(self) -> VisibilityConfig:
        """Return from when on the camera counts as blind."""
        return VisibilityConfig(self.max_black, self.max_white, self.frozen_after_s)
