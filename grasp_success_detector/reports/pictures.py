"""Read the frames of a report, find the worst errors among them, and compute Grad-CAM."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
import torch
from torch import nn

from grasp_success_detector.decision import NS_PER_S
from grasp_success_detector.errors import ImageDecodeError
from grasp_success_detector.evaluation.frame_sources import Recording
from grasp_success_detector.evaluation.predictions import FrameVerdict, Prediction
from grasp_success_detector.images.decoding import read_image, RgbImage
from grasp_success_detector.inference.hand_finder import look
from grasp_success_detector.labels import Label
from grasp_success_detector.networks.architectures import stages
from grasp_success_detector.networks.checkpoint import Checkpoint
from grasp_success_detector.recordings.reader import RefusedFrame

Made = TypeVar('Made')

#: Source and number of a frame.
FrameKey = tuple[str, int]

#: Returns the frame of a prediction, RGB uint8 (H, W, 3), or raises ImageDecodeError.
ReadFrame = Callable[[Prediction], RgbImage]


def key_of(frame: FrameVerdict) -> FrameKey:
    """Return source and number of a frame, by which :func:`read_pictures` returns pictures."""
    return frame.source, frame.number


def read_pictures(recordings: Sequence[Recording], wanted: Iterable[FrameVerdict],
                  make: Callable[[RgbImage], Made]) -> Mapping[FrameKey, Made]:
    """
    Read each wanted frame once; frames that cannot be decoded are left out.

    :param make: maps a picture, RGB uint8 (H, W, 3), to the value that is returned for it.
    """
    keys = {key_of(frame) for frame in wanted}
    made: dict[FrameKey, Made] = {}
    for recording in recordings:
        frames = [frame for frame in recording.frames if (recording.name, frame.number) in keys]
        for frame, result in recording.read(frames, make) if frames else ():
            if not isinstance(result, RefusedFrame):
                made[recording.name, frame.number] = result
    return made


def frame_from(dataset: Path | None) -> ReadFrame:
    """Return a function that reads frames of a data set; for None it raises ImageDecodeError."""
    def read(row: Prediction) -> RgbImage:
        if dataset is None:
            raise ImageDecodeError('no_file', f'{row.attempt}: its frames are not files')
        return read_image(dataset / row.file)
    return read


def small(frame: RgbImage, widest: int = 240) -> RgbImage:
    """Return a picture shrunk to a width of at most ``widest`` pixels."""
    height, width, _ = frame.shape
    if width <= widest:
        return frame
    size = widest, max(1, round(height * widest / width))
    return cv2.resize(frame, size, interpolation=cv2.INTER_AREA)  # type: ignore[return-value]


class ErrorFigure(NamedTuple):
    """
    A frame with a wrong answer.

    :ivar seconds: time since the attempt's first frame.
    :ivar heat: the frame with Grad-CAM for the answer; None if the network has no feature maps.
    """

    row: Prediction
    answer: Label
    seconds: float
    picture: RgbImage
    heat: RgbImage | None


@dataclass(frozen=True)
class Errors:
    """
    The worst errors, one of each attempt.

    :ivar attempts: number of attempts with a wrong frame.
    :ivar wrong: number of attempts chosen.
    :ivar figures: the chosen frames that can be read.
    :ivar unread: for each other chosen frame, why it cannot be read.
    """

    attempts: int
    wrong: int
    figures: tuple[ErrorFigure, ...]
    unread: tuple[str, ...]


def find_errors(predictions: Sequence[Prediction], threshold: float, checkpoint: Checkpoint,
                read_frame: ReadFrame) -> Errors:
    """Return the worst errors, each with Grad-CAM for the wrong answer."""
    start: dict[str, int] = {}
    for row in predictions:
        start[row.attempt] = min(row.stamp_ns, start.get(row.attempt, row.stamp_ns))
    chosen = worst_errors(predictions, threshold)
    figures, unread = [], []
    for row in chosen:
        try:
            frame = read_frame(row)
        except ImageDecodeError as error:
            unread.append(str(error))
            continue
        answer = _answer(row, threshold)
        heat = grad_cam(checkpoint, frame, answer)
        figures.append(ErrorFigure(
            row, answer, (row.stamp_ns - start[row.attempt]) / NS_PER_S, small(frame),
            None if heat is None else small(overlay(frame, heat))))
    attempts = {row.attempt for row in predictions if _answer(row, threshold) is not row.label}
    return Errors(len(attempts), len(chosen), tuple(figures), tuple(unread))


def worst_errors(predictions: Sequence[Prediction], threshold: float, most: int = 12,
                 ) -> list[Prediction]:
    """
    Return the most confident wrong prediction of each attempt, the worst first.

    :param most: largest number of attempts to return.
    """
    worst: dict[str, Prediction] = {}
    for row in predictions:
        if _answer(row, threshold) is not row.label and (
                row.attempt not in worst or _distance(row) > _distance(worst[row.attempt])):
            worst[row.attempt] = row
    return sorted(worst.values(), key=_distance, reverse=True)[:most]


def _answer(row: Prediction, threshold: float) -> Label:
    return Label(int(row.probability >= threshold))


def _distance(row: Prediction) -> float:
    return abs(row.probability - row.label)


Heat = NDArray[np.float32]


def grad_cam(checkpoint: Checkpoint, frame: RgbImage, label: Label) -> Heat | None:
    """
    Return how much each pixel of a frame contributes to the score of a label.

    The feature maps of the last stage with more than one pixel are weighted by the mean gradient
    of the label's score, summed, and clipped at 0: Selvaraju et al., Grad-CAM: Visual Explanations
    from Deep Networks via Gradient-based Localization, ICCV 2017, equations 1 and 2. The score is
    the label's logit minus the other's, as P(success) depends on nothing but this difference.

    :param frame: RGB uint8 (H, W, 3).
    :returns: float32 (H, W), 0 to 1; 0 outside of the region of interest, and everywhere if
        nothing adds to the score. None if the network has no such stage, such as a transformer.
    """
    preprocessing, model = checkpoint.metadata.preprocessing, checkpoint.model
    view = look(frame, preprocessing)
    x = preprocessing.normalize(torch.from_numpy(view.image[None]))  # (1, 3, h, w)
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
    top, left, height, width = preprocessing.region(
        frame.shape[0], frame.shape[1], view.box.edges if view.box else None)
    heat = np.zeros(frame.shape[:2], np.float32)
    heat[top:top + height, left:left + width] = cv2.resize(
        seen.numpy().astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    return heat


@torch.no_grad()
def _last_maps(modules: Sequence[nn.Module], x: torch.Tensor,
               ) -> tuple[torch.Tensor, nn.Sequential] | None:
    """Return the last feature maps (1, C, h', w') of more than one pixel, and later layers."""
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
    Return the frame in grey with a heat map blended over it.

    :param frame: RGB uint8 (H, W, 3).
    :param heat: float32 (H, W), 0 to 1.
    :returns: RGB uint8 (H, W, 3).
    """
    grey = cv2.cvtColor(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    # Perceptually uniform, and legible for colour-blind people, unlike a rainbow.
    colours = cv2.cvtColor(cv2.applyColorMap((heat * 255).astype(np.uint8),
                                             cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
    share = .75 * heat[..., None]
    return np.asarray(grey * (1 - share) + colours * share, np.uint8)
