"""Decide pictures that are no film: each by itself, or those of an attempt together."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from grasp_success_detector.decision import NS_PER_S, Reason, WindowedDecider
from grasp_success_detector.evaluation.attempts import SPARSE
from grasp_success_detector.inference.classifier import GraspClassifier
from grasp_success_detector.inference.hand_finder import View
from grasp_success_detector.labels import Verdict
from grasp_success_detector.networks.familiarity import FAMILIARITY_QUANTILE


class Decided(NamedTuple):
    """
    What a checkpoint says of one picture.

    :ivar view: what the network was shown, and the hand that was found.
    :ivar probability: P(success), also where the picture says nothing.
    :ivar reason: NO_HAND or UNFAMILIAR if the picture says nothing, else DECIDED.
    :ivar verdict: on this picture alone, at the checkpoint's threshold.
    """

    view: View
    probability: float
    reason: Reason
    verdict: Verdict


def decide_picture(classifier: GraspClassifier, frame: NDArray[np.uint8],
                   familiarity_quantile: float = FAMILIARITY_QUANTILE,
                   view: View | None = None) -> Decided:
    """
    Decide one picture.

    :param frame: RGB uint8 (H, W, 3); ImageDecodeError for another array.
    :param familiarity_quantile: share of known frames that count as familiar; 0: all do.
    :param view: what the network is shown instead of what the classifier itself looks at.
    """
    view = view or classifier.look(frame)
    probability = float(classifier.predict_prepared(view.image[None])[0])
    reason = (Reason.NO_HAND if view.no_hand else
              Reason.UNFAMILIAR if classifier.unfamiliar(1, familiarity_quantile)[0] else
              Reason.DECIDED)
    return Decided(view, probability, reason, decide_together(
        classifier.threshold, [probability] if reason is Reason.DECIDED else []))


def decide_together(threshold: float, probabilities: Sequence[float]) -> Verdict:
    """Return the node's verdict on pictures that are taken within one window; none: UNKNOWN."""
    decider = WindowedDecider(replace(SPARSE, threshold=threshold))
    spacing = round(SPARSE.window_s * NS_PER_S / max(len(probabilities), 1)) - 1
    for number, probability in enumerate(probabilities):
        decider.observe(number * spacing, probability, number * spacing)
    return decider.decide((len(probabilities) - 1) * spacing).verdict
