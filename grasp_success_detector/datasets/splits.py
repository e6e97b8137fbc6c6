"""Division of a data set into training, validation and test splits of whole attempts."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeVar

import numpy as np

from grasp_success_detector.console import counted
from grasp_success_detector.errors import ConfigError
from grasp_success_detector.labels import Label
from grasp_success_detector.settings import check_settings, setting

SPLITS: Final = ('train', 'val', 'test')

Attempt = TypeVar('Attempt', bound=Hashable)


class SplitBy(Enum):
    """Unit whose frames all go into the same split."""

    ATTEMPT = 'attempt'
    SOURCE = 'source'


@dataclass(frozen=True)
class SplitOptions:
    """How the extracted frames are divided into splits."""

    split: tuple[float, float, float] = setting(
        (.7, .15, .15), lowest=0, metavar='TRAIN/VAL/TEST', separator='/',
        help='fractions of the frames, which add up to 1')
    split_by: SplitBy = setting(SplitBy.ATTEMPT, metavar='UNIT', help='what is never divided:')
    seed: int = setting(0, lowest=0, help='the same seed and frames give the same split')
    dedupe: bool = setting(
        False, help='leave out frames that look like an earlier one with the same label')
    few: bool = setting(
        False, help='larger shares for val and test if there are too few attempts for theirs')

    def __post_init__(self) -> None:
        check_settings(self, ConfigError, 'cannot extract with', (
            ('split', abs(sum(self.split) - 1) < 1e-6, 'three fractions that add up to 1'),),
            options=True)


def shares_of_few(groups: Sequence[Hashable], labels: Sequence[Label],
                  fractions: tuple[float, float, float]) -> tuple[float, float, float]:
    """
    Return shares of train, val and test by which each of them gets a group of each label.

    :param groups: attempt or source of each frame.
    :param fractions: shares that are returned where there are enough groups. With two groups of
        the rarer label, val gets none; with one, only train gets it.
    """
    fewest = min(len({group for group, other in zip(groups, labels, strict=True)
                      if other is label}) for label in Label)
    if fewest < 3:
        return (.5, 0., .5) if fewest == 2 else (1., 0., 0.)
    val, test = (share and max(share, 1 / fewest) for share in fractions[1:])
    return 1 - val - test, val, test


def check_labels(split: str, attempts: Sequence[Hashable], labels: Sequence[Label]) -> str | None:
    """
    Return a description of a split if it lacks one of the two labels, else None.

    With one label, a split can be used neither to train nor to evaluate a classifier.

    :returns: text such as ``'val (1 attempt: 0 failure, 12 success)'``.
    """
    failures, successes = (list(labels).count(label) for label in Label)
    return None if failures and successes else (
        f'{split} ({counted(len(set(attempts)), "attempt")}: {failures} failure, '
        f'{successes} success)')


def completed_split(groups: Sequence[Attempt], labels: Sequence[Label], given: Sequence[str],
                    fractions: tuple[float, float, float], seed: int,
                    ) -> tuple[dict[Attempt, str], list[str]]:
    """
    Assign each group of frames to a split, and keep the splits that were given.

    Groups without a split go where none was given: to train, and to val and test unless some
    group has them. If every group has one, those of train are divided to fill val and test.

    :param groups: attempt or source of each frame.
    :param given: split of each frame, '' where none was given; one for each group.
    :returns: name of the split of each group, and the splits that were drawn.
    """
    if not any(given):
        return balanced_split(groups, labels, fractions, seed), list(SPLITS)
    split_of = {group: split for group, split in zip(groups, given, strict=True) if split}
    kept = set(split_of.values())
    missing = [split for split, share in zip(SPLITS, fractions, strict=True)
               if share and split not in kept]
    pool = {group for group in groups if group not in split_of}
    if not pool and missing:
        pool = {group for group, split in split_of.items() if split == 'train'}
    if not pool:
        return split_of, []
    drawn: list[str] = [split for split in SPLITS if split == 'train' or split in missing]
    shares = [share if split in drawn else 0.
              for split, share in zip(SPLITS, fractions, strict=True)]
    # Shares of which nothing is left, as of --split 0/0/1, leave everything in train.
    first, second, third = [share / sum(shares) for share in shares] if sum(shares) else (1, 0, 0)
    chosen = [i for i, group in enumerate(groups) if group in pool]
    return split_of | balanced_split(
        [groups[i] for i in chosen], [labels[i] for i in chosen], (first, second, third),
        seed), drawn


def balanced_split(groups: Sequence[Attempt], labels: Sequence[Label],
                   fractions: tuple[float, float, float], seed: int) -> dict[Attempt, str]:
    """
    Assign each group of frames to a split, so that each split gets about its share of each label.

    :param groups: attempt or source of each frame.
    :param fractions: shares of the frames for train, val and test, which add up to 1.
    :returns: name of the split of each group.
    """
    names = list(dict.fromkeys(groups))
    place = {name: i for i, name in enumerate(names)}
    counts = np.zeros((len(names), len(Label)))
    np.add.at(counts, ([place[group] for group in groups], list(labels)), 1)
    target = np.outer(fractions, counts.sum(0))  # (splits, labels)
    weight = 1 / np.maximum(target, 1e-9)
    open_splits = np.flatnonzero(fractions).tolist()
    filled = np.zeros_like(target)
    chosen = np.zeros(len(names), int)
    # Largest first, as small groups can even out the rest; groups of equal size in random order.
    order = np.random.default_rng(seed).permutation(len(names))
    for index in order[np.argsort(-counts[order].sum(1), kind='stable')].tolist():
        # Change of each split's squared distance from its target if it gets this group.
        cost = (((filled + counts[index] - target) ** 2 - (filled - target) ** 2) * weight).sum(1)
        chosen[index] = best = open_splits[int(np.argmin(cost[open_splits]))]
        filled[best] += counts[index]
    for empty in open_splits:
        if not (chosen == empty).any():
            sizes = np.bincount(chosen, minlength=len(SPLITS))
            donor = int(np.argmax(sizes))
            if sizes[donor] > 1:
                members = np.flatnonzero(chosen == donor)
                chosen[members[np.argmin(counts[members].sum(1))]] = empty
    return {name: SPLITS[int(chosen[i])] for i, name in enumerate(names)}
