"""The part of a report that shows frames: the worst errors, and where the classifier looked."""

from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

import cv2

from grasp_success_detector.checkpoint import Checkpoint
from grasp_success_detector.errors import ImageDecodeError
from grasp_success_detector.evaluation.grad_cam import grad_cam, overlay
from grasp_success_detector.evaluation.predictions import Prediction
from grasp_success_detector.html_page import image, label_key, section
from grasp_success_detector.image import read_image, RgbImage
from grasp_success_detector.labels import Label

#: Gives the picture of a prediction.
ReadFrame = Callable[[Prediction], RgbImage]

_WIDTH = 240  # of a picture, in pixels


def worst_errors(predictions: Sequence[Prediction], threshold: float, most: int = 12,
                 ) -> list[Prediction]:
    """
    Return the frames on which the answer was wrong and most sure, one of each attempt.

    :param most: so many at most, the worst first.
    """
    worst: dict[str, Prediction] = {}
    for row in predictions:
        if said(row, threshold) is not row.label and (
                row.attempt not in worst or _distance(row) > _distance(worst[row.attempt])):
            worst[row.attempt] = row
    return sorted(worst.values(), key=_distance, reverse=True)[:most]


def said(row: Prediction, threshold: float) -> Label:
    """Return the label that a frame was given."""
    return Label(int(row.probability >= threshold))


def frame_from(dataset: Path | None) -> ReadFrame:
    """Return what reads the pictures of a data set; without one, none can be read."""
    def read(row: Prediction) -> RgbImage:
        if dataset is None:
            raise ImageDecodeError('no_file', f'{row.attempt}: was never a file')
        return read_image(dataset / row.file)
    return read


def error_section(predictions: Sequence[Prediction], threshold: float, checkpoint: Checkpoint,
                  read_frame: ReadFrame, data: str) -> str:
    """Return the worst errors, each beside its Grad-CAM for the label that was said."""
    wrong = worst_errors(predictions, threshold)
    if not wrong:
        return section('The worst errors', f'No {data} frame is on the wrong side of the '
                       'threshold.')
    start: dict[str, int] = {}
    for row in predictions:
        start[row.attempt] = min(row.stamp_ns, start.get(row.attempt, row.stamp_ns))
    figures, unread = [], []
    for row in wrong:
        try:
            frame = read_frame(row)
        except ImageDecodeError as error:
            unread.append(str(error))
            continue
        figures.append(_figure(row, frame, said(row, threshold), checkpoint,
                               (row.stamp_ns - start[row.attempt]) / 1e9))
    missing = '' if not unread else (
        f'<p class="soft">{len(unread)} of these pictures cannot be read, such as '
        f'{escape(unread[0])}.</p>')
    attempts = len({row.attempt for row in predictions
                    if said(row, threshold) is not row.label})
    explanation = (
        f'The worst frame of each of {len(wrong)} of {attempts} attempts with a wrong frame, '
        f'{data} data, the surest errors first.')
    if any('class="pair"' in figure for figure in figures):
        explanation += (' On the right, Grad-CAM: what is bright spoke for the label that was '
                        'said; what is grey did not, and if all is grey, no place did by itself.')
    elif figures:
        explanation += ' This network has no feature maps that Grad-CAM could show.'
    return section('The worst errors', explanation, missing, label_key(),
                   '<div class="frames large">', *figures, '</div>')


def _figure(row: Prediction, frame: RgbImage, answer: Label, checkpoint: Checkpoint,
            seconds: float) -> str:
    truth, given = row.label.name.lower(), answer.name.lower()
    heat = grad_cam(checkpoint, frame, answer)
    pictures = image(small(frame), f'a frame labelled {truth}', row.label)
    if heat is not None:
        pictures += image(small(overlay(frame, heat)), f'what spoke for {given}', answer)
        pictures = f'<div class="pair">{pictures}</div>'
    return (f'<figure title="{escape(row.file)}">{pictures}<figcaption><b>is {truth}, said '
            f'{given}</b><br>P(success) = {row.probability:.3f}, {escape(row.attempt)}, at '
            f'{seconds:.2f} s</figcaption></figure>')


def small(frame: RgbImage, widest: int = _WIDTH) -> RgbImage:
    """Return a picture at most so many pixels wide."""
    height, width, _ = frame.shape
    if width <= widest:
        return frame
    size = widest, max(1, round(height * widest / width))
    return cv2.resize(frame, size, interpolation=cv2.INTER_AREA)  # type: ignore[return-value]


def _distance(row: Prediction) -> float:
    return abs(row.probability - row.label)
