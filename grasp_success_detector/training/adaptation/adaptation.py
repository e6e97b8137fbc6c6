"""Compare ways of adapting by cross-validation, and make the checkpoint of the best one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
import torch
from torch import nn

from grasp_success_detector.datasets.workers import Workers
from grasp_success_detector.errors import CheckpointError
from grasp_success_detector.evaluation.calibration import brier_score, expected_calibration_error
from grasp_success_detector.evaluation.metrics import Accuracy
from grasp_success_detector.evaluation.operating_point import operating_point, OperatingPoint
from grasp_success_detector.labels import Label
from grasp_success_detector.networks.architectures import success_probabilities
from grasp_success_detector.networks.checkpoint import Checkpoint, CheckpointMetadata
from grasp_success_detector.networks.familiarity import fit_pictures
from grasp_success_detector.networks.learnt_frames import with_record
from grasp_success_detector.networks.weights import build_pretrained
from grasp_success_detector.training.adaptation.backbone import Backbone
from grasp_success_detector.training.adaptation.blocks import FineTuning
from grasp_success_detector.training.adaptation.candidates import (
    Candidate,
    choose,
    Learning,
    SimulatedFrames,
)
from grasp_success_detector.training.adaptation.cross_validation import (
    Grouping,
    logits_of_margins,
    out_of_fold,
    Score,
    score,
)
from grasp_success_detector.training.adaptation.features import FeatureCache, FEW_IMAGES, IMAGES
from grasp_success_detector.training.adaptation.frames import RigFrames
from grasp_success_detector.training.adaptation.outlook import (
    LabelNext,
    learning_curve,
    next_to_label,
    StepOfCurve,
)
from grasp_success_detector.training.adaptation.settings import AdaptationConfig, Way
from grasp_success_detector.training.adaptation.views import OWN_VIEW

#: Folds of the cross-validation; fewer where a label has fewer attempts.
FOLDS = 5
#: Strength of the penalty on the weights of a head; 0.1 to 3 are right as often, and 1 or more
#: is better calibrated.
HEAD_STRENGTH = 1.

_VIEW_TEXTS = {OWN_VIEW: '', 'whole': ' on the whole frame', 'roi': ' on the region of interest'}


class Compared(NamedTuple):
    """A candidate and its score."""

    candidate: Candidate
    score: Score

    def to_json(self, winner: bool) -> dict[str, Any]:
        """Return the candidate's entry in adaptation.json."""
        return {'name': self.candidate.name, 'text': self.candidate.text, 'winner': winner,
                'accuracy': accuracy_json(self.score.accuracy), 'brier': self.score.loss}


@dataclass(frozen=True)
class Adaptation:
    """
    The best candidate, what it was compared with, and what more labels would bring.

    :ivar model: the adapted network, in evaluation mode.
    :ivar metadata: of the adapted checkpoint.
    :ivar winner: index of the best candidate.
    :ivar accuracy: units (frames of one label of an attempt) of held-out attempts that are right
        at the temperature and threshold that were chosen.
    :ivar probabilities: P(success) of each labelled frame, by a model that did not learn its
        attempt, float32 (N,).
    """

    model: nn.Module
    metadata: CheckpointMetadata
    compared: tuple[Compared, ...]
    winner: int
    point: OperatingPoint
    accuracy: Accuracy
    frames: RigFrames
    probabilities: NDArray[np.float32]
    curve: tuple[StepOfCurve, ...]
    forecast: tuple[int, float] | None
    label_next: tuple[LabelNext, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the content of adaptation.json."""
        labels = [Label(int(it)) for it in self.frames.labels]
        return {
            'accuracy': accuracy_json(self.accuracy),
            'candidates': [one.to_json(i == self.winner) for i, one in enumerate(self.compared)],
            'learning_curve': [step.to_json() for step in self.curve],
            'forecast': None if self.forecast is None else {
                'attempts': self.forecast[0], 'accuracy': self.forecast[1]},
            'label_next': [one._asdict() for one in self.label_next],
            'threshold': self.point.threshold, 'temperature': self.point.temperature,
            'not_calibrated': list(self.point.notes),
            'ece': expected_calibration_error(self.probabilities, labels),
            'brier': brier_score(self.probabilities, labels),
            'familiarity': self.metadata.familiarity is not None,
            'frames': len(labels), 'attempts': len(set(self.frames.attempts)),
            'refused': dict(self.frames.refused), 'refused_files': dict(self.frames.unreadable)}


def accuracy_json(accuracy: Accuracy) -> dict[str, Any]:
    """Return counts and Wilson 95 % interval of an accuracy."""
    low, high = accuracy.to_json()['wilson_95']
    return {'right': accuracy.correct, 'total': accuracy.total, 'low': low, 'high': high}


def adapt(checkpoint: Checkpoint, frames: RigFrames, config: AdaptationConfig,
          simulated: RigFrames | None = None, say: Callable[[str], None] = print,
          on_images: Callable[[int, int], None] = lambda count, total: None,
          workers: Workers | None = None) -> Adaptation:
    """
    Adapt a checkpoint to a rig; the same arguments give the same result.

    :param frames: frames of the rig with and without labels, in the views of ``views``.
    :param simulated: simulated frames to mix in, in the checkpoint's own view.
    :param say: called with a line about each candidate.
    :param on_images: called with the number of images whose features were just computed, and of
        all whose features are needed.
    :param workers: who computes the checkpoint's features; None: this process with all its cores.
    """
    labelled = frames.labelled()
    start = Backbone.of_checkpoint(checkpoint)
    features = FeatureCache(
        labelled, config.seed, lambda count: on_images(count, features.count * networks),
        IMAGES if Way.BLOCKS in config.ways else FEW_IMAGES, workers)
    networks = len(frames.views) + (Way.IMAGENET in config.ways)
    learning = Learning(
        features, Grouping.of(labelled.labels, labelled.attempts), HEAD_STRENGTH, FineTuning(),
        config.seed)
    folds = learning.grouping.folds(FOLDS, config.seed)
    compared: list[Compared] = []

    def compare(candidate: Candidate) -> None:
        features.pooled(candidate.backbone, candidate.view)     # by all threads; folds share it
        own = score(out_of_fold(
            lambda learnt, judged: learning.margins(candidate, learnt, judged),
            learning.grouping, folds), learning.grouping)
        compared.append(Compared(candidate, own))
        say(f'{candidate.text}: {own.accuracy}, at threshold 0.5')

    for candidate in _heads(start, labelled, config, simulated):
        compare(candidate)
    if Way.BLOCKS in config.ways and start.can_learn_blocks:
        view = min((one for one in compared if one.candidate.backbone is start
                    and one.candidate.simulated is None),
                   key=lambda one: one.score.loss).candidate.view
        compare(Candidate('blocks', 'head and last blocks' + _VIEW_TEXTS[view], start, view,
                          blocks=True))
    winner = choose([one.score for one in compared])
    best = compared[winner]
    point = operating_point(
        logits_of_margins(best.score.margins).numpy().astype(np.float32),
        [Label(int(it)) for it in labelled.labels], labelled.attempts,
        config.max_false_positive_rate)
    adapted = learning.model(best.candidate)
    probabilities = probabilities_of(best.score.margins, point.temperature)
    metadata = CheckpointMetadata(
        adapted.architecture, labelled.preprocessings[best.candidate.view],
        threshold=point.threshold, temperature=point.temperature)
    # Its statistics are those of the checkpoint's own features, not of ImageNet's.
    if checkpoint.metadata.familiarity is not None and best.candidate.backbone is start:
        metadata = replace(metadata, familiarity=fit_pictures(
            checkpoint.metadata.familiarity,
            features.looks(start, best.candidate.view).numpy(), labelled.attempts))
    return Adaptation(
        adapted.model, metadata, tuple(compared), winner, point,
        unit_accuracy(best.score.margins / point.temperature, learning.grouping, point.threshold),
        labelled, probabilities,
        *learning_curve(learning, best.candidate, FOLDS, config.seed),
        _next_to_label(adapted, learning, best.candidate, frames.unlabelled(),
                       point.temperature))


def _next_to_label(adapted: Backbone, learning: Learning, candidate: Candidate,
                   unlabelled: RigFrames, temperature: float) -> tuple[LabelNext, ...]:
    view, frames = candidate.view, learning.features.frames
    known = (adapted.pooled(frames.views[view], frames.preprocessings[view])
             if candidate.blocks else learning.features.pooled(candidate.backbone, view)[:, 0])
    return next_to_label(adapted, unlabelled, view, known, temperature)


def metadata_of(adaptation: Adaptation, config: AdaptationConfig, start: Checkpoint,
                sources: Sequence[str]) -> CheckpointMetadata:
    """Return the metadata of the adapted checkpoint, with where it comes from and its figures."""
    figures = adaptation.to_json()
    del figures['refused_files']    # of any length
    return replace(
        adaptation.metadata, metrics={'adaptation': figures},
        training={'adapted_from': {'path': str(start.path), 'sha256': start.sha256},
                  'config': config.to_json(), 'sources': list(sources),
                  'versions': {'torch': torch.__version__},
                  **with_record(adaptation.frames.hashes, start.metadata.training)})


def _heads(start: Backbone, frames: RigFrames, config: AdaptationConfig,
           simulated: RigFrames | None) -> list[Candidate]:
    """Return the candidates that learn a head alone, the simplest first."""
    made = [Candidate('head' if view == OWN_VIEW else view, 'head alone' + _VIEW_TEXTS[view],
                      start, view) for view in frames.views]
    if Way.SIMULATED in config.ways and simulated is not None:
        pooled = start.pooled(simulated.views[OWN_VIEW], simulated.preprocessings[OWN_VIEW])
        made.append(Candidate(
            'simulated', 'head alone, simulated frames mixed in', start, OWN_VIEW,
            SimulatedFrames(pooled, torch.from_numpy(simulated.labels))))
    if Way.IMAGENET in config.ways and (published := _published(start.architecture)) is not None:
        made.append(Candidate('imagenet', "head alone, from ImageNet's weights",
                              Backbone('imagenet', start.architecture, published), OWN_VIEW))
    return made


def _published(architecture: str) -> nn.Module | None:
    """Return a network with ImageNet's weights, if they are installed: nothing is downloaded."""
    if architecture != 'efficientnet_lite0':
        return None
    try:
        return build_pretrained(architecture).eval()
    except CheckpointError:
        return None


def probabilities_of(margins: NDArray[np.float32],
                     temperature: float) -> NDArray[np.float32]:
    """Return P(success) of margins, float32 (N,)."""
    return success_probabilities(
        logits_of_margins(margins).numpy().astype(np.float32), temperature)


def unit_accuracy(margins: NDArray[np.float32], grouping: Grouping,
                  threshold: float) -> Accuracy:
    """
    Return how many units are right.

    :param margins: margin of each frame, divided by the temperature.
    """
    right = right_units(probabilities_of(margins, 1.), grouping, threshold)
    return Accuracy(int(right.sum()), len(right))


def right_units(probabilities: NDArray[np.float32], grouping: Grouping,
                threshold: float) -> NDArray[np.bool_]:
    """
    Return whether each unit is right: a success if the mean P(success) reaches the threshold.

    :param probabilities: P(success) of each frame.
    """
    count = grouping.units.max() + 1
    frames = np.bincount(grouping.units, minlength=count)
    mean = np.bincount(grouping.units, probabilities, count) / frames
    labels = np.bincount(grouping.units, grouping.labels, count) / frames
    return np.asarray((mean >= threshold) == (labels > .5))
