"""Which samples an epoch is made of, and which process takes which of them."""

from collections.abc import Callable, Iterator, Sequence
import itertools
from typing import Generic, TypeVar

import torch
from torch.utils.data import Sampler

from grasp_success_detector.datasets.torch_dataset import AugmentedFrame
from grasp_success_detector.labels import Label

Sample = TypeVar('Sample')


def draw_samples(labels: Sequence[Label], per_class: int | None, seed: int,
                 epoch: int) -> list[AugmentedFrame]:
    """
    Draw the samples of one epoch, in random order.

    Every frame is drawn once; with ``per_class`` every frame of a class as often as the others,
    or once more, the surplus by chance.

    :param labels: label of each frame; both classes occur.
    :param per_class: so many samples of each class.
    :param seed: seed and epoch alone decide the draw.
    """
    generator = torch.Generator().manual_seed(_mix(seed, epoch))
    if per_class is None:
        drawn = list(range(len(labels)))
    else:
        drawn = [index for label in Label for index in _of_class(
            [i for i, other in enumerate(labels) if other == label], per_class, generator)]
    seeds = torch.randint(2 ** 62, (len(drawn),), generator=generator).tolist()
    order = torch.randperm(len(drawn), generator=generator).tolist()
    return [AugmentedFrame(drawn[i], seeds[i]) for i in order]


def shuffled(count: int, seed: int, epoch: int) -> list[int]:
    """Return 0 to ``count`` - 1 in an order that seed and epoch alone decide."""
    generator = torch.Generator().manual_seed(_mix(seed, epoch))
    return torch.randperm(count, generator=generator).tolist()


def _of_class(frames: Sequence[int], count: int, generator: torch.Generator) -> Iterator[int]:
    rounds = -(-count // len(frames))
    order = itertools.chain.from_iterable(
        torch.randperm(len(frames), generator=generator).tolist() for _ in range(rounds))
    return (frames[i] for i in itertools.islice(order, count))


def _mix(seed: int, epoch: int) -> int:
    """Keep the epochs of neighbouring seeds apart."""
    return (seed * 1_000_003 + epoch) % 2 ** 63


class EpochSampler(Sampler[Sample], Generic[Sample]):
    """
    Shares the samples of each epoch out to the processes of a training.

    All batches are whole, as BatchNorm cannot learn from a rest of one; fewer samples than a
    batch are one batch. Taken together, the processes' n-th batches are the n-th batch that one
    process would take.

    :param samples_of: returns all samples of an epoch, from 0; as many for each.
    :param batch_size: of all processes together; a multiple of their number.
    :param rank: of this process, from 0.
    :param processes: their number.
    """

    def __init__(self, samples_of: Callable[[int], Sequence[Sample]], batch_size: int,
                 rank: int = 0, processes: int = 1) -> None:
        self._samples_of, self._batch_size = samples_of, batch_size
        self._rank, self._processes = rank, processes
        self._epoch = 0
        self._length = len(self._shared(samples_of(0)))

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; Lightning calls it before each."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Sample]:
        return iter(self._shared(self._samples_of(self._epoch)))

    def _shared(self, samples: Sequence[Sample]) -> Sequence[Sample]:
        if len(samples) > self._batch_size:
            samples = samples[:len(samples) - len(samples) % self._batch_size]
        return share(samples, self._rank, self._processes)


def share(samples: Sequence[Sample], rank: int, processes: int) -> Sequence[Sample]:
    """Return a process's share; each gets as many, for which the first may be taken again."""
    missing = -len(samples) % processes
    return [*samples, *samples[:missing]][rank::processes]
