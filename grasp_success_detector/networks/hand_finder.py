"""
The hand finder: where in a picture the Allegro hand is.

The first 11 of the 16 blocks of EfficientNet-Lite0, which know edges and textures from ImageNet,
and two convolutions: each cell of a coarse grid says how sure it is that it lies in the middle of
the hand, and how far the edges of the hand's box are from its own middle, as in Z. Tian et al.,
FCOS: Fully Convolutional One-Stage Object Detection, ICCV 2019. What the values mean is in
:mod:`grasp_success_detector.networks.hand_boxes`.
"""

import torch
from torch import nn

from grasp_success_detector.networks.architectures import Architecture, Stage
from grasp_success_detector.networks.efficientnet_lite0 import (
    Conv,
    EfficientNetLite0,
    imagenet_weights,
    Norm,
)
from grasp_success_detector.networks.hand_boxes import FINDER_INPUT, VALUES
from grasp_success_detector.networks.onnx_graphs import FINDER_GROUPS, LITE0_GROUPS

#: Channels of the last group of blocks, and of the convolutions after it.
_CHANNELS, _WIDTH = LITE0_GROUPS[FINDER_GROUPS - 1][2], 64


class HandFinderNetwork(nn.Module):
    """Images (B, 3, H, W) to (B, VALUES * h * w), h = H / 16, w = W / 16 rounded up."""

    def __init__(self) -> None:
        super().__init__()
        whole = EfficientNetLite0()
        self.conv_stem, self.bn1 = whole.conv_stem, whole.bn1
        self.blocks = nn.Sequential(*list(whole.blocks)[:1 + FINDER_GROUPS])
        self.conv_mix, self.bn2 = Conv(_CHANNELS, _WIDTH, 1), Norm(_WIDTH)
        self.conv_near, self.bn3 = Conv(_WIDTH, _WIDTH, 3), Norm(_WIDTH)
        self.values = nn.Conv2d(_WIDTH, VALUES, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the values of every cell, flattened."""
        x = self.blocks(self.bn1(self.conv_stem(x)))                        # (B, 112, h, w)
        x = self.bn3(self.conv_near(self.bn2(self.conv_mix(x))))            # (B, 64, h, w)
        return torch.flatten(self.values(x), 1)


def backbone_weights() -> dict[str, torch.Tensor]:
    """Return ImageNet's weights of the parts that are used; CheckpointError if not installed."""
    mine = HandFinderNetwork().state_dict()
    return {name: tensor for name, tensor in imagenet_weights().items()
            if name in mine and tensor.shape == mine[name].shape and 'bn2' != name.split('.')[0]}


def _stages(model: nn.Module) -> list[Stage]:
    return [Stage('whole', model, (model,))]


ARCHITECTURE = Architecture(
    HandFinderNetwork, backbone_weights, _stages, FINDER_INPUT, freeze_conv_layers=0,
    head=('values',))
