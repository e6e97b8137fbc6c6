"""All that an evaluation measures, as metrics.json holds it."""


from collections.abc import Iterable, Sequence
from dataclasses import replace
from statistics import fmean, median
from typing import Any

import numpy as np

from grasp_success_detector.datasets.splits import outcomes
from grasp_success_detector.decision import DecisionConfig
from grasp_success_detector.evaluation.attempts import (
    attempt_counts,
    AttemptResult,
    labelled_predictions,
)
from grasp_success_detector.evaluation.calibration import (
    brier_score,
    expected_calibration_error,
)
from grasp_success_detector.evaluation.curves import average_precision, roc_auc
from grasp_success_detector.evaluation.intervals import (
    bootstrap_interval,
    mean_of,
    Measure,
    roc_auc_of,
    share_of,
)
from grasp_success_detector.evaluation.metrics import (
    Accuracy,
    attempt_accuracy,
    attempt_confusion,
    attempt_verdicts,
    class_accuracy,
    frame_accuracy,
    frame_confusion,
)
from grasp_success_detector.evaluation.predictions import Prediction
from grasp_success_detector.labels import Label, Verdict


def verdicts_and_outcomes(predictions: Iterable[Prediction], decision: DecisionConfig,
                          ) -> tuple[dict[str, Verdict], dict[str, Label]]:
    """
    Return what is said of each attempt at its last frame, and what became of it.

    :param predictions: in any order.
    """
    rows = sorted(predictions, key=lambda row: (row.attempt, row.stamp_ns))
    attempts = [row.attempt for row in rows]
    verdicts = attempt_verdicts(np.array([row.probability for row in rows]),
                                [row.stamp_ns for row in rows], attempts, decision)
    return verdicts, outcomes(attempts, [row.label for row in rows])


def summarize(predictions: Sequence[Prediction], threshold: float,
              decision: DecisionConfig) -> dict[str, Any]:
    """
    Measure how good the answers are; what cannot be measured is null, never NaN.

    :param predictions: of one split, in any order.
    :param threshold: P(success) from which on a frame, or an attempt's window, is a success.
    :param decision: how an attempt is decided; its own threshold does not count.
    :returns: for JSON: ``frames``, ``attempts`` and each of ``classes`` as
        ``Accuracy.to_json``; ``confusion`` of ``frames`` and ``attempts``, truth before answer;
        ``roc_auc``, ``average_precision``, ``brier``, ``ece``, the last two also
        ``_uncalibrated``, all by frame; ``threshold``, ``window_s`` and ``min_frames`` as used.
    """
    decision = replace(decision, threshold=threshold)
    labels = [row.label for row in predictions]
    probabilities = np.array([row.probability for row in predictions], np.float64)
    uncalibrated = np.array([row.uncalibrated for row in predictions], np.float64)
    verdicts, truth = verdicts_and_outcomes(predictions, decision)
    return {
        'frames': frame_accuracy(probabilities, labels, threshold).to_json(),
        'classes': {name: accuracy.to_json() for name, accuracy in class_accuracy(
            probabilities, labels, threshold).items()},
        'attempts': attempt_accuracy(verdicts, truth).to_json(),
        'confusion': {'frames': frame_confusion(probabilities, labels, threshold),
                      'attempts': attempt_confusion(verdicts, truth)},
        'roc_auc': roc_auc(probabilities, labels),
        'average_precision': average_precision(probabilities, labels),
        'brier': brier_score(probabilities, labels),
        'brier_uncalibrated': brier_score(uncalibrated, labels),
        'ece': expected_calibration_error(probabilities, labels),
        'ece_uncalibrated': expected_calibration_error(uncalibrated, labels),
        'threshold': threshold, 'window_s': decision.window_s,
        'min_frames': decision.min_frames}


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
