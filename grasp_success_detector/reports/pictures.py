"""Grad-CAM: where in a frame the classifier finds the grounds for its answer."""


from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
import torch
from torch import nn

from grasp_success_detector.evaluation.attempts import FrameVerdict
from grasp_success_detector.evaluation.frame_sources import Recording
from grasp_success_detector.images.decoding import RgbImage
from grasp_success_detector.labels import Label
from grasp_success_detector.networks.build import stages
from grasp_success_detector.networks.checkpoint import Checkpoint
from grasp_success_detector.recordings.reader import RefusedFrame

Made = TypeVar('Made')

#: Source and number of a frame.
FrameKey = tuple[str, int]


def key_of(frame: FrameVerdict) -> FrameKey:
    """Return what a frame is found by."""
    return frame.source, frame.number


def read_pictures(recordings: Sequence[Recording], wanted: Iterable[FrameVerdict],
                  make: Callable[[RgbImage], Made]) -> Mapping[FrameKey, Made]:
    """
    Read each wanted frame once; those that cannot be decoded are left out.

    :param make: what is kept of a picture, RGB uint8 (H, W, 3).
    """
    keys = {key_of(frame) for frame in wanted}
    made: dict[FrameKey, Made] = {}
    for recording in recordings:
        frames = [frame for frame in recording.frames if (recording.name, frame.number) in keys]
        for frame, result in recording.read(frames, make) if frames else ():
            if not isinstance(result, RefusedFrame):
                made[recording.name, frame.number] = result
    return made


Heat = NDArray[np.float32]


def grad_cam(checkpoint: Checkpoint, frame: RgbImage, label: Label) -> Heat | None:
    """
    Return how much each place of a frame speaks for a label.

    The feature maps of the last stage that still has places are weighed by the mean gradient of
    the label's score, added up, and cut at 0: Selvaraju et al., Grad-CAM: Visual Explanations
    from Deep Networks via Gradient-based Localization, ICCV 2017, equations 1 and 2. The score is
    the label's logit less the other's, as P(success) depends on nothing but this difference.

    :param frame: RGB uint8 (H, W, 3).
    :returns: float32 (H, W), 0 to 1, of the frame, 0 outside of what the classifier sees; all 0
        where nothing speaks for the label. None: the network has no such stage, as
        transformers haven't.
    """
    preprocessing, model = checkpoint.metadata.preprocessing, checkpoint.model
    image = preprocessing.crop_and_resize(frame)
    x = preprocessing.normalize(torch.from_numpy(image[None]))  # (1, 3, h, w)
    found = _last_maps([stage.module for stage in stages(
        model, checkpoint.metadata.architecture)], x)
    if found is None:
        return None
    maps, rest = found
    maps.requires_grad_()
    with torch.enable_grad():
        logits = rest(maps.clone())[0]  # a clone, which may be changed in place
        gradient, = torch.autograd.grad(logits[label] - logits[1 - label], maps)
    weights = gradient.mean((2, 3), keepdim=True)  # (1, C, 1, 1)
    seen = torch.relu((weights * maps.detach()).sum(1))[0]  # (h', w')
    if (most := seen.max()) > 0:
        seen = seen / most
    top, left, height, width = preprocessing.region(frame.shape[0], frame.shape[1])
    heat = np.zeros(frame.shape[:2], np.float32)
    heat[top:top + height, left:left + width] = cv2.resize(
        seen.numpy().astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    return heat


@torch.no_grad()
def _last_maps(modules: Sequence[nn.Module], x: torch.Tensor,
               ) -> tuple[torch.Tensor, nn.Sequential] | None:
    """Return the last (1, C, h', w') of more than one place, and what comes behind it."""
    found = None
    _, _, height, width = x.shape
    for behind, module in enumerate(modules, 1):
        x = module(x)
        # In the image's proportions, up to rounding: some transformers put the channels last.
        if (x.ndim == 4 and x.shape[2] * x.shape[3] > 1
                and abs(x.shape[2] * width - x.shape[3] * height) <= max(width, height)):
            found = x.clone(), nn.Sequential(*modules[behind:])
    return found


def overlay(frame: RgbImage, heat: Heat) -> RgbImage:
    """
    Lay heat over a frame made grey, so that only the heat has colour.

    :param frame: RGB uint8 (H, W, 3).
    :param heat: float32 (H, W), 0 to 1.
    :returns: RGB uint8 (H, W, 3).
    """
    grey = cv2.cvtColor(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    # Of even lightness steps, and told apart by the colour-blind, unlike a rainbow.
    colours = cv2.cvtColor(cv2.applyColorMap((heat * 255).astype(np.uint8),
                                             cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
    share = .75 * heat[..., None]
    return np.asarray(grey * (1 - share) + colours * share, np.uint8)
