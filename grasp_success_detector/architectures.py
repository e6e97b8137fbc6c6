"""
The classifiers: build, freeze, and split where the frozen part ends.

Every architecture answers with 2 logits, index = :class:`~grasp_success_detector.labels.Label`,
and is described once, as the *stages* its forward pass runs through. Freezing takes the first of
these, splitting cuts between them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from grasp_success_detector import torchvision_ops  # noqa: F401 (before torchvision and timm)
from grasp_success_detector.errors import ConfigError
from grasp_success_detector.imagenet_weights import load_efficientnet_lite0, load_resnet34
from grasp_success_detector.labels import CLASS_NAMES
from grasp_success_detector.preprocessing import Preprocessing


class CifarCnn(nn.Module):
    """
    The small convolutional network of PyTorch's CIFAR-10 tutorial.

    :param classes: number of logits; 10 for CIFAR-10 itself.
    """

    def __init__(self, classes: int = len(CLASS_NAMES)) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 5)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits (B, classes) of images (B, 3, 32, 32)."""
        x = torch.max_pool2d(torch.relu(self.conv1(x)), 2)  # (B, 6, 14, 14)
        x = torch.max_pool2d(torch.relu(self.conv2(x)), 2)  # (B, 16, 5, 5)
        x = torch.flatten(x, 1)  # (B, 400)
        x = torch.relu(self.fc1(x))
        x = torch.relu(self.fc2(x))
        logits: torch.Tensor = self.fc3(x)
        return logits


@dataclass(frozen=True)
class Stage:
    """
    One step of a forward pass.

    :ivar name: where it lies in the model.
    :ivar module: computes it; shares its parameters with the model.
    :ivar steps: what freezes, step by step in forward order; the whole stage is frozen with the
        last step. Empty: belongs to the head, is never frozen.
    """

    name: str
    module: nn.Module
    steps: tuple[nn.Module, ...] = ()


@dataclass(frozen=True)
class Freezing:
    """
    What learns and what does not.

    :ivar frozen: names of the parameters that stay as they are.
    :ivar trainable: names of those that learn.
    """

    frozen: tuple[str, ...]
    trainable: tuple[str, ...]


@dataclass(frozen=True)
class _Architecture:
    build: Callable[[bool], nn.Module]
    stages: Callable[[Any], list[Stage]]
    preprocessing: Preprocessing
    freeze_depth: int  # of the transfer-learning recipe
    freeze_unit: str
    head: str


def is_architecture(name: str) -> bool:
    """Say whether :func:`build` knows the name."""
    return name in _TABLE


def build(name: str, pretrained: bool = False, weights: Path | None = None) -> nn.Module:
    """
    Build a classifier with 2 logits, index = Label, in training mode.

    :param name: one of :data:`ARCHITECTURES`.
    :param pretrained: give the backbone its ImageNet weights, where there are any: resnet34 from
        torch's cache or download, efficientnet_lite0 from a Python package; cifar_cnn has none.
        The head always starts at random.
    :raises ConfigError: unknown name.
    :raises CheckpointError: the pre-trained weights cannot be had here.
    """
    return _architecture(name).build(pretrained)


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


def freeze(model: nn.Module, name: str, depth: int | None = None) -> Freezing:
    """
    Freeze the first part of a model; everything behind it is set to learn.

    A frozen BatchNorm also keeps its statistics, whoever calls ``model.train()``.

    :param name: the model's architecture.
    :param depth: how much to freeze, 0 for nothing, None for the recipe's default. It counts
        convolutions of the main path for cifar_cnn (0 to 2) and resnet34 (0 to 33; stem = 1; a
        projection shortcut goes with its block's last convolution; 25 ends with layer3[4]), and
        blocks for efficientnet_lite0 (0 to 17; the stem goes with the first one, the
        convolution behind the 16 blocks is the 17th).
    :returns: the names of frozen and trainable parameters.
    :raises ConfigError: unknown name, or a depth that the architecture does not have.
    """
    architecture = _architecture(name)
    steps = [step for stage in architecture.stages(model) for step in stage.steps]
    depth = architecture.freeze_depth if depth is None else depth
    if not 0 <= depth <= len(steps):
        raise ConfigError(
            f'{name}: {depth} {architecture.freeze_unit} to freeze; expected 0 to {len(steps)}')
    model.requires_grad_(True)
    for step in steps[:depth]:
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
    prefix = f'{_architecture(name).head}.'
    return tuple(n for n, _ in model.named_parameters() if n.startswith(prefix))


def split_at_freeze(model: nn.Module, name: str) -> tuple[nn.Sequential, nn.Sequential]:
    """
    Split a frozen model into the trunk that cannot change and the rest that learns.

    ``rest(trunk(x))`` equals ``model(x)`` bit for bit, so that the trunk's features of a fixed
    sample can be computed once. A block that is frozen in part belongs to the rest. Both parts
    share their parameters with the model; a part without stages passes its input on.

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


def _architecture(name: str) -> _Architecture:
    try:
        return _TABLE[name]
    except (KeyError, TypeError):
        raise ConfigError(
            f'unknown architecture {name!r}; expected one of {", ".join(_TABLE)}') from None


def _build_cifar_cnn(_: bool) -> nn.Module:
    return CifarCnn()


def _cifar_cnn_stages(model: CifarCnn) -> list[Stage]:
    conv1 = nn.Sequential(model.conv1, nn.ReLU(), nn.MaxPool2d(2))
    conv2 = nn.Sequential(model.conv2, nn.ReLU(), nn.MaxPool2d(2))
    return [
        Stage('conv1', conv1, (conv1,)),
        Stage('conv2', conv2, (conv2,)),
        Stage('flatten', nn.Flatten()),
        Stage('fc1', nn.Sequential(model.fc1, nn.ReLU())),
        Stage('fc2', nn.Sequential(model.fc2, nn.ReLU())),
        Stage('fc3', model.fc3)]


# torchvision and timm take seconds to import: only where they are needed.

def _build_resnet34(pretrained: bool) -> nn.Module:
    from torchvision.models import resnet34

    model: nn.Module = resnet34()
    if pretrained:
        load_resnet34(model)
    model.fc = nn.Linear(512, len(CLASS_NAMES))
    return model


def _resnet34_stages(model: Any) -> list[Stage]:
    stem = nn.Sequential(model.conv1, model.bn1, model.relu, model.maxpool)
    parts = [Stage('stem', stem, (stem,))]
    for layer in ('layer1', 'layer2', 'layer3', 'layer4'):
        for index, block in enumerate(getattr(model, layer)):
            first = nn.Sequential(block.conv1, block.bn1)
            parts.append(Stage(f'{layer}[{index}]', block, (first, block)))
    parts.append(Stage('pool', nn.Sequential(model.avgpool, nn.Flatten())))
    parts.append(Stage('fc', model.fc))
    return parts


def _build_efficientnet_lite0(pretrained: bool) -> nn.Module:
    import timm

    model: Any = timm.create_model('tf_efficientnet_lite0', num_classes=len(CLASS_NAMES))
    # timm draws it so wide for two classes that the first losses, of about 6, shake the backbone.
    nn.init.normal_(model.classifier.weight, std=.01)
    if pretrained:
        load_efficientnet_lite0(model)
    built: nn.Module = model
    return built


def _efficientnet_lite0_stages(model: Any) -> list[Stage]:
    blocks = [(f'blocks.{i}.{j}', block)
              for i, group in enumerate(model.blocks) for j, block in enumerate(group)]
    stem = nn.Sequential(model.conv_stem, model.bn1, blocks[0][1])  # bn1 holds the activation
    head = nn.Sequential(model.conv_head, model.bn2)
    return [
        Stage(f'conv_stem, {blocks[0][0]}', stem, (stem,)),
        *(Stage(name, block, (block,)) for name, block in blocks[1:]),
        Stage('conv_head', head, (head,)),
        Stage('pool', model.global_pool),
        Stage('classifier', model.classifier)]


_TABLE = {
    'cifar_cnn': _Architecture(
        _build_cifar_cnn, _cifar_cnn_stages, Preprocessing(32, 32),
        freeze_depth=2, freeze_unit='convolutions', head='fc3'),
    'resnet34': _Architecture(
        _build_resnet34, _resnet34_stages,
        Preprocessing(224, 224, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
        freeze_depth=25, freeze_unit='convolutions', head='fc'),
    'efficientnet_lite0': _Architecture(
        _build_efficientnet_lite0, _efficientnet_lite0_stages, Preprocessing(224, 224),
        freeze_depth=9, freeze_unit='blocks', head='classifier'),
}

#: Names that :func:`build` knows.
ARCHITECTURES = tuple(_TABLE)
