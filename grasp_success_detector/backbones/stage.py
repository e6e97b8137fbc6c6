"""How a network is described, so that all of them are built, frozen and split alike."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from grasp_success_detector.preprocessing import Preprocessing


@dataclass(frozen=True)
class Stage:
    """
    One piece of a forward pass, behind which a network may be cut.

    :ivar name: where it lies in the model.
    :ivar module: computes it; shares its parameters with the model.
    :ivar steps: what freezes, one step for each convolution of the main path, in forward order:
        the convolution and what goes with it, such as its BatchNorm. The whole stage is frozen
        with the last step. Empty: belongs to the head, is never frozen.
    """

    name: str
    module: nn.Module
    steps: tuple[nn.Module, ...] = ()


@dataclass(frozen=True)
class Architecture:
    """
    What is known about a network.

    :ivar build: makes it with random weights and 2 logits, in training mode.
    :ivar pretrained: returns published weights under the model's names, which may hold a head of
        any number of classes; raises CheckpointError where they cannot be had.
    :ivar stages: describes its forward pass: the modules, applied one after the other, compute
        what the model computes.
    :ivar preprocessing: of the images that the published weights were trained on.
    :ivar freeze_conv_layers: how many convolutions the transfer-learning recipe freezes; None: all
        of the backbone.
    :ivar head: names of the modules that make the logits.
    """

    build: Callable[[], nn.Module]
    pretrained: Callable[[], dict[str, torch.Tensor]]
    stages: Callable[[Any], list[Stage]]
    preprocessing: Preprocessing
    freeze_conv_layers: int | None
    head: tuple[str, ...]
