"""Charts as inline SVG, drawn in the colours of the page that they stand on."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby
import math
from typing import Final

Points = Sequence[tuple[float, float]]

#: CSS colours for what is compared, in this order.
SERIES: Final = ('var(--accent)', 'var(--accent2)', 'var(--accent3)', 'var(--accent4)',
                 'var(--accent5)')

_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 22, 10, 40


@dataclass(frozen=True)
class Axis:
    """
    One direction of a chart.

    :ivar ticks: values with a grid line.
    :ivar show: how such a value is written.
    """

    name: str
    low: float
    high: float
    ticks: tuple[float, ...]
    show: Callable[[float], str] = '{:g}'.format

    def share(self, value: float) -> float:
        """Return where a value lies, 0 to 1; what is beyond an end lies at the end."""
        return min(max((value - self.low) / (self.high - self.low), 0.), 1.)


def percent(value: float) -> str:
    """Write a share of 1 as percentage."""
    return f'{100 * value:.1f}\N{NO-BREAK SPACE}%'


def _whole_percent(value: float) -> str:
    return f'{100 * value:.3g}\N{NO-BREAK SPACE}%'


def share_axis(name: str, low: float = 0., margin: float = 0.) -> Axis:
    """
    Return an axis of shares from ``low`` to 1, written as percentages.

    :param margin: room at both ends, for dots that lie there.
    """
    step = (1 - low) / 5
    return Axis(name, low - margin, 1. + margin, tuple(low + step * i for i in range(6)),
                _whole_percent)


def number_axis(name: str, values: Iterable[float], low: float | None = None) -> Axis:
    """Return an axis that holds all values, from ``low`` on if given, with round ticks."""
    finite = [value for value in values if math.isfinite(value)] or [0., 1.]
    start = min(finite) if low is None else low
    span = max(max(finite) - start, 1e-9)
    step = 10 ** math.floor(math.log10(span / 4))
    step *= next(factor for factor in (1, 2, 2.5, 5, 10) if span / (step * factor) <= 5)
    first, last = math.floor(start / step + 1e-9), math.ceil((start + span) / step - 1e-9)
    return Axis(name, first * step, last * step,
                tuple(i * step for i in range(first, last + 1)))


def epoch_axis(epochs: Sequence[int]) -> Axis:
    """Return an axis of epochs with at most about ten ticks."""
    step = max(1, -(-len(epochs) // 10))
    return Axis('epoch', min(epochs) - .25, max(epochs) + .25, tuple(epochs[::step]))


class Chart:
    """
    A plot area with two axes; what is added later lies on top.

    :param describe: the chart in words, for those who don't see it.
    """

    def __init__(self, x: Axis, y: Axis, describe: str, width: int = 440, height: int = 300,
                 ) -> None:
        self._x, self._y = x, y
        self._describe, self._width, self._height = describe, width, height
        self._parts: list[str] = []
        right, bottom = width - _RIGHT, height - _BOTTOM
        for value in x.ticks:
            at, _ = self._at(value, y.low)
            self._parts.append(
                f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP}" y2="{bottom}" '
                f'stroke="var(--grid)"/><text x="{at:.1f}" y="{bottom + 15}" '
                f'text-anchor="middle">{escape(x.show(value))}</text>')
        for value in y.ticks:
            _, at = self._at(x.low, value)
            self._parts.append(
                f'<line x1="{_LEFT}" x2="{right}" y1="{at:.1f}" y2="{at:.1f}" '
                f'stroke="var(--grid)"/><text x="{_LEFT - 6}" y="{at + 4:.1f}" '
                f'text-anchor="end">{escape(y.show(value))}</text>')
        self._parts.append(
            f'<text x="{(_LEFT + right) / 2}" y="{height - 5}" text-anchor="middle">'
            f'{escape(x.name)}</text>'
            f'<text transform="translate(12 {(_TOP + bottom) / 2}) rotate(-90)" '
            f'text-anchor="middle">{escape(y.name)}</text>')

    def line(self, points: Points, colour: str, dashed: bool = False) -> None:
        """Join points, which come in order of x."""
        # Thousands of steps fall on the same tenth of a pixel.
        path = ' '.join(place for place, _ in groupby(
            '{:.1f},{:.1f}'.format(*self._at(*point)) for point in points))
        dashes = ' stroke-dasharray="5 4"' if dashed else ''
        self._parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" '
                           f'stroke-width="2" stroke-linejoin="round"{dashes}/>')

    def band(self, points: Sequence[tuple[float, float, float]], colour: str) -> None:
        """Shade what lies between a low and a high value at each x."""
        outline = [(x, low) for x, low, _ in points]
        outline += [(x, high) for x, _, high in reversed(points)]
        path = ' '.join('{:.1f},{:.1f}'.format(*self._at(*point)) for point in outline)
        self._parts.append(f'<polygon points="{path}" fill="{colour}" opacity=".15"/>')

    def dots(self, points: Iterable[tuple[float, float, float, str]], colour: str,
             hollow: bool = False) -> None:
        """Draw dots: x, y, radius in pixels, what they tell when pointed at."""
        style = (f'fill="var(--card)" stroke="{colour}" stroke-width="1.5"' if hollow
                 else f'fill="{colour}"')
        for x, y, radius, text in points:
            at_x, at_y = self._at(x, y)
            self._parts.append(f'<circle cx="{at_x:.1f}" cy="{at_y:.1f}" r="{radius:.1f}" {style}>'
                               f'<title>{escape(text)}</title></circle>')

    def whiskers(self, spans: Iterable[tuple[float, float, float]], colour: str) -> None:
        """Draw a thin upright line at each x from a low to a high value."""
        for x, low, high in spans:
            (at, y1), (_, y0) = self._at(x, low), self._at(x, high)
            self._parts.append(f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{y0:.1f}" y2="{y1:.1f}" '
                               f'stroke="{colour}" stroke-width="2" opacity=".35"/>')

    def bars(self, bars: Iterable[tuple[float, float, float, float, str]], colour: str) -> None:
        """Fill rectangles: from x to x, from y to y, what they tell when pointed at."""
        for left, right, low, high, text in bars:
            x0, y0 = self._at(left, high)
            x1, y1 = self._at(right, low)
            self._parts.append(
                f'<rect x="{x0 + .5:.1f}" y="{y0:.1f}" width="{max(x1 - x0 - 1, .5):.1f}" '
                f'height="{max(y1 - y0, 0.):.1f}" fill="{colour}">'
                f'<title>{escape(text)}</title></rect>')

    def upright(self, x: float, text: str) -> None:
        """Draw a dashed upright line with its name on the side that has more room."""
        at, _ = self._at(x, self._y.low)
        side, anchor = (6, 'start') if self._x.share(x) < .5 else (-6, 'end')
        self._parts.append(
            f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP}" y2="{self._height - _BOTTOM}" '
            f'stroke="var(--ink)" stroke-dasharray="4 3"/><text class="value" '
            f'x="{at + side:.1f}" y="{self._height - _BOTTOM - 7}" text-anchor="{anchor}">'
            f'{escape(text)}</text>')

    def mark(self, x: float, y: float, lines: Sequence[str], below: bool = True) -> None:
        """Ring a point and write lines beside it, on the side that has more room."""
        at_x, at_y = self._at(x, y)
        side, anchor = (10, 'start') if self._x.share(x) < .5 else (-10, 'end')
        first = at_y + (16 if below else -8 - 14 * (len(lines) - 1))
        self._parts.append(
            f'<circle cx="{at_x:.1f}" cy="{at_y:.1f}" r="5" fill="var(--card)" '
            'stroke="var(--ink)" stroke-width="2"/>' + ''.join(
                f'<text class="value" x="{at_x + side:.1f}" y="{first + 14 * i:.1f}" '
                f'text-anchor="{anchor}">{escape(line)}</text>' for i, line in enumerate(lines)))

    def svg(self) -> str:
        """Return the chart."""
        return (f'<svg viewBox="0 0 {self._width} {self._height}" role="img" '
                f'aria-label="{escape(self._describe)}">{"".join(self._parts)}</svg>')

    def _at(self, x: float, y: float) -> tuple[float, float]:
        wide, high = self._width - _LEFT - _RIGHT, self._height - _TOP - _BOTTOM
        return _LEFT + wide * self._x.share(x), _TOP + high * (1 - self._y.share(y))


def reliability_chart(describe: str) -> Chart:
    """Return a chart for dots of what was said against what is true, with its diagonal."""
    chart = Chart(share_axis('P(success) said', margin=.04),
                  share_axis('successes among these frames', margin=.04), describe)
    chart.line([(0, 0), (1, 1)], 'var(--soft)', dashed=True)
    return chart


def key(entries: Iterable[tuple[str, str, bool]]) -> str:
    """Say which line is what: colour, name, whether it is dashed."""
    return '<div class="key">' + ''.join(
        f'<span><i class="line{" dashed" if dashed else ""}" style="border-color:{colour}"></i>'
        f'{escape(name)}</span>' for colour, name, dashed in entries) + '</div>'


def dot_key(entries: Iterable[tuple[str, str, bool]]) -> str:
    """Say which dots are what: colour, name, whether they are hollow."""
    return '<div class="key">' + ''.join(
        f'<span><i style="border:2px solid {colour};border-radius:50%;background:'
        f'{"none" if hollow else colour}"></i>{escape(name)}</span>'
        for colour, name, hollow in entries) + '</div>'


def scale_start(lows: Iterable[float]) -> float:
    """Return where a scale of shares begins that holds these and still shows small differences."""
    return .5 if min(lows, default=0.) >= .5 else 0.


def interval_bar(value: float, low: float, high: float, colour: str, start: float) -> str:
    """
    Draw a share with its interval on a scale to 100 %.

    :param start: where the scale begins, as :func:`scale_start` chooses it.
    """
    def at(share: float) -> float:
        return 3 + 124 * (share - start) / (1 - start)

    return (f'<svg viewBox="0 0 130 24" role="img" aria-label="{percent(value)}, 95 % interval '
            f'{percent(low)} to {percent(high)}">'
            '<line x1="3" x2="127" y1="6" y2="6" stroke="var(--line)" stroke-width="2"/>'
            f'<line x1="{at(low):.1f}" x2="{at(high):.1f}" y1="6" y2="6" stroke="{colour}" '
            'stroke-width="5" stroke-linecap="round" opacity=".4"/>'
            f'<circle cx="{at(value):.1f}" cy="6" r="3.5" fill="{colour}"/>'
            f'<text x="1" y="21">{_whole_percent(start)}</text>'
            '<text x="129" y="21" text-anchor="end">100 %</text></svg>')
