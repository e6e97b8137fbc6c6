"""A comparison of trainings as one self-contained HTML page, in the look of their reports."""

from collections.abc import Sequence
from html import escape

from grasp_success_detector.errors import ImageDecodeError
from grasp_success_detector.evaluation.calibration import reliability
from grasp_success_detector.evaluation.charts import (
    Chart,
    dot_key,
    interval_bar,
    key,
    reliability_chart,
    scale_start,
    SERIES,
    share_axis,
)
from grasp_success_detector.evaluation.comparison import Comparison, Contestant, Duel
from grasp_success_detector.evaluation.comparison_table import FRAMES_DEPEND, p_text, Row
from grasp_success_detector.evaluation.curve_sections import reliability_dots
from grasp_success_detector.evaluation.curves import roc_curve
from grasp_success_detector.evaluation.data_section import badge, data_section, label_origin
from grasp_success_detector.evaluation.error_section import frame_from, small
from grasp_success_detector.evaluation.predictions import Prediction
from grasp_success_detector.html_page import image, label_key, page, section, table

_MOST_PICTURES = 12


def comparison_page(comparison: Comparison, rows: Sequence[Row], timing: str) -> str:
    """
    Return the page's HTML.

    :param rows: of :func:`~grasp_success_detector.evaluation.comparison_table.rows`.
    :param timing: how latencies were measured.
    """
    contestants = comparison.contestants
    run = contestants[0].run
    origin = label_origin(run.test_dataset)
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
        data_section({'test': run.summary['data']['test']},
                     {'test': run.summary['test_dataset']}, origin))


def _colour(number: int) -> str:
    return SERIES[number % len(SERIES)]


def _accuracies(contestants: Sequence[Contestant], simulated: str) -> str:
    start = scale_start(c.run.metrics['test'][name]['wilson_95'][0]
                        for c in contestants for name in ('attempts', 'frames'))
    cards = []
    for i, contestant in enumerate(contestants):
        test = contestant.run.metrics['test']
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
        test = contestant.run.of('test')
        labels, values = [r.label for r in test], [r.probability for r in test]
        diagram.dots(reliability_dots(reliability(values, labels)), _colour(i))
        entries.append((_colour(i), contestant.name, False))
        curve = roc_curve(values, labels)
        if curve is not None:
            roc.line(list(zip(curve.x, curve.y, strict=True)), _colour(i))
            used = int((curve.thresholds >= contestant.run.metrics['threshold']).sum()) - 1
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
    run = contestants[0].run
    last: dict[str, Prediction] = {}
    for row in run.of('test'):
        if row.attempt not in last or row.stamp_ns > last[row.attempt].stamp_ns:
            last[row.attempt] = row
    differ = [attempt for attempt in sorted(last)
              if len({c.attempts[attempt] for c in contestants}) > 1]
    if not differ:
        return section('Where they disagree', 'On no attempt.')
    read, figures = frame_from(run.test_dataset), []
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
