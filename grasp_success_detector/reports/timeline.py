"""Show attempts over time: as a chart below thumbnails, and as an annotated video."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
import math
from pathlib import Path
from statistics import median
from typing import NamedTuple
from zlib import crc32

import cv2
import numpy as np

from grasp_success_detector.decision import DecisionConfig, NS_PER_S
from grasp_success_detector.errors import ConfigError
from grasp_success_detector.evaluation.attempts import AttemptResult, durations_s, Suspicion
from grasp_success_detector.evaluation.frame_sources import Recording
from grasp_success_detector.evaluation.predictions import FrameVerdict
from grasp_success_detector.images.decoding import RgbImage
from grasp_success_detector.labels import Label, Verdict
from grasp_success_detector.recordings.reader import RefusedFrame
from grasp_success_detector.recordings.sources import safe_name
from grasp_success_detector.reports import charts
from grasp_success_detector.reports.page import LABEL_COLOURS
from grasp_success_detector.reports.pictures import FrameKey, key_of

_THUMBNAILS = 9     # above each chart
_CHART_SIZE = 1040, 215

# Where the bands of label and verdict lie, in units of P(success).
_LABEL, _VERDICT = (-.22, -.08), (-.40, -.26)

_WORST_FIRST = ('wrong', 'unknown', 'correct', None)

# Annotated videos
_BANNER = 52                # pixels above the picture
_WIDTHS = 480, 1280         # narrower pictures are enlarged, wider ones shrunk
_GREY, _INK, _BACK = (150, 150, 150), (240, 240, 240), (28, 32, 36)  # RGB


class Thumbnail(NamedTuple):
    """
    A frame of an attempt; no picture if it cannot be decoded.

    :ivar place: when it was taken, such as ``'at 0.10 s'``; its file, where there are no times.
    """

    place: str
    label: Label | None
    picture: RgbImage | None


class Timeline(NamedTuple):
    """
    An attempt over time.

    :ivar anchor: id of its HTML element.
    :ivar facts: phrases on outcome and verdicts.
    """

    attempt: AttemptResult
    anchor: str
    facts: tuple[str, ...]
    frames: tuple[Thumbnail, ...]
    chart: charts.Chart


def worst_first(attempts: Sequence[AttemptResult]) -> list[AttemptResult]:
    """Sort attempts by result (wrong first), then time of false SUCCESS, then mean error."""
    return sorted(attempts, key=lambda attempt: (
        _WORST_FIRST.index(attempt.result), -(attempt.false_true_s or 0.), -attempt.error))


def thumbnail_frames(attempt: AttemptResult) -> list[FrameVerdict]:
    """Return at most nine frames of an attempt, evenly spread over its time."""
    frames = attempt.frames
    if len(frames) <= _THUMBNAILS:
        return list(frames)
    start, span = frames[0].stamp_ns, frames[-1].stamp_ns - frames[0].stamp_ns
    times = [start + span * (2 * i + 1) // (2 * _THUMBNAILS) for i in range(_THUMBNAILS)]
    return [min(frames, key=lambda frame: abs(frame.stamp_ns - time))
            for time in times]


def timeline(attempt: AttemptResult, decision: DecisionConfig,
             pictures: Mapping[FrameKey, RgbImage], suspicion: Suspicion | None) -> Timeline:
    """
    Return the chart and thumbnails of an attempt over time.

    :param pictures: thumbnails of the frames that :func:`thumbnail_frames` returns.
    :param suspicion: part of the attempt with a suspicious label, to be shaded.
    """
    start_ns = attempt.frames[0].stamp_ns
    return Timeline(
        attempt, f'attempt-{crc32(attempt.name.encode(errors="surrogateescape")):08x}',
        tuple(_facts(attempt)), tuple(
            Thumbnail(f'at {(frame.stamp_ns - start_ns) / NS_PER_S:.2f} s' if attempt.timed
                      else frame.file, frame.label, pictures.get(key_of(frame)))
            for frame in thumbnail_frames(attempt)),
        _chart(attempt, decision, suspicion))


def timeline_key(decision: DecisionConfig) -> list[charts.KeyEntry]:
    """Return the legend of all timelines."""
    return [charts.KeyEntry(charts.SERIES[0], 'P(success) of each frame'),
            charts.KeyEntry(charts.SERIES[1], 'mean of the window'),
            charts.KeyEntry('var(--ink)', f'threshold {decision.threshold:.3f}', 'dashed')]


def _facts(attempt: AttemptResult) -> Iterator[str]:
    if attempt.outcome is not None:
        yield f'is {attempt.outcome.name.lower()}'
    yield f'said {attempt.verdict.value}'
    if attempt.result is not None:
        yield attempt.result
    if attempt.first_decision_s is not None:
        yield f'first decided after {attempt.first_decision_s:.2f} s'
    if attempt.success_delay_s is not None:
        yield f'SUCCESS {attempt.success_delay_s:.2f} s after the first success frame'
    if attempt.false_true_s:
        yield f'false SUCCESS for {attempt.false_true_s:.2f} s'


def _chart(attempt: AttemptResult, decision: DecisionConfig,
           suspicion: Suspicion | None) -> charts.Chart:
    frames = attempt.frames
    times, longest, say = _times(attempt), decision.stale_after_s, '{:.2f} s'
    # A frame's label and verdict hold until the next frame.
    lasting = durations_s(frames, longest)
    if not attempt.timed:
        lasting, longest, say = [1.] * len(frames), math.inf, 'picture {:.0f}'
    ends = [time + lasts for time, lasts in zip(times, lasting, strict=True)]
    end = max(ends[-1], 1e-3)
    x = charts.number_axis('seconds' if attempt.timed else 'pictures', [end], 0., tight=True)
    # Without labels the verdict's band takes the place of the label's.
    label, verdict = (_LABEL, _VERDICT) if attempt.outcome is not None else (None, _LABEL)
    names = {sum(place) / 2: name for place, name in ((label, 'label'), (verdict, 'verdict'))
             if place is not None}
    y = charts.Axis('', verdict[0], 1.02, (*names, 0., .5, 1.),
             lambda value: names.get(value, f'{value:g}'))
    chart = charts.Chart(x, y, f'P(success) during {attempt.name}', *_CHART_SIZE)
    if suspicion is not None:
        doubted = [time for time, frame in zip(times, frames, strict=True)
                   if frame in suspicion.frames]
        chart.band([(doubted[0], 0., 1.), (doubted[-1], 0., 1.)], 'var(--bad)')
    chart.line([(0., decision.threshold), (end, decision.threshold)], 'var(--ink)', dashed=True)
    means = [(time, frame.window_probability) for time, frame in zip(times, frames, strict=True)
             if frame.window_probability is not None]
    points = [(time, frame.probability) for time, frame in zip(times, frames, strict=True)
              if frame.probability is not None]
    for line, colour in ((means, charts.SERIES[1]), (points, charts.SERIES[0])):
        for piece in _pieces(line, longest):
            chart.line(piece, colour)
    if len(points) <= 2 * _THUMBNAILS:
        chart.dots(((time, value, 3., f'{say.format(time)}: {value:.3f}')
                    for time, value in points), charts.SERIES[0])
    spans = list(zip(times, ends, strict=True))
    if label is not None:
        _band(chart, spans, [frame.label for frame in frames], label, say)
    _band(chart, spans, [frame.verdict for frame in frames], verdict, say)
    return chart


def _times(attempt: AttemptResult) -> list[float]:
    """Return the seconds since the first frame; where there are no times, the frames' numbers."""
    if not attempt.timed:
        return [float(i) for i in range(len(attempt.frames))]
    start_ns = attempt.frames[0].stamp_ns
    return [(frame.stamp_ns - start_ns) / NS_PER_S for frame in attempt.frames]


def _pieces(line: Sequence[tuple[float, float]], longest_s: float,
            ) -> Iterator[list[tuple[float, float]]]:
    """Cut a line at gaps of more than ``longest_s``."""
    piece: list[tuple[float, float]] = []
    for point in line:
        if piece and point[0] - piece[-1][0] > longest_s:
            yield piece
            piece = []
        piece.append(point)
    if piece:
        yield piece


def _band(chart: charts.Chart, spans: Sequence[tuple[float, float]],
          values: Sequence[Label | Verdict | None], place: tuple[float, float], say: str,
          ) -> None:
    """Draw labels or verdicts as coloured bars; None leaves a gap."""
    for value, run in groupby(zip(values, spans, strict=True), lambda entry: entry[0]):
        parts = [span for _, span in run]
        if value is None:
            continue
        start, end = parts[0][0], parts[-1][1]
        colour = ('var(--line)' if value is Verdict.UNKNOWN
                  else charts.label_colour(Label[value.name]))
        chart.bars([(start, end, *place, f'{value.name.lower()} from {say.format(start)} to '
                     f'{say.format(end)}')], colour)


def write_videos(recordings: Sequence[Recording], attempts: Sequence[AttemptResult],
                 threshold: float, folder: Path) -> list[Path]:
    """
    Write each attempt as an annotated mp4 (MPEG-4), at the recording's median frame rate.

    :param folder: existing folder; a file is named after its attempt.
    :raises ConfigError: this OpenCV cannot write mp4.
    """
    by_name = {recording.name: recording for recording in recordings}
    return [_write_video(by_name[attempt.source], attempt, threshold,
                   folder / f'{safe_name(attempt.name)}.mp4') for attempt in attempts]


def _write_video(recording: Recording, attempt: AttemptResult, threshold: float, path: Path,
                 ) -> Path:
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
            verdict = verdicts[frame.number]
            yield annotate(picture, verdict, (verdict.stamp_ns - start_ns) / NS_PER_S, threshold)


def annotate(picture: RgbImage, frame: FrameVerdict, seconds: float, threshold: float,
             ) -> RgbImage:
    """
    Return a picture below a banner with verdict, label, and P(success) as a bar.

    :param picture: RGB uint8 (H, W, 3).
    :param seconds: time since the attempt's first frame.
    :returns: RGB uint8 (H', W', 3); height and width are even, as video codecs need.
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
