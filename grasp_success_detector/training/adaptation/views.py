"""The views of a frame that an adaptation compares: what a network is shown of it."""

from collections.abc import Sequence
from dataclasses import replace

from grasp_success_detector.evaluation.frame_sources import Recording
from grasp_success_detector.images.preprocessing import Preprocessing
from grasp_success_detector.recordings.reader import RefusedFrame
from grasp_success_detector.training.adaptation.settings import AdaptationConfig, Way

#: The view that a checkpoint's own preprocessing takes.
OWN_VIEW = 'frame'

#: Architectures that take inputs of any size, as they average over the last feature maps.
_ANY_SIZE = ('efficientnet_lite0', 'resnet34')
#: Frames at least this much wider or higher than the input are also tried whole.
_OBLONG = 1.1
#: The widest input, as a multiple of its height or width: it costs as much more time.
_WIDEST = 1.8
_CENTRE = (.15, .15, .7, .7)


def views(config: AdaptationConfig, architecture: str, own: Preprocessing,
          size: tuple[int, int] | None) -> dict[str, Preprocessing]:
    """
    Return the views that are compared, by name; the checkpoint's own comes first.

    :param own: preprocessing of the checkpoint.
    :param size: height and width of the camera's frames; None if no frame can be decoded.
    """
    made = {OWN_VIEW: own}
    if Way.WHOLE in config.ways and size is not None and architecture in _ANY_SIZE:
        aspect = (size[1] / size[0]) / (own.width / own.height)
        if max(aspect, 1 / aspect) >= _OBLONG:
            made['whole'] = replace(
                own, roi=(0., 0., 1., 1.), hand=0.,
                height=round(own.height * min(max(1 / aspect, 1.), _WIDEST)),
                width=round(own.width * min(max(aspect, 1.), _WIDEST)))
    if Way.ROI in config.ways or config.roi is not None:
        made['roi'] = replace(own, roi=config.roi or _CENTRE, hand=0.)
    return made


def frame_size(recordings: Sequence[Recording]) -> tuple[int, int] | None:
    """Return height and width of the first frame that can be decoded, None without any."""
    for recording in recordings:
        for frame in recording.frames[:3]:
            for _, size in recording.read([frame], lambda picture: picture.shape[:2]):
                if not isinstance(size, RefusedFrame):
                    return size[0], size[1]
    return None
