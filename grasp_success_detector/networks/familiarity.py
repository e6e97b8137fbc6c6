"""
Familiarity: how much a frame looks like the frames that a checkpoint knows.

A middle stage of the network, averaged over the picture, describes textures, edges and parts. The
familiarity of a frame is minus the squared Mahalanobis distance of these features from the
nearest prototype: the mean of the training frames (K. Lee et al., A Simple Unified Framework for
Detecting Out-of-Distribution Samples, NeurIPS 2018), or a picture of the rig that a checkpoint was
adapted to. It is scaled so that 99 % of known frames reach -1. docs/trust.md has the measurements.

A network that was also shown pictures without a hand says more: P(success) depends on the
difference of its two logits alone, so that their mean is free to tell a hand from other things
(as the energy does in W. Liu et al., Energy-based Out-of-distribution Detection, NeurIPS 2020).
The familiarity is then the lower one of both.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from grasp_success_detector.errors import CheckpointError
from grasp_success_detector.settings import check_settings

#: Path of the module whose output is averaged, by architecture; others have no familiarity.
MODULES = {'efficientnet_lite0': 'blocks.3.2'}

#: Shares of known frames for which the familiarity that they reach is stored.
SHARES = (.5, .8, .9, .95, .98, .99, .995, .999, 1.)

#: Share of known frames that count as familiar by each measure, by default (docs/trust.md).
FAMILIARITY_QUANTILE = 0.99

# Added to the variances, as a fraction of their mean: features that hardly vary do not decide.
_SHRINKAGE = .03

# This many standard deviations above the mean distance between few pictures, times the margin, is
# where the next one of the same rig is unfamiliar; measured on other rigs (docs/trust.md).
_FEW_PICTURES_SPREAD, _FEW_PICTURES_MARGIN = 2., 1.1

#: Above this exponent a frame is unfamiliar anyway: float32 holds its exponential.
HIGHEST_EXPONENT = 80.

# The most pictures of a rig that become prototypes.
_MOST_PICTURES = 64

Vector = tuple[float, ...]


@dataclass(frozen=True)
class Familiarity:
    """
    What is known about frames, as a part of a checkpoint's metadata.

    :ivar module: path of the module whose output, averaged over the picture, is the features (C,).
    :ivar mean: mean of the features (C,).
    :ivar projection: (C, K); ``(features - mean) @ projection`` spreads alike in all directions.
    :ivar prototypes: (P, K), projected features of known frames.
    :ivar scale: factor of the squared distance from each prototype (P,).
    :ivar reached: for each of ``SHARES`` the familiarity that this share of known frames reaches;
        with ``hand``, by either measure, so that both together may refuse twice as many.
    :ivar hand: mean of the two logits that 99 % of known frames reach, of a network that was shown
        pictures without a hand; None of others.
    """

    module: str
    mean: Vector
    projection: tuple[Vector, ...]
    prototypes: tuple[Vector, ...]
    scale: Vector
    reached: Vector
    hand: float | None = None

    def __post_init__(self) -> None:
        """Raise a CheckpointError if sizes do not fit each other or a value is impossible."""
        check_settings(self, CheckpointError, 'familiarity:')
        channels, count = len(self.mean), len(self.prototypes)
        size = len(self.projection[0])
        if not (len(self.projection) == channels and len(self.scale) == count and count
                and all(len(row) == size for row in (*self.projection, *self.prototypes))
                and min(self.scale) > 0 and len(self.reached) == len(SHARES)
                and list(self.reached) == sorted(self.reached, reverse=True)):
            raise CheckpointError('familiarity: its sizes do not fit each other, or its values '
                                  'are out of order')
        object.__setattr__(self, '_arrays', tuple(
            np.array(part, np.float64) for part in (
                self.mean, self.projection, self.prototypes, self.scale)))

    def of(self, features: ArrayLike) -> NDArray[np.float64]:
        """Return the familiarity (N,), 0 or below, of features and mean logits (N, C + 1)."""
        scale: NDArray[np.float64] = self._arrays[3]    # type: ignore[attr-defined]
        seen = np.asarray(features, np.float64)
        alike = -(self._squares(seen) * scale).min(1)
        return np.asarray(alike if self.hand is None else np.minimum(
            alike, _of_hands(self.hand, seen)))

    def limit(self, share: float) -> float:
        """Return the familiarity that a share of known frames reaches; -infinity for 0."""
        return float(np.interp(share, SHARES, self.reached)) if share > 0 else -np.inf

    def projected(self, features: ArrayLike) -> NDArray[np.float64]:
        """Return projected features (N, K) of features and mean logits (N, C + 1)."""
        mean, projection, *_ = self._arrays     # type: ignore[attr-defined]
        return np.asarray((np.asarray(features, np.float64)[:, :-1] - mean) @ projection)

    def _squares(self, features: ArrayLike) -> NDArray[np.float64]:
        prototypes = self._arrays[2]    # type: ignore[attr-defined]
        return np.asarray(((self.projected(features)[:, None] - prototypes) ** 2).sum(2))


def fit(features: ArrayLike, held_out: ArrayLike, module: str,
        knows_hands: bool = False) -> Familiarity:
    """
    Return the familiarity with frames of a training.

    :param features: pooled features and mean logits of training frames (N, C + 1).
    :param held_out: those of frames of other attempts (M, C + 1), which set the scale.
    :param knows_hands: whether the network was shown pictures without a hand.
    """
    known, others = (np.asarray(part, np.float64) for part in (features, held_out))
    hand = float(np.quantile(others[:, -1], .01)) if knows_hands else None
    known = known[:, :-1]
    mean, deviation = known.mean(0), known.std(0) + 1e-6
    scaled = (known - mean) / deviation
    values, vectors = np.linalg.eigh(
        np.cov(scaled.T) + _SHRINKAGE * np.eye(known.shape[1]))
    projection = vectors / np.sqrt(values) / deviation[:, None]
    first = Familiarity(module, _numbers(mean), tuple(map(_numbers, projection)),
                        ((0.,) * known.shape[1],), (1.,), (0.,) * len(SHARES))
    unscaled = first.of(others)
    scale = float(1 / np.quantile(-unscaled, .99))
    measures = [unscaled * scale]
    if hand is not None:
        measures.append(_of_hands(hand, others))
    reached = np.min([np.quantile(each, 1 - np.array(SHARES)) for each in measures], axis=0)
    return replace(first, scale=(scale,), hand=hand, reached=_numbers(reached))


def fit_pictures(start: Familiarity, features: ArrayLike,
                 attempts: Sequence[str]) -> Familiarity:
    """
    Return the familiarity with a rig of which there are few pictures.

    Each picture becomes a prototype (of more than 64, some), in place of what ``start`` knows: a
    checkpoint adapted to a rig is to judge that rig. What is further from all of them than
    pictures of different attempts are from each other, by a margin, is unfamiliar. With a single
    attempt, its pictures stand for attempts.

    :param features: pooled features and mean logits of the pictures (N, C + 1), by the same module
        as those of ``start``; 2 or more.
    :param attempts: attempt of each picture; pictures of one attempt resemble each other.
    """
    seen = np.asarray(features, np.float64)
    chosen = np.unique(np.linspace(0, len(attempts) - 1, _MOST_PICTURES).round().astype(int))
    points = start.projected(seen[chosen])
    names = np.array(attempts)[chosen] if len(set(attempts)) > 1 else chosen
    apart = np.sqrt(((points[:, None] - points[None]) ** 2).sum(2))
    apart[names[:, None] == names[None]] = np.inf
    nearest = apart.min(1)
    nearest = nearest[np.isfinite(nearest)]
    radius = _FEW_PICTURES_MARGIN * (
        nearest.mean() + _FEW_PICTURES_SPREAD * nearest.std())
    hand = None if start.hand is None else min(start.hand, float(seen[:, -1].min()))
    return replace(start, hand=hand, prototypes=tuple(map(_numbers, points)),
                   scale=_numbers(np.full(len(points), 1 / max(radius, 1e-6) ** 2)))


def _of_hands(hand: float, features: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the familiarity (N,) by the mean logits alone; -1 where one is ``hand``."""
    return np.asarray(-np.exp(np.minimum(hand - features[:, -1], HIGHEST_EXPONENT)))


def _numbers(values: ArrayLike) -> Vector:
    return tuple(float(f'{value:.7g}') for value in np.asarray(values).tolist())
