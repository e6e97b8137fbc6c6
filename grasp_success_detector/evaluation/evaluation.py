"""One evaluation: a checkpoint, recordings, and what came of it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from grasp_success_detector.decision import DecisionConfig
from grasp_success_detector.evaluation.attempts import AttemptResult, decide_attempts
from grasp_success_detector.evaluation.frame_sources import LabelOrigin, Recording
from grasp_success_detector.evaluation.judging import Judge, Judged, OnFrames
from grasp_success_detector.evaluation.label_errors import find_label_errors, Suspicion
from grasp_success_detector.evaluation.summary import evaluation_metrics
from grasp_success_detector.networks.checkpoint import Checkpoint

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Evaluation:
    """
    What came of it.

    :ivar path: of the checkpoint.
    :ivar engine: what ran the network, such as 'torch fp32 on cpu'.
    :ivar decision: how frames became verdicts.
    :ivar refused: of each recording, undecodable frames by reason.
    :ivar metrics: of all labelled attempts; None without labels.
    :ivar by_source: the same for each source that has labels.
    :ivar origin: where the labels come from.
    :ivar more: what metrics.json holds besides.
    """

    path: Path
    checkpoint: Checkpoint
    engine: str
    decision: DecisionConfig
    recordings: tuple[Recording, ...]
    refused: Mapping[str, Mapping[str, int]]
    attempts: tuple[AttemptResult, ...]
    metrics: Mapping[str, Any] | None
    by_source: Mapping[str, Mapping[str, Any]]
    suspicions: tuple[Suspicion, ...]
    origin: LabelOrigin
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def frames(self) -> int:
        """Return how many frames were looked at."""
        return sum(len(attempt.frames) for attempt in self.attempts)

    @property
    def judged(self) -> int:
        """Return how many of them could be judged."""
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
                'metrics': self.by_source.get(recording.name)} for recording in self.recordings},
            'all': self.metrics,
            'attempts': [attempt.to_json() for attempt in self.attempts],
            'label_errors': [suspicion.to_json() for suspicion in self.suspicions],
            **self.more}


def judge_all(judge: Judge, recordings: Sequence[Recording], on_frames: OnFrames,
              ) -> list[Judged]:
    """Judge one recording after the other."""
    return [judge.judge(recording, on_frames) for recording in recordings]


def evaluation_of(path: Path, checkpoint: Checkpoint, engine: str, decision: DecisionConfig,
                  judged: Sequence[Judged], origin: LabelOrigin,
                  attempts: Sequence[AttemptResult] | None = None,
                  more: Mapping[str, Any] | None = None) -> Evaluation:
    """
    Measure what the answers are worth.

    :param attempts: what was said, where that is known otherwise than by ``judged``.
    """
    results = decide_attempts(judged, decision) if attempts is None else attempts
    recordings = tuple(answers.recording for answers in judged)
    by_source = {recording.name: metrics for recording in recordings if (
        metrics := evaluation_metrics(
            [result for result in results if result.source == recording.name], decision))}
    return Evaluation(
        path, checkpoint, engine, decision, recordings,
        {answers.recording.name: answers.refused for answers in judged}, tuple(results),
        evaluation_metrics(results, decision), by_source,
        tuple(find_label_errors(results, decision)), origin, more or {})
