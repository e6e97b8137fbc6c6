"""What to record, and its limits; light enough for a command line to ask."""

from dataclasses import dataclass

from grasp_success_detector.errors import check_fields, SimulationError
from grasp_success_detector.simulation.presets import PRESETS

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
