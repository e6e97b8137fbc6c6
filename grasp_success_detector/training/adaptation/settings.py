"""The settings of an adaptation, and the views of a frame that it compares."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

from grasp_success_detector.errors import ConfigError
from grasp_success_detector.evaluation.frame_sources import Recording
from grasp_success_detector.images.preprocessing import Preprocessing
from grasp_success_detector.recordings.reader import RefusedFrame
from grasp_success_detector.settings import check_settings, setting

#: The view that a checkpoint's own preprocessing takes.
OWN_VIEW = 'frame'

#: Architectures that take inputs of any size, as they average over the last feature maps.
_ANY_SIZE = ('efficientnet_lite0', 'resnet34')
#: Frames at least this much wider or higher than the input are also tried whole.
_OBLONG = 1.1
#: The widest input, as a multiple of its height or width: it costs as much more time.
_WIDEST = 1.8
_CENTRE = (.15, .15, .7, .7)


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
    """The settings of an adaptation, which are the options of ``adapt_classifier``."""

    ways: tuple[Way, ...] = setting(tuple(Way), help='what to compare:')
    roi: tuple[float, float, float, float] | None = setting(
        None, lowest=0, highest=1, metavar='X,Y,WIDTH,HEIGHT', separator=',',
        help='region of interest around the hand, as fractions of the frame (its centre is tried)')
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


def views(config: AdaptationConfig, architecture: str, own: Preprocessing,
          size: tuple[int, int] | None) -> dict[str, Preprocessing]:
    """
    Return the views that are compared, by name; the checkpoint's own comes first.

    A finder of hands would add its region here.

    :param own: preprocessing of the checkpoint.
    :param size: height and width of the camera's frames; None if no frame can be decoded.
    """
    made = {OWN_VIEW: own}
    if Way.WHOLE in config.ways and size is not None and architecture in _ANY_SIZE:
        aspect = (size[1] / size[0]) / (own.width / own.height)
        if max(aspect, 1 / aspect) >= _OBLONG:
            made['whole'] = replace(
                own, roi=(0., 0., 1., 1.), height=round(own.height * min(max(1 / aspect, 1.), _WIDEST)),
                width=round(own.width * min(max(aspect, 1.), _WIDEST)))
    if Way.ROI in config.ways or config.roi is not None:
        made['roi'] = replace(own, roi=config.roi or _CENTRE)
    return made


def frame_size(recordings: Sequence[Recording]) -> tuple[int, int] | None:
    """Return height and width of the first frame that can be decoded, None without any."""
    for recording in recordings:
        for frame in recording.frames[:3]:
            for _, size in recording.read([frame], lambda picture: picture.shape[:2]):
                if not isinstance(size, RefusedFrame):
                    return size[0], size[1]
    return None
