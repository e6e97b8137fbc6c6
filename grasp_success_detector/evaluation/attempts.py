"""What the detector would have said during each attempt, and how good that is."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, NamedTuple

from grasp_success_detector.decision import DecisionConfig, NS_PER_S, Reason, WindowedDecider
from grasp_success_detector.evaluation.judging import Judged
from grasp_success_detector.evaluation.predictions import Prediction
from grasp_success_detector.labels import Label, Verdict


class FrameVerdict(NamedTuple):
    """
    One frame, P(success) of it, and the verdict after it.

    :ivar number: among all frames of its source, from 0.
    :ivar file: within a data set; else ''.
    :ivar label: None where nobody says.
    :ivar probability: calibrated, 0 to 1; None where the picture could not be decoded, or nothing
        can be seen on it.
    :ivar uncalibrated: before temperature scaling; None likewise.
    :ivar reason: None where only the verdict was heard.
    :ivar window_probability: what the verdict rests on: mean P(success) of the window.
    """

    source: str
    attempt: str
    number: int
    stamp_ns: int
    file: str
    label: Label | None
    probability: float | None
    uncalibrated: float | None
    verdict: Verdict
    reason: Reason | None
    window_probability: float | None


@dataclass(frozen=True)
class AttemptResult:
    """
    One attempt and what was said during it.

    :ivar outcome: label of its last labelled frame; None without any.
    :ivar verdict: after its last labelled frame; after its last one without labels.
    :ivar first_decision_s: from its first frame to the first verdict that is not unknown; None if
        there was none.
    :ivar success_delay_s: from its first success frame to the first SUCCESS at or after it.
    :ivar false_true_s: how long SUCCESS was said while the label was failure; a frame counts
        until the next one, at most for ``stale_after_s``, the last one for the median distance.
    """

    name: str
    source: str
    frames: tuple[FrameVerdict, ...]
    outcome: Label | None
    verdict: Verdict
    first_decision_s: float | None
    success_delay_s: float | None
    false_true_s: float

    @property
    def result(self) -> str | None:
        """Return ``correct``, ``wrong`` or ``unknown``; None where no label tells."""
        if self.outcome is None:
            return None
        if self.verdict is Verdict.UNKNOWN:
            return 'unknown'
        return 'correct' if self.verdict.name == self.outcome.name else 'wrong'

    @property
    def error(self) -> float:
        """Return the mean distance of P(success) from the labels; 0 without any."""
        apart = [abs(frame.probability - frame.label) for frame in self.frames
                 if frame.label is not None and frame.probability is not None]
        return sum(apart) / len(apart) if apart else 0.

    def to_json(self) -> dict[str, Any]:
        """Return what metrics.json holds of it."""
        return {'attempt': self.name, 'source': self.source, 'frames': len(self.frames),
                'outcome': None if self.outcome is None else self.outcome.name.lower(),
                'verdict': self.verdict.value, 'result': self.result,
                'first_decision_s': self.first_decision_s,
                'success_delay_s': self.success_delay_s, 'false_true_s': self.false_true_s}


def decide_attempts(judged: Iterable[Judged], config: DecisionConfig, anew: bool = True,
                    ) -> list[AttemptResult]:
    """
    Run every attempt through ``decision.py``, frame by frame, as the node would.

    :param anew: begin each attempt with nothing known; else a recording is one stream, and an
        attempt begins with what is known from before.
    """
    results = []
    for recording_answers in judged:
        recording = recording_answers.recording
        rows: dict[str, list[FrameVerdict]] = {}
        deciders: dict[str, WindowedDecider] = {}
        for i, (frame, probability, uncalibrated) in enumerate(zip(
                recording.frames, recording_answers.probabilities.tolist(),
                recording_answers.uncalibrated.tolist(), strict=True)):
            decider = deciders.setdefault(frame.attempt if anew else '', WindowedDecider(config))
            readable = probability == probability
            # Recorded frames count as received when they were taken.
            if i in recording_answers.blind:
                decider.observe_blind(recording_answers.blind[i], received_ns=frame.stamp_ns)
            elif readable:
                decider.observe(frame.stamp_ns, probability, received_ns=frame.stamp_ns)
            else:
                decider.observe_bad()
            decision = decider.decide(frame.stamp_ns)
            rows.setdefault(frame.attempt, []).append(FrameVerdict(
                recording.name, frame.attempt, frame.number, frame.stamp_ns,
                recording.file_of(frame), frame.label, probability if readable else None,
                uncalibrated if readable else None, decision.verdict, decision.reason,
                decision.probability))
        results += [attempt_result(frames, config) for frames in rows.values()]
    return results


def attempt_result(frames: Sequence[FrameVerdict], config: DecisionConfig) -> AttemptResult:
    """
    Measure one attempt.

    :param frames: all of it, in order, one or more.
    """
    start_ns = frames[0].stamp_ns
    labelled = [frame for frame in frames if frame.label is not None]
    onset = next((f.stamp_ns for f in frames if f.label is Label.SUCCESS), None)
    lasts = durations_s(frames, config.stale_after_s)
    return AttemptResult(
        frames[0].attempt, frames[0].source, tuple(frames),
        labelled[-1].label if labelled else None, (labelled or frames)[-1].verdict,
        _seconds_to(frames, start_ns, (Verdict.SUCCESS, Verdict.FAILURE)),
        None if onset is None else _seconds_to(frames, onset, (Verdict.SUCCESS,)),
        sum(seconds for frame, seconds in zip(frames, lasts, strict=True)
            if frame.label is Label.FAILURE and frame.verdict is Verdict.SUCCESS))


def durations_s(frames: Sequence[FrameVerdict], longest_s: float) -> list[float]:
    """Return for how long each frame's verdict stood, in seconds; at most ``longest_s``."""
    steps = [min(max(b.stamp_ns - a.stamp_ns, 0) / NS_PER_S, longest_s)
             for a, b in zip(frames, frames[1:], strict=False)]
    return [*steps, median(steps) if steps else 0.]


def labelled_predictions(attempts: Iterable[AttemptResult]) -> list[Prediction]:
    """Return the frames that have label and answer, as the sections of a report take them."""
    return [Prediction('test', f.source, f.attempt, f.stamp_ns, f.file, f.label, f.probability,
                       f.uncalibrated)
            for attempt in attempts for f in attempt.frames
            if f.label is not None and f.probability is not None and f.uncalibrated is not None]


def attempt_counts(attempts: Iterable[AttemptResult]) -> dict[str, int]:
    """Count attempts by result; those without label do not count."""
    results = [attempt.result for attempt in attempts]
    return {result: results.count(result) for result in ('correct', 'wrong', 'unknown')}


def _seconds_to(frames: Sequence[FrameVerdict], since_ns: int, verdicts: Sequence[Verdict],
                ) -> float | None:
    """Return how long it took to one of the verdicts; None if it did not come."""
    return next(((f.stamp_ns - since_ns) / NS_PER_S for f in frames
                 if f.stamp_ns >= since_ns and f.verdict in verdicts), None)
