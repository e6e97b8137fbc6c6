"""
ResNet34 (He et al., Deep residual learning for image recognition, CVPR 2016).

Names and outputs are those of torchvision's, whose weights fit; importing torchvision would add
1 s and 65 MB to the start of a node.
"""

from pathlib import Path
import pickle
from typing import Any

import torch
from torch import nn

from grasp_success_detector.errors import CheckpointError, one_line
from grasp_success_detector.images.preprocessing import Preprocessing
from grasp_success_detector.labels import CLASS_NAMES
from grasp_success_detector.networks import torchvision_ops  # noqa: F401 (before torchvision)
from grasp_success_detector.networks.architectures import Architecture, Stage
from grasp_success_detector.networks.onnx_graphs import RESNET34_LAYERS


class _Block(nn.Module):
    """Basic residual block: two convolutions, added to their input."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.downsample = nn.Sequential(
            nn.Conv2d(channels, out, 1, stride, bias=False),
            nn.BatchNorm2d(out)) if stride > 1 else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        y += x if self.downsample is None else self.downsample(x)
        added: torch.Tensor = self.relu(y)
        return added


class ResNet34(nn.Module):
    """A stem, 16 blocks in 4 layers, a linear layer with a logit for each class."""

    def __init__(self, classes: int = len(CLASS_NAMES)) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        counts = RESNET34_LAYERS
        self.layer1 = _layer(64, 64, counts[0])
        self.layer2 = _layer(64, 128, counts[1])
        self.layer3 = _layer(128, 256, counts[2])
        self.layer4 = _layer(256, 512, counts[3])
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(512, classes)
        for module in self.modules():
            # On the meta device torch would load its compiler, in vain.
            if isinstance(module, nn.Conv2d) and not module.weight.is_meta:
                nn.init.kaiming_normal_(module.weight, mode='fan_out', nonlinearity='relu')

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits (B, classes) of images (B, 3, H, W)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))    # (B, 64, H / 4, W / 4)
        x = self.layer1(x)
        x = self.layer2(x)                                      # (B, 128, H / 8, W / 8)
        x = self.layer3(x)                                      # (B, 256, H / 16, W / 16)
        x = self.layer4(x)                                      # (B, 512, H / 32, W / 32)
        x = torch.flatten(self.avgpool(x), 1)                   # (B, 512)
        logits: torch.Tensor = self.fc(x)
        return logits


def _layer(channels: int, out: int, count: int) -> nn.Sequential:
    return nn.Sequential(_Block(channels, out, 1 if channels == out else 2),
                         *(_Block(out, out, 1) for _ in range(count - 1)))


def _pretrained() -> dict[str, torch.Tensor]:
    """Return ImageNet's weights from torch's cache, or download them into it."""
    from torchvision.models import ResNet34_Weights  # slow to import

    weights = ResNet34_Weights.IMAGENET1K_V1
    try:
        state: dict[str, torch.Tensor] = weights.get_state_dict(progress=True, check_hash=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        cached = Path(torch.hub.get_dir()) / 'checkpoints' / Path(weights.url).name
        raise CheckpointError(
            f'resnet34: its ImageNet weights are not available here ({one_line(error)}); download '
            f'{weights.url} elsewhere and put it at {cached}, or give it with --weights FILE'
            ) from error
    return state


def _stages(model: Any) -> list[Stage]:
    stem = nn.Sequential(model.conv1, model.bn1, model.relu, model.maxpool)
    parts = [Stage('stem', stem, (stem,))]
    for layer in ('layer1', 'layer2', 'layer3', 'layer4'):
        for index, block in enumerate(getattr(model, layer)):
            first = nn.Sequential(block.conv1, block.bn1)
            # The projection shortcut belongs to the last convolution.
            parts.append(Stage(f'{layer}[{index}]', block, (first, block)))
    pool = nn.Sequential(model.avgpool, nn.Flatten())
    return [*parts, Stage('pool', pool), Stage('fc', model.fc)]


ARCHITECTURE = Architecture(
    ResNet34, _pretrained, _stages,
    Preprocessing(224, 224, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
    freeze_conv_layers=25, head=('fc',))
