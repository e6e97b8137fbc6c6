"""Fit the familiarity of a checkpoint to the frames of its training."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from grasp_success_detector.datasets.dataset import LabelledFrame, read_extracted
from grasp_success_detector.datasets.torch_dataset import FrameDataset
from grasp_success_detector.errors import ConfigError, DatasetError
from grasp_success_detector.evaluation.judging import answers_of, DatasetAnswers
from grasp_success_detector.inference.classifier import GraspClassifier
from grasp_success_detector.inference.engine import int8_path
from grasp_success_detector.networks.checkpoint import Checkpoint, save
from grasp_success_detector.networks.familiarity import (
    Familiarity,
    fit,
    MODULES,
)

#: The most frames of a split that are looked at, spread evenly over it.
MOST_FRAMES = 2400


def familiarity_with_frames(known: Sequence[DatasetAnswers], held_out: Sequence[DatasetAnswers],
                            architecture: str, knows_hands: bool) -> Familiarity:
    """
    Return the familiarity with training frames.

    :param known: what classifiers of one checkpoint say of training frames; with engines of low
        precision among them, the frames as these see them are familiar as well.
    :param held_out: what they say of frames of other attempts, which set the limits.
    :param architecture: one of ``MODULES``.
    :param knows_hands: whether the network was shown pictures without a hand.
    """
    features = [np.concatenate([_features(answers) for answers in part])
                for part in (known, held_out)]
    return fit(features[0], features[1], MODULES[architecture], knows_hands)


def add_familiarity(path: Path, dataset: Path) -> Familiarity:
    """
    Fit the familiarity of a checkpoint file anew and write it into the file.

    Tensors, threshold and temperature stay as they are, and with them what was proven of engines.

    :param dataset: folder of extract_frames, whose training frames are known, and whose validation
        frames set the limits. Where an int8 model is beside the checkpoint, it runs too.
    :raises ConfigError: the architecture has no familiarity.
    :raises DatasetError: the data set cannot be used, or has no training or validation frames.
    """
    checkpoint, split = Checkpoint.open(path), read_extracted(dataset)
    if not (split.train and split.val):
        raise DatasetError(f'{dataset}: has no training or no validation frames; extract it with '
                           'both (extract_frames --split)')
    if checkpoint.metadata.architecture not in MODULES:
        raise ConfigError(f'{checkpoint.metadata.architecture}: has no familiarity, only '
                          f'{", ".join(MODULES)}')
    classifiers = [GraspClassifier(checkpoint, 'cpu')]
    if int8_path(path).exists():
        classifiers.append(GraspClassifier(checkpoint, 'cpu', engine='openvino',
                                           precision='int8'))

    def answers(frames: Sequence[LabelledFrame], name: str) -> list[DatasetAnswers]:
        shown = FrameDataset(frames, checkpoint.metadata.preprocessing)
        return [answers_of(each, shown, f'{name}, {each.engine}', MOST_FRAMES)
                for each in classifiers]

    before = checkpoint.metadata.familiarity
    familiarity = familiarity_with_frames(
        answers(split.train, 'known frames'), answers(split.val, 'held-out frames'),
        checkpoint.metadata.architecture, before is not None and before.hand is not None)
    save(path, checkpoint.model, replace(checkpoint.metadata, familiarity=familiarity),
         overwrite=True)
    return familiarity


def _features(answers: DatasetAnswers) -> NDArray[np.float32]:
    """Return the features of frames with a hand, which alone are asked whether they are known."""
    assert answers.features is not None
    # Where the finder finds no hand at all, it does not know this one.
    asked: NDArray[np.float32] = answers.features[~answers.no_hand | answers.no_hand.all()]
    return asked
