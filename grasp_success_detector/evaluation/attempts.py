"""Decide recorded attempts, measure their verdicts, and find labels that look wrong."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
import math
from statistics import fmean, median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grasp_success_detector.decision import DecisionConfig, NS_PER_S, Reason, WindowedDecider
from grasp_success_detector.evaluation.frame_sources import Recording
from grasp_success_detector.evaluation.predictions import FrameVerdict, Prediction
from grasp_success_detector.labels import CLASS_NAMES, Label, Verdict
from grasp_success_detector.recordings.reader import PICTURES

#: For attempts that are recorded as a few frames only: one frame is enough for a verdict.
SPARSE = DecisionConfig(min_frames=1)


@dataclass(frozen=True)
class Judged:
    """
    P(success) of the frames of one recording.

    :ivar probabilities: P(success) after temperature scaling, float32 (N,); NaN for a frame that
        cannot be decoded or shows nothing.
    :ivar uncalibrated: P(success) before temperature scaling, float32 (N,); NaN as above.
    :ivar blind: reasons of the frames that show nothing or are unfamiliar, by index in
        ``recording.frames``.
    :ivar refused: number of frames without P(success), and of unfamiliar ones, by reason.
    :ivar unreadable: why files of pictures or of a data set cannot be decoded, by file.
    """

    recording: Recording
    probabilities: NDArray[np.float32]
    uncalibrated: NDArray[np.float32]
    blind: Mapping[int, Reason]
    refused: Mapping[str, int]
    unreadable: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class AttemptResult:
    """
    One attempt and the verdicts during it.

    :ivar outcome: label of its last labelled frame; None without labels.
    :ivar verdict: verdict after its last labelled frame; without labels, after its last frame.
    :ivar first_decision_s: seconds from its first frame to the first SUCCESS or FAILURE, or None.
    :ivar success_delay_s: seconds from the first frame labelled success to the first SUCCESS at or
        after it; None if there is no such frame or verdict.
    :ivar false_true_s: seconds for which the verdict was SUCCESS while the label was failure,
        measured by :func:`durations_s`; None for pictures, which have no times.
    """

    name: str
    source: str
    frames: tuple[FrameVerdict, ...]
    outcome: Label | None
    verdict: Verdict
    first_decision_s: float | None
    success_delay_s: float | None
    false_true_s: float | None

    @property
    def timed(self) -> bool:
        """Return whether its frames have time stamps, as those of bags and videos have."""
        return self.false_true_s is not None

    @property
    def result(self) -> str | None:
        """Return ``correct``, ``wrong`` or ``unknown``; None without labels."""
        if self.outcome is None:
            return None
        if self.verdict is Verdict.UNKNOWN:
            return 'unknown'
        return 'correct' if self.verdict.name == self.outcome.name else 'wrong'

    @property
    def error(self) -> float:
        """Return the mean of abs(P(success) - label), where success is 1; 0 without labels."""
        apart = [abs(frame.probability - frame.label) for frame in self.frames
                 if frame.label is not None and frame.probability is not None]
        return sum(apart) / len(apart) if apart else 0.

    def to_json(self) -> dict[str, Any]:
        """Return the attempt's entry in metrics.json."""
        return {'attempt': self.name, 'source': self.source, 'frames': len(self.frames),
                'outcome': None if self.outcome is None else self.outcome.name.lower(),
                'verdict': self.verdict.value, 'result': self.result,
                'first_decision_s': self.first_decision_s,
                'success_delay_s': self.success_delay_s, 'false_true_s': self.false_true_s}


def decide_attempts(judged: Iterable[Judged], config: DecisionConfig, anew: bool = True,
                    pictures: DecisionConfig | None = None) -> list[AttemptResult]:
    """
    Return all attempts with the verdict that the node would publish after each frame.

    Pictures have no times: those of one attempt that differ in their labels are judged as two
    attempts, each named with its label.

    :param anew: whether each attempt begins with an empty window; if not, a recording is decided
        as one stream, as the node does.
    :param pictures: how pictures and data sets are decided, if not as the rest.
    """
    results = []
    for answers in judged:
        recording = answers.recording
        decide_by = config if recording.continuous or pictures is None else pictures
        rows: dict[str, list[FrameVerdict]] = {}
        deciders: dict[str, WindowedDecider] = {}
        names = _names(recording)
        for i, (frame, name, probability, uncalibrated) in enumerate(zip(
                recording.frames, names, answers.probabilities.tolist(),
                answers.uncalibrated.tolist(), strict=True)):
            decider = deciders.setdefault(name if anew else '', WindowedDecider(decide_by))
            readable = probability == probability
            # Recorded frames count as received when they were taken.
            if i in answers.blind:
                decider.observe_blind(answers.blind[i], received_ns=frame.stamp_ns)
            elif readable:
                decider.observe(frame.stamp_ns, probability, received_ns=frame.stamp_ns)
            else:
                decider.observe_bad()
            decision = decider.decide(frame.stamp_ns)
            rows.setdefault(name, []).append(FrameVerdict(
                recording.name, name, frame.number, frame.stamp_ns,
                recording.file_of(frame), frame.label, probability if readable else None,
                uncalibrated if readable else None, decision.verdict, decision.reason,
                decision.probability))
        results += [attempt_result(frames, decide_by, recording.topic != PICTURES)
                    for frames in rows.values()]
    return results


def _names(recording: Recording) -> list[str]:
    """Return the attempt of each frame; of pictures with its label, if the attempt has both."""
    if recording.topic != PICTURES:
        return [frame.attempt for frame in recording.frames]
    labels: dict[str, set[Label]] = {}
    for frame in recording.frames:
        if frame.label is not None:
            labels.setdefault(frame.attempt, set()).add(frame.label)
    return [frame.attempt if frame.label is None or len(labels[frame.attempt]) == 1
            else f'{frame.attempt} ({CLASS_NAMES[frame.label]})' for frame in recording.frames]


def attempt_result(frames: Sequence[FrameVerdict], config: DecisionConfig,
                   timed: bool = True) -> AttemptResult:
    """
    Return outcome, final verdict and times of one attempt, given all its frames in order.

    :param timed: whether the stamps are times; those of pictures only keep their order.
    """
    def seconds_to(since_ns: int, *verdicts: Verdict) -> float | None:
        return None if not timed else next(((f.stamp_ns - since_ns) / NS_PER_S for f in frames
                     if f.stamp_ns >= since_ns and f.verdict in verdicts), None)

    labelled = [frame for frame in frames if frame.label is not None]
    onset_ns = next((f.stamp_ns for f in frames if f.label is Label.SUCCESS), None)
    return AttemptResult(
        frames[0].attempt, frames[0].source, tuple(frames),
        labelled[-1].label if labelled else None, (labelled or frames)[-1].verdict,
        seconds_to(frames[0].stamp_ns, Verdict.SUCCESS, Verdict.FAILURE),
        None if onset_ns is None else seconds_to(onset_ns, Verdict.SUCCESS),
        None if not timed else sum(seconds for frame, seconds in zip(
            frames, durations_s(frames, config.stale_after_s), strict=True)
            if frame.label is Label.FAILURE and frame.verdict is Verdict.SUCCESS))


def durations_s(frames: Sequence[FrameVerdict], longest_s: float) -> list[float]:
    """
    Return for how long each frame's verdict stood, in seconds.

    A verdict stands until the next frame, at most for ``longest_s``; the last one stands for the
    median of the others.
    """
    steps = [min(max(b.stamp_ns - a.stamp_ns, 0) / NS_PER_S, longest_s)
             for a, b in zip(frames, frames[1:], strict=False)]
    return [*steps, median(steps) if steps else 0.]


def labelled_predictions(attempts: Iterable[AttemptResult]) -> list[Prediction]:
    """Return the frames that have a label and a P(success), as predictions of the test split."""
    return [Prediction('test', f.source, f.attempt, f.stamp_ns, f.file, f.label, f.probability,
                       f.uncalibrated)
            for attempt in attempts for f in attempt.frames
            if f.label is not None and f.probability is not None and f.uncalibrated is not None]


@dataclass(frozen=True)
class Suspicion:
    """
    Successive frames of an attempt with one label, where the model is confident of the other.

    :ivar label: label of these frames, which looks wrong.
    :ivar start_s: seconds from the attempt's first frame to the first of these frames; None for
        pictures, which have no times.
    :ivar end_s: seconds from the attempt's first frame to the last of these frames.
    :ivar believed: mean probability that the model gives to the other label.
    """

    attempt: str
    source: str
    frames: tuple[FrameVerdict, ...]
    label: Label
    start_s: float | None
    end_s: float | None
    believed: float

    def to_json(self) -> dict[str, Any]:
        """Return the entry in metrics.json and label_errors.csv."""
        return {'attempt': self.attempt, 'source': self.source,
                'label': self.label.name.lower(), 'frames': len(self.frames),
                'start_s': self.start_s, 'end_s': self.end_s, 'believed': self.believed}


def confident_thresholds(attempts: Sequence[AttemptResult]) -> dict[Label, float]:
    """
    Return for each label the probability from which on the model counts as confident of it.

    It is the mean probability of that label over the frames that have it, but at least 0.5: C.
    Northcutt, L. Jiang and I. Chuang, Confident Learning: Estimating Uncertainty in Dataset
    Labels, Journal of Artificial Intelligence Research 70 (2021), section 3.1. A label that no
    frame has is left out.
    """
    given: dict[Label, list[float]] = {label: [] for label in Label}
    for attempt in attempts:
        for frame in attempt.frames:
            if frame.label is not None and frame.probability is not None:
                given[frame.label].append(_belief(frame.probability, frame.label))
    return {label: max(.5, fmean(values)) for label, values in given.items() if values}


def find_label_errors(attempts: Sequence[AttemptResult], decision: DecisionConfig,
                      ) -> list[Suspicion]:
    """
    Return the longest suspicious stretch of each attempt that has one, the most suspicious first.

    A stretch is suspicious if the model is confident of the other label on each of its frames,
    and it either lasts for ``decision.window_s`` or ends the attempt's labels with as many frames
    as a verdict needs. Stretches are ordered by the sum of their frames' probabilities of the
    other label.
    """
    confident = confident_thresholds(attempts)
    found = []
    for attempt in attempts:
        labelled = [frame for frame in attempt.frames if frame.label is not None]
        stretches = [
            (weight, label, frames) for weight, label, frames in _stretches(labelled, confident)
            if frames[-1].stamp_ns - frames[0].stamp_ns >= decision.window_s * NS_PER_S
            or (frames[-1] is labelled[-1] and len(frames) >= decision.min_frames)]
        if stretches:
            weight, label, frames = max(stretches, key=lambda stretch: stretch[0])
            start_ns = attempt.frames[0].stamp_ns
            start_s, end_s = ((frame.stamp_ns - start_ns) / NS_PER_S if attempt.timed else None
                              for frame in (frames[0], frames[-1]))
            found.append(Suspicion(
                attempt.name, attempt.source, frames, label, start_s, end_s,
                weight / len(frames)))
    return sorted(found, key=lambda suspicion: -len(suspicion.frames) * suspicion.believed)


def _stretches(frames: Iterable[FrameVerdict], confident: Mapping[Label, float],
               ) -> Iterator[tuple[float, Label, tuple[FrameVerdict, ...]]]:
    """Yield runs of frames of one label on which the model is confident of the other."""
    doubts = [(frame, frame.label, _belief(frame.probability, Label(1 - frame.label)))
              for frame in frames if frame.label is not None and frame.probability is not None]
    for (label, doubted), run in groupby(doubts, lambda doubt: (
            doubt[1], doubt[2] >= confident.get(Label(1 - doubt[1]), math.inf))):
        if doubted:
            stretch = list(run)
            yield sum(doubt[2] for doubt in stretch), label, tuple(doubt[0] for doubt in stretch)


def _belief(probability: float, label: Label) -> float:
    """Return the probability that the model gives to a label."""
    return probability if label is Label.SUCCESS else 1. - probability
