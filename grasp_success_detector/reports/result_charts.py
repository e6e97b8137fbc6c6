"""The charts of results.html: of the labelled predictions of an evaluation or a training."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from grasp_success_detector.evaluation.calibration import reliability
from grasp_success_detector.evaluation.predictions import Prediction
from grasp_success_detector.evaluation.threshold import precision_recall_curve, roc_curve
from grasp_success_detector.labels import Label
from grasp_success_detector.reports.charts import (
    add_reliability,
    Axis,
    Chart,
    KeyEntry,
    label_colour,
    reliability_axes,
    reliability_dots,
    roc_axes,
    SERIES,
    share_axis,
)
from grasp_success_detector.reports.page import number, percent


def result_charts(predictions: Sequence[Prediction], summary: Mapping[str, Any],
                  temperature: float) -> dict[str, Chart | None]:
    """
    Return the charts of results.html by name; curves are None unless both labels occur.

    :param summary: metrics that :func:`~grasp_success_detector.evaluation.metrics.summarize` gave.
    :param temperature: divisor of the logits.
    """
    roc, precision_recall = _curves(predictions, summary['threshold'])
    return {'roc': roc, 'precision_recall': precision_recall,
            'reliability': _reliability_chart(predictions, summary, temperature),
            'histogram': _histogram(predictions, summary['threshold'])}


def _curves(predictions: Sequence[Prediction], threshold: float,
            ) -> tuple[Chart | None, Chart | None]:
    values, labels = [row.probability for row in predictions], [row.label for row in predictions]
    roc, trade = roc_curve(values, labels), precision_recall_curve(values, labels)
    if roc is None or trade is None:
        return None, None
    used = int(np.flatnonzero(roc.thresholds >= threshold)[-1])
    left = roc_axes('ROC curve')
    left.line(list(zip(roc.x, roc.y, strict=True)), SERIES[0])
    left.mark(roc.x[used], roc.y[used],
              [f'{percent(roc.y[used])} found,', f'{percent(roc.x[used])} wrong'])
    right = Chart(share_axis('recall'), share_axis('precision'), 'Precision-recall curve')
    steps = [(0., float(trade.y[1]))]
    for x, y in zip(trade.x[1:], trade.y[1:], strict=True):
        steps += [(steps[-1][0], y), (x, y)]
    right.line(steps, SERIES[0])
    right.mark(trade.x[used], trade.y[used],
               [f'{percent(trade.x[used])} found,', f'{percent(trade.y[used])} right'])
    return left, right


def _reliability_chart(predictions: Sequence[Prediction], summary: Mapping[str, Any],
                       temperature: float) -> Chart:
    labels = [row.label for row in predictions]
    before = reliability([row.uncalibrated for row in predictions], labels)
    after = reliability([row.probability for row in predictions], labels)
    chart = reliability_axes('Reliability diagram')
    chart.dots(reliability_dots(before), SERIES[4], hollow=True)
    add_reliability(chart, after, SERIES[0])
    chart.key = [
        KeyEntry(SERIES[4], f'before (error {number(summary["ece_uncalibrated"])})', 'hollow'),
        KeyEntry(SERIES[0],
                 f'after temperature {temperature:.2f} (error {number(summary["ece"])})', 'dot')]
    return chart


def _histogram(predictions: Sequence[Prediction], threshold: float) -> Chart:
    """Draw counts of P(success), success upwards and failure downwards."""
    edges = np.linspace(0, 1, 26)
    counts = {label: np.histogram([row.probability for row in predictions if row.label is label],
                                  edges)[0] for label in Label}
    most = max(1, *(int(column.max()) for column in counts.values()))
    # Square roots, as the few frames in the middle could not be seen beside the many at the ends.
    marks = sorted({max(1, int(float(f'{most * share:.0e}'))) for share in (.05, .3, .8)})
    ticks = (*(-float(mark) ** .5 for mark in reversed(marks)), 0.,
             *(float(mark) ** .5 for mark in marks))
    chart = Chart(share_axis('P(success)'),
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
    return chart
