"""Write the folder of an evaluation: report.html, metrics, predictions, suspicious frames."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from grasp_success_detector.console import counted
from grasp_success_detector.decision import Reason
from grasp_success_detector.errors import ImageDecodeError
from grasp_success_detector.evaluation.attempts import (
    AttemptResult,
    durations_s,
    labelled_predictions,
    Suspicion,
)
from grasp_success_detector.evaluation.comparison import Gate
from grasp_success_detector.evaluation.evaluation import Evaluation
from grasp_success_detector.evaluation.frame_sources import Recording
from grasp_success_detector.evaluation.predictions import escaped, Prediction, write_predictions
from grasp_success_detector.evaluation.replay import Difference, Replay
from grasp_success_detector.files import csv_text, json_text, write_whole
from grasp_success_detector.images.decoding import RgbImage
from grasp_success_detector.images.encoding import encode_jpeg
from grasp_success_detector.labels import Verdict
from grasp_success_detector.recordings.pictures import shown
from grasp_success_detector.recordings.reader import PICTURES
from grasp_success_detector.recordings.sources import safe_name
from grasp_success_detector.reports import timeline
from grasp_success_detector.reports.page import render
from grasp_success_detector.reports.pictures import (
    Errors,
    find_errors,
    key_of,
    read_pictures,
    small,
    worst_errors,
)
from grasp_success_detector.reports.result_charts import result_charts

#: Pictures written of each suspicious part of an attempt.
_MOST_FRAMES = 12

#: Sources with columns of their own in the table of all numbers.
_MOST_COLUMNS = 4

#: Columns of the table of sources without labels.
VERDICTS = Verdict.SUCCESS, Verdict.FAILURE, Verdict.UNKNOWN

_LABEL_ERRORS = 'label_errors'


@dataclass(frozen=True)
class Extras:
    """
    Results that only some evaluations have.

    :ivar gate: comparison with the earlier evaluation ``baseline``, a metrics.json.
    :ivar replay: verdicts of a running node, and how they differ from the direct evaluation.
    """

    gate: Gate | None = None
    baseline: Path | None = None
    replay: tuple[Replay, Difference] | None = None


class SourceSummary(NamedTuple):
    """
    A recording, its attempts and what was measured on it.

    :ivar metrics: metrics of its labelled attempts; None without labels.
    :ivar said: for each of ``VERDICTS`` how many attempts ended with it, and its share of time.
    :ivar left_out: numbers of frames left out, with reasons.
    """

    recording: Recording
    attempts: Sequence[AttemptResult]
    metrics: Mapping[str, Any] | None
    said: Sequence[tuple[int, float | None]]
    left_out: Sequence[str]


def write_evaluation(evaluation: Evaluation, folder: Path, timelines: int, videos: int,
                     extras: Extras) -> None:
    """
    Write an evaluation's files into an empty folder.

    :param timelines: how many of the worst attempts the page shows over time.
    :param videos: how many of the worst attempts are written as annotated videos.
    :raises ConfigError: this OpenCV cannot write videos.
    """
    write_whole(folder / 'metrics.json', json_text(evaluation.to_json()))
    write_predictions(folder / 'predictions.csv', (
        frame for attempt in evaluation.attempts for frame in attempt.frames))
    links = _write_suspicious(evaluation.recordings, evaluation.suspicions, folder)
    write_whole(folder / f'{_LABEL_ERRORS}.csv', csv_text(
        ['attempt', 'source', 'label', 'frames', 'start_s', 'end_s', 'believed', 'pictures'],
        ([*map(escaped, suspicion.to_json().values()), links.get(suspicion.attempt, '')]
         for suspicion in evaluation.suspicions)))
    if videos:
        (folder / 'videos').mkdir()
        worst = timeline.worst_first(evaluation.attempts)[:videos]
        timeline.write_videos(evaluation.recordings, worst, evaluation.decision.threshold,
                              folder / 'videos')
    write_whole(folder / 'report.html', evaluation_page(evaluation, timelines, links, extras))


def _write_suspicious(recordings: Sequence[Recording], suspicions: Sequence[Suspicion],
                      folder: Path) -> Mapping[str, str]:
    """Write frames with suspicious labels; return the folder of each attempt, with a slash."""
    links: dict[str, str] = {}
    for suspicion in suspicions:
        wanted = suspicion.frames[::-(-len(suspicion.frames) // _MOST_FRAMES)]
        pictures = read_pictures(recordings, wanted, encode_jpeg)
        if not pictures:
            continue
        place = f'{_LABEL_ERRORS}/{safe_name(suspicion.attempt)}'
        (folder / place).mkdir(parents=True, exist_ok=True)
        for frame in wanted:
            if key_of(frame) in pictures:
                write_whole(folder / place / f'{frame.stamp_ns}.jpg', pictures[key_of(frame)])
        links[suspicion.attempt] = f'{place}/'
    return links


def evaluation_page(evaluation: Evaluation, timelines: int, links: Mapping[str, str],
                    extras: Extras) -> str:
    """
    Return the page as HTML.

    :param timelines: how many of the worst attempts are shown over time.
    :param links: folders with the frames of suspicious labels, by attempt, relative to the page.
    """
    worst = timeline.worst_first(evaluation.attempts)[:timelines]
    frames = (frame for attempt in worst for frame in timeline.thumbnail_frames(attempt))
    pictures = read_pictures(
        evaluation.recordings, frames, lambda picture: small(picture, 150))
    suspicions = {suspicion.attempt: suspicion for suspicion in evaluation.suspicions}
    lines = [timeline.timeline(
        attempt, evaluation.decision, pictures, suspicions.get(attempt.name)) for attempt in worst]
    replay, difference = extras.replay or (None, None)
    return render(
        'evaluation.html', title=_title(evaluation), facts=_facts(evaluation),
        evaluation=evaluation, sources=[_source(evaluation, recording)
                                        for recording in evaluation.recordings],
        verdicts=VERDICTS, gate=extras.gate, baseline=extras.baseline, replay=replay,
        replay_rows=_replay_rows(replay, difference) if replay and difference else [],
        timelines=lines, timeline_key=timeline.timeline_key(evaluation.decision),
        anchors={line.attempt.name: line.anchor for line in lines},
        labelled=any(attempt.outcome is not None for attempt in worst), links=links,
        **_results(evaluation))


def _title(evaluation: Evaluation) -> str:
    names = [recording.name for recording in evaluation.recordings]
    more = f' and {len(names) - 3} more' if len(names) > 3 else ''
    return f'{evaluation.path.name} on {", ".join(names[:3])}{more}'


def _facts(evaluation: Evaluation) -> list[str]:
    checkpoint, decision = evaluation.checkpoint, evaluation.decision
    return [checkpoint.metadata.architecture, f'SHA-256 {checkpoint.sha256[:12]}',
            f'{evaluation.frames} frames, {counted(len(evaluation.attempts), "attempt")}',
            f'threshold {decision.threshold:.3f}, window {decision.window_s:g} s',
            f'judged by {evaluation.engine}']


def _source(evaluation: Evaluation, recording: Recording) -> SourceSummary:
    attempts = [attempt for attempt in evaluation.attempts if attempt.source == recording.name]
    time = dict.fromkeys(Verdict, 0.)
    for attempt in attempts:
        for frame, seconds in zip(attempt.frames, durations_s(
                attempt.frames, evaluation.decision.stale_after_s), strict=True):
            time[frame.verdict] += seconds
    total = sum(time.values())
    counts = [*recording.account['skipped'].items(), *recording.account['damage'].items(),
              *((f'UNKNOWN: {reason}' if reason == Reason.UNFAMILIAR.value else
                 f'without P(success): {reason}', count) for reason, count
                in evaluation.refused.get(recording.name, {}).items())]
    return SourceSummary(
        recording, attempts, evaluation.by_source.get(recording.name),
        [(sum(attempt.verdict is verdict for attempt in attempts),
          time[verdict] / total if total and recording.topic != PICTURES else None)
         for verdict in VERDICTS],
        [f'{count} {what}' for what, count in counts]
        + [f'not read: {shown(file)} ({reason})' for files in (
            recording.account.get('unread_files', {}), evaluation.unreadable.get(
                recording.name, {})) for file, reason in files.items()])


def _results(evaluation: Evaluation) -> dict[str, Any]:
    """Return what results.html shows; nothing without labels."""
    metrics, checkpoint = evaluation.metrics, evaluation.checkpoint
    if metrics is None:
        return {}
    rows = labelled_predictions(evaluation.attempts)
    summaries = {'all': metrics}
    if 1 < len(evaluation.by_source) <= _MOST_COLUMNS:
        summaries |= evaluation.by_source
    return {'summary': metrics, 'summaries': summaries,
            'data': 'simulated' if evaluation.origin.simulated else 'labelled',
            'charts': result_charts(rows, metrics, checkpoint.metadata.temperature),
            'errors': _errors(evaluation, rows)}


def _errors(evaluation: Evaluation, rows: Sequence[Prediction]) -> Errors:
    """Return the worst errors, reading only their frames from the recordings."""
    threshold = evaluation.decision.threshold
    wrong = {(row.attempt, row.stamp_ns) for row in worst_errors(rows, threshold)}
    frames = [frame for attempt in evaluation.attempts for frame in attempt.frames
              if (frame.attempt, frame.stamp_ns) in wrong]
    found = read_pictures(evaluation.recordings, frames, lambda picture: picture)
    by_stamp = {(frame.attempt, frame.stamp_ns): found[key_of(frame)]
                for frame in frames if key_of(frame) in found}

    def read_frame(row: Prediction) -> RgbImage:
        try:
            return by_stamp[row.attempt, row.stamp_ns]
        except KeyError:
            raise ImageDecodeError('gone', f'{row.attempt} at {row.stamp_ns}') from None

    return find_errors(rows, threshold, evaluation.checkpoint, read_frame)


#: How verdicts were assigned to frames.
MATCHED_BY = {True: 'their header (/grasp_success/stamped)',
            False: 'time (vision_msgs, which brings the header, is not installed)'}


def _replay_rows(replay: Replay, difference: Difference) -> Iterator[tuple[str, str]]:
    yield 'frames played', str(replay.played)
    yield 'answered', str(len(replay.answers))
    yield ('not answered (dropped, lost on the way, undecodable, or nothing to be seen)',
           str(replay.played - len(replay.answers)))
    yield 'verdicts matched to frames by', MATCHED_BY[replay.by_header]
    for percent, value in replay.latency_ms.items():
        yield f'latency from frame to verdict, {percent} % of them within', f'{value:.1f} ms'
    yield ('same verdict as evaluate_classifier, on frames that both judged',
           f'{difference.agree} of {difference.frames}')
    yield ('the same, if evaluate_classifier gets only the frames that the node answered',
           f'{difference.agree_same} of {difference.frames}')
    yield ("largest difference of the window's mean P(success) then",
           '–' if difference.largest is None else f'{difference.largest:.6f}')
    for name in ('received', 'judged', 'dropped', 'bad'):
        if name in replay.node:
            yield f'counted by the node: {name}', replay.node[name]
    if 'engine' in replay.node:     # why nothing faster ran is in metrics.json
        yield 'engine of the node', replay.node['engine'].partition(' (')[0]
    yield 'engine of evaluate_classifier', replay.engine
