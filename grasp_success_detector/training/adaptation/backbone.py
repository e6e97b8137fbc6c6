"""A network cut in two, and the features of frames, which are computed once."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
import torch
from torch import nn

from grasp_success_detector.errors import ConfigError
from grasp_success_detector.images.preprocessing import Preprocessing
from grasp_success_detector.inference.torch_network import fold_batch_norm
from grasp_success_detector.networks.architectures import (
    architecture_of,
    ARCHITECTURES,
    freeze,
    split_at_freeze,
)

#: Images of a batch: more are no faster and take more memory.
_BATCH = 16


@dataclass(frozen=True)
class Backbone:
    """
    A network whose first layers, the trunk, stay as they are.

    :ivar name: what the report calls its weights.
    :ivar architecture: name of its architecture.
    :ivar model: the whole network, in evaluation mode.
    """

    name: str
    architecture: str
    model: nn.Module

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
        freeze(self.model, self.architecture)
        return split_at_freeze(self.model, self.architecture)

    @cached_property
    def _fast_trunk(self) -> nn.Module:
        return _fast(self.parts[0])

    @cached_property
    def _fast_pooling(self) -> nn.Module:
        model = deepcopy(self.model)
        parent, _, name = architecture_of(self.architecture).head[0].rpartition('.')
        setattr(model.get_submodule(parent), name, nn.Identity())
        return _fast(model)

    @property
    def can_learn_blocks(self) -> bool:
        """Return whether the rest is small enough to learn beside the features of the trunk."""
        return self.architecture in ARCHITECTURES and len(self.parts[0]) > 0

    def copy(self) -> 'Backbone':
        """Return a copy whose parameters may be changed."""
        return Backbone(self.name, self.architecture, deepcopy(self.model))

    def trunk_features(self, images: NDArray[np.uint8], preprocessing: Preprocessing,
                       on_images: Callable[[int], None] = lambda count: None) -> torch.Tensor:
        """
        Return the output of the trunk.

        :param images: RGB uint8 (N, h, w, 3).
        :returns: float16 (N, C, h', w'): half the memory, and as exact as is needed.
        """
        return torch.cat([features.half() for features in _in_batches(
            self._fast_trunk, images, preprocessing, on_images)])

    def pooled(self, images: NDArray[np.uint8], preprocessing: Preprocessing,
               on_images: Callable[[int], None] = lambda count: None) -> torch.Tensor:
        """
        Return the input of the last layer.

        :param images: RGB uint8 (N, h, w, 3).
        :returns: float32 (N, C).
        """
        return torch.cat(list(_in_batches(
            self._fast_pooling, images, preprocessing, on_images)))


def _fast(module: nn.Module) -> nn.Module:
    """Return a copy with the channels last in memory: in half the time, without BatchNorm."""
    return fold_batch_norm(module).to(  # type: ignore[call-overload, no-any-return]
        memory_format=torch.channels_last)


@torch.no_grad()
def _in_batches(network: nn.Module, images: NDArray[np.uint8], preprocessing: Preprocessing,
                on_images: Callable[[int], None]) -> Iterator[torch.Tensor]:
    for start in range(0, len(images), _BATCH):
        batch = torch.from_numpy(images[start:start + _BATCH])
        yield network(preprocessing.normalize(batch).contiguous(
            memory_format=torch.channels_last))
        on_images(len(batch))
