"""Train, validation and test: always whole attempts, drawn by a seed."""

from collections import defaultdict
from collections.abc import Hashable, Sequence
from typing import Final, TypeVar

import numpy as np

from grasp_success_detector.errors import DatasetError
from grasp_success_detector.labels import Label

SPLITS: Final = ('train', 'val', 'test')

Attempt = TypeVar('Attempt', bound=Hashable)


def outcomes(attempts: Sequence[Attempt], labels: Sequence[Label]) -> dict[Attempt, Label]:
    """Return each attempt's outcome: the label of its last frame (frames in order of time)."""
    return dict(zip(attempts, labels, strict=True))


def split_attempts(attempts: Sequence[Attempt], labels: Sequence[Label],
                   fractions: tuple[float, float, float], seed: int) -> dict[Attempt, str]:
    """
    Put every attempt into one split, successes and failures in the same proportion.

    :param attempts: attempt of each frame, frames in order of time.
    :param labels: label of each frame.
    :param fractions: of the attempts for train, val and test; they add up to 1.
    :param seed: the same seed and attempts give the same split.
    :raises DatasetError: fractions that are none, or a split with frames of one label only.
    """
    if len(fractions) != 3 or min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-6:
        raise DatasetError(f'split {fractions}: expected three fractions that add up to 1')
    by_outcome: dict[Label, list[Attempt]] = defaultdict(list)
    for attempt, outcome in outcomes(attempts, labels).items():
        by_outcome[outcome].append(attempt)
    rng = np.random.default_rng(seed)
    assigned: dict[Attempt, str] = {}
    for outcome in sorted(by_outcome):
        group = by_outcome[outcome]
        ends = np.round(np.cumsum(fractions) * len(group)).astype(int)
        order = rng.permutation(len(group))
        for rank, index in enumerate(order.tolist()):
            assigned[group[index]] = SPLITS[int(np.searchsorted(ends, rank, 'right'))]
    check_splits(attempts, labels, assigned, [
        name for name, fraction in zip(SPLITS, fractions, strict=True) if fraction > 0])
    return assigned


def check_splits(attempts: Sequence[Attempt], labels: Sequence[Label],
                 assigned: dict[Attempt, str], wanted: Sequence[str]) -> None:
    """
    Refuse splits that can't be trained on or judged by.

    :raises DatasetError: naming every split that lacks a label, with its counts.
    """
    counts = {split: dict.fromkeys(Label, 0) for split in SPLITS}
    for attempt, label in zip(attempts, labels, strict=True):
        counts[assigned[attempt]][label] += 1
    poor = [f'{split} ({", ".join(f"{n} {label.name.lower()}" for label, n in of.items())})'
            for split, of in counts.items() if split in wanted and 0 in of.values()]
    if poor:
        raise DatasetError(
            f'too few attempts: {len(set(attempts))} leave these splits without frames of both '
            f'labels: {"; ".join(poor)}; record more attempts or change the split')


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
        best = min(open_splits, key=lambda split: cost[split])  # noqa: B023
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
