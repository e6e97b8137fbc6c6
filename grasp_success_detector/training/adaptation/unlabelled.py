"""Adapt to frames without labels: by labels of the hand's joints, and only where that helps."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from grasp_success_detector.datasets.workers import Workers
from grasp_success_detector.evaluation.comparison import mcnemar_exact, SIGNIFICANCE
from grasp_success_detector.evaluation.metrics import Accuracy
from grasp_success_detector.evaluation.operating_point import OperatingPoint
from grasp_success_detector.networks.checkpoint import Checkpoint, CheckpointMetadata
from grasp_success_detector.networks.familiarity import fit_pictures
from grasp_success_detector.training.adaptation.adaptation import (
    Adaptation,
    Compared,
    FOLDS,
    HEAD_STRENGTH,
    probabilities_of,
    right_units,
)
from grasp_success_detector.training.adaptation.backbone import Backbone
from grasp_success_detector.training.adaptation.blocks import FineTuning
from grasp_success_detector.training.adaptation.candidates import Candidate, Learning
from grasp_success_detector.training.adaptation.cross_validation import (
    Grouping,
    out_of_fold,
    score,
)
from grasp_success_detector.training.adaptation.features import FeatureCache, FEW_IMAGES
from grasp_success_detector.training.adaptation.frames import RigFrames
from grasp_success_detector.training.adaptation.views import OWN_VIEW

#: Share of the checkpoint's own head: as it is, and averaged with one from the hand's labels.
_UNCHANGED, _HALF = 1., .5
#: The lowest threshold that is chosen.
_LOWEST_THRESHOLD = .5

_NOTE = ("the labels are those of the hand's joints, which err too: evaluate the checkpoint on "
         'attempts that people labelled')


@dataclass(frozen=True)
class Trial:
    """
    What attempts that were not learnt say of an adaptation; their labels are the hand's.

    :ivar before: units (frames of one label of an attempt) that the checkpoint has right as it is.
    :ivar after: units that are right with the adapted head.
    :ivar gained: units that only the adapted head has right.
    :ivar lost: units that only the checkpoint as it is has right.
    """

    before: Accuracy
    after: Accuracy
    gained: int
    lost: int

    @property
    def p_value(self) -> float:
        """Return the p-value of McNemar's test."""
        return mcnemar_exact(self.gained, self.lost)

    @property
    def helps(self) -> bool:
        """Return whether the adapted head is significantly better."""
        return self.gained > self.lost and self.p_value < SIGNIFICANCE

    def __str__(self) -> str:
        return (f'right on attempts that were not learnt, by the labels of the joints: '
                f'{self.before} as it is, {self.after} adapted ({self.gained} gained, '
                f'{self.lost} lost, p = {self.p_value:.2g})')


def adapt_unlabelled(checkpoint: Checkpoint, frames: RigFrames, seed: int = 0,
                     on_images: Callable[[int, int], None] = lambda count, total: None,
                     workers: Workers | None = None) -> tuple[Trial, Adaptation | None]:
    """
    Learn the last layer from labels of the hand's joints, and average it with what it was.

    The threshold is the lowest at which, of attempts that were not learnt, no more failures count
    as success than the checkpoint's own counts. The result is kept if it is then right
    significantly more often (McNemar's test over frames of one label of an attempt).

    :param frames: labelled by ``labelled_by_hand``, in the checkpoint's own view.
    :param on_images: called with the numbers of images whose features were computed, and of all.
    :returns: the comparison, and the adaptation if it helps.
    """
    frames, start = frames.labelled(), Backbone.of_checkpoint(checkpoint)
    features = FeatureCache(frames, seed, lambda count: on_images(count, features.count),
                            FEW_IMAGES, workers)
    grouping = Grouping.of(frames.labels, frames.attempts)
    learning = Learning(features, grouping, HEAD_STRENGTH, FineTuning(), seed)
    folds = grouping.folds(FOLDS, seed)
    features.pooled(start, OWN_VIEW)    # by all threads; folds share it
    compared = []
    for text, keep in (('unchanged', _UNCHANGED),
                       ("head by the labels of the hand's joints, averaged with the old one",
                        _HALF)):
        candidate = Candidate(text.split()[0], text, start, OWN_VIEW, keep=keep)
        compared.append(Compared(candidate, score(out_of_fold(
            partial(learning.margins, candidate), grouping, folds), grouping)))
    old = checkpoint.metadata
    before, after = (probabilities_of(one.score.margins, old.temperature) for one in compared)
    threshold, trial = compare(before, after, grouping, old.threshold)
    if not trial.helps:
        return trial, None
    adapted = learning.model(compared[1].candidate)
    metadata = CheckpointMetadata(old.architecture, old.preprocessing, threshold=threshold,
                                  temperature=old.temperature)
    if old.familiarity is not None:
        metadata = replace(metadata, familiarity=fit_pictures(
            old.familiarity, features.looks(start, OWN_VIEW).numpy(), frames.attempts))
    return trial, Adaptation(
        adapted.model, metadata, tuple(compared), 1,
        OperatingPoint(old.temperature, threshold, (_NOTE,)), trial.after, frames, after, (),
        None, ())


def compare(before: NDArray[np.float32], after: NDArray[np.float32], grouping: Grouping,
            own: float) -> tuple[float, Trial]:
    """
    Return the threshold of an adapted head, and what it brings at that threshold.

    :param before: P(success) by the checkpoint as it is, float32 (N,).
    :param after: the same by adapted heads that have not learnt the frame's attempt.
    :param own: threshold of the checkpoint as it is.
    """
    threshold = lowest_threshold(before, after, grouping.labels, own)
    was, now = (right_units(said, grouping, limit) for said, limit in (
        (before, own), (after, threshold)))
    return threshold, Trial(
        Accuracy(int(was.sum()), len(was)), Accuracy(int(now.sum()), len(now)),
        int((now & ~was).sum()), int((was & ~now).sum()))


def lowest_threshold(before: NDArray[np.float32], after: NDArray[np.float32],
                     labels: NDArray[np.float32], own: float) -> float:
    """
    Return the lowest threshold at which no more failure frames count as success than before.

    :param before: P(success) by the checkpoint as it is, float32 (N,).
    :param after: the same by the adapted one.
    :param labels: 1 for success, 0 for failure, float32 (N,).
    :param own: threshold of the checkpoint as it is, above which none is chosen.
    """
    failures = labels < .5
    allowed = int((before[failures] >= own).sum())
    highest = np.sort(after[failures])[::-1]
    limit = 0. if allowed >= len(highest) else float(np.nextafter(
        highest[allowed], np.float32(1)))
    return min(max(limit, _LOWEST_THRESHOLD), own)
