"""How much of the simulated world changes from one attempt to the next."""

from dataclasses import dataclass

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
