"""Judge a classifier on labelled frames, through the same path as the node."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from grasp_success_detector.classifier import GraspClassifier
from grasp_success_detector.data.recordings import LabelledFrame
from grasp_success_detector.data.splits import outcomes
from grasp_success_detector.decision import DecisionConfig
from grasp_success_detector.evaluation.metrics import (
    attempt_accuracy,
    attempt_verdicts,
    class_accuracy,
    frame_accuracy,
)
from grasp_success_detector.image import decode_message

_BATCH = 32


def evaluate(classifier: GraspClassifier, frames: Sequence[LabelledFrame],
             config: DecisionConfig, on_frames: Callable[[int], None] = lambda count: None,
             ) -> dict[str, Any]:
    """
    Measure accuracy by frame, by class and by attempt, each with its Wilson 95 % interval.

    :param frames: in order of time within each attempt.
    :param config: how an attempt is decided from its frames; its threshold judges frames too.
    :param on_frames: told how many more frames are done.
    :returns: what ``Accuracy.to_json`` makes of each, for the metadata of a checkpoint.
    """
    probabilities = np.empty(len(frames), np.float32)
    for start in range(0, len(frames), _BATCH):
        batch = frames[start:start + _BATCH]
        probabilities[start:start + len(batch)] = classifier.predict(
            [decode_message(frame.message) for frame in batch])
        on_frames(len(batch))
    labels = [frame.label for frame in frames]
    attempts = [frame.attempt for frame in frames]
    verdicts = attempt_verdicts(
        probabilities, [frame.stamp_ns for frame in frames], attempts, config)
    return {
        'frames': frame_accuracy(probabilities, labels, config.threshold).to_json(),
        'classes': {name: accuracy.to_json() for name, accuracy in class_accuracy(
            probabilities, labels, config.threshold).items()},
        'attempts': attempt_accuracy(verdicts, outcomes(attempts, labels)).to_json()}
