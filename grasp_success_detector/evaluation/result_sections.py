"""The parts of an evaluation's report that stand in numbers: sources, times, doubtful labels."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from grasp_success_detector.evaluation.attempts import durations_s
from grasp_success_detector.evaluation.charts import percent
from grasp_success_detector.evaluation.evaluation import Evaluation
from grasp_success_detector.evaluation.gate import Gate
from grasp_success_detector.evaluation.label_errors import Suspicion
from grasp_success_detector.evaluation.number_sections import number, with_interval
from grasp_success_detector.evaluation.recordings import Recording
from grasp_success_detector.evaluation.timeline_section import anchor
from grasp_success_detector.html_page import counted, section, table
from grasp_success_detector.labels import Verdict

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
