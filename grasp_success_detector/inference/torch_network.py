"""BatchNorm made part of the convolution before it: the same function in fewer passes."""


from copy import deepcopy
from typing import Any

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from grasp_success_detector.networks.checkpoint import Checkpoint


class FromPixels(nn.Module):
    """
    From RGB uint8 (B, H, W, 3) of the input's size to logits (B, 2), index = Label.

    What is left to do before it is ``Preprocessing.crop_and_resize``.
    """

    factor: torch.Tensor
    offset: torch.Tensor

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        self.model = fused(checkpoint.model)
        factor, offset = checkpoint.metadata.preprocessing.factor_and_offset()
        self.register_buffer('factor', factor.reshape(1, 3, 1, 1))
        self.register_buffer('offset', offset.reshape(1, 3, 1, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        planes = images.permute(0, 3, 1, 2).float()  # (B, 3, H, W)
        logits: torch.Tensor = self.model(planes * self.factor + self.offset)
        return logits


def fused(model: nn.Module) -> nn.Module:
    """
    Return a copy, in evaluation mode, in which BatchNorm is part of the convolution before it.

    The frozen trunk of resnet34 takes two thirds of the time then. A model that cannot be traced
    comes back as an unfused copy.
    """
    model = deepcopy(model).eval()
    for conv_name, norm_name in _pairs(model):
        conv, norm = model.get_submodule(conv_name), model.get_submodule(norm_name)
        assert isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
        _fuse(conv, norm)
        parent, _, child = norm_name.rpartition('.')
        # EfficientNet's BatchNorm, and timm's BatchNormAct2d, also hold what follows them.
        follows: list[Any] = [getattr(norm, name) for name in ('drop', 'act')
                              if hasattr(norm, name)]
        setattr(model.get_submodule(parent), child, nn.Sequential(*follows))
    return model


class _Tracer(fx.Tracer):
    """Looks into everything but single operations, among them those of timm, which branch."""

    def is_leaf_module(self, module: nn.Module, qualified_name: str) -> bool:
        return isinstance(module, nn.Conv2d | nn.BatchNorm2d) or super().is_leaf_module(
            module, qualified_name)


def _pairs(model: nn.Module) -> list[tuple[str, str]]:
    """Return the names of convolutions that nothing but a BatchNorm follows, and of those."""
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


def _fuse(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    assert norm.running_mean is not None and norm.running_var is not None
    with torch.no_grad():
        conv.weight, conv.bias = fuse_conv_bn_weights(
            conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight,
            norm.bias)
