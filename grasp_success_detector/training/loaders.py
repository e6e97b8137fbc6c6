"""Draw, augment and load the samples of each epoch, divided among processes."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
import itertools
from typing import Any, Generic, NamedTuple, TypeVar

import lightning
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, Sampler, Subset, TensorDataset

from grasp_success_detector.console import progress_bar, stderr_console
from grasp_success_detector.datasets.cores import ahead
from grasp_success_detector.datasets.torch_dataset import AugmentedFrame, FrameDataset
from grasp_success_detector.images.preprocessing import Preprocessing
from grasp_success_detector.inference.classifier import BATCH_SIZE
from grasp_success_detector.inference.torch_network import fold_batch_norm, in_parts
from grasp_success_detector.networks.architectures import split_at_freeze
from grasp_success_detector.training.recipe import Samples, TrainingConfig

#: The most training images that are judged after an epoch, spread evenly over all, if their
#: samples are drawn anew: few of these are among the epoch's.
MOST_JUDGED = 2400

Item = tuple[torch.Tensor, int]
Sample = TypeVar('Sample')


def draw_samples(labels: Sequence[int], per_class: int | None, seed: int,
                 epoch: int) -> list[AugmentedFrame]:
    """
    Return the samples of one epoch in random order, which seed and epoch determine.

    :param labels: label of each frame; both classes occur.
    :param per_class: number of samples of each class, drawn without replacement until its frames
        are used up, then again; if None, every frame is drawn once.
    """
    generator = _generator(seed, epoch)
    if per_class is None:
        drawn = list(range(len(labels)))
    else:
        drawn = []
        for label in sorted(set(labels)):
            frames = [i for i, other in enumerate(labels) if other == label]
            orders = [torch.randperm(len(frames), generator=generator).tolist()
                      for _ in range(-(-per_class // len(frames)))]
            drawn += [frames[i] for i in itertools.chain(*orders)][:per_class]
    seeds = torch.randint(2 ** 62, (len(drawn),), generator=generator).tolist()
    order = torch.randperm(len(drawn), generator=generator).tolist()
    return [AugmentedFrame(drawn[i], seeds[i]) for i in order]


def shuffled(count: int, seed: int, epoch: int) -> list[int]:
    """Return 0 to ``count`` - 1 in random order, which seed and epoch determine."""
    return torch.randperm(count, generator=_generator(seed, epoch)).tolist()


def _generator(seed: int, epoch: int) -> torch.Generator:
    # The factor keeps the epochs of neighbouring seeds apart.
    return torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2 ** 63)


class EpochSampler(Sampler[Sample], Generic[Sample]):
    """
    Divides the samples of each epoch among the processes of a training.

    Samples that do not fill a last batch are left out, as BatchNorm cannot learn from a single
    sample; fewer samples than one batch are all used. The n-th batches of all processes
    together are the n-th batch of a training in one process.

    :param samples_of: maps an epoch, from 0, to all of its samples; their number is constant.
    :param batch_size: of all processes together; a multiple of their number.
    :param rank: number of this process, from 0.
    :param processes: number of processes.
    """

    def __init__(self, samples_of: Callable[[int], Sequence[Sample]], batch_size: int,
                 rank: int = 0, processes: int = 1) -> None:
        self._samples_of, self._batch_size = samples_of, batch_size
        self._rank, self._processes = rank, processes
        self._epoch = 0
        self._length = len(self._shared(samples_of(0)))

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch that is drawn next; Lightning calls this before each epoch."""
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
    """Return the samples of one process; first ones are repeated so that all get equally many."""
    missing = -len(samples) % processes
    return [*samples, *samples[:missing]][rank::processes]


class AheadLoader(DataLoader[Any]):
    """A loader that makes the next batch, in a thread, while its user works with one."""

    def __iter__(self) -> Iterator[Any]:    # type: ignore[override]
        yield from ahead(super().__iter__())


def cache_features(trunk: nn.Module, frames: Dataset[Item], preprocessing: Preprocessing,
                   precision: AbstractContextManager[object], device: torch.device,
                   workers: int) -> TensorDataset:
    """
    Compute the trunk's features of every frame once, instead of anew in each epoch.

    :param trunk: the frozen part of the model, before the first layer that is trained.
    :param frames: items are an RGB uint8 tensor (h, w, 3), augmented or not, and a label.
    :param precision: the context in which training runs the model.
    :param device: device that computes the features; they are kept in main memory.
    :param workers: number of processes that load the frames.
    :returns: features, in the dtype of the trunk's output, and labels, in the frames' order.
    """
    trunk = fold_batch_norm(trunk).to(device)
    features: torch.Tensor | None = None
    labels = torch.empty(len(frames), dtype=torch.int64)  # type: ignore[arg-type]
    start = 0
    with precision, progress_bar(stderr_console()) as progress:
        task = progress.add_task('features of the frozen part', total=len(labels))
        for images, batch_labels in AheadLoader(frames, BATCH_SIZE, num_workers=workers):
            batch = in_parts(trunk, preprocessing.normalize(images.to(device)))  # (B, C, h, w)
            if features is None:
                features = torch.empty((len(labels), *batch.shape[1:]), dtype=batch.dtype)
            features[start:start + len(batch)] = batch
            labels[start:start + len(batch)] = batch_labels
            start += len(batch)
            progress.advance(task, len(batch))
    assert features is not None, 'a split is never empty'
    return TensorDataset(features, labels)


class Loaders(NamedTuple):
    """
    The data loaders of a training.

    :ivar train: loader of the samples of each epoch.
    :ivar judged: loaders of the validation frames and, with ``train_accuracy``, of the training
        images: the samples if they are drawn once, else some frames, not augmented.
    :ivar rest: the layers behind the frozen trunk, if batches hold its features; else None.
    """

    train: AheadLoader
    judged: tuple[AheadLoader, ...]
    rest: nn.Module | None


def make_loaders(config: TrainingConfig, frames: FrameDataset, val: Dataset[Any],
                 model: nn.Module, preprocessing: Preprocessing,
                 trainer: lightning.Trainer) -> Loaders:
    """
    Return the data loaders of one process of a training.

    :param frames: training frames, and images that show no hand.
    :param val: validation frames.
    :param model: model whose layers are frozen already; its trunk computes features for reuse.
    """
    labels = frames.labels
    train: Dataset[Any]
    samples_of: Any
    rest, workers = None, config.workers
    if config.samples is Samples.ONCE:
        draws = draw_samples(labels, config.samples_per_class, config.seed, 0)
        train = Subset(frames, draws)  # type: ignore[arg-type]
        samples_of = partial(shuffled, len(draws), config.seed)
        if config.reuse_features:
            trunk, rest = split_at_freeze(model, config.architecture)
            train, val = (cache_features(
                trunk, part, preprocessing, trainer.precision_plugin.forward_context(),
                trainer.strategy.root_device, workers) for part in (train, val))
            workers = 0  # features are already in memory
    else:
        train = frames
        samples_of = partial(draw_samples, labels, config.samples_per_class, config.seed)
    rank, processes = trainer.global_rank, trainer.world_size
    per_process = config.batch_size // processes
    judged: tuple[Dataset[Any], ...] = (val,)
    if config.train_accuracy:
        judged += (train if config.samples is Samples.ONCE else Subset(
            train, range(0, len(frames.frames), -(-len(frames.frames) // MOST_JUDGED))),)
    options: dict[str, Any] = {'num_workers': workers, 'persistent_workers': workers > 0}
    sampler = EpochSampler(samples_of, config.batch_size, rank, processes)
    return Loaders(
        AheadLoader(train, per_process, sampler=sampler, **options),
        tuple(AheadLoader(
            part, per_process, sampler=share(
                range(len(part)), rank, processes), **options)  # type: ignore[arg-type]
            for part in judged),
        rest)
