"""The small convolutional network of PyTorch's CIFAR-10 tutorial."""

import torch
from torch import nn

from grasp_success_detector.files import share_path
from grasp_success_detector.images.preprocessing import Preprocessing
from grasp_success_detector.labels import CLASS_NAMES
from grasp_success_detector.networks.architectures import Architecture, Stage
from grasp_success_detector.networks.checkpoint import read_backbone

#: Weights that pretrain_cifar10 trained on CIFAR-10; they ship with the package.
PRETRAINED = 'models/cifar_cnn_cifar10.safetensors'


class CifarCnn(nn.Module):
    """Two convolutions and three linear layers, the last with a logit for each class."""

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
        x = torch.relu(self.fc2(torch.relu(self.fc1(x))))
        logits: torch.Tensor = self.fc3(x)
        return logits


def _pretrained() -> dict[str, torch.Tensor]:
    tensors, _ = read_backbone(share_path(PRETRAINED))
    return tensors


def _stages(model: CifarCnn) -> list[Stage]:
    conv1, conv2 = (nn.Sequential(convolution, nn.ReLU(), nn.MaxPool2d(2))
                    for convolution in (model.conv1, model.conv2))
    return [
        Stage('conv1', conv1, (conv1,)),
        Stage('conv2', conv2, (conv2,)),
        Stage('flatten', nn.Flatten()),
        Stage('fc1', nn.Sequential(model.fc1, nn.ReLU())),
        Stage('fc2', nn.Sequential(model.fc2, nn.ReLU())),
        Stage('fc3', model.fc3)]


ARCHITECTURE = Architecture(
    CifarCnn, _pretrained, _stages, Preprocessing(32, 32), freeze_conv_layers=2, head=('fc3',))
