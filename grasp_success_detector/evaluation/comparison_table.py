"""What a comparison comes to, line by line, for the terminal and for the page."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from grasp_success_detector.evaluation.charts import percent
from grasp_success_detector.evaluation.comparison import Contestant, Duel

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
        return each(name, lambda c: _share(of(c.run.metrics['test'])),
                    lambda c: _interval(of(c.run.metrics['test'])))

    def measure(name: str, field: str) -> Row:
        return each(name, lambda c: _number(c.run.metrics['test'][field]))

    return [
        each('architecture', lambda c: c.run.summary['architecture']),
        accuracy('test attempts right', lambda test: test['attempts']),
        accuracy('test frames right', lambda test: test['frames']),
        accuracy('success frames right', lambda test: test['classes']['success']),
        accuracy('failure frames right', lambda test: test['classes']['failure']),
        measure('ROC-AUC', 'roc_auc'),
        measure('average precision', 'average_precision'),
        measure('expected calibration error', 'ece'),
        measure('Brier score', 'brier'),
        each('threshold', lambda c: f'{c.run.metrics["threshold"]:.3f}',
             lambda c: f'for {percent(c.run.metrics["max_false_positive_rate"])} false positives'),
        each('parameters', lambda c: f'{sum(c.run.summary["parameters"].values()):,}',
             lambda c: f'{c.run.summary["parameters"]["trainable"]:,} trained'),
        each('checkpoint', lambda c: f'{c.run.checkpoint.stat().st_size / 1e6:.1f} MB'),
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
