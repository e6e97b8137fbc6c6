"""torchvision's ResNet34 (He et al., Deep residual learning, CVPR 2016)."""

from pathlib import Path
import pickle
from typing import Any

import torch
from torch import nn

from grasp_success_detector.backbones.stage import Architecture, Stage
from grasp_success_detector.errors import CheckpointError, one_line
from grasp_success_detector.labels import CLASS_NAMES
from grasp_success_detector.preprocessing import Preprocessing

# torchvision takes seconds to import: only where it is needed.


def _build() -> nn.Module:
    from torchvision.models import resnet34

    model: nn.Module = resnet34(num_classes=len(CLASS_NAMES))
    return model


def _pretrained() -> dict[str, torch.Tensor]:
    """Take ImageNet's weights from torch's cache, or download them into it."""
    from torchvision.models import ResNet34_Weights

    weights = ResNet34_Weights.IMAGENET1K_V1
    try:
        state: dict[str, torch.Tensor] = weights.get_state_dict(progress=True, check_hash=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        cached = Path(torch.hub.get_dir()) / 'checkpoints' / Path(weights.url).name
        raise CheckpointError(
            f'resnet34: its ImageNet weights cannot be had here ({one_line(error)}); download '
            f'{weights.url} elsewhere and put it at {cached}, or give it with --weights FILE'
            ) from error
    return state


def _stages(model: Any) -> list[Stage]:
    stem = nn.Sequential(model.conv1, model.bn1, model.relu, model.maxpool)
    parts = [Stage('stem', stem, (stem,))]
    for layer in ('layer1', 'layer2', 'layer3', 'layer4'):
        for index, block in enumerate(getattr(model, layer)):
            first = nn.Sequential(block.conv1, block.bn1)
            # The projection shortcut goes with the last convolution.
            parts.append(Stage(f'{layer}[{index}]', block, (first, block)))
    parts.append(Stage('pool', nn.Sequential(model.avgpool, nn.Flatten())))
    parts.append(Stage('fc', model.fc))
    return parts


RESNET34 = Architecture(
    _build, _pretrained, _stages,
    Preprocessing(224, 224, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
    freeze_conv_layers=25, head=('fc',))
