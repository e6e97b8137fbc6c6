"""The settings of an adaptation, which are the options of ``adapt_classifier``."""

from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

from grasp_success_detector.errors import ConfigError
from grasp_success_detector.settings import check_settings, setting


class Way(Enum):
    """A way of adapting; each adds candidates to those that are compared."""

    HEAD = 'head'               #: the last layer alone, on what the checkpoint looks at
    WHOLE = 'whole'             #: on whole frames, whose sides the checkpoint cuts off
    ROI = 'roi'                 #: on a region of interest
    IMAGENET = 'imagenet'       #: from ImageNet's weights
    SIMULATED = 'simulated'     #: with simulated frames mixed in
    BLOCKS = 'blocks'           #: the last blocks as well


@dataclass(frozen=True)
class AdaptationConfig:
    """What is compared, with how many frames, and how the result is judged."""

    ways: tuple[Way, ...] = setting(
        (Way.HEAD,), help='what to compare (head): head, whole, roi, imagenet, '
        'simulated, blocks; of many ways, few attempts often choose a worse one')
    roi: tuple[float, float, float, float] | None = setting(
        None, lowest=0, highest=1, metavar='X,Y,WIDTH,HEIGHT', separator=',',
        help='also compare this region of interest, as fractions of the frame (of --ways roi: its '
        'centre)')
    frames_per_attempt: int = setting(
        8, lowest=1, help='the most frames of each label of an attempt, spread evenly')
    max_false_positive_rate: float = setting(
        .01, above=0, below=1, metavar='SHARE', help='largest share of the failure frames that '
        'may count as success; chooses the threshold, where there are enough attempts')
    seed: int = setting(0, lowest=0, highest=2 ** 32 - 1,
                        help='the same seed and data give the same checkpoint')

    def __post_init__(self) -> None:
        check_settings(self, ConfigError, 'adaptation:')
        if Way.HEAD not in self.ways:
            object.__setattr__(self, 'ways', (Way.HEAD, *self.ways))

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON holds them."""
        return {**asdict(self), 'ways': [way.value for way in self.ways]}
