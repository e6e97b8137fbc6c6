"""A network cut in two, and the features of frames, which are computed once."""

from collections.abc import Callable
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
    def _folded_trunk(self) -> nn.Module:
        return fold_batch_norm(self.parts[0])

    @property
    def can_learn_blocks(self) -> bool:
        """Return whether the rest is small enough to learn beside the features of the trunk."""
        return self.architecture in ARCHITECTURES and len(self.parts[0]) > 0

    def copy(self) -> 'Backbone':
        """Return a copy whose parameters may be changed."""
        return Backbone(self.name, self.architecture, deepcopy(self.model))

    @torch.no_grad()
    def trunk_features(self, images: NDArray[np.uint8], preprocessing: Preprocessing,
                       on_images: Callable[[int], None] = lambda count: None) -> torch.Tensor:
        """
        Return the output of the trunk.

        :param images: RGB uint8 (N, h, w, 3).
        :returns: float16 (N, C, h', w'): half the memory, and as exact as is needed.
        """
        features = []
        for start in range(0, len(images), _BATCH):
            batch = torch.from_numpy(images[start:start + _BATCH])
            features.append(self._folded_trunk(preprocessing.normalize(batch)).half())
            on_images(len(batch))
        return torch.cat(features)

    @torch.no_grad()
    def pooled(self, trunk_features: torch.Tensor) -> torch.Tensor:
        """Return the input of the last layer, float32 (N, C), for features of the trunk."""
        taken: list[torch.Tensor] = []
        hook = self.head.register_forward_pre_hook(lambda _, given: taken.append(given[0]))
        try:
            for batch in trunk_features.split(_BATCH):
                self.parts[1](batch.float())
        finally:
            hook.remove()
        return torch.cat(taken)
