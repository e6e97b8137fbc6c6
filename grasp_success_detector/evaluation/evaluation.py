"""The evaluation of a checkpoint on recordings: metrics with bootstrap intervals, by source."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grasp_success_detector.decision import DecisionConfig
from grasp_success_detector.evaluation.attempts import (
    AttemptResult,
    decide_attempts,
    find_label_errors,
    Judged,
    labelled_predictions,
    Suspicion,
)
from grasp_success_detector.evaluation.frame_sources import LabelOrigin, Recording
from grasp_success_detector.evaluation.metrics import (
    accuracy,
    attempt_confusion,
    attempt_results,
    summarize,
)
from grasp_success_detector.labels import Label
from grasp_success_detector.networks.checkpoint import Checkpoint
from grasp_success_detector.networks.learnt_frames import count_learnt, Learnt

FORMAT_VERSION = 1

#: Resamples of the bootstrap; with fewer the ends of the intervals vary noticeably.
RESAMPLES = 1000

#: Maps how often each attempt was drawn, int64 (attempts,), to a statistic; NaN if undefined.
Measure = Callable[[NDArray[np.int64]], float]


@dataclass(frozen=True)
class Evaluation:
    """
    A checkpoint, recordings, and how well the checkpoint judges them.

    :ivar path: path of the checkpoint.
    :ivar engine: what ran the network, such as 'torch fp32 on cpu'.
    :ivar decision: settings by which verdicts were decided.
    :ivar refused: for each recording, the number of undecodable frames by reason.
    :ivar unreadable: for each recording, why its files cannot be decoded, by file.
    :ivar metrics: :func:`evaluation_metrics` of all attempts; None without labels.
    :ivar by_source: the metrics of each source that has labels, by its name.
    :ivar suspicions: frames whose labels look wrong.
    :ivar origin: where the labels come from.
    :ivar learnt: how many frames the checkpoint learnt from; None if it does not tell.
    :ivar more: further entries of metrics.json.
    """

    path: Path
    checkpoint: Checkpoint
    engine: str
    decision: DecisionConfig
    recordings: tuple[Recording, ...]
    refused: Mapping[str, Mapping[str, int]]
    unreadable: Mapping[str, Mapping[str, str]]
    attempts: tuple[AttemptResult, ...]
    metrics: Mapping[str, Any] | None
    by_source: Mapping[str, Mapping[str, Any]]
    suspicions: tuple[Suspicion, ...]
    origin: LabelOrigin
    learnt: Learnt | None = None
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def frames(self) -> int:
        """Return the number of frames."""
        return sum(len(attempt.frames) for attempt in self.attempts)

    @property
    def judged(self) -> int:
        """Return the number of frames that have a P(success)."""
        return sum(frame.probability is not None
                   for attempt in self.attempts for frame in attempt.frames)

    def to_json(self) -> dict[str, Any]:
        """Return the content of metrics.json."""
        metadata = self.checkpoint.metadata
        return {
            'format_version': FORMAT_VERSION,
            'checkpoint': {'path': str(self.path.resolve()), 'sha256': self.checkpoint.sha256,
                           'architecture': metadata.architecture,
                           'temperature': metadata.temperature, 'engine': self.engine},
            'decision': asdict(self.decision),
            'sources': {recording.name: {
                **recording.account, 'judged': len(recording.frames),
                'refused': dict(self.refused.get(recording.name, {})),
                'refused_files': dict(self.unreadable.get(recording.name, {})),
                'metrics': self.by_source.get(recording.name)} for recording in self.recordings},
            'learnt_frames': self.learnt and self.learnt._asdict(),
            'all': self.metrics,
            'attempts': [attempt.to_json() for attempt in self.attempts],
            'label_errors': [suspicion.to_json() for suspicion in self.suspicions],
            **self.more}


def evaluation_of(path: Path, checkpoint: Checkpoint, engine: str, decision: DecisionConfig,
                  judged: Sequence[Judged], origin: LabelOrigin,
                  attempts: Sequence[AttemptResult] | None = None,
                  more: Mapping[str, Any] | None = None) -> Evaluation:
    """
    Return the evaluation of recordings that were judged.

    :param attempts: attempts with their verdicts; if None, they are decided from ``judged``.
    """
    results = decide_attempts(judged, decision) if attempts is None else attempts
    recordings = tuple(answers.recording for answers in judged)
    by_source = {recording.name: metrics for recording in recordings if (
        metrics := evaluation_metrics(
            [result for result in results if result.source == recording.name], decision))}
    return Evaluation(
        path, checkpoint, engine, decision, recordings,
        {answers.recording.name: answers.refused for answers in judged},
        {answers.recording.name: answers.unreadable for answers in judged}, tuple(results),
        evaluation_metrics(results, decision), by_source,
        tuple(find_label_errors(results, decision)), origin,
        count_learnt(checkpoint.metadata.training, _hashes(judged)), more or {})


def _hashes(judged: Sequence[Judged]) -> Iterator[str]:
    """Yield the hashes of all frames that could be decoded."""
    for answers in judged:
        recording = answers.recording
        yield from recording.hashes([frame for frame in recording.frames
                                     if recording.file_of(frame) not in answers.unreadable])


def evaluation_metrics(attempts: Sequence[AttemptResult], decision: DecisionConfig,
                       ) -> dict[str, Any] | None:
    """
    Return the metrics of the labelled frames and attempts, for metrics.json.

    :returns: the entries of :func:`~grasp_success_detector.evaluation.metrics.summarize`, and
        ``results`` (number of attempts by result), ``times`` (mean, median and maximum, in
        seconds) and ``bootstrap_95`` (intervals, null where there are too few attempts); None
        without labels.
    """
    labelled = [attempt for attempt in attempts if attempt.outcome is not None]
    by_attempt = [labelled_predictions([attempt]) for attempt in labelled]
    predictions = [row for rows in by_attempt for row in rows]
    if not predictions:
        return None
    right = [sum((row.probability >= decision.threshold) == bool(row.label) for row in rows)
             for rows in by_attempt]
    times = {name: [getattr(attempt, name) for attempt in labelled]
             for name in ('first_decision_s', 'success_delay_s', 'false_true_s')}
    measures: dict[str, Measure] = {
        'attempts': mean_of([float(attempt.result == 'correct') for attempt in labelled]),
        'frames': share_of(right, list(map(len, by_attempt))), 'roc_auc': roc_auc_of(labelled),
        **{name: mean_of(values) for name, values in times.items()}}
    summary = summarize(predictions, decision.threshold, decision)
    # Verdicts here rest on frames without label as well.
    confusion = attempt_confusion((attempt.outcome, attempt.verdict) for attempt in labelled
                                  if attempt.outcome is not None)
    summary['confusion']['attempts'] = confusion
    summary['attempts'] = accuracy(confusion).to_json()
    return {
        **summary, 'results': attempt_results(confusion),
        'times': {name: _described([value for value in values if value is not None])
                  for name, values in times.items()},
        'bootstrap_95': {name: bootstrap_interval(measure, len(labelled))
                         for name, measure in measures.items()}}


def _described(values: Sequence[float]) -> dict[str, Any]:
    """Return how many attempts have a time, and its mean, median and largest value."""
    return {'attempts': len(values), 'mean': fmean(values) if values else None,
            'median': median(values) if values else None, 'max': max(values, default=None)}


def bootstrap_interval(measure: Measure, attempts: int) -> tuple[float, float] | None:
    """
    Return the 95 % percentile interval of a statistic over resampled attempts.

    Attempts are drawn with replacement, since frames of one attempt resemble each other: B. Efron
    and R. Tibshirani, An Introduction to the Bootstrap, Chapman and Hall 1993, chapter 13. The
    same attempts always give the same interval.

    :param attempts: number of attempts.
    :returns: both bounds; None with fewer than two attempts or if it is undefined in most draws.
    """
    if attempts < 2:
        return None
    rng = np.random.default_rng(0)
    values = np.array([measure(np.bincount(rng.integers(0, attempts, attempts),
                                           minlength=attempts)) for _ in range(RESAMPLES)])
    values = values[np.isfinite(values)]
    if len(values) < RESAMPLES / 2:
        return None
    low, high = np.quantile(values, (.025, .975))
    return float(low), float(high)


def mean_of(values: Sequence[float | None]) -> Measure:
    """Return a statistic: the mean of the drawn attempts' values, without those that are None."""
    return share_of([value or 0. for value in values], [value is not None for value in values])


def share_of(right: Sequence[float], total: Sequence[float]) -> Measure:
    """Return a statistic: the sum of ``right`` over the drawn attempts by that of ``total``."""
    rights, totals = np.array(right, np.float64), np.array(total, np.float64)

    def measure(times: NDArray[np.int64]) -> float:
        weight = (totals * times).sum()
        return float((rights * times).sum() / weight) if weight else float('nan')
    return measure


def roc_auc_of(attempts: Sequence[AttemptResult]) -> Measure:
    """Return a statistic: the area under the ROC curve of the drawn attempts' frames."""
    rows = sorted((row.probability, i, row.label) for i, attempt in enumerate(attempts)
                  for row in labelled_predictions([attempt]))
    values = np.array([row[0] for row in rows], np.float64)
    owner = np.array([row[1] for row in rows], np.int64)
    success = np.array([row[2] is Label.SUCCESS for row in rows], bool)
    # Equal values are one step: ties count half, as in `threshold.roc_auc`.
    step = np.cumsum(np.diff(values, prepend=np.nan) != 0) - 1 if len(rows) else owner

    def measure(times: NDArray[np.int64]) -> float:
        weight = times[owner].astype(np.float64)
        up, down = (np.bincount(step, weight * chosen) for chosen in (success, ~success))
        below = np.cumsum(down) - down
        pairs = up.sum() * down.sum()
        return float((up * (below + down / 2)).sum() / pairs) if pairs else float('nan')
    return measure
