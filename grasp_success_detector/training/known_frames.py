"""Fit the familiarity of a checkpoint to the frames of its training."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from grasp_success_detector.console import progress_bar
from grasp_success_detector.datasets.dataset import LabelledFrame, read_extracted
from grasp_success_detector.datasets.torch_dataset import view_all
from grasp_success_detector.errors import ConfigError, DatasetError
from grasp_success_detector.inference.classifier import BATCH_SIZE, GraspClassifier
from grasp_success_detector.inference.engine import int8_path
from grasp_success_detector.networks.checkpoint import Checkpoint, save
from grasp_success_detector.networks.familiarity import (
    Familiarity,
    fit,
    MODULES,
)

#: The most frames of a split that are looked at, spread evenly over it.
MOST_FRAMES = 2400


def familiarity_with_frames(classifiers: Sequence[GraspClassifier], known: Sequence[LabelledFrame],
                            held_out: Sequence[LabelledFrame],
                            knows_hands: bool) -> Familiarity | None:
    """
    Return the familiarity with training frames; None for an architecture that has none.

    :param classifiers: of one checkpoint; with engines of low precision among them, the frames as
        these see them are familiar as well.
    :param held_out: frames of other attempts, which set the limits.
    :param knows_hands: whether the network was shown pictures without a hand.
    :raises DatasetError: a frame cannot be read.
    """
    module = MODULES.get(classifiers[0].metadata.architecture)
    if module is None:
        return None
    parts = []
    for name, frames in (('known frames', known), ('held-out frames', held_out)):
        chosen = frames[::max(1, -(-len(frames) // MOST_FRAMES))]
        parts.append(np.concatenate([_features(each, chosen, name) for each in classifiers]))
    return fit(parts[0], parts[1], module, knows_hands)


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
    classifiers = [GraspClassifier(checkpoint, 'cpu')]
    if int8_path(path).exists():
        classifiers.append(GraspClassifier(checkpoint, 'cpu', engine='openvino',
                                           precision='int8'))
    before = checkpoint.metadata.familiarity
    familiarity = familiarity_with_frames(
        classifiers, split.train, split.val, before is not None and before.hand is not None)
    if familiarity is None:
        raise ConfigError(f'{checkpoint.metadata.architecture}: has no familiarity, only '
                          f'{", ".join(MODULES)}')
    save(path, checkpoint.model, replace(checkpoint.metadata, familiarity=familiarity),
         overwrite=True)
    return familiarity


def _features(classifier: GraspClassifier, frames: Sequence[LabelledFrame],
              name: str) -> NDArray[np.float32]:
    parts = []
    with progress_bar(Console(stderr=True)) as progress:
        task = progress.add_task(f'{name}, {classifier.engine}', total=len(frames))
        for first in range(0, len(frames), BATCH_SIZE):
            batch = frames[first:first + BATCH_SIZE]
            views = view_all(batch, classifier.preprocessing)
            # Frames in which no hand is found are refused before familiarity is asked for; where
            # it finds none at all, the finder does not know this hand.
            with_hand = [view.image for view in views if not view.no_hand]
            classifier.engine.logits(np.stack(with_hand or [view.image for view in views]))
            assert classifier.engine.features is not None
            parts.append(classifier.engine.features)
            progress.advance(task, len(batch))
    return np.concatenate(parts)
