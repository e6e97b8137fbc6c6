"""Draw the same number of samples of each class, whatever the data set has."""

from collections.abc import Iterator, Sequence
import itertools

import torch
from torch.utils.data import Sampler

from grasp_success_detector.labels import Label


def draw_per_class(labels: Sequence[Label], count: int, generator: torch.Generator) -> list[int]:
    """
    Draw ``count`` frames of each class, in random order.

    Every frame of a class is drawn as often as the others, or once more; the surplus is by chance.

    :param labels: label of each frame; both classes occur.
    :return: indexes into ``labels``, 2 x ``count`` of them.
    """
    drawn: list[int] = []
    for label in Label:
        of_class = torch.tensor([i for i, other in enumerate(labels) if other == label])
        rounds = -(-count // len(of_class))
        order = itertools.chain.from_iterable(
            of_class[torch.randperm(len(of_class), generator=generator)].tolist()
            for _ in range(rounds))
        drawn += itertools.islice(order, count)
    return [drawn[i] for i in torch.randperm(len(drawn), generator=generator).tolist()]


class PerClassSampler(Sampler[int]):
    """
    Draws anew in every epoch.

    :param seed: the same seed gives the same draws, epoch by epoch.
    """

    def __init__(self, labels: Sequence[Label], count: int, seed: int) -> None:
        self._labels, self._count = labels, count
        self._generator = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return self._count * len(Label)

    def __iter__(self) -> Iterator[int]:
        return iter(draw_per_class(self._labels, self._count, self._generator))
