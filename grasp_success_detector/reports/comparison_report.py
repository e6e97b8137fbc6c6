"""A comparison of trainings as one self-contained HTML page, in the look of their reports."""


from collections.abc import Callable, Sequence
from html import escape
from typing import Any, NamedTuple

from grasp_success_detector.errors import ImageDecodeError
from grasp_success_detector.evaluation.calibration import reliability
from grasp_success_detector.evaluation.comparison import Comparison, Contestant, Duel
from grasp_success_detector.evaluation.curves import roc_curve
from grasp_success_detector.evaluation.frame_sources import label_origin
from grasp_success_detector.evaluation.predictions import Prediction
from grasp_success_detector.reports.charts import (
    Chart,
    dot_key,
    interval_bar,
    key,
    percent,
    reliability_chart,
    scale_start,
    SERIES,
    share_axis,
)
from grasp_success_detector.reports.page import image, label_key, page, section, table
from grasp_success_detector.reports.sections import frame_from, reliability_dots, small
from grasp_success_detector.reports.training_report import badge, data_section

#: By frame, McNemar's test takes each frame for a draw of its own.
FRAMES_DEPEND = ('frames of one attempt are not independent, so that p by frame is too small; '
                 'judge by attempts')


class Row(NamedTuple):
    """
    One property of all contestants.

    :ivar more: what belongs below each value; may be empty.
    """

    name: str
    values: tuple[str, ...]
    more: tuple[str, ...]


def rows(contestants: Sequence[Contestant], latencies_ms: Sequence[float]) -> list[Row]:
    """
    Return every property.

    :param latencies_ms: of each contestant, for one frame.
    """
    def each(name: str, value: Callable[[Contestant], str],
             more: Callable[[Contestant], str] = lambda _: '') -> Row:
        return Row(name, tuple(map(value, contestants)), tuple(map(more, contestants)))

    def accuracy(name: str, of: Callable[[dict[str, Any]], dict[str, Any]]) -> Row:
        return each(name, lambda c: _share(of(c.metrics['test'])),
                    lambda c: _interval(of(c.metrics['test'])))

    def measure(name: str, field: str) -> Row:
        return each(name, lambda c: _number(c.metrics['test'][field]))

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
        Row('latency of one frame', tuple(f'{ms:.1f} ms' for ms in latencies_ms),
            ('',) * len(contestants))]


def text_table(contestants: Sequence[Contestant], table: Sequence[Row]) -> str:
    """Return the rows as aligned text, a column for each contestant."""
    lines = [('', tuple(c.name for c in contestants))]
    for row in table:
        lines.append((row.name, row.values))
        if any(row.more):
            lines.append(('', row.more))
    first = max(len(name) for name, _ in lines)
    widths = [max(len(values[i]) for _, values in lines) for i in range(len(contestants))]
    return '\n'.join(
        f'{name:{first}}  ' + '  '.join(f'{value:>{width}}' for value, width in zip(
            values, widths, strict=True)) for name, values in lines).replace(
                '\N{NO-BREAK SPACE}', ' ')


def sentence(duel: Duel, what: str) -> str:
    """
    Say how two contestants differ.

    :param what: attempts or frames.
    """
    return (f'{what}: only {duel.first} right {duel.only_first}, only {duel.second} right '
            f"{duel.only_second}, both {duel.both}, neither {duel.neither}; McNemar's exact p "
            f'{p_text(duel.p_value)}')


def p_text(p_value: float) -> str:
    """Write a p-value with its sign of relation."""
    return '< 0.0001' if p_value < .0001 else f'= {p_value:.4f}'


def _share(accuracy: dict[str, Any]) -> str:
    return '–' if accuracy['value'] is None else percent(accuracy['value'])


def _interval(accuracy: dict[str, Any]) -> str:
    low, high = accuracy['wilson_95']
    return f'{percent(low)} to {percent(high)} ({accuracy["correct"]}/{accuracy["total"]})'


def _number(value: float | None) -> str:
    return '–' if value is None else f'{value:.4f}'


_MOST_PICTURES = 12


def comparison_page(comparison: Comparison, rows: Sequence[Row], timing: str) -> str:
    """
    Return the page's HTML.

    :param rows: of :func:`~grasp_success_detector.reports.comparison_report.rows`.
    :param timing: how latencies were measured.
    """
    contestants = comparison.contestants
    first = contestants[0]
    origin = label_origin(first.test_dataset)
    names = ' and '.join(c.name for c in contestants) if len(contestants) < 3 else (
        f'{len(contestants)} classifiers')
    simulated = 'simulated ' if origin.simulated else ''
    return page(
        f'Comparison of {names}', f'<h1>Comparison of {escape(names)}</h1>'
        f'<p class="soft">On the same {len(contestants[0].attempts)} {simulated}test attempts, '
        f'{len(contestants[0].frames)} frames {badge(origin)}</p>',
        _accuracies(contestants, simulated), _duels(comparison), _side_by_side(
            contestants, rows, timing), _curves(contestants, simulated),
        _disagreements(contestants),
        data_section({'test': first.summary['data']['test']},
                     {'test': first.summary['test_dataset']}, origin))


def _colour(number: int) -> str:
    return SERIES[number % len(SERIES)]


def _accuracies(contestants: Sequence[Contestant], simulated: str) -> str:
    start = scale_start(c.metrics['test'][name]['wilson_95'][0]
                        for c in contestants for name in ('attempts', 'frames'))
    cards = []
    for i, contestant in enumerate(contestants):
        test = contestant.metrics['test']
        parts = [f'<h3 style="color:{_colour(i)}">{escape(contestant.name)}</h3>']
        for name, accuracy in (('attempts', test['attempts']), ('frames', test['frames'])):
            low, high = accuracy['wilson_95']
            parts.append(f'<b>{100 * accuracy["value"]:.1f}&nbsp;%</b>of {simulated}test {name} '
                         f'right{interval_bar(accuracy["value"], low, high, _colour(i), start)}'
                         f'<div class="soft small">{accuracy["correct"]} of '
                         f'{accuracy["total"]}; 95&nbsp;% interval {100 * low:.1f} to '
                         f'{100 * high:.1f}&nbsp;%</div>')
        cards.append(f'<div class="card">{"".join(parts)}</div>')
    return f'<div class="cards">{"".join(cards)}</div>'


def _duels(comparison: Comparison) -> str:
    def cells(what: str, duel: Duel) -> list[str]:
        return [f'{escape(duel.first)} and {escape(duel.second)}, by {what}', str(duel.both),
                str(duel.only_first), str(duel.only_second), str(duel.neither),
                f'<b>{escape(p_text(duel.p_value).removeprefix("= ")).replace(" ", "&nbsp;")}</b>']

    several = ('' if len(comparison.by_attempt) == 1 else
               ' The p-values are not corrected for the number of pairs.')
    return section(
        'Is one better?', "McNemar's exact test asks how probable disagreements as uneven as "
        'these are if both are equally good; a small p (below 0.05, say) speaks against luck. By '
        f'frame: {FRAMES_DEPEND}.{several}',
        table(['', 'both right', 'only the first', 'only the second', 'neither', 'p'],
              [cells(what, duel) for what, duels in (
                  ('attempt', comparison.by_attempt), ('frame', comparison.by_frame))
               for duel in duels]))


def _side_by_side(contestants: Sequence[Contestant], rows: Sequence[Row], timing: str) -> str:
    return section(
        'Side by side', f'On the test frames, with Wilson 95 % intervals. Latency: {timing}.',
        table(['', *(escape(c.name) for c in contestants)],
              ([escape(row.name), *(
                  escape(value) + (f'<small>{escape(more)}</small>' if more else '')
                  for value, more in zip(row.values, row.more, strict=True))] for row in rows)))


def _curves(contestants: Sequence[Contestant], simulated: str) -> str:
    roc = Chart(share_axis('failures taken for success'), share_axis('successes found'),
                'ROC curves')
    roc.line([(0, 0), (1, 1)], 'var(--line)', dashed=True)
    diagram = reliability_chart('Reliability diagrams')
    entries = []
    for i, contestant in enumerate(contestants):
        test = contestant.predictions
        labels, values = [r.label for r in test], [r.probability for r in test]
        diagram.dots(reliability_dots(reliability(values, labels)), _colour(i))
        entries.append((_colour(i), contestant.name, False))
        curve = roc_curve(values, labels)
        if curve is not None:
            roc.line(list(zip(curve.x, curve.y, strict=True)), _colour(i))
            used = int((curve.thresholds >= contestant.metrics['threshold']).sum()) - 1
            roc.mark(curve.x[used], curve.y[used], [])
    return section(
        'Trade-off and calibration', 'Left: how many successes are found, for how many failures '
        'taken for success; ringed, the threshold of each. Right: whether P(success) can be taken '
        'at its word, after temperature scaling; dots on the diagonal mean so, large dots are '
        f'many frames. By frame, {simulated}test data.',
        f'<div class="charts two"><div>{roc.svg()}{key(entries)}</div>'
        f'<div>{diagram.svg()}{dot_key(entries)}</div></div>')


def _disagreements(contestants: Sequence[Contestant]) -> str:
    """Show the last frame of attempts that some got right and others wrong."""
    last: dict[str, Prediction] = {}
    for row in contestants[0].predictions:
        if row.attempt not in last or row.stamp_ns > last[row.attempt].stamp_ns:
            last[row.attempt] = row
    differ = [attempt for attempt in sorted(last)
              if len({c.attempts[attempt] for c in contestants}) > 1]
    if not differ:
        return section('Where they disagree', 'On no attempt.')
    read, figures = frame_from(contestants[0].test_dataset), []
    for attempt in differ[:_MOST_PICTURES]:
        row = last[attempt]
        try:
            picture = image(small(read(row)), f'labelled {row.label.name.lower()}', row.label)
        except ImageDecodeError as error:
            picture = f'<p class="soft small">{escape(str(error))}</p>'
        right = ', '.join(c.name for c in contestants if c.attempts[attempt])
        figures.append(
            f'<figure title="{escape(row.file)}">{picture}<figcaption><b>is '
            f'{row.label.name.lower()}</b>, {escape(attempt)}<br>right: {escape(right)}'
            '</figcaption></figure>')
    some = ('' if len(differ) <= _MOST_PICTURES else
            f' The first {_MOST_PICTURES} of them are shown.')
    return section('Where they disagree', f'On {len(differ)} attempts some are right and others '
                   f'wrong; the last frame of each.{some}', label_key(),
                   '<div class="frames">', *figures, '</div>')
