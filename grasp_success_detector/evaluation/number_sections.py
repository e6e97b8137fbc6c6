"""The parts of a report that say in numbers how good the answers are, with their intervals."""

from collections.abc import Mapping
from typing import Any

from grasp_success_detector.evaluation.charts import interval_bar, percent, scale_start, SERIES
from grasp_success_detector.html_page import cards, label_colour, section, table
from grasp_success_detector.labels import Label

#: What a report writes where nothing could be measured.
NOTHING = 'not measurable'


def with_interval(accuracy: Mapping[str, Any]) -> str:
    """Return an accuracy of metrics.json as the HTML of a table's cell."""
    if accuracy['value'] is None:
        return NOTHING
    low, high = accuracy['wilson_95']
    return (f'{percent(accuracy["value"])}<small>{percent(low)} to {percent(high)} '
            f'({accuracy["correct"]}/{accuracy["total"]})</small>')


def number(value: float | None, digits: int = 3) -> str:
    """Return a number of metrics.json as text."""
    return NOTHING if value is None else f'{value:.{digits}f}'


def headline(summary: Mapping[str, Any], data: str, max_false_positive_rate: float | None = None,
             ) -> str:
    """
    Return the headline numbers.

    :param summary: of :func:`~grasp_success_detector.evaluation.summary.summarize`.
    :param data: names the data, such as ``simulated test``.
    :param max_false_positive_rate: what the threshold was chosen for on validation.
    """
    classes = summary['classes']
    failures = classes['failure']
    wrong = {'value': None if failures['value'] is None else 1 - failures['value'],
             'correct': failures['total'] - failures['correct'], 'total': failures['total'],
             'wilson_95': [1 - bound for bound in reversed(failures['wilson_95'])]}
    wanted = ('' if max_false_positive_rate is None else
              f'; the threshold was set for {percent(max_false_positive_rate)} on validation')
    accuracies = (
        (f'of {data} attempts right', summary['attempts'], SERIES[0]),
        (f'of {data} frames right', summary['frames'], SERIES[0]),
        ('of success frames found', classes['success'], label_colour(Label.SUCCESS)))
    # One scale for the bars that stand side by side.
    start = scale_start(accuracy['wilson_95'][0] for _, accuracy, _ in accuracies
                        if accuracy['value'] is not None)
    return cards([
        *((_share(accuracy['value']), name, _interval(accuracy, colour, start))
          for name, accuracy, colour in accuracies),
        (_share(wrong['value']), 'of failure frames taken for success', _counted(wrong, wanted)),
        (number(summary['roc_auc']), 'area under the ROC curve',
         '<div class="soft small">0.5 is guessing, 1 is perfect</div>'),
        (_share(summary['ece']), 'expected calibration error', '<div class="soft small">'
         f'{_share(summary["ece_uncalibrated"])} before temperature scaling</div>')])


def _share(value: float | None) -> str:
    return '–' if value is None else percent(value)


def _counted(accuracy: Mapping[str, Any], more: str = '') -> str:
    low, high = accuracy['wilson_95']
    return (f'<div class="soft small">{accuracy["correct"]} of {accuracy["total"]}; 95 % '
            f'interval {percent(low)} to {percent(high)}{more}</div>')


def _interval(accuracy: Mapping[str, Any], colour: str, start: float) -> str:
    if accuracy['value'] is None:
        return ''
    low, high = accuracy['wilson_95']
    return interval_bar(accuracy['value'], low, high, colour, start) + _counted(accuracy)


def all_numbers(summaries: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a section with every number of several summaries, by their names."""
    rows = [
        ('attempts right', [with_interval(s['attempts']) for s in summaries.values()]),
        ('frames right', [with_interval(s['frames']) for s in summaries.values()]),
        *((f'{name} frames right', [with_interval(s['classes'][name])
                                    for s in summaries.values()]) for name in
          ('failure', 'success')),
        *((name, [number(s[field]) for s in summaries.values()]) for name, field in (
            ('ROC-AUC', 'roc_auc'), ('average precision', 'average_precision'))),
        *((f'{name}{when}', [number(s[field + suffix], 4) for s in summaries.values()])
          for name, field in (('Brier score', 'brier'), ('expected calibration error', 'ece'))
          for when, suffix in ((' before temperature scaling', '_uncalibrated'),
                               (' after it', '')))]
    return section(
        'All numbers', 'With Wilson 95 % intervals. Frames of one attempt resemble each other, so '
        'the intervals by frame are narrower than what is known; judge by attempts.',
        table(['', *summaries], ([name, *cells] for name, cells in rows)))


def confusion_section(summary: Mapping[str, Any], data: str) -> str:
    """Return both confusion matrices."""
    confusion = summary['confusion']
    return section(
        'What was said about what', 'Rows are the truth, columns the answer: counts, and their '
        f'share of the row, on {data} data. An attempt is judged by its last '
        f'{summary["window_s"]:g} s'
        + (f', and unknown with fewer than {summary["min_frames"]} frames in them.'
           if summary['min_frames'] > 1 else '.'),
        '<div class="split">', *(f'<div><h3>By {what}</h3>{_matrix(confusion[whole])}</div>'
                                 for what, whole in (('attempt', 'attempts'),
                                                     ('frame', 'frames'))), '</div>')


def _matrix(counts: Mapping[str, Mapping[str, int]]) -> str:
    answers = [answer for answer in ('success', 'failure', 'unknown')
               if any(answer in row for row in counts.values())]
    body = ''
    for truth in ('success', 'failure'):
        total = sum(counts[truth].values())
        body += f'<tr><th scope="row">is {truth}</th>'
        for answer in answers:
            count = counts[truth].get(answer, 0)
            share = count / total if total else 0.
            shade = 'good' if truth == answer else 'bad'
            body += (f'<td style="--share:{share:.3f};--shade:var(--{shade})"><b>{count}</b>'
                     f'<small>{percent(share)}</small></td>')
        body += '</tr>'
    return ('<table class="confusion"><thead><tr><td style="background:none"></td>'
            + ''.join(f'<th scope="col">said {answer}</th>' for answer in answers)
            + f'</tr></thead><tbody>{body}</tbody></table>')
