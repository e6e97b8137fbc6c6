"""
Build classifiers, freeze and split them, and compute P(success) from their logits.

Every architecture returns 2 logits, index = :class:`~grasp_success_detector.labels.Label`, and is
described once, by the *stages* of its forward pass: the first convolutions of these are frozen,
and a network is split between two of them. The description is in a module named like the
architecture; importing this module loads neither torch nor a network.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
import re
from typing import Any, TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from grasp_success_detector.errors import ConfigError
from grasp_success_detector.images.preprocessing import Preprocessing
from grasp_success_detector.labels import Label

if TYPE_CHECKING:
    import torch
    from torch import nn

#: Names of classifiers that :func:`build` knows, besides ``timm:NAME`` for any model of timm.
ARCHITECTURES = ('cifar_cnn', 'resnet34', 'efficientnet_lite0')

#: The network that finds the hand; no classifier.
HAND_FINDER = 'hand_finder'

_TIMM_NAME = re.compile(r'timm:[\w.-]+')


@dataclass(frozen=True)
class Stage:
    """
    One part of a forward pass, after which a network may be cut.

    :ivar name: name of the stage, such as ``'layer1[0]'``.
    :ivar module: computes the stage; shares its parameters with the model.
    :ivar steps: a module for each convolution of the main path, in forward order, with the layers
        frozen with it (BatchNorm); the last step freezes all of the stage. Empty in the head.
    """

    name: str
    module: 'nn.Module'
    steps: 'tuple[nn.Module, ...]' = ()


@dataclass(frozen=True)
class Architecture:
    """
    How a network is built, cut and frozen.

    :ivar build: returns the model with random weights and 2 logits, in training mode.
    :ivar pretrained: returns published weights under the model's names, with a head of any number
        of classes; raises CheckpointError where they are not available.
    :ivar stages: returns the stages of a model in forward order: their modules, applied one after
        the other, compute what the model computes.
    :ivar preprocessing: size, mean and standard deviation that the published weights expect.
    :ivar freeze_conv_layers: number of convolutions that are frozen by default in transfer
        learning; None: all of the backbone.
    :ivar head: names of the modules that compute the logits.
    """

    build: 'Callable[[], nn.Module]'
    pretrained: 'Callable[[], dict[str, torch.Tensor]]'
    stages: Callable[[Any], list[Stage]]
    preprocessing: Preprocessing
    freeze_conv_layers: int | None
    head: tuple[str, ...]


@dataclass(frozen=True)
class Freezing:
    """Names of a model's frozen parameters, and of its trainable ones."""

    frozen: tuple[str, ...]
    trainable: tuple[str, ...]


def check_architecture(name: object) -> None:
    """
    Raise a ConfigError if a value is not the name of an architecture.

    :func:`build` checks whether timm has a model ``timm:NAME``: importing timm takes seconds.
    """
    if not is_own(name) and not (isinstance(name, str) and _TIMM_NAME.fullmatch(name)):
        raise ConfigError(f'unknown architecture {name!r}; expected one of '
                          f'{", ".join(ARCHITECTURES)}, or timm:NAME')


def is_own(name: object) -> bool:
    """Return whether a network is one of this package, not of timm."""
    return name in (*ARCHITECTURES, HAND_FINDER)


def build(name: str) -> 'nn.Module':
    """
    Build a classifier with random weights and 2 logits, index = Label, in training mode.

    :param name: one of ``ARCHITECTURES``, or ``timm:NAME``.
    :raises ConfigError: unknown name.
    """
    return architecture_of(name).build()


def default_preprocessing(name: str) -> Preprocessing:
    """Return input size, mean and standard deviation of the architecture's training images."""
    return architecture_of(name).preprocessing


def stages(model: 'nn.Module', name: str) -> list[Stage]:
    """Return the stages of a model of the architecture ``name``, in forward order."""
    return architecture_of(name).stages(model)


def freeze(model: 'nn.Module', name: str, conv_layers: int | None = None) -> Freezing:
    """
    Freeze the first convolutions of a model; all later parameters are made trainable.

    Layers that belong to a convolution are frozen with it. A frozen BatchNorm also keeps its
    statistics, even after ``model.train()``.

    :param conv_layers: how many convolutions of the main path to freeze, counted in forward order
        from the stem; None for the recipe's default. cifar_cnn has 2. resnet34 has 33, and a
        projection shortcut is frozen with the last one of its block. efficientnet_lite0 has 49:
        the stem, 2 in the first block, 3 in each of the others, 1 after them. In models of timm
        those count that ``forward_features`` calls, without projection shortcuts and
        squeeze-and-excitation; everything up to the next one is frozen with each. A transformer
        has only one: its patch embedding, with everything after it.
    :raises ConfigError: unknown name, or more convolutions than the architecture has.
    """
    from torch.nn.modules.batchnorm import _NormBase

    architecture = architecture_of(name)
    steps = [step for stage in architecture.stages(model) for step in stage.steps]
    choices = (conv_layers, architecture.freeze_conv_layers, len(steps))
    count = next(choice for choice in choices if choice is not None)
    if not 0 <= count <= len(steps):
        raise ConfigError(f'{name}: {count} convolutions to freeze; expected 0 to {len(steps)}')
    model.requires_grad_(True)
    for step in steps[:count]:
        step.requires_grad_(False)
        for module in step.modules():
            if (isinstance(module, _NormBase)
                    and _keep_statistics not in module._forward_pre_hooks.values()):
                module.register_forward_pre_hook(_keep_statistics)
    return Freezing(*(
        tuple(n for n, p in model.named_parameters() if p.requires_grad is trainable)
        for trainable in (False, True)))


def head_parameters(model: 'nn.Module', name: str) -> tuple[str, ...]:
    """Return the names of the parameters of the last layer, which computes the logits."""
    prefixes = tuple(f'{head}.' for head in architecture_of(name).head)
    return tuple(n for n, _ in model.named_parameters() if n.startswith(prefixes))


def split_at_freeze(model: 'nn.Module', name: str) -> 'tuple[nn.Sequential, nn.Sequential]':
    """
    Split a model that :func:`freeze` froze into a frozen trunk and a trainable rest.

    ``rest(trunk(x))`` equals ``model(x)`` bit for bit, so that the trunk's features of an image
    need to be computed only once. A stage that is frozen in part (a block; of a timm model the
    whole backbone) belongs to the rest. Both parts share their parameters with the model; a part
    without stages returns its input.
    """
    from torch import nn

    modules = [stage.module for stage in stages(model, name)]
    learning = (i for i, module in enumerate(modules)
                if any(p.requires_grad for p in module.parameters()))
    cut = next(learning, len(modules))
    return nn.Sequential(*modules[:cut]), nn.Sequential(*modules[cut:])


def _keep_statistics(module: 'nn.Module', _: Any) -> None:
    # A hook, because every model.train(), also of a trainer, would set the module to learn again.
    # It checks the parameters, so that setting requires_grad is enough to unfreeze.
    if module.training and not any(p.requires_grad for p in module.parameters()):
        module.eval()


def architecture_of(name: str) -> Architecture:
    """Return what is known about an architecture; ConfigError for an unknown name."""
    check_architecture(name)
    known = is_own(name)
    module = import_module(f'{__package__}.{name if known else "timm_models"}')
    description: Architecture = module.ARCHITECTURE if known else module.timm_architecture(name)
    return description


def success_probabilities(logits: NDArray[np.float32],
                          temperature: float = 1.) -> NDArray[np.float32]:
    """
    Return P(success): the softmax of the logits divided by the temperature.

    :param logits: float32 (N, 2), index = Label.
    :param temperature: the checkpoint's temperature, above 0; 1 leaves the logits as they are.
    :returns: float32 (N,), 0 to 1; NaN where a logit is NaN.
    """
    margin = (logits[:, Label.SUCCESS] - logits[:, Label.FAILURE]) / np.float32(temperature)
    # Softmax of two is the logistic function of their difference; this form never overflows.
    with np.errstate(invalid='ignore'):
        shares: NDArray[np.float32] = np.exp(-np.logaddexp(np.float32(0.), -margin))
    return shares
