"""The page that compares several trainings, and its table, which the command also prints."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from grasp_success_detector.errors import ImageDecodeError
from grasp_success_detector.evaluation.calibration import reliability
from grasp_success_detector.evaluation.comparison import Comparison, Contestant
from grasp_success_detector.evaluation.frame_sources import label_origin
from grasp_success_detector.evaluation.predictions import Prediction
from grasp_success_detector.evaluation.threshold import roc_curve
from grasp_success_detector.images.decoding import RgbImage
from grasp_success_detector.reports import charts
from grasp_success_detector.reports.page import number, percent, render, scale_start
from grasp_success_detector.reports.pictures import frame_from, small

#: Warning beside p-values by frame: McNemar's test assumes independent cases.
FRAMES_DEPEND = ('frames of one attempt are not independent, so that p by frame is too small; '
                 'judge by attempts')

_MOST_PICTURES = 12


class Row(NamedTuple):
    """A property, with a value and a note, which may be empty, for each contestant."""

    name: str
    cells: tuple[tuple[str, str], ...]


class FrameFigure(NamedTuple):
    """
    The last frame of an attempt.

    :ivar picture: RGB uint8 (H, W, 3); None if it cannot be read.
    :ivar fault: why the picture cannot be read.
    :ivar right: names of the contestants that judged the attempt right.
    """

    row: Prediction
    picture: RgbImage | None
    fault: str
    right: list[str]


def rows(contestants: Sequence[Contestant], latencies_ms: Sequence[float]) -> list[Row]:
    """
    Return the rows of the table.

    :param latencies_ms: latency of one frame in ms, for each contestant.
    """
    def each(name: str, value: Callable[[Contestant], str],
             note: Callable[[Contestant], str] = lambda _: '') -> Row:
        return Row(name, tuple((value(c), note(c)) for c in contestants))

    def accuracy(name: str, of: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> Row:
        return each(name, lambda c: percent(of(c.metrics['test'])['value']),
                    lambda c: _interval(of(c.metrics['test'])))

    def measure(name: str, field: str) -> Row:
        return each(name, lambda c: number(c.metrics['test'][field], 4))

    return [
        each('architecture', lambda c: c.summary['architecture']),
        accuracy('test attempts right', lambda test: test['attempts']),
        accuracy('test frames right', lambda test: test['frames']),
        accuracy('success frames right', lambda test: test['classes']['success']),
        accuracy('failure frames right', lambda test: test['classes']['failure']),
        measure('ROC-AUC', 'roc_auc'),
        measure('average precision', 'average_precision'),
        measure('expected calibration error', 'ece'),
        measure('Brier score', 'brier'),
        each('threshold', lambda c: f'{c.metrics["threshold"]:.3f}',
             lambda c: f'for {percent(c.metrics["max_false_positive_rate"])} false positives'),
        each('parameters', lambda c: f'{sum(c.summary["parameters"].values()):,}',
             lambda c: f'{c.summary["parameters"]["trainable"]:,} trained'),
        each('checkpoint', lambda c: f'{c.checkpoint.stat().st_size / 1e6:.1f} MB'),
        Row('latency of one frame', tuple((f'{ms:.1f} ms', '') for ms in latencies_ms))]


def _interval(accuracy: Mapping[str, Any]) -> str:
    low, high = accuracy['wilson_95']
    return f'{percent(low)} to {percent(high)} ({accuracy["correct"]}/{accuracy["total"]})'


def comparison_page(comparison: Comparison, rows: Sequence[Row], timing: str) -> str:
    """
    Return the page as HTML.

    :param rows: of :func:`~grasp_success_detector.reports.comparison_page.rows`.
    :param timing: phrase on how latencies were measured.
    """
    contestants = comparison.contestants
    names = ' and '.join(c.name for c in contestants) if len(contestants) < 3 else (
        f'{len(contestants)} classifiers')
    colours = [charts.SERIES[i % len(charts.SERIES)] for i in range(len(contestants))]
    last = {row.attempt: row for row in sorted(
        contestants[0].predictions, key=lambda row: row.stamp_ns)}
    disagreements = [attempt for attempt in sorted(last)
                     if len({c.attempts[attempt] for c in contestants}) > 1]
    roc, diagram = _charts(contestants, colours)
    return render(
        'comparison.html', title=f'Comparison of {names}', comparison=comparison, rows=rows,
        origin=label_origin(contestants[0].test_dataset), timing=timing, colours=colours,
        scale_start=scale_start([c.metrics['test'][name] for c in contestants
                                 for name in ('attempts', 'frames')]),
        frames_depend=FRAMES_DEPEND, roc=roc, reliability=diagram, disagreements=disagreements,
        figures=[_figure(last[attempt], contestants)
                 for attempt in disagreements[:_MOST_PICTURES]])


def _charts(contestants: Sequence[Contestant],
            colours: Sequence[str]) -> tuple[charts.Chart, charts.Chart]:
    roc, diagram = charts.roc_axes('ROC curves'), charts.reliability_axes('Reliability diagrams')
    for contestant, colour in zip(contestants, colours, strict=True):
        labels = [row.label for row in contestant.predictions]
        values = [row.probability for row in contestant.predictions]
        diagram.dots(charts.reliability_dots(reliability(values, labels)), colour)
        diagram.key.append(charts.KeyEntry(colour, contestant.name, 'dot'))
        roc.key.append(charts.KeyEntry(colour, contestant.name))
        curve = roc_curve(values, labels)
        if curve is not None:
            roc.line(list(zip(curve.x, curve.y, strict=True)), colour)
            used = int((curve.thresholds >= contestant.metrics['threshold']).sum()) - 1
            roc.mark(curve.x[used], curve.y[used])
    return roc, diagram


def _figure(row: Prediction, contestants: Sequence[Contestant]) -> FrameFigure:
    picture, fault = None, ''
    try:
        picture = small(frame_from(contestants[0].test_dataset)(row))
    except ImageDecodeError as error:
        fault = str(error)
    right = [c.name for c in contestants if c.attempts[row.attempt]]
    return FrameFigure(row, picture, fault, right)
