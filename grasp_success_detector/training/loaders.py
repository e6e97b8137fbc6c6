"""Feed a training: samples of each epoch, validation frames, features computed once."""


from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any

import lightning
from rich.console import Console
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset
from torchvision.transforms import v2

from grasp_success_detector.console import progress_bar
from grasp_success_detector.datasets.dataset import Split
from grasp_success_detector.datasets.torch_dataset import FixedSamples, FrameDataset
from grasp_success_detector.images.preprocessing import Preprocessing
from grasp_success_detector.inference.torch_network import fold_batch_norm
from grasp_success_detector.networks.architectures import split_at_freeze
from grasp_success_detector.training.recipe import TrainingConfig
from grasp_success_detector.training.sampling import draw_samples, EpochSampler, share, shuffled

#: By the names that the configuration lists. No mirror image: a mirrored right hand is a left one.
AUGMENTATIONS: dict[str, Callable[[], v2.Transform]] = {
    'shift_turn_zoom': lambda: v2.RandomAffine(
        degrees=5, translate=(.06, .06), scale=(.9, 1.12),
        interpolation=v2.InterpolationMode.BILINEAR),
    'light_and_colour': lambda: v2.ColorJitter(
        brightness=.3, contrast=.3, saturation=.3, hue=.03),
    'sensor_noise': lambda: v2.RandomApply([v2.Lambda(_sensor_noise)], p=.3),
}


def camera_augmentation(names: Sequence[str] = tuple(AUGMENTATIONS)) -> v2.Transform:
    """
    Return the changes of these names, one after the other.

    :param names: keys of ``AUGMENTATIONS``.
    :return: maps uint8 (3, h, w) to the same.
    """
    return v2.Compose([AUGMENTATIONS[name]() for name in names])


def _sensor_noise(image: torch.Tensor) -> torch.Tensor:
    noisy = image.to(torch.float32) + 5. * torch.randn(image.shape)
    return noisy.clamp_(0, 255).to(torch.uint8)


Item = tuple[torch.Tensor, int]


def cache_features(trunk: nn.Module, frames: Dataset[Item], preprocessing: Preprocessing,
                   precision: AbstractContextManager[object], device: torch.device,
                   workers: int) -> TensorDataset:
    """
    Compute the trunk's features of every frame once.

    What the plain loop would compute anew in each epoch, in the same precision; an augmented
    frame keeps the change that was drawn for it.

    :param trunk: the frozen part of the model.
    :param frames: items are an RGB uint8 tensor (h, w, 3) and a label.
    :param precision: the context in which training runs the model.
    :param device: where training runs it; the features stay in main memory.
    :returns: features, in the dtype that the trunk gives, and labels, in the frames' order.
    """
    trunk = fold_batch_norm(trunk).to(device)
    features: torch.Tensor | None = None
    labels = torch.empty(len(frames), dtype=torch.int64)  # type: ignore[arg-type]
    start = 0
    with torch.no_grad(), precision, progress_bar(Console(stderr=True)) as progress:
        task = progress.add_task('features of the frozen part', total=len(labels))
        for images, batch_labels in DataLoader(frames, 32, num_workers=workers):
            normalised = preprocessing.normalize(images.to(device))
            batch = trunk(normalised.to(memory_format=torch.channels_last))  # (B, C, h, w)
            if features is None:
                features = torch.empty(
                    (len(labels), *batch.shape[1:]), dtype=batch.dtype)
            features[start:start + len(batch)] = batch
            labels[start:start + len(batch)] = batch_labels
            start += len(batch)
            progress.advance(task, len(batch))
    assert features is not None, 'a split is never empty'
    return TensorDataset(features, labels)


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
