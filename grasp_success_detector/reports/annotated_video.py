"""Attempts as annotated videos: each frame with P(success), label and verdict."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

import cv2
import numpy as np

from grasp_success_detector.decision import NS_PER_S
from grasp_success_detector.errors import ConfigError
from grasp_success_detector.evaluation.attempts import AttemptResult, FrameVerdict
from grasp_success_detector.evaluation.frame_sources import Recording
from grasp_success_detector.images.decoding import RgbImage
from grasp_success_detector.labels import Label, Verdict
from grasp_success_detector.recordings.reader import RefusedFrame
from grasp_success_detector.recordings.sources import safe_name
from grasp_success_detector.reports.page import LABEL_COLOURS

_BANNER = 52                # pixels above the picture
_WIDTHS = 480, 1280         # smaller pictures are enlarged, larger ones reduced
_GREY, _INK, _BACK = (150, 150, 150), (240, 240, 240), (28, 32, 36)  # RGB


def write_videos(recordings: Sequence[Recording], attempts: Sequence[AttemptResult],
                 threshold: float, folder: Path) -> list[Path]:
    """
    Write an mp4 (MPEG-4) of each attempt, named after it, at the recording's own pace.

    :param folder: exists.
    :raises ConfigError: this OpenCV cannot write such files.
    """
    by_name = {recording.name: recording for recording in recordings}
    return [_write(by_name[attempt.source], attempt, threshold,
                   folder / f'{safe_name(attempt.name)}.mp4') for attempt in attempts]


def _write(recording: Recording, attempt: AttemptResult, threshold: float, path: Path) -> Path:
    writer: cv2.VideoWriter | None = None
    size = (0, 0)
    try:
        for picture in _annotated(recording, attempt, threshold):
            if writer is None:
                size = picture.shape[1], picture.shape[0]
                writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG,
                                         cv2.VideoWriter.fourcc(*'mp4v'), _fps(attempt), size)
                if not writer.isOpened():
                    raise ConfigError(f'{path}: OpenCV cannot write mp4 here; leave out --videos')
            if (picture.shape[1], picture.shape[0]) != size:
                picture = np.asarray(cv2.resize(picture, size), np.uint8)
            writer.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    finally:
        if writer is not None:
            writer.release()
    return path


def _fps(attempt: AttemptResult) -> float:
    stamps = [frame.stamp_ns for frame in attempt.frames]
    steps = [b - a for a, b in zip(stamps, stamps[1:], strict=False) if b > a]
    return min(max(NS_PER_S / median(steps), 1.), 240.) if steps else 1.


def _annotated(recording: Recording, attempt: AttemptResult, threshold: float,
               ) -> Iterator[RgbImage]:
    verdicts = {frame.number: frame for frame in attempt.frames}
    chosen = [frame for frame in recording.frames if frame.number in verdicts]
    start_ns = attempt.frames[0].stamp_ns
    for frame, picture in recording.read(chosen, lambda rgb: rgb):
        if not isinstance(picture, RefusedFrame):
            said = verdicts[frame.number]
            yield annotate(picture, said, (said.stamp_ns - start_ns) / NS_PER_S, threshold)


def annotate(picture: RgbImage, frame: FrameVerdict, seconds: float, threshold: float,
             ) -> RgbImage:
    """
    Draw a banner above a picture: verdict, label, P(success) as a bar with the threshold.

    :param picture: RGB uint8 (H, W, 3).
    :returns: RGB uint8; its sides are even, as video codecs want.
    """
    height, width, _ = picture.shape
    scale = min(max(width, _WIDTHS[0]), _WIDTHS[1]) / width
    width, height = (2 * round(side * scale / 2) for side in (width, height))
    out = np.empty((height + _BANNER, width, 3), np.uint8)
    out[:_BANNER] = _BACK
    out[_BANNER:] = cv2.resize(picture, (width, max(height, 2)),
                               interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    colour = _GREY if frame.verdict is Verdict.UNKNOWN else (
        LABEL_COLOURS[Label[frame.verdict.name]])
    cv2.rectangle(out, (10, 9), (26, 25), colour, -1)
    label = 'none' if frame.label is None else frame.label.name.lower()
    _text(out, f'{frame.verdict.value}   label {label}   {seconds:.2f} s', (34, 23))
    left, right = 10, width - 80
    cv2.rectangle(out, (left, 34), (right, 44), _GREY, 1)
    if frame.probability is not None:
        cv2.rectangle(out, (left, 34), (left + round((right - left) * frame.probability), 44),
                      LABEL_COLOURS[Label.SUCCESS], -1)
    at = left + round((right - left) * threshold)
    cv2.line(out, (at, 31), (at, 47), _INK, 1)
    _text(out, 'P = -' if frame.probability is None else f'P = {frame.probability:.2f}',
          (right + 8, 44))
    return out


def _text(picture: RgbImage, text: str, at: tuple[int, int]) -> None:
    cv2.putText(picture, text, at, cv2.FONT_HERSHEY_SIMPLEX, .5, _INK, 1, cv2.LINE_AA)
