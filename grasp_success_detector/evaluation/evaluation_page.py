"""One self-contained HTML page about an evaluation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from grasp_success_detector.errors import ImageDecodeError
from grasp_success_detector.evaluation.attempts import labelled_predictions
from grasp_success_detector.evaluation.curve_sections import (
    calibration_section,
    trade_off_section,
)
from grasp_success_detector.evaluation.data_section import badge
from grasp_success_detector.evaluation.error_section import error_section, small, worst_errors
from grasp_success_detector.evaluation.evaluation import Evaluation
from grasp_success_detector.evaluation.number_sections import (
    all_numbers,
    confusion_section,
    headline,
)
from grasp_success_detector.evaluation.pictures import read_pictures
from grasp_success_detector.evaluation.predictions import Prediction
from grasp_success_detector.evaluation.result_sections import (
    label_error_section,
    source_section,
    time_section,
)
from grasp_success_detector.evaluation.timeline_section import (
    thumbnail_frames,
    timeline_section,
    worst_first,
)
from grasp_success_detector.html_page import counted, page
from grasp_success_detector.image import RgbImage

#: More sources are not put side by side.
_MOST_COLUMNS = 4


@dataclass(frozen=True)
class Additions:
    """
    What a page shows besides the evaluation itself.

    :ivar first: HTML sections right below the headline numbers.
    :ivar links: to the frames of doubtful labels, by attempt, relative to the page.
    """

    first: Sequence[str] = ()
    links: Mapping[str, str] | None = None


def evaluation_page(evaluation: Evaluation, timelines: int, additions: Additions) -> str:
    """
    Return the page's HTML.

    :param timelines: so many attempts are shown over time, at most.
    """
    shown = worst_first(evaluation.attempts)[:timelines]
    thumbnails = read_pictures(evaluation.recordings, (
        frame for attempt in shown for frame in thumbnail_frames(attempt)), _thumbnail)
    over_time = timeline_section(
        shown, len(evaluation.attempts), evaluation.decision, thumbnails,
        {suspicion.attempt: suspicion for suspicion in evaluation.suspicions})
    title = f'{evaluation.path.name} on {_names(evaluation)}'
    metrics = evaluation.metrics
    if metrics is None:
        return page(title, _title(evaluation, title), *additions.first,
                    source_section(evaluation), over_time)
    data = 'simulated' if evaluation.origin.simulated else 'labelled'
    rows, threshold = labelled_predictions(evaluation.attempts), evaluation.decision.threshold
    summaries = {'all': metrics}
    if 1 < len(evaluation.by_source) <= _MOST_COLUMNS:
        summaries |= dict(evaluation.by_source)
    return page(
        title, _title(evaluation, title), headline(metrics, data), *additions.first,
        source_section(evaluation), time_section(metrics), confusion_section(metrics, data),
        over_time,
        label_error_section(evaluation.suspicions, additions.links or {},
                            [attempt.name for attempt in shown]),
        _errors(evaluation, rows, data), trade_off_section(rows, threshold, data),
        calibration_section(rows, metrics, evaluation.checkpoint.metadata.temperature, data),
        all_numbers(summaries))


def _thumbnail(picture: RgbImage) -> RgbImage:
    return small(picture, 150)


def _errors(evaluation: Evaluation, rows: Sequence[Prediction], data: str) -> str:
    """Return the worst errors, with pictures read from wherever they lie."""
    wrong = {(row.attempt, row.stamp_ns)
             for row in worst_errors(rows, evaluation.decision.threshold)}
    frames = [frame for attempt in evaluation.attempts for frame in attempt.frames
              if (frame.attempt, frame.stamp_ns) in wrong]
    found = read_pictures(evaluation.recordings, frames, lambda picture: picture)
    by_stamp = {(frame.attempt, frame.stamp_ns): found[frame.source, frame.number]
                for frame in frames if (frame.source, frame.number) in found}

    def read_frame(row: Prediction) -> RgbImage:
        try:
            return by_stamp[row.attempt, row.stamp_ns]
        except KeyError:
            raise ImageDecodeError('gone', f'{row.attempt} at {row.stamp_ns}') from None

    return error_section(rows, evaluation.decision.threshold, evaluation.checkpoint, read_frame,
                         data)


def _names(evaluation: Evaluation) -> str:
    names = [recording.name for recording in evaluation.recordings]
    return ', '.join(names[:3]) + (f' and {len(names) - 3} more' if len(names) > 3 else '')


def _title(evaluation: Evaluation, title: str) -> str:
    metadata = evaluation.checkpoint.metadata
    decision = evaluation.decision
    parts = [metadata.architecture, f'SHA-256 {evaluation.checkpoint.sha256[:12]}',
             f'{evaluation.frames} frames, {counted(len(evaluation.attempts), "attempt")}',
             f'threshold {decision.threshold:.3f}, window {decision.window_s:g} s',
             f'judged by {evaluation.engine}']
    return (f'<h1>{escape(title)}</h1><p class="soft">{escape(" · ".join(parts))} '
            f'{badge(evaluation.origin)}</p>')
