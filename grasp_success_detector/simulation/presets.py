"""Settings of a simulated recording and the presets to choose from; imports no simulator."""

from dataclasses import dataclass
from enum import Enum

from grasp_success_detector.errors import SimulationError
from grasp_success_detector.settings import check_settings, setting

Range = tuple[float, float]


@dataclass(frozen=True)
class Ranges:
    """
    Ranges from which camera, light and colours of an attempt are drawn (uniform).

    Angles are in degrees, lengths in metres. The camera circles a point above the table's centre:
    azimuth 0 looks along -x, elevation is above the horizontal.

    :ivar exposure: factor on the rendered brightness.
    :ivar noise: standard deviation of the sensor noise, in grey levels of 255.
    :ivar distractors: number of further objects on the table.
    :ivar varied_background: floor, walls and table have any colour; else near-grey and wood.
    :ivar wrist_tilt: standard deviation of the hand's tilt while it shakes.
    """

    azimuth: Range
    elevation: Range
    distance: Range
    target_height: Range
    target_jitter: float
    field_of_view: Range
    roll: float
    exposure: Range
    noise: Range
    distractors: tuple[int, int]
    varied_background: bool
    wrist_tilt: float


class Preset(Enum):
    """How much camera, light and colours change from attempt to attempt."""

    RIG = 'rig'         #: one camera on a stand beside the hand, mounted once: small changes
    RANDOM = 'random'   #: any camera in any lab


RANGES = {
    Preset.RIG: Ranges(
        azimuth=(40., 60.), elevation=(14., 22.), distance=(0.55, 0.61),
        target_height=(0.15, 0.17), target_jitter=0.008, field_of_view=(42., 45.), roll=1.,
        exposure=(0.85, 1.1), noise=(0.5, 3.), distractors=(0, 2), varied_background=False,
        wrist_tilt=18.),
    Preset.RANDOM: Ranges(
        azimuth=(0., 360.), elevation=(-5., 40.), distance=(0.45, 0.80),
        target_height=(0.12, 0.18), target_jitter=0.02, field_of_view=(38., 55.), roll=3.,
        exposure=(0.7, 1.25), noise=(0.5, 6.), distractors=(0, 4), varied_background=True,
        wrist_tilt=25.),
}


class BagStorage(Enum):
    """Storage plugin of the rosbag2."""

    MCAP = 'mcap'
    SQLITE3 = 'sqlite3'


class ImageEncoding(Enum):
    """Type of the image messages."""

    JPEG = 'jpeg'   #: sensor_msgs/CompressedImage
    RAW = 'raw'     #: sensor_msgs/Image, rgb8


@dataclass(frozen=True)
class RecordingSettings:
    """
    Options of ``simulate_grasps``.

    :raises SimulationError: names every value that cannot be used.
    """

    # The limits of attempts keep the seconds of stamps within 32 bits.
    attempts: int = setting(100, lowest=1, highest=1_000_000, help='number of attempts')
    seed: int = setting(0, lowest=0, help='the same seed gives the same bag')
    first_attempt: int = setting(
        0, lowest=0, highest=80_000_000,
        help='number of the first attempt; each number is another attempt')
    preset: Preset = setting(
        Preset.RIG, help='rig: one fixed camera, small changes; random: any camera and light')
    frames: int | None = setting(
        None, lowest=1, help='labelled frames per attempt (all frames at --fps)')
    fps: float = setting(15., lowest=1, highest=200, help='frames per second')
    width: int = setting(320, lowest=16, highest=4096, help='of the images, in pixels')
    height: int = setting(240, lowest=16, highest=4096, help='of the images, in pixels')
    storage: BagStorage = BagStorage.MCAP
    encoding: ImageEncoding = ImageEncoding.JPEG

    def __post_init__(self) -> None:
        """Check every value."""
        check_settings(self, SimulationError, 'recording:')
