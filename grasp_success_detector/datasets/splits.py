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

    def __post_init__(self) -> None:
        check_settings(self, ConfigError, 'cannot extract with', (
            ('split', abs(sum(self.split) - 1) < 1e-6, 'three fractions that add up to 1'),))


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
