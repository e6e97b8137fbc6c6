"""Ask a classifier about labelled frames, through the same path as the node."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from grasp_success_detector.classifier import GraspClassifier
from grasp_success_detector.console import progress_bar
from grasp_success_detector.data.dataset import prepare
from grasp_success_detector.data.extracted import LabelledFrame
from grasp_success_detector.decision import DecisionConfig
from grasp_success_detector.evaluation.predictions import Prediction
from grasp_success_detector.labels import Label
from grasp_success_detector.probability import success_probabilities

_BATCH = 32

#: An attempt with more frames than this was filmed as a whole, and is decided as the node does.
_FILMED = 20


def ask(classifier: GraspClassifier, frames: Sequence[LabelledFrame],
        description: str) -> NDArray[np.float32]:
    """
    Return the classifier's logits for every frame.

    :param description: of the frames, for the progress bar.
    :returns: float32 (N, 2), before the checkpoint's temperature.
    :raises DatasetError: a frame cannot be read.
    """
    logits = np.empty((len(frames), len(Label)), np.float32)
    with progress_bar(Console(stderr=True)) as progress:
        task = progress.add_task(description, total=len(frames))
        for start in range(0, len(frames), _BATCH):
            batch = frames[start:start + _BATCH]
            logits[start:start + len(batch)] = classifier.logits_of_prepared(
                np.stack([prepare(frame, classifier.preprocessing) for frame in batch]))
            progress.advance(task, len(batch))
    return logits


def predictions_of(frames: Sequence[LabelledFrame], logits: NDArray[np.float32],
                   temperature: float, split: str) -> list[Prediction]:
    """Put frames and the answers to them together; parameters as of :func:`ask`."""
    calibrated, uncalibrated = (
        success_probabilities(logits, divisor).tolist() for divisor in (temperature, 1.))
    return [Prediction(split, frame.source, frame.attempt, frame.stamp_ns, frame.file,
                       frame.label, after, before)
            for frame, after, before in zip(frames, calibrated, uncalibrated, strict=True)]


class OfAttempt(Protocol):
    """A frame that knows its attempt."""

    @property
    def attempt(self) -> str:
        """Return the attempt's name."""


def decision_for(frames: Sequence[OfAttempt], threshold: float) -> DecisionConfig:
    """Return how attempts are decided: as the node does, or on what few frames there are."""
    filmed = len(frames) > _FILMED * len({frame.attempt for frame in frames})
    return replace(DecisionConfig() if filmed else SPARSE, threshold=threshold)


#: For attempts that are recorded as a few frames only: the verdict rests on what there is.
SPARSE = DecisionConfig(min_frames=1)
