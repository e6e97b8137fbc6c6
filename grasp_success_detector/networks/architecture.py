"""What is known about a network: its name, its stages, how it is built. Needs no torch."""

from collections.abc import Callable
from dataclasses import dataclass
import re
from typing import Any, TYPE_CHECKING

from grasp_success_detector.errors import ConfigError
from grasp_success_detector.images.preprocessing import Preprocessing

if TYPE_CHECKING:
    import torch
    from torch import nn

#: Names that ``architectures.build`` knows, besides ``timm:NAME`` for any model of timm.
ARCHITECTURES = ('cifar_cnn', 'resnet34', 'efficientnet_lite0')

TIMM_PREFIX = 'timm:'

_TIMM_NAME = re.compile(r'timm:[\w.-]+')


def is_timm_name(name: object) -> bool:
    """Say whether this could be the name of a timm model; timm itself is not asked."""
    return isinstance(name, str) and _TIMM_NAME.fullmatch(name) is not None


def check_architecture(name: object) -> None:
    """
    Refuse what cannot be the name of an architecture.

    Whether timm has a model ``timm:NAME`` is left to ``build``: asking it takes seconds.

    :raises ConfigError: unknown name.
    """
    if not is_timm_name(name) and name not in ARCHITECTURES:
        raise ConfigError(f'unknown architecture {name!r}; expected one of '
                          f'{", ".join(ARCHITECTURES)}, or timm:NAME')


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
    module: 'nn.Module'
    steps: 'tuple[nn.Module, ...]' = ()


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

    build: 'Callable[[], nn.Module]'
    pretrained: 'Callable[[], dict[str, torch.Tensor]]'
    stages: Callable[[Any], list[Stage]]
    preprocessing: Preprocessing
    freeze_conv_layers: int | None
    head: tuple[str, ...]
