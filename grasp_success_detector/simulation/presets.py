"""What to record, and its limits; light enough for a command line to ask."""


from dataclasses import dataclass

from grasp_success_detector.errors import check_fields, SimulationError

Range = tuple[float, float]


@dataclass(frozen=True)
class Preset:
    """
    Ranges that one attempt's camera, light and colours are drawn from (uniform, both ends).

    Angles in degrees, lengths in metres. The camera circles a point above the table's centre:
    azimuth 0 looks along -x, elevation is above the horizontal.

    :ivar exposure: factor on the rendered brightness.
    :ivar noise: standard deviation of the sensor noise, in grey levels of 255.
    :ivar distractors: fewest and most further objects on the table.
    :ivar varied_background: floor, walls and table draw any colour; else near-grey and wood.
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


PRESETS = {
    # One camera on a stand beside the hand, as a lab mounts it once: small changes only.
    'rig': Preset(
        azimuth=(40., 60.), elevation=(14., 22.), distance=(0.55, 0.61),
        target_height=(0.15, 0.17), target_jitter=0.008, field_of_view=(42., 45.), roll=1.,
        exposure=(0.85, 1.1), noise=(0.5, 3.), distractors=(0, 2), varied_background=False,
        wrist_tilt=18.),
    # Any camera in any lab.
    'random': Preset(
        azimuth=(0., 360.), elevation=(-5., 40.), distance=(0.45, 0.80),
        target_height=(0.12, 0.18), target_jitter=0.02, field_of_view=(38., 55.), roll=3.,
        exposure=(0.7, 1.25), noise=(0.5, 6.), distractors=(0, 4), varied_background=True,
        wrist_tilt=25.),
}


STORAGES = ('mcap', 'sqlite3')
IMAGE_ENCODINGS = ('jpeg', 'raw')


@dataclass(frozen=True)
class Recording:
    """
    What to record: the options of ``simulate_grasps``, with their defaults.

    :ivar attempts: how many.
    :ivar seed: the same seed gives the same bag.
    :ivar preset: name of how much changes from attempt to attempt.
    :ivar fps: frames per second.
    :ivar frames: labelled frames per attempt; None for all frames at ``fps``.
    :ivar width: of the images, in pixels.
    :ivar height: of the images, in pixels.
    :ivar storage: of the bag.
    :ivar encoding: of the images.
    :ivar first_attempt: number of the first attempt; attempts of one seed differ by number.
    :raises SimulationError: naming every value that cannot be used.
    """

    attempts: int = 100
    seed: int = 0
    preset: str = 'rig'
    fps: float = 15.
    frames: int | None = None
    width: int = 320
    height: int = 240
    storage: str = 'mcap'
    encoding: str = 'jpeg'
    first_attempt: int = 0

    def __post_init__(self) -> None:
        check_fields(self, SimulationError, 'cannot record with', (
            ('attempts', self.attempts >= 1, '1 or more'),
            ('seed', self.seed >= 0, '0 or more'),
            ('first_attempt', self.first_attempt >= 0, '0 or more'),
            ('preset', self.preset in PRESETS, ' or '.join(PRESETS)),
            ('fps', 1 <= self.fps <= 200, '1 to 200'),
            ('frames', self.frames is None or self.frames >= 1, '1 or more'),
            ('width', 16 <= self.width <= 4096, '16 to 4096'),
            ('height', 16 <= self.height <= 4096, '16 to 4096'),
            ('storage', self.storage in STORAGES, ' or '.join(STORAGES)),
            ('encoding', self.encoding in IMAGE_ENCODINGS, ' or '.join(IMAGE_ENCODINGS))))
