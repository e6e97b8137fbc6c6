"""How the demo looks on a terminal."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from grasp_success_detector.labels import Verdict
from grasp_success_detector.ros.tools.demo_monitor import DemoMonitor, DemoResult

STYLES = {Verdict.SUCCESS: 'bold green', Verdict.FAILURE: 'bold dark_orange',
          Verdict.UNKNOWN: 'dim'}


def live_view(monitor: DemoMonitor, phase: str) -> RenderableType:
    """Return what is shown now; ``phase`` is one line on what goes on."""
    attempt, answer = monitor.attempt, monitor.latest
    verdict = answer.verdict if answer else Verdict.UNKNOWN
    probability = answer.probability if answer else 0.
    latency = monitor.latency_s
    grid = Table.grid(padding=(0, 2))
    grid.add_row('attempt', '-' if attempt is None else
                 f'{attempt.number} {attempt.object_name} ({len(monitor.bag.attempts)} in all)')
    grid.add_row('camera', f'{monitor.rate_hz:5.1f} frames/s, {monitor.frames} so far')
    grid.add_row('latency', '-' if latency is None else
                 f'{latency * 1e3:5.0f} ms from frame to verdict (median)')
    grid.add_row('P(success)', Group(ProgressBar(total=1., completed=probability, width=40),
                                     Text(f'{probability:.2f}')))
    grid.add_row('verdict', Text(verdict.name, STYLES[verdict]))
    grid.add_row('truth', truth_text(monitor.truth))
    return Panel(grid, title='grasp_success_detector', subtitle=phase, width=72)


def truth_text(truth: bool | None) -> Text:
    """Return the ground truth in the verdict's colours."""
    if truth is None:
        return Text('-', 'dim')
    verdict = Verdict.SUCCESS if truth else Verdict.FAILURE
    return Text(verdict.name, STYLES[verdict])


def attempt_line(result: DemoResult) -> str:
    """Return one attempt as one line, for logs."""
    attempt = result.attempt
    return ' '.join(filter(None, (
        f'attempt {attempt.number}', attempt.object_name,
        f'truth={_word(attempt.success)}', f'verdict={result.verdict.value}',
        f'P(success)={_number(result.probability)}', _correct(result.correct))))


def result_table(results: Sequence[DemoResult]) -> Table:
    """Return the table of all attempts."""
    table = Table(title='Verdict at the end of every attempt')
    for heading in ('attempt', 'object', 'ground truth', 'verdict', 'P(success)', 'correct?'):
        table.add_column(heading, justify='right' if heading == 'P(success)' else 'left')
    for result in results:
        table.add_row(
            str(result.attempt.number), result.attempt.object_name,
            truth_text(result.attempt.success), Text(result.verdict.name, STYLES[result.verdict]),
            _number(result.probability), _correct(result.correct))
    return table


def _word(truth: bool | None) -> str:
    return '-' if truth is None else 'success' if truth else 'failure'


def _number(value: float | None) -> str:
    return '-' if value is None else f'{value:.2f}'


def _correct(correct: bool | None) -> str:
    return '-' if correct is None else 'correct' if correct else 'WRONG'
