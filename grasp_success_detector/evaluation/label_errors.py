"""Attempts whose labels a confident model does not believe: look at them before at the model."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from grasp_success_detector.decision import DecisionConfig, NS_PER_S
from grasp_success_detector.evaluation.attempts import AttemptResult, FrameVerdict
from grasp_success_detector.labels import Label


@dataclass(frozen=True)
class Suspicion:
    """
    A stretch of an attempt whose label is probably wrong, or on which the model is.

    :ivar frames: of the stretch, with one label, in order.
    :ivar label: theirs.
    :ivar start_s: of the stretch, from the attempt's first frame.
    :ivar end_s: likewise, of its last frame.
    :ivar believed: mean probability that the model gives to the other label.
    """

    attempt: str
    source: str
    frames: tuple[FrameVerdict, ...]
    label: Label
    start_s: float
    end_s: float
    believed: float

    def to_json(self) -> dict[str, Any]:
        """Return what metrics.json and label_errors.csv hold of it."""
        return {'attempt': self.attempt, 'source': self.source,
                'label': self.label.name.lower(), 'frames': len(self.frames),
                'start_s': self.start_s, 'end_s': self.end_s, 'believed': self.believed}


def confident_thresholds(attempts: Sequence[AttemptResult]) -> dict[Label, float]:
    """
    Return from which probability of a label on the model is confident of it.

    It is the mean probability of that label over the frames that have it: C. Northcutt, L. Jiang
    and I. Chuang, Confident Learning: Estimating Uncertainty in Dataset Labels, Journal of
    Artificial Intelligence Research 70 (2021), section 3.1; but never below 0.5. A label that no
    frame has is left out: nothing tells how sure the model would be of it.
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
    as a verdict needs. Its weight is frames times belief.
    """
    confident = confident_thresholds(attempts)
    found = []
    for attempt in attempts:
        labelled = [frame for frame in attempt.frames if frame.label is not None]
        stretches = [stretch for stretch in _stretches(labelled, confident) if (
            stretch[-1].stamp_ns - stretch[0].stamp_ns >= decision.window_s * NS_PER_S
            or (stretch[-1] is labelled[-1] and len(stretch) >= decision.min_frames))]
        if stretches:
            worst = max(stretches, key=_weight)
            start_ns, label = attempt.frames[0].stamp_ns, worst[0].label
            assert label is not None
            found.append(Suspicion(
                attempt.name, attempt.source, tuple(worst), label,
                (worst[0].stamp_ns - start_ns) / NS_PER_S,
                (worst[-1].stamp_ns - start_ns) / NS_PER_S, _weight(worst) / len(worst)))
    return sorted(found, key=lambda suspicion: -len(suspicion.frames) * suspicion.believed)


def _stretches(frames: Sequence[FrameVerdict], confident: dict[Label, float],
               ) -> list[list[FrameVerdict]]:
    """Return runs of frames of one label on which the model is confident of the other."""
    runs: list[list[FrameVerdict]] = []
    before: FrameVerdict | None = None
    for frame in frames:
        if frame.label is None or frame.probability is None:
            continue
        other = Label(1 - frame.label)
        if other in confident and _belief(frame.probability, other) >= confident[other]:
            if runs and runs[-1][-1] is before and runs[-1][-1].label is frame.label:
                runs[-1].append(frame)
            else:
                runs.append([frame])
        before = frame
    return runs


def _belief(probability: float, label: Label) -> float:
    return probability if label is Label.SUCCESS else 1. - probability


def _weight(frames: Sequence[FrameVerdict]) -> float:
    return sum(_belief(f.probability, Label(1 - f.label)) for f in frames
               if f.probability is not None and f.label is not None)
