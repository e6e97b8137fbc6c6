"""
The classifiers: build, freeze, and split where the frozen part ends.

Every architecture answers with 2 logits, index = :class:`~grasp_success_detector.labels.Label`,
and is described once, as the *stages* its forward pass runs through. Freezing takes the first
convolutions of these, splitting cuts between them.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from grasp_success_detector.errors import CheckpointError, ConfigError
from grasp_success_detector.images.preprocessing import Preprocessing
from grasp_success_detector.networks.architecture import (
    Architecture,
    ARCHITECTURES,
    check_architecture,
    Stage,
)
from grasp_success_detector.networks.cifar_cnn import CIFAR_CNN
from grasp_success_detector.networks.efficientnet_lite0 import EFFICIENTNET_LITE0
from grasp_success_detector.networks.resnet34 import RESNET34
from grasp_success_detector.networks.timm_models import timm_architecture
from grasp_success_detector.networks.weights import fill_backbone, read_backbone_weights

_TABLE = dict(zip(
    ARCHITECTURES, (CIFAR_CNN, RESNET34, EFFICIENTNET_LITE0), strict=True))


@dataclass(frozen=True)
class Freezing:
    """
    What learns and what does not.

    :ivar frozen: names of the parameters that stay as they are.
    :ivar trainable: names of those that learn.
    """

    frozen: tuple[str, ...]
    trainable: tuple[str, ...]


def build(name: str, pretrained: bool = False, weights: Path | None = None) -> nn.Module:
    """
    Build a classifier with 2 logits, index = Label, in training mode.

    The head always starts at random.

    :param name: one of ``ARCHITECTURES``, or ``timm:NAME``.
    :param pretrained: give the backbone published weights: cifar_cnn those of CIFAR-10 that ship
        with the package; resnet34 ImageNet's, from torch's cache or download; efficientnet_lite0
        ImageNet's, from a Python package; ``timm:NAME`` timm's default, from Hugging Face's
        cache or download.
    :param weights: give the backbone those of this file, whatever ``pretrained`` says: a
        state dict of torchvision's or timm's model, with a head of any number of classes, or a
        checkpoint of the same architecture.
    :raises ConfigError: unknown name.
    :raises CheckpointError: the weights cannot be had here, or do not fit.
    """
    architecture = _architecture(name)
    # First what may fail.
    tensors = (read_backbone_weights(weights, name) if weights is not None
               else architecture.pretrained() if pretrained else None)
    model = architecture.build()
    if tensors is not None:
        try:
            fill_backbone(model, tensors, architecture.head, name)
        except CheckpointError as error:
            raise CheckpointError(f'{weights or "pre-trained weights"}: {error}') from error
    return model


def default_preprocessing(name: str) -> Preprocessing:
    """
    Return size, mean and standard deviation that the architecture's backbone was trained with.

    :raises ConfigError: unknown name.
    """
    return _architecture(name).preprocessing


def stages(model: nn.Module, name: str) -> list[Stage]:
    """
    Return the stages of a model of the architecture ``name``, in forward order.

    Their modules, applied one after the other, compute what ``model`` computes.
    """
    return _architecture(name).stages(model)


def freeze(model: nn.Module, name: str, conv_layers: int | None = None) -> Freezing:
    """
    Freeze the first convolutions of a model; everything behind them is set to learn.

    What goes with a convolution is frozen with it, and a frozen BatchNorm also keeps its
    statistics, whoever calls ``model.train()``.

    :param name: the model's architecture.
    :param conv_layers: how many convolutions of the main path to freeze, counted in forward order,
        the stem being the first; 0 for nothing, None for the recipe's default. cifar_cnn has 2.
        resnet34 has 33, and 25 end with layer3[4]; a projection shortcut goes with its block's
        last one. efficientnet_lite0 has 49: the stem, 2 in the first block, 3 in each of the
        others, 1 behind them. Models of timm have those that a forward pass through
        ``forward_features`` meets, without projection shortcuts and squeeze-and-excitation; all
        that follows a convolution goes with it, the default is the whole backbone, and a
        transformer has but one: its patch embedding, with all behind it.
    :returns: the names of frozen and trainable parameters.
    :raises ConfigError: unknown name, or more convolutions than the architecture has.
    """
    architecture = _architecture(name)
    steps = [step for stage in architecture.stages(model) for step in stage.steps]
    if conv_layers is None:
        conv_layers = architecture.freeze_conv_layers
    if conv_layers is None:
        conv_layers = len(steps)
    if not 0 <= conv_layers <= len(steps):
        raise ConfigError(
            f'{name}: {conv_layers} convolutions to freeze; expected 0 to {len(steps)}')
    model.requires_grad_(True)
    for step in steps[:conv_layers]:
        step.requires_grad_(False)
        for module in step.modules():
            if (isinstance(module, _NormBase)
                    and _keep_statistics not in module._forward_pre_hooks.values()):
                module.register_forward_pre_hook(_keep_statistics)
    parameters = dict(model.named_parameters())
    return Freezing(
        frozen=tuple(n for n, p in parameters.items() if not p.requires_grad),
        trainable=tuple(n for n, p in parameters.items() if p.requires_grad))


def head_parameters(model: nn.Module, name: str) -> tuple[str, ...]:
    """Return the names of the parameters of the last layer, which makes the logits."""
    prefixes = tuple(f'{head}.' for head in _architecture(name).head)
    return tuple(n for n, _ in model.named_parameters() if n.startswith(prefixes))


def split_at_freeze(model: nn.Module, name: str) -> tuple[nn.Sequential, nn.Sequential]:
    """
    Split a frozen model into the trunk that cannot change and the rest that learns.

    ``rest(trunk(x))`` equals ``model(x)`` bit for bit, so that the trunk's features of a fixed
    sample can be computed once. A stage that is frozen in part belongs to the rest: a block, or
    with a model of timm the whole backbone. Both parts share their parameters with the model; a
    part without stages passes its input on.

    :param name: the model's architecture.
    :returns: trunk, rest.
    """
    parts = stages(model, name)
    cut = 0
    while cut < len(parts) and not any(p.requires_grad for p in parts[cut].module.parameters()):
        cut += 1
    return (nn.Sequential(*(stage.module for stage in parts[:cut])),
            nn.Sequential(*(stage.module for stage in parts[cut:])))


def _keep_statistics(module: nn.Module, _: Any) -> None:
    # As a hook, since every model.train(), ours or a trainer's, would set the module to learn
    # again. It asks the parameters, so that unfreezing needs nothing but requires_grad.
    if module.training and not any(p.requires_grad for p in module.parameters()):
        module.eval()


def _architecture(name: str) -> Architecture:
    check_architecture(name)
    return _TABLE[name] if name in _TABLE else timm_architecture(name)
