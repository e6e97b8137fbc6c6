"""Prepare a network to run or export: fold BatchNorm, include the normalisation."""

from copy import deepcopy
import sys
from typing import Any

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from grasp_success_detector.networks.checkpoint import Checkpoint

# On a CPU, the activations between layers should stay in its caches: with 6 frames of 224 x 224 at
# a time EfficientNet-Lite0 takes less than half as long per frame as with 32, ResNet34 no longer.
_CACHED_PIXELS = 6 * 224 * 224


class PixelNetwork(nn.Module):
    """
    A checkpoint's network with the normalisation of its input.

    Takes RGB uint8 (B, H, W, 3), as ``Preprocessing.crop_and_resize`` returns it, and returns
    logits (B, 2), index = Label.
    """

    factor: torch.Tensor
    offset: torch.Tensor

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        self.model = fold_batch_norm(checkpoint.model)
        factor, offset = map(
            torch.from_numpy, checkpoint.metadata.preprocessing.factor_and_offset())
        self.register_buffer('factor', factor.reshape(1, 3, 1, 1))
        self.register_buffer('offset', offset.reshape(1, 3, 1, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        planes = images.permute(0, 3, 1, 2).float()  # (B, 3, H, W)
        logits: torch.Tensor = self.model(planes * self.factor + self.offset)
        return logits


def fold_batch_norm(model: nn.Module) -> nn.Module:
    """
    Return a copy in evaluation mode with each BatchNorm folded into the convolution before it.

    It computes the same function in fewer passes: the frozen part of resnet34 takes two thirds of
    the time. A model that cannot be traced is copied as it is.
    """
    model = deepcopy(model).eval()
    for conv_name, norm_name in _pairs(model):
        conv, norm = model.get_submodule(conv_name), model.get_submodule(norm_name)
        assert isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
        assert norm.running_mean is not None and norm.running_var is not None
        with torch.no_grad():
            conv.weight, conv.bias = fuse_conv_bn_weights(
                conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps,
                norm.weight, norm.bias)
        parent, _, child = norm_name.rpartition('.')
        # EfficientNet's BatchNorm, and timm's BatchNormAct2d, also hold what follows them.
        follows: list[Any] = [getattr(norm, name) for name in ('drop', 'act')
                              if hasattr(norm, name)]
        setattr(model.get_submodule(parent), child, nn.Sequential(*follows))
    return model


def images_at_once(device: torch.device, height: int, width: int) -> int:
    """Return how many images of a size a device computes at a time: a GPU all, a CPU a few."""
    return max(1, _CACHED_PIXELS // (height * width)) if device.type == 'cpu' else sys.maxsize


def in_parts(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Return a network's output for normalised images (B, 3, H, W), without gradients."""
    images = images.contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        return torch.cat([network(part) for part in images.split(
            images_at_once(images.device, *images.shape[2:]))])


class _Tracer(fx.Tracer):
    """Does not trace into convolutions and BatchNorms, as timm's have code with branches."""

    def is_leaf_module(self, module: nn.Module, qualified_name: str) -> bool:
        return isinstance(module, nn.Conv2d | nn.BatchNorm2d) or super().is_leaf_module(
            module, qualified_name)


def _pairs(model: nn.Module) -> list[tuple[str, str]]:
    """Return the names of each convolution that only a BatchNorm follows, and of the BatchNorm."""
    try:
        graph = _Tracer().trace(model)
    except Exception:  # noqa: BLE001 - some models cannot be traced, each in its own way
        return []
    modules = dict(model.named_modules())
    nodes = [node for node in graph.nodes if node.op == 'call_module']
    calls = [str(node.target) for node in nodes]
    pairs = []
    for node in nodes:
        before = node.args[0] if node.args else None
        if (isinstance(modules[str(node.target)], nn.BatchNorm2d)
                and isinstance(before, fx.Node) and before.op == 'call_module'
                and isinstance(modules[str(before.target)], nn.Conv2d)
                and len(before.users) == 1
                and calls.count(str(node.target)) == calls.count(str(before.target)) == 1):
            pairs.append((str(before.target), str(node.target)))
    return pairs
