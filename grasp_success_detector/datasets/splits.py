"""Train, validation and test: always whole attempts, drawn by a seed."""

from collections.abc import Hashable, Sequence
from typing import Final, TypeVar

import numpy as np

from grasp_success_detector.labels import Label

SPLITS: Final = ('train', 'val', 'test')

Attempt = TypeVar('Attempt', bound=Hashable)


def outcomes(attempts: Sequence[Attempt], labels: Sequence[Label]) -> dict[Attempt, Label]:
    """Return each attempt's outcome: the label of its last frame (frames in order of time)."""
    return dict(zip(attempts, labels, strict=True))


def check_labels(split: str, attempts: Sequence[Hashable], labels: Sequence[Label]) -> str | None:
    """
    Say what keeps the frames of one split from being trained on or judged by.

    :param split: its name.
    :param attempts: attempt of each frame.
    :param labels: label of each frame.
    :return: such as ``'val (1 attempts: 0 failure, 12 success)'``; None if both labels are there.
    """
    counts = {label: list(labels).count(label) for label in Label}
    if 0 not in counts.values():
        return None
    return (f'{split} ({len(set(attempts))} attempts: '
            + ', '.join(f'{n} {label.name.lower()}' for label, n in counts.items()) + ')')


def balanced_split(groups: Sequence[Attempt], labels: Sequence[Label],
                   fractions: tuple[float, float, float], seed: int) -> dict[Attempt, str]:
    """
    Put every group of frames into one split, so that each split has its share of each label.

    Never refuses: with few groups the shares are what whole groups allow.

    :param groups: group (attempt or source) of each frame.
    :param labels: label of each frame.
    :param fractions: of the frames for train, val and test; they add up to 1.
    :param seed: the same seed, groups and labels give the same split.
    """
    names = list(dict.fromkeys(groups))
    place = {name: i for i, name in enumerate(names)}
    counts = np.zeros((len(names), len(Label)))
    for group, label in zip(groups, labels, strict=True):
        counts[place[group], label] += 1
    share = np.asarray(fractions)
    target = np.outer(share, counts.sum(0))  # (splits, labels)
    weight = 1 / np.maximum(target, 1e-9)
    weight[:, counts.sum(0) == 0] = 0.
    open_splits = [split for split in range(len(SPLITS)) if share[split] > 0]
    filled = np.zeros_like(target)
    chosen = np.zeros(len(names), int)
    # Largest first, as small groups can still even out; equal ones in an order drawn by the seed.
    order = np.random.default_rng(seed).permutation(len(names))
    for index in order[np.argsort(-counts[order].sum(1), kind='stable')].tolist():
        # How much this group moves each split away from its target, or towards it.
        cost = (((filled + counts[index] - target) ** 2 - (filled - target) ** 2) * weight).sum(1)
        best = min(open_splits, key=lambda split: cost[split])
        chosen[index] = best
        filled[best] += counts[index]
    for empty in open_splits:
        if not (chosen == empty).any():
            sizes = [int((chosen == split).sum()) for split in range(len(SPLITS))]
            donor = int(np.argmax(sizes))
            if sizes[donor] > 1:
                members = np.flatnonzero(chosen == donor)
                chosen[members[np.argmin(counts[members].sum(1))]] = empty
    return {name: SPLITS[int(chosen[i])] for i, name in enumerate(names)}
