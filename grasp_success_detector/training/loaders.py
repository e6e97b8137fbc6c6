"""Feed a training: samples of each epoch, validation frames, features computed once."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import lightning
from torch import nn
from torch.utils.data import DataLoader, Dataset

from grasp_success_detector.architectures import split_at_freeze
from grasp_success_detector.data.dataset import FixedSamples, FrameDataset
from grasp_success_detector.data.extracted import Split
from grasp_success_detector.preprocessing import Preprocessing
from grasp_success_detector.training.augmentation import camera_augmentation
from grasp_success_detector.training.config import TrainingConfig
from grasp_success_detector.training.features import cache_features
from grasp_success_detector.training.sampling import draw_samples, EpochSampler, share, shuffled


@dataclass(frozen=True)
class Loaders:
    """
    What a trainer takes its batches from.

    :ivar train: samples of each epoch.
    :ivar judged: loaders of the validation frames and, where asked for, of the training images.
    :ivar sizes: number of frames of each of them.
    :ivar rest: the part of the model that batches are for, if they hold features; else None.
    """

    train: DataLoader[Any]
    judged: tuple[DataLoader[Any], ...]
    sizes: tuple[int, ...]
    rest: nn.Module | None


def make_loaders(config: TrainingConfig, split: Split, model: nn.Module,
                 preprocessing: Preprocessing, trainer: lightning.Trainer) -> Loaders:
    """
    Make the loaders of one process of a training.

    Training images are judged as they are; where samples are drawn once, as drawn.

    :param model: frozen already; its trunk computes the features that are reused.
    """
    labels = [frame.label for frame in split.train]
    frames = FrameDataset(split.train, preprocessing,
                          camera_augmentation(config.augmentation) if config.augment else None)
    val: Dataset[Any] = FrameDataset(split.val, preprocessing)
    train: Dataset[Any]
    samples_of: Any
    rest, workers = None, config.workers
    if config.samples == 'once':
        draws = draw_samples(labels, config.samples_per_class, config.seed, 0)
        train = FixedSamples(frames, draws)
        samples_of = partial(shuffled, len(draws), config.seed)
        if config.reuse_features:
            trunk, rest = split_at_freeze(model, config.architecture)
            train, val = (cache_features(
                trunk, part, preprocessing, trainer.precision_plugin.forward_context(),
                trainer.strategy.root_device, workers) for part in (train, val))
            workers = 0  # what is left to load is a copy within memory
    else:
        train = frames
        samples_of = partial(draw_samples, labels, config.samples_per_class, config.seed)
    rank, processes = trainer.global_rank, trainer.world_size
    per_process = config.batch_size // processes
    judged = (val, train) if config.train_accuracy else (val,)
    options: dict[str, Any] = {'num_workers': workers, 'persistent_workers': workers > 0}
    return Loaders(
        DataLoader(train, per_process,
                   sampler=EpochSampler(samples_of, config.batch_size, rank, processes),
                   **options),
        tuple(DataLoader(part, per_process, sampler=_share(part, rank, processes), **options)
              for part in judged),
        tuple(len(part) for part in judged),  # type: ignore[arg-type]
        rest)


def _share(frames: Dataset[Any], rank: int, processes: int) -> Sequence[int]:
    return share(range(len(frames)), rank, processes)  # type: ignore[arg-type]
