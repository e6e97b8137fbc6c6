"""The part of a report that shows frames: the worst errors, and where the classifier looked."""


from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from grasp_success_detector.errors import ImageDecodeError
from grasp_success_detector.evaluation.calibration import Reliability, reliability
from grasp_success_detector.evaluation.curves import precision_recall_curve, roc_curve
from grasp_success_detector.evaluation.intervals import wilson_interval
from grasp_success_detector.evaluation.predictions import Prediction
from grasp_success_detector.images.decoding import read_image, RgbImage
from grasp_success_detector.labels import Label
from grasp_success_detector.networks.checkpoint import Checkpoint
from grasp_success_detector.reports.charts import (
    Axis,
    Chart,
    dot_key,
    interval_bar,
    percent,
    reliability_chart,
    scale_start,
    SERIES,
    share_axis,
)
from grasp_success_detector.reports.page import (
    cards,
    image,
    label_colour,
    label_key,
    section,
    table,
)
from grasp_success_detector.reports.pictures import grad_cam, overlay

_BEFORE, _AFTER = 'var(--accent5)', SERIES[0]


def trade_off_section(predictions: Sequence[Prediction], threshold: float, data: str) -> str:
    """Return ROC and precision-recall curve with the threshold in use marked."""
    labels = [row.label for row in predictions]
    values = [row.probability for row in predictions]
    roc, trade = roc_curve(values, labels), precision_recall_curve(values, labels)
    explanation = (
        'Each point is a threshold. Left: how many successes are found, for how many failures '
        'taken for success. Right: how often "success" is true, for how many successes found. '
        f'Ringed: the threshold in use, {threshold:.3f}. By frame, {data} data.')
    if roc is None or trade is None:
        return section('What a threshold trades', 'Both labels are needed for these curves.')
    used = int(np.flatnonzero(roc.thresholds >= threshold)[-1])
    charts = []
    left = Chart(share_axis('failures taken for success'), share_axis('successes found'),
                 'ROC curve')
    left.line([(0, 0), (1, 1)], 'var(--line)', dashed=True)
    left.line(list(zip(roc.x, roc.y, strict=True)), SERIES[0])
    left.mark(roc.x[used], roc.y[used],
              [f'{percent(roc.y[used])} found,', f'{percent(roc.x[used])} wrong'])
    charts.append(left.svg())
    right = Chart(share_axis('successes found (recall)'),
                  share_axis('"success" is true (precision)'), 'Precision-recall curve')
    steps = [(0., float(trade.y[1]))]
    for i in range(1, len(trade.x)):
        steps += [(steps[-1][0], trade.y[i]), (trade.x[i], trade.y[i])]
    right.line(steps, SERIES[0])
    right.mark(trade.x[used], trade.y[used],
               [f'{percent(trade.x[used])} found,', f'{percent(trade.y[used])} true'])
    charts.append(right.svg())
    return section('What a threshold trades', explanation, '<div class="charts two">',
                   *(f'<div>{chart}</div>' for chart in charts), '</div>')


def calibration_section(predictions: Sequence[Prediction], summary: Mapping[str, Any],
                        temperature: float, data: str) -> str:
    """Return the reliability diagram, before and after, and where the answers lie."""
    labels = [row.label for row in predictions]
    diagram = reliability_chart('Reliability diagram')
    for values, colour, hollow in (([r.uncalibrated for r in predictions], _BEFORE, True),
                                   ([r.probability for r in predictions], _AFTER, False)):
        bins = reliability(values, labels)
        if not hollow:
            diagram.whiskers(((said, *wilson_interval(round(true * count), int(count)))
                              for count, said, true in zip(*bins[1:], strict=True) if count),
                             colour)
        diagram.dots(reliability_dots(bins), colour, hollow)
    legend = dot_key([
        (_BEFORE, f'before (error {number(summary["ece_uncalibrated"])})', True),
        (_AFTER, f'after temperature {temperature:.2f} (error {number(summary["ece"])})', False)])
    return section(
        'Whether P(success) can be taken at its word',
        'Left: of frames that were given, say, 80 %, four in five should be successes; dots on '
        'the diagonal mean so, large dots are many frames, lines are Wilson 95 % intervals. '
        'Right: which P(success) the frames of each label got; what reaches across the threshold '
        f'is wrong. By frame, {data} data.',
        f'<div class="charts two"><div>{diagram.svg()}{legend}</div>'
        f'<div>{_histogram(predictions, summary["threshold"])}{label_key()}</div></div>')


def reliability_dots(bins: Reliability) -> list[tuple[float, float, float, str]]:
    """Return a dot for each bin that has frames, the larger the more."""
    most = max(1, int(bins.counts.max(initial=0)))
    return [(said, true, 3 + 7 * (count / most) ** .5,
             f'{count} frames: said {percent(said)}, true {percent(true)}')
            for count, said, true in zip(*bins[1:], strict=True) if count]


def _histogram(predictions: Sequence[Prediction], threshold: float) -> str:
    """Draw counts of P(success), success upwards and failure downwards."""
    edges = np.linspace(0, 1, 26)
    counts = {label: np.histogram([r.probability for r in predictions if r.label is label],
                                  edges)[0] for label in Label}
    most = max(1, *(int(column.max()) for column in counts.values()))
    # By square roots, else the few in between could not be seen beside the many at the ends.
    marks = sorted({max(1, int(float(f'{most * share:.0e}'))) for share in (.05, .3, .8)})
    ticks = (*(-float(mark) ** .5 for mark in reversed(marks)), 0.,
             *(float(mark) ** .5 for mark in marks))
    chart = Chart(share_axis('P(success) said'),
                  Axis('frames (square-root scale)', -most ** .5, most ** .5, ticks,
                       lambda root: f'{root * root:.0f}'),
                  'Histogram of P(success) by label')
    for label, column in counts.items():
        up = label is Label.SUCCESS
        chart.bars(((left, right, 0. if up else -count ** .5, count ** .5 if up else 0.,
                     f'{count} {label.name.lower()} frames from {left:.2f} to {right:.2f}')
                    for left, right, count in zip(edges[:-1], edges[1:], column, strict=True)
                    if count), label_colour(label))
    chart.upright(threshold, f'threshold {threshold:.3f}')
    return chart.svg()


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
