"""All that an evaluation measures, as metrics.json holds it."""

from collections.abc import Sequence
from statistics import fmean, median
from typing import Any

from grasp_success_detector.decision import DecisionConfig
from grasp_success_detector.evaluation.attempts import (
    attempt_counts,
    AttemptResult,
    labelled_predictions,
)
from grasp_success_detector.evaluation.bootstrap import (
    bootstrap_interval,
    mean_of,
    Measure,
    roc_auc_of,
    share_of,
)
from grasp_success_detector.evaluation.metrics import Accuracy, attempt_confusion
from grasp_success_detector.evaluation.summary import summarize


def evaluation_metrics(attempts: Sequence[AttemptResult], decision: DecisionConfig,
                       ) -> dict[str, Any] | None:
    """
    Measure the labelled frames and attempts.

    :returns: what :func:`~grasp_success_detector.evaluation.summary.summarize` gives, and
        ``results`` (attempts by result), ``times`` (of attempts, in seconds) and
        ``bootstrap_95`` (intervals over attempts, null where there are too few); None without
        labels.
    """
    labelled = [attempt for attempt in attempts if attempt.outcome is not None]
    predictions = labelled_predictions(labelled)
    if not predictions:
        return None
    right, total = [], []
    for attempt in labelled:
        rows = labelled_predictions([attempt])
        total.append(len(rows))
        right.append(sum((row.probability >= decision.threshold) == bool(row.label)
                         for row in rows))
    times = {name: [getattr(attempt, name) for attempt in labelled]
             for name in ('first_decision_s', 'success_delay_s', 'false_true_s')}
    measures: dict[str, Measure] = {
        'attempts': mean_of([float(attempt.result == 'correct') for attempt in labelled]),
        'frames': share_of(right, total), 'roc_auc': roc_auc_of(labelled),
        **{name: mean_of(values) for name, values in times.items()}}
    summary = summarize(predictions, decision.threshold, decision)
    results = attempt_counts(labelled)
    # Verdicts here rest on frames without label as well.
    summary['attempts'] = Accuracy(results['correct'], len(labelled)).to_json()
    summary['confusion']['attempts'] = attempt_confusion(
        {attempt.name: attempt.verdict for attempt in labelled},
        {attempt.name: attempt.outcome for attempt in labelled if attempt.outcome is not None})
    return {
        **summary, 'results': results,
        'times': {name: _described([value for value in values if value is not None])
                  for name, values in times.items()},
        'bootstrap_95': {name: bootstrap_interval(measure, len(labelled))
                         for name, measure in measures.items()}}


def _described(values: Sequence[float]) -> dict[str, Any]:
    """Return how many attempts have a time, and its mean, median and largest value."""
    return {'attempts': len(values), 'mean': fmean(values) if values else None,
            'median': median(values) if values else None, 'max': max(values, default=None)}
