"""The part of a report that shows attempts over time: pictures, P(success), label, verdict."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from itertools import groupby
from zlib import crc32

from grasp_success_detector.console import counted
from grasp_success_detector.decision import DecisionConfig, NS_PER_S
from grasp_success_detector.evaluation.attempts import AttemptResult, durations_s, FrameVerdict
from grasp_success_detector.evaluation.label_errors import Suspicion
from grasp_success_detector.images.decoding import RgbImage
from grasp_success_detector.labels import Label, Verdict
from grasp_success_detector.reports.charts import Axis, Chart, key, number_axis, SERIES
from grasp_success_detector.reports.page import image, label_colour, label_key, section
from grasp_success_detector.reports.pictures import FrameKey, key_of

#: Pictures above each curve.
THUMBNAILS = 9

_WIDTH, _HEIGHT = 1040, 215

# Where the bands of label and verdict lie, in units of P(success).
_LABEL, _VERDICT = (-.22, -.08), (-.40, -.26)

_ORDER = (', worst first: wrong, then unknown, then right, and among equals those in which '
          'SUCCESS was said for longest while the label was failure')
_GAPS = ' Where there is no band, there is no label.'

_WORST_FIRST = ('wrong', 'unknown', 'correct', None)


def worst_first(attempts: Sequence[AttemptResult]) -> list[AttemptResult]:
    """Sort attempts: wrong first, then by how long a false SUCCESS was said, then by error."""
    return sorted(attempts, key=lambda attempt: (
        _WORST_FIRST.index(attempt.result), -attempt.false_true_s, -attempt.error))


def thumbnail_frames(attempt: AttemptResult) -> list[FrameVerdict]:
    """Return the frames to show of an attempt, evenly spread over its time."""
    frames = attempt.frames
    if len(frames) <= THUMBNAILS:
        return list(frames)
    start, span = frames[0].stamp_ns, frames[-1].stamp_ns - frames[0].stamp_ns
    times = [start + span * (2 * i + 1) // (2 * THUMBNAILS) for i in range(THUMBNAILS)]
    return [min(frames, key=lambda frame: abs(frame.stamp_ns - time))
            for time in times]


def anchor(attempt: str) -> str:
    """Return the id of an attempt's place in the page."""
    return f'attempt-{crc32(attempt.encode()):08x}'


def timeline_section(shown: Sequence[AttemptResult], total: int, decision: DecisionConfig,
                     pictures: Mapping[FrameKey, RgbImage],
                     suspicions: Mapping[str, Suspicion]) -> str:
    """
    Return attempts over time.

    :param shown: in this order.
    :param total: how many attempts there are.
    :param pictures: small pictures of ``thumbnail_frames``.
    :param suspicions: stretches whose label the model does not believe, by attempt.
    """
    attempts = counted(total, 'attempt')
    some = f'{len(shown)} of {attempts}' if len(shown) < total else attempts
    labelled = any(attempt.outcome is not None for attempt in shown)
    explanation = f'{some}{_ORDER if labelled else ""}. ' + (
        'The verdict is what the node '
        f'says: the mean of the last {decision.window_s:g} s, with at least '
        f'{decision.min_frames} frames.') + (_GAPS if labelled else '')
    legend = key([(SERIES[0], 'P(success) of each frame', False),
                  (SERIES[1], 'mean of the window', False),
                  ('var(--ink)', f'threshold {decision.threshold:.3f}', True)])
    return section('Attempts over time', explanation, legend, label_key(unknown=True),
                   *(_timeline(attempt, decision, pictures, suspicions.get(attempt.name))
                     for attempt in shown))


def _timeline(attempt: AttemptResult, decision: DecisionConfig,
              pictures: Mapping[FrameKey, RgbImage], suspicion: Suspicion | None) -> str:
    chosen = thumbnail_frames(attempt)
    start_ns = attempt.frames[0].stamp_ns
    strip = ''.join(
        image(pictures[key_of(frame)], f'{attempt.name} at '
              f'{(frame.stamp_ns - start_ns) / NS_PER_S:.2f} s', frame.label, 75)
        if key_of(frame) in pictures else '<span class="soft small">unreadable</span>'
        for frame in chosen)
    return (f'<div class="timeline" id="{anchor(attempt.name)}"><h3>{escape(attempt.name)}'
            f' <span class="soft small">{escape(_said(attempt))}</span></h3>'
            f'<div class="strip" style="grid-template-columns:repeat({len(chosen)},'
            f'minmax(0,1fr))">{strip}</div>{_chart(attempt, decision, suspicion)}</div>')


def _said(attempt: AttemptResult) -> str:
    parts = [f'said {attempt.verdict.value}']
    if attempt.outcome is not None:
        parts.insert(0, f'is {attempt.outcome.name.lower()}')
        parts.append(f'{attempt.result}')
    if attempt.first_decision_s is not None:
        parts.append(f'first decided after {attempt.first_decision_s:.2f} s')
    if attempt.success_delay_s is not None:
        parts.append(f'SUCCESS {attempt.success_delay_s:.2f} s after the first success frame')
    if attempt.false_true_s:
        parts.append(f'SUCCESS for {attempt.false_true_s:.2f} s without being true')
    return ' · '.join(parts)


def _chart(attempt: AttemptResult, decision: DecisionConfig, suspicion: Suspicion | None) -> str:
    frames = attempt.frames
    start_ns = frames[0].stamp_ns
    times = [(frame.stamp_ns - start_ns) / NS_PER_S for frame in frames]
    # Labels of what follows a frame: until the next one.
    ends = [time + lasts for time, lasts in zip(
        times, durations_s(frames, decision.stale_after_s), strict=True)]
    end = max(ends[-1], 1e-3)
    round_axis = number_axis('seconds', [0., end], 0.)
    x = Axis('seconds', 0., end, tuple(t for t in round_axis.ticks if t <= end))
    # Without any label its band would be an empty row: the verdict's takes its place.
    label, verdict = (_LABEL, _VERDICT) if attempt.outcome is not None else (None, _LABEL)
    names = {sum(place) / 2: name for place, name in ((label, 'label'), (verdict, 'verdict'))
             if place is not None}
    y = Axis('', verdict[0], 1.02, (*names, 0., .5, 1.),
             lambda value: names.get(value, f'{value:g}'))
    chart = Chart(x, y, f'P(success) during {attempt.name}', _WIDTH, _HEIGHT)
    if suspicion is not None:
        chart.band([(suspicion.start_s, 0., 1.), (suspicion.end_s, 0., 1.)], 'var(--bad)')
    chart.line([(0., decision.threshold), (end, decision.threshold)], 'var(--ink)', dashed=True)
    means = [(time, frame.window_probability) for time, frame in zip(times, frames, strict=True)
             if frame.window_probability is not None]
    points = [(time, frame.probability) for time, frame in zip(times, frames, strict=True)
              if frame.probability is not None]
    for line, colour in ((means, SERIES[1]), (points, SERIES[0])):
        for piece in _pieces(line, decision.stale_after_s):
            chart.line(piece, colour)
    if len(points) <= 2 * THUMBNAILS:
        chart.dots(((time, value, 3., f'{time:.2f} s: {value:.3f}') for time, value in points),
                   SERIES[0])
    spans = list(zip(times, ends, strict=True))
    if label is not None:
        _band(chart, spans, [frame.label for frame in frames], label)
    _band(chart, spans, [frame.verdict for frame in frames], verdict)
    return chart.svg()


def _pieces(line: Sequence[tuple[float, float]], longest_s: float,
            ) -> Iterator[list[tuple[float, float]]]:
    """Cut a line where nothing is known for so long."""
    piece: list[tuple[float, float]] = []
    for point in line:
        if piece and point[0] - piece[-1][0] > longest_s:
            yield piece
            piece = []
        piece.append(point)
    if piece:
        yield piece


def _band(chart: Chart, spans: Sequence[tuple[float, float]],
          values: Sequence[Label | Verdict | None], place: tuple[float, float]) -> None:
    """Draw what was true, or said, from when to when."""
    for value, run in groupby(zip(values, spans, strict=True), lambda entry: entry[0]):
        parts = [span for _, span in run]
        if value is None:
            continue
        start, end = parts[0][0], parts[-1][1]
        colour = ('var(--line)' if value is Verdict.UNKNOWN
                  else label_colour(Label[value.name]))
        chart.bars([(start, end, *place, f'{value.name.lower()} from {start:.2f} to {end:.2f} s')],
                   colour)
