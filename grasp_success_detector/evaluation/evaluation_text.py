"""What an evaluation says on a terminal."""

from collections.abc import Iterator, Mapping
from typing import Any

from grasp_success_detector.evaluation.evaluation import Evaluation
from grasp_success_detector.html_page import counted


def evaluation_lines(evaluation: Evaluation) -> Iterator[str]:
    """Yield the lines."""
    for recording in evaluation.recordings:
        refused = evaluation.refused.get(recording.name, {})
        attempts = sum(a.source == recording.name for a in evaluation.attempts)
        yield f'{recording.name}: {len(recording.frames)} frames, {counted(attempts, "attempt")}'
        for title, counts in (('left out', recording.account['skipped']),
                              ('without P(success)', refused),
                              ('damage', recording.account['damage'])):
            if counts:
                yield f'  {title}: ' + ', '.join(
                    f'{count} {what}' for what, count in sorted(counts.items()))
        if metrics := evaluation.by_source.get(recording.name):
            yield f'  attempts right: {_accuracy(metrics["attempts"])}'
    metrics = evaluation.metrics
    if metrics is None:
        yield 'no labels: predictions and timelines only'
        return
    results, times = metrics['results'], metrics['times']
    yield ('attempts: ' + ', '.join(f'{count} {name}' for name, count in results.items())
           + f'; right {_accuracy(metrics["attempts"])}')
    yield f'frames right: {_accuracy(metrics["frames"])}'
    decided, wrong = times['first_decision_s']['median'], times['false_true_s']['mean']
    yield ('no attempt was decided: too few frames, or none of them convincing' if decided is None
           else f'first decision after {decided:.2f} s (median)')
    if wrong is not None:
        yield f'SUCCESS was said wrongly for {wrong:.2f} s per attempt (mean)'
    if evaluation.suspicions:
        yield (f'{counted(len(evaluation.suspicions), "attempt")} whose labels the model does not '
               'believe: label_errors.csv')


def _accuracy(accuracy: Mapping[str, Any]) -> str:
    if accuracy['value'] is None:
        return 'none (0/0)'
    low, high = accuracy['wilson_95']
    return (f'{accuracy["value"]:.1%} ({accuracy["correct"]}/{accuracy["total"]}, 95 % interval '
            f'{low:.1%} to {high:.1%})')
