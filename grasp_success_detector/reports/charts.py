"""Charts as inline SVG with the light or dark colours of their page."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
import math
from typing import Final, NamedTuple

from grasp_success_detector.evaluation.calibration import ReliabilityBins
from grasp_success_detector.evaluation.metrics import wilson_interval
from grasp_success_detector.labels import Label
from grasp_success_detector.reports.page import percent, render

#: CSS colours of the series of a chart, in this order.
SERIES: Final = tuple(f'var(--series-{i})' for i in range(1, 6))

#: Pixels around the plot area.
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 22, 10, 40


def plain(value: float) -> str:
    """Return a number with up to six digits."""
    return f'{value:g}'


@dataclass(frozen=True)
class Axis:
    """
    One axis of a chart.

    :ivar low: value at the left or lower end.
    :ivar high: value at the right or upper end.
    :ivar ticks: values with a grid line.
    :ivar show: function that returns the text of a tick.
    """

    name: str
    low: float
    high: float
    ticks: tuple[float, ...]
    show: Callable[[float], str] = plain

    def share(self, value: float) -> float:
        """Return the position of a value along the axis, clipped to 0 to 1."""
        return min(max((value - self.low) / (self.high - self.low), 0.), 1.)


def share_axis(name: str, low: float = 0., margin: float = 0.) -> Axis:
    """
    Return an axis of percentages from ``low``, a share of 1, to 100 %.

    :param margin: length added at both ends for dots at 0 % and 100 %, as a share of 1.
    """
    step = (1 - low) / 5
    return Axis(name, low - margin, 1. + margin, tuple(low + step * i for i in range(6)),
                lambda share: f'{100 * share:.3g}\N{NO-BREAK SPACE}%')


def number_axis(name: str, values: Iterable[float], low: float | None = None,
                tight: bool = False) -> Axis:
    """
    Return an axis with round ticks for all finite values.

    :param low: value at which the axis begins; None means the lowest of the values.
    :param tight: end the axis at the values instead of at a tick.
    """
    finite = [value for value in values if math.isfinite(value)] or [0., 1.]
    start = min(finite) if low is None else low
    span = max(max(finite) - start, 1e-9)
    step = 10 ** math.floor(math.log10(span / 4))
    step *= next(factor for factor in (1, 2, 2.5, 5, 10) if span / (step * factor) <= 5)
    first, last = math.floor(start / step + 1e-9), math.ceil((start + span) / step - 1e-9)
    ticks = tuple(i * step for i in range(first, last + 1))
    if tight:
        end = start + span
        return Axis(name, start, end, tuple(tick for tick in ticks if start <= tick <= end))
    return Axis(name, ticks[0], ticks[-1], ticks)


class Shape(NamedTuple):
    """An SVG element; the title is shown by a browser when the mouse points at it."""

    tag: str
    attributes: Mapping[str, str]
    title: str = ''
    text: str = ''


class KeyEntry(NamedTuple):
    """An entry of a legend; the style is line, dashed, dot, hollow or swatch (of style.css)."""

    colour: str
    name: str
    style: str = 'line'


class Chart:
    """
    A plot with two axes; later shapes cover earlier ones. Templates show it by ``{{ chart }}``.

    :param describe: text for readers who cannot see the chart.
    :param width: width in pixels.
    :param height: height in pixels.
    :ivar key: entries of the legend, which callers add.
    """

    def __init__(self, x: Axis, y: Axis, describe: str, width: int = 440, height: int = 300,
                 ) -> None:
        self.describe, self.width, self.height = describe, width, height
        self.shapes: list[Shape] = []
        self.key: list[KeyEntry] = []
        self._x, self._y = x, y
        right, bottom = width - _RIGHT, height - _BOTTOM
        for value in x.ticks:
            at, _ = self._at(value, y.low)
            self._add('line', x1=at, x2=at, y1=_TOP, y2=bottom, stroke='var(--grid)')
            self._add('text', x.show(value), x=at, y=bottom + 15, text_anchor='middle')
        for value in y.ticks:
            _, at = self._at(x.low, value)
            self._add('line', x1=_LEFT, x2=right, y1=at, y2=at, stroke='var(--grid)')
            self._add('text', y.show(value), x=_LEFT - 6, y=at + 4, text_anchor='end')
        self._add('text', x.name, x=(_LEFT + right) / 2, y=height - 5, text_anchor='middle')
        self._add('text', y.name, text_anchor='middle',
                  transform=f'translate(12 {(_TOP + bottom) / 2}) rotate(-90)')

    def __html__(self) -> str:
        """Return the chart and its legend as HTML; templates call this and do not escape it."""
        return render('chart.html', chart=self)

    def line(self, points: Sequence[tuple[float, float]], colour: str, dashed: bool = False,
             ) -> None:
        """Join points (x, y), which are in order of x, by a line."""
        self._add('polyline', points=self._path(points), fill='none', stroke=colour,
                  stroke_width=2, stroke_linejoin='round',
                  stroke_dasharray='5 4' if dashed else 'none')

    def band(self, points: Sequence[tuple[float, float, float]], colour: str) -> None:
        """Shade the area between the low and high values of points (x, low, high)."""
        outline = [(x, low) for x, low, _ in points] + [(x, high) for x, _, high in points[::-1]]
        self._add('polygon', points=self._path(outline), fill=colour, opacity='.15')

    def dots(self, points: Iterable[tuple[float, float, float, str]], colour: str,
             hollow: bool = False) -> None:
        """Draw dots (x, y, radius in pixels, title)."""
        style = {'fill': 'var(--card)', 'stroke': colour, 'stroke_width': 1.5} if hollow else {
            'fill': colour}
        for x, y, radius, title in points:
            cx, cy = self._at(x, y)
            self._add('circle', title=title, cx=cx, cy=cy, r=radius, **style)

    def whiskers(self, spans: Iterable[tuple[float, float, float]], colour: str) -> None:
        """Draw thin vertical lines (x, low value, high value)."""
        for x, low, high in spans:
            (at, y1), (_, y2) = self._at(x, high), self._at(x, low)
            self._add('line', x1=at, x2=at, y1=y1, y2=y2, stroke=colour, stroke_width=2,
                      opacity='.35')

    def bars(self, bars: Iterable[tuple[float, float, float, float, str]], colour: str) -> None:
        """Draw filled rectangles (left x, right x, low value, high value, title)."""
        for left, right, low, high, title in bars:
            (x1, y1), (x2, y2) = self._at(left, high), self._at(right, low)
            self._add('rect', title=title, x=x1 + .5, y=y1, width=max(x2 - x1 - 1, .5),
                      height=max(y2 - y1, 0.), fill=colour)

    def upright(self, x: float, text: str) -> None:
        """Draw a dashed vertical line with its name on the side that has more room."""
        at, _ = self._at(x, self._y.low)
        bottom = self.height - _BOTTOM
        self._add('line', x1=at, x2=at, y1=_TOP, y2=bottom, stroke='var(--ink)',
                  stroke_dasharray='5 4')
        self._note(x, at, bottom - 7, 6, text)

    def mark(self, x: float, y: float, lines: Sequence[str] = ()) -> None:
        """Draw a ring around a point and lines of text below, on the side that has more room."""
        cx, cy = self._at(x, y)
        self._add('circle', cx=cx, cy=cy, r=5, fill='var(--card)', stroke='var(--ink)',
                  stroke_width=2)
        for i, text in enumerate(lines):
            self._note(x, cx, cy + 16 + 14 * i, 10, text)

    def _note(self, x: float, at_x: float, at_y: float, distance: float, text: str) -> None:
        left_half = self._x.share(x) < .5
        self._add('text', text, x=at_x + (distance if left_half else -distance), y=at_y,
                  text_anchor='start' if left_half else 'end', **{'class': 'value'})

    def _add(self, tag: str, text: str = '', title: str = '', **attributes: float | str) -> None:
        self.shapes.append(Shape(tag, {
            name.replace('_', '-'): value if isinstance(value, str) else f'{value:.1f}'
            for name, value in attributes.items()}, title, text))

    def _path(self, points: Sequence[tuple[float, float]]) -> str:
        # Thousands of frames fall on the same tenth of a pixel.
        return ' '.join(place for place, _ in groupby(
            '{:.1f},{:.1f}'.format(*self._at(*point)) for point in points))

    def _at(self, x: float, y: float) -> tuple[float, float]:
        width, height = self.width - _LEFT - _RIGHT, self.height - _TOP - _BOTTOM
        return _LEFT + width * self._x.share(x), _TOP + height * (1 - self._y.share(y))


def label_colour(label: Label) -> str:
    """Return the CSS colour of a label."""
    return f'var(--{label.name.lower()})'


def roc_axes(describe: str) -> Chart:
    """Return an empty chart for ROC curves, with the diagonal of guessing."""
    chart = Chart(share_axis('failures taken for success'), share_axis('successes found'),
                  describe)
    chart.line([(0, 0), (1, 1)], 'var(--line)', dashed=True)
    return chart


def reliability_axes(describe: str) -> Chart:
    """Return an empty chart for reliability diagrams, with the diagonal of calibration."""
    chart = Chart(share_axis('P(success)', margin=.04),
                  share_axis('successes among these frames', margin=.04), describe)
    chart.line([(0, 0), (1, 1)], 'var(--soft)', dashed=True)
    return chart


def reliability_dots(bins: ReliabilityBins) -> list[tuple[float, float, float, str]]:
    """Return a dot for each bin with frames; its area grows with their number."""
    most = max(1, int(bins.counts.max(initial=0)))
    return [(said, true, 3 + 7 * (count / most) ** .5,
             f'{count} frames: P(success) {percent(said)}, successes {percent(true)}')
            for count, said, true in zip(*bins[1:], strict=True) if count]


def add_reliability(chart: Chart, bins: ReliabilityBins, colour: str) -> None:
    """Draw a dot for each bin with frames, with the Wilson 95 % interval of its share."""
    chart.whiskers(((said, *wilson_interval(round(true * count), int(count)))
                    for count, said, true in zip(*bins[1:], strict=True) if count), colour)
    chart.dots(reliability_dots(bins), colour)
