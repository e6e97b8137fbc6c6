"""The parts of a report that draw what a threshold trades and how far P(success) is true."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from grasp_success_detector.evaluation.calibration import Reliability, reliability
from grasp_success_detector.evaluation.charts import (
    Axis,
    Chart,
    dot_key,
    percent,
    reliability_chart,
    SERIES,
    share_axis,
)
from grasp_success_detector.evaluation.curves import precision_recall_curve, roc_curve
from grasp_success_detector.evaluation.intervals import wilson_interval
from grasp_success_detector.evaluation.number_sections import number
from grasp_success_detector.evaluation.predictions import Prediction
from grasp_success_detector.html_page import label_colour, label_key, section
from grasp_success_detector.labels import Label

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
