"""A network cut in two, and the features of frames, which are computed once."""

from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
import torch
from torch import nn

from grasp_success_detector.errors import CheckpointError, ConfigError
from grasp_success_detector.images.preprocessing import Preprocessing
from grasp_success_detector.inference.torch_network import fold_batch_norm
from grasp_success_detector.networks.architectures import (
    architecture_of,
    ARCHITECTURES,
    freeze,
    split_at_freeze,
    stages,
)
from grasp_success_detector.networks.checkpoint import Checkpoint
from grasp_success_detector.networks.familiarity import MODULES

#: Images of a batch: more are no faster and take more memory.
BATCH = 16
#: Convolutions that fine-tuning may change, at most: in efficientnet_lite0 the last two blocks and
#: the layer behind them.
_LEARNING = 7


@dataclass(frozen=True)
class Backbone:
    """
    A network whose first layers, the trunk, stay as they are.

    :ivar name: what the report calls its weights.
    :ivar architecture: name of its architecture.
    :ivar model: the whole network, in evaluation mode.
    :ivar origin: absolute path and sha256 of the checkpoint that it is, for other processes to
        open; None where there is none.
    """

    name: str
    architecture: str
    model: nn.Module
    origin: tuple[Path, str] | None = None

    @classmethod
    def of_checkpoint(cls, checkpoint: Checkpoint, sha256: str | None = None) -> 'Backbone':
        """Return the network of a checkpoint; CheckpointError if it has not this sha256."""
        if sha256 not in (None, checkpoint.sha256):
            raise CheckpointError(f'{checkpoint.path}: is another checkpoint for a worker, or '
                                  'was replaced')
        origin = None if checkpoint.path is None else (
            checkpoint.path.absolute(), checkpoint.sha256)
        return cls('checkpoint', checkpoint.metadata.architecture, checkpoint.model, origin)

    @cached_property
    def head(self) -> nn.Linear:
        """Return the last layer, which computes the two logits; ConfigError if not linear."""
        layer = self.model.get_submodule(architecture_of(self.architecture).head[0])
        if not isinstance(layer, nn.Linear):
            raise ConfigError(
                f'{self.architecture}: its last layer is of the type {type(layer).__name__}, '
                'expected a linear one; train this network with train_classifier')
        return layer

    @cached_property
    def parts(self) -> tuple[nn.Sequential, nn.Sequential]:
        """Return the trunk and the rest; they share their parameters with the model."""
        count = sum(len(stage.steps) for stage in stages(self.model, self.architecture))
        least = architecture_of(self.architecture).freeze_conv_layers
        freeze(self.model, self.architecture,
               None if least is None else max(least, count - _LEARNING))
        return split_at_freeze(self.model, self.architecture)

    @cached_property
    def _fast_parts(self) -> tuple[nn.Module, nn.Module]:
        """Return copies of the trunk, and of the rest without the last layer."""
        trunk = _fast(self.parts[0])
        model = deepcopy(self.model)    # whose first layers are frozen as well by now
        parent, _, name = architecture_of(self.architecture).head[0].rpartition('.')
        setattr(model.get_submodule(parent), name, nn.Identity())
        return trunk, _fast(split_at_freeze(model, self.architecture)[1])

    @property
    def can_learn_blocks(self) -> bool:
        """Return whether the rest is small enough to learn beside the features of the trunk."""
        return self.architecture in ARCHITECTURES and len(self.parts[0]) > 0

    def copy(self) -> 'Backbone':
        """Return a copy whose parameters may be changed."""
        return Backbone(self.name, self.architecture, deepcopy(self.model))

    def trunk_features(self, images: NDArray[np.uint8], preprocessing: Preprocessing,
                       on_images: Callable[[int], None] = lambda count: None,
                       ) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Return the output of the trunk, and what familiarity is measured by.

        :param images: RGB uint8 (N, h, w, 3).
        :returns: float16 (N, C, h', w') or (N, C): half the memory, as exact as is needed; and the
            mean of the module ``MODULES`` of networks/familiarity.py, float32 (N, c), c = 0 where
            the trunk does not hold it.
        """
        means: list[torch.Tensor] = []
        hook = None if self._observed is None else self._observed.register_forward_hook(
            lambda module, given, maps: means.append(maps.mean((2, 3))))
        maps = torch.cat([each.half() for each in _in_batches(
            self._fast_parts[0], _normalized(images, preprocessing), on_images)])
        if hook is None:
            return maps, torch.empty(len(maps), 0)
        hook.remove()
        return maps, torch.cat(means)

    @property
    def _observed(self) -> nn.Module | None:
        """Return the module of the fast trunk by which familiarity is measured."""
        name = MODULES.get(self.architecture)
        names = [stage.name for stage in stages(self.model, self.architecture)]
        if name not in names[:len(self.parts[0])]:
            return None
        return self._fast_parts[0].get_submodule(str(names.index(name)))

    def pooled(self, images: NDArray[np.uint8], preprocessing: Preprocessing,
               on_images: Callable[[int], None] = lambda count: None) -> torch.Tensor:
        """
        Return the input of the last layer.

        :param images: RGB uint8 (N, h, w, 3).
        :returns: float32 (N, C).
        """
        return torch.cat(list(_in_batches(
            nn.Sequential(*self._fast_parts), _normalized(images, preprocessing), on_images)))

    def pooled_of_trunk(self, features: torch.Tensor) -> torch.Tensor:
        """Return the input of the last layer, float32 (N, C), of what the trunk returned."""
        return torch.cat(list(_in_batches(self._fast_parts[1], (
            part.float() for part in features.split(BATCH)))))


def _fast(module: nn.Module) -> nn.Module:
    """Return a copy with the channels last in memory: in half the time, without BatchNorm."""
    return fold_batch_norm(module).to(  # type: ignore[call-overload, no-any-return]
        memory_format=torch.channels_last)


def _normalized(images: NDArray[np.uint8], preprocessing: Preprocessing,
                ) -> Iterator[torch.Tensor]:
    for start in range(0, len(images), BATCH):
        yield preprocessing.normalize(torch.from_numpy(images[start:start + BATCH]))


@torch.no_grad()
def _in_batches(network: nn.Module, batches: Iterable[torch.Tensor],
                on_images: Callable[[int], None] = lambda count: None) -> Iterator[torch.Tensor]:
    for batch in batches:
        yield network(channels_last(batch))
        on_images(len(batch))


def channels_last(batch: torch.Tensor) -> torch.Tensor:
    """Return maps (B, C, h, w) in the layout in which convolutions are fastest; others as is."""
    return batch.contiguous(memory_format=torch.channels_last) if batch.ndim == 4 else batch
