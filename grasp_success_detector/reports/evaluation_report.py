"""One self-contained HTML page about an evaluation."""


from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from grasp_success_detector.console import counted
from grasp_success_detector.errors import ImageDecodeError
from grasp_success_detector.evaluation.attempts import durations_s, labelled_predictions
from grasp_success_detector.evaluation.evaluation import Evaluation
from grasp_success_detector.evaluation.frame_sources import Recording
from grasp_success_detector.evaluation.gate import Gate
from grasp_success_detector.evaluation.label_errors import Suspicion
from grasp_success_detector.evaluation.predictions import Prediction
from grasp_success_detector.evaluation.replay import Difference, Replay
from grasp_success_detector.images.decoding import RgbImage
from grasp_success_detector.labels import Verdict
from grasp_success_detector.reports.charts import percent
from grasp_success_detector.reports.page import page, section, table
from grasp_success_detector.reports.pictures import read_pictures
from grasp_success_detector.reports.sections import (
    all_numbers,
    calibration_section,
    confusion_section,
    error_section,
    headline,
    number,
    small,
    trade_off_section,
    with_interval,
    worst_errors,
)
from grasp_success_detector.reports.timeline import (
    anchor,
    thumbnail_frames,
    timeline_section,
    worst_first,
)
from grasp_success_detector.reports.training_report import badge


def evaluation_lines(evaluation: Evaluation) -> Iterator[str]:
    """Yield the lines."""
    for recording in evaluation.recordings:
        refused = evaluation.refused.get(recording.name, {})
        attempts = sum(a.source == recording.name for a in evaluation.attempts)
        yield f'{recording.name}: {len(recording.frames)} frames, {counted(attempts, "attempt")}'
        for title, counts in (('left out', recording.account['skipped']),
                              ('without P(success)', refused),
                              ('damage', recording.account['damage'])):
            if counts:
                yield f'  {title}: ' + ', '.join(
                    f'{count} {what}' for what, count in sorted(counts.items()))
        if metrics := evaluation.by_source.get(recording.name):
            yield f'  attempts right: {_accuracy(metrics["attempts"])}'
    metrics = evaluation.metrics
    if metrics is None:
        yield 'no labels: predictions and timelines only'
        return
    results, times = metrics['results'], metrics['times']
    yield ('attempts: ' + ', '.join(f'{count} {name}' for name, count in results.items())
           + f'; right {_accuracy(metrics["attempts"])}')
    yield f'frames right: {_accuracy(metrics["frames"])}'
    decided, wrong = times['first_decision_s']['median'], times['false_true_s']['mean']
    yield ('no attempt was decided: too few frames, or none of them convincing' if decided is None
           else f'first decision after {decided:.2f} s (median)')
    if wrong is not None:
        yield f'SUCCESS was said wrongly for {wrong:.2f} s per attempt (mean)'
    if evaluation.suspicions:
        yield (f'{counted(len(evaluation.suspicions), "attempt")} whose labels the model does not '
               'believe: label_errors.csv')


def _accuracy(accuracy: Mapping[str, Any]) -> str:
    if accuracy['value'] is None:
        return 'none (0/0)'
    low, high = accuracy['wilson_95']
    return (f'{accuracy["value"]:.1%} ({accuracy["correct"]}/{accuracy["total"]}, 95 % interval '
            f'{low:.1%} to {high:.1%})')


_TIMES = (('first_decision_s', 'from the first frame to the first decision'),
          ('success_delay_s', 'from the first success frame to SUCCESS'),
          ('false_true_s', 'SUCCESS said while the label was failure'))


def gate_section(gate: Gate, baseline: str) -> str:
    """Return what the comparison with a baseline says."""
    return (f'<section class="verdict{" bad" if gate.failed else ""}"><h2>Against the baseline'
            f'</h2><p class="soft">{escape(baseline)}</p><p>{escape(str(gate))}.</p></section>')


def source_section(evaluation: Evaluation) -> str:
    """Return what each source has, and how it was judged; without labels, what was said."""
    if evaluation.metrics is None:
        return section(
            'By source', f'{evaluation.origin.text} How many attempts ended with which verdict, '
            'and for how much of the time each stood.',
            table(['source', *(f'said {verdict.value}' for verdict in Verdict)],
                  [[_source(evaluation, recording), *_said(evaluation, recording)]
                   for recording in evaluation.recordings]), *_notes(evaluation))
    rows = []
    for recording in evaluation.recordings:
        metrics = evaluation.by_source.get(recording.name)
        rows.append([
            _source(evaluation, recording),
            with_interval(metrics['attempts']) if metrics else '–',
            ' / '.join(str(metrics['results'][name]) for name in ('wrong', 'unknown'))
            if metrics else '–',
            with_interval(metrics['frames']) if metrics else '–',
            _seconds(metrics['times']['first_decision_s']['median']) if metrics else '–',
            _seconds(metrics['times']['false_true_s']['mean']) if metrics else '–'])
    return section(
        'By source', f'{evaluation.origin.text} Shares with Wilson 95 % intervals. Times in '
        'seconds of the recording: the median to the first decision, and the mean during which an '
        'attempt was called SUCCESS though labelled failure.', table(
            ['source', 'attempts right', 'wrong / unknown', 'frames right', 'first decision',
             'false SUCCESS'],
            rows), *_notes(evaluation))


def _source(evaluation: Evaluation, recording: Recording) -> str:
    attempts = sum(attempt.source == recording.name for attempt in evaluation.attempts)
    return (f'<div style="min-width:7em">{escape(recording.name)}<br><span class="soft small">'
            f'{len(recording.frames)} frames, {counted(attempts, "attempt")}</span></div>')


def _said(evaluation: Evaluation, recording: Recording) -> Iterator[str]:
    """Yield for each verdict how many attempts ended with it and for how long it stood."""
    attempts = [attempt for attempt in evaluation.attempts if attempt.source == recording.name]
    stood = [(frame.verdict, seconds) for attempt in attempts for frame, seconds in zip(
        attempt.frames, durations_s(attempt.frames, evaluation.decision.stale_after_s),
        strict=True)]
    total = sum(seconds for _, seconds in stood)
    for verdict in Verdict:
        seconds = sum(seconds for said, seconds in stood if said is verdict)
        yield (f'{sum(attempt.verdict is verdict for attempt in attempts)}'
               f'<small>{percent(seconds / total) if total else "–"} of the time</small>')


def _notes(evaluation: Evaluation) -> Iterator[str]:
    """Yield what was left out or could not be judged."""
    for recording in evaluation.recordings:
        counts = {**recording.account['skipped'], **recording.account['damage'],
                  **{f'without P(success): {reason}': count for reason, count in
                     evaluation.refused.get(recording.name, {}).items()}}
        if said := ', '.join(f'{count} {what}' for what, count in counts.items()):
            yield f'<p class="soft small">{escape(recording.name)}: {escape(said)}</p>'


def time_section(metrics: Mapping[str, Any]) -> str:
    """Return times of attempts and the intervals of the bootstrap."""
    times, intervals = metrics['times'], metrics['bootstrap_95']
    rows = [[name, str(times[field]['attempts']),
             *(_seconds(times[field][value]) for value in ('median', 'mean')),
             _between(intervals[field], _seconds), _seconds(times[field]['max'])]
            for field, name in _TIMES]
    measured = [('attempts right', 'attempts', metrics['attempts']['value'], _percent),
                ('frames right', 'frames', metrics['frames']['value'], _percent),
                ('ROC-AUC', 'roc_auc', metrics['roc_auc'], number)]
    shares = [[name, show(value), _between(intervals[field], show)]
              for name, field, value, show in measured]
    return section(
        'Times, and how sure the means are', 'Intervals: 95 %, from 1000 resamples of whole '
        'attempts (percentile bootstrap), since frames of one attempt resemble each other. '
        'Resampling cannot show what no attempt did: where all are right, believe the Wilson '
        'intervals.',
        table(['seconds', 'attempts', 'median', 'mean', 'interval of the mean', 'largest'], rows),
        table(['share', 'measured', 'bootstrap interval'], shares))


def label_error_section(suspicions: Sequence[Suspicion], links: Mapping[str, str],
                        shown: Sequence[str]) -> str:
    """
    Return which labels to look at.

    :param links: of each attempt, the folder with the frames, relative to the page.
    :param shown: attempts that have a timeline in the page.
    """
    if not suspicions:
        return section('Labels to look at', 'On no stretch of any attempt is the model confident '
                       'of the other label.')
    rows = []
    for doubt in suspicions:
        name = escape(doubt.attempt)
        if doubt.attempt in shown:
            name = f'<a href="#{anchor(doubt.attempt)}">{name}</a>'
        rows.append([name, doubt.label.name.lower(), f'{doubt.start_s:.2f} to {doubt.end_s:.2f}',
                     str(len(doubt.frames)), percent(doubt.believed),
                     f'<a href="{escape(links[doubt.attempt])}">frames</a>'
                     if doubt.attempt in links else 'unreadable'])
    return section(
        'Labels to look at', 'Stretches on which the model is confident of the other label '
        '(confident learning, Northcutt et al. 2021): either the label is wrong, or the model is '
        'and this is what it has to learn. The most suspicious first.',
        '<div class="scroll">', table(
            ['attempt', 'labelled', 'seconds', 'frames', 'belief in the other', ''], rows),
        '</div>')


def _seconds(value: float | None) -> str:
    return '–' if value is None else f'{value:.2f}'


def _percent(value: float | None) -> str:
    return '–' if value is None else percent(value)


def _between(interval: Sequence[float] | None, show: Any) -> str:
    return '–' if interval is None else f'{show(interval[0])} to {show(interval[1])}'


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


#: How verdicts were put to frames, for people.
_MATCHED = {True: 'their header (/grasp_success/stamped)',
            False: 'time (vision_msgs, which brings the header, is not installed)'}


def replay_section(replay: Replay, difference: Difference) -> str:
    """Return how the node kept up, and where it differs from the direct way."""
    latency = replay.latency_ms
    rows = [
        ['frames played', str(replay.played)],
        ['answered', f'{len(replay.answers)}'],
        ['not answered (dropped, lost on the way, undecodable, or nothing to be seen)',
         str(replay.played - len(replay.answers))],
        ['verdicts matched to frames by', _MATCHED[replay.by_header]],
        *([f'latency from frame to verdict, {percent} % of them within', f'{value:.1f} ms']
          for percent, value in latency.items()),
        ['same verdict as the direct way, on frames that both saw',
         f'{difference.agree} of {difference.frames}'],
        ['the same, if the direct way gets only the frames that the node answered',
         f'{difference.agree_same} of {difference.frames}'],
        ['largest difference of P(success) then, as mean of the window',
         '–' if difference.largest is None else f'{difference.largest:.6f}'],
        *([f'counted by the node: {name}', replay.node[name]]
          for name in ('received', 'judged', 'dropped', 'bad') if name in replay.node),
        # Why nothing faster ran is in metrics.json.
        *(['what ran the network in the node', escape(replay.node[name].partition(' (')[0])]
          for name in ('engine',) if name in replay.node),
        ['what ran it on the direct way', escape(replay.engine)]]
    return section(
        'Through the running node', f'Played over DDS at rate {replay.rate:g}. Verdicts on this '
        'page are those that the node published; a frame that was not answered has the verdict '
        'that stood. The direct way here is one stream too, without a fresh start of each '
        'attempt.', table([], rows))


def replay_lines(replay: Replay, difference: Difference) -> list[str]:
    """Return the same for a terminal."""
    latency = ', '.join(f'{value:.0f} ms ({percent} %)'
                        for percent, value in replay.latency_ms.items())
    return [
        f'{replay.played} frames played at rate {replay.rate:g}, {len(replay.answers)} '
        f'answered; latency {latency or "unknown"}',
        f'verdicts matched to frames by {_MATCHED[replay.by_header]}',
        f'same verdict as the direct way on {difference.agree} of {difference.frames} frames '
        f'that both saw; {difference.agree_same}, given only the frames that the node answered']
