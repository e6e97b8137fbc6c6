"""Settings and presets of simulated recordings; importing them does not load MuJoCo."""

from dataclasses import dataclass
from enum import Enum

from grasp_success_detector.errors import SimulationError
from grasp_success_detector.settings import check_settings, setting

Range = tuple[float, float]


@dataclass(frozen=True)
class Ranges:
    """
    Distributions of the camera, light and colours of an attempt: uniform (lowest, highest).

    Angles are in degrees, lengths in metres. The camera looks at a point above the table's centre
    (``target_height``): along -x at azimuth 0, down at positive elevation. ``target_jitter``,
    ``roll`` and ``wrist_tilt`` (of the shaking hand) are standard deviations.

    :ivar exposure: factor on the rendered brightness.
    :ivar noise: standard deviation of the sensor noise, in grey levels of 255.
    :ivar distractors: number of other objects on the table.
    :ivar varied_background: give floor, walls and table any hue; else wood colours and greys.
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
    """How much camera, light and colours vary between attempts."""

    RIG = 'rig'         #: a fixed camera on a stand beside the hand, small variations
    RANDOM = 'random'   #: any position of the camera, any light and colours
    WORLD = 'world'     #: each picture another hand, arm, table, camera and light


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
    """Storage format of the rosbag2 to write."""

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

    :raises SimulationError: a value is invalid; the error names every such value.
    """

    # The limits of attempts keep the seconds of stamps within 32 bits.
    attempts: int = setting(100, lowest=1, highest=1_000_000, help='number of attempts')
    seed: int = setting(0, lowest=0, help='the same seed gives the same bag')
    first_attempt: int = setting(
        0, lowest=0, highest=80_000_000,
        help='number of the first attempt; each number is another attempt')
    preset: Preset = setting(
        Preset.RIG, help='rig: one fixed camera, small changes; random: any camera and light; '
        'world: each picture with another hand, arm, table, camera and light (needs --frames)')
    frames: int | None = setting(
        None, lowest=1, help='labelled frames per attempt (all frames at --fps)')
    looks: int = setting(
        1, lowest=1, highest=1000, help='of the preset world: pictures of each frame, each with '
        'another look')
    assets: str | None = setting(
        None, metavar='FOLDER', help='of the preset world: models and photographs, as '
        'docs/real_cameras.md says; without it everything is made of primitives')
    fps: float = setting(15., lowest=1, highest=200, help='frames per second')
    from_s: float = setting(
        0., lowest=0, below=4, help='leave out the frames before this time of each attempt (s)')
    width: int = setting(320, lowest=16, highest=4096, help='of the images, in pixels')
    height: int = setting(240, lowest=16, highest=4096, help='of the images, in pixels')
    cameras: int = setting(
        1, lowest=1, highest=8, help='cameras of each attempt, placed by the preset one by one')
    empty: bool = setting(
        False, help='the hand closes on nothing, each time alike, as calibrate_hand needs it')
    without_hand: bool = setting(
        False, help='another gripper in the place of the hand, or none, for train_classifier '
        '--without-hand; of the preset world each attempt has two such pictures already')
    tactile: bool = setting(
        False, help='a tactile sensor on each link of the fingers, as of the driver v5_sense')
    storage: BagStorage = BagStorage.MCAP
    encoding: ImageEncoding = ImageEncoding.JPEG

    def __post_init__(self) -> None:
        check_settings(self, SimulationError, 'recording:')
        if self.preset is Preset.WORLD and self.frames is None:
            raise SimulationError('recording: preset world has no video; give the number of '
                                  'labelled frames of each attempt with --frames')
        if self.preset is Preset.WORLD and (self.cameras > 1 or self.empty or self.tactile
                                            or self.without_hand):
            raise SimulationError('recording: cameras, empty, tactile and without_hand are of the '
                                  'presets rig and random, not of world')
        if self.without_hand and self.tactile:
            raise SimulationError('recording: without_hand has no hand whose tactile sensors '
                                  'could be recorded; leave one of both out')
        if self.preset is not Preset.WORLD and (self.looks > 1 or self.assets is not None):
            raise SimulationError(f'recording: looks and assets are of the preset world, not of '
                                  f'{self.preset.value}')
