"""PyTorch, without what only training needs."""

import ctypes
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from grasp_success_detector.errors import ConfigError
from grasp_success_detector.inference.engine import Engine, Precision, Wanted

if TYPE_CHECKING:
    import torch

# torch takes a second to import: not before this engine is asked.

# On a CPU, what layers hand to each other shall stay in its caches: with 6 frames of 224 x 224 at
# a time EfficientNet-Lite0 takes less than half as long for each as with 32, and ResNet34 no more.
_CACHED_PIXELS = 6 * 224 * 224

_DEVICES = ('cpu', 'cuda', 'mps', 'xpu')
_TYPES = {Precision.FP32: 'float32', Precision.BF16: 'bfloat16', Precision.FP16: 'float16'}


class TorchEngine(Engine):
    """
    The checkpoint's own model: fp32 is what all others are measured by.

    Lower precisions are autocast's, with the weights of convolutions and linear layers converted
    once instead of in every call.
    """

    name = 'torch'
    speed = {Precision.FP32: 1., Precision.BF16: 1.7, Precision.FP16: 1.6}

    def __init__(self, wanted: Wanted) -> None:
        import torch
        from torch import nn

        from grasp_success_detector.inference.torch_network import fused

        self.precision, self.device = wanted.precision, wanted.device
        self._device = select_device(wanted.device)
        if wanted.threads is not None:
            torch.set_num_threads(wanted.threads)
        self._dtype: torch.dtype = getattr(torch, _TYPES[self.precision])
        self._preprocessing = wanted.checkpoint.metadata.preprocessing
        model = fused(wanted.checkpoint.model)
        if self._dtype != torch.float32:
            for module in model.modules():
                if isinstance(module, nn.Conv2d | nn.Linear):
                    module.to(self._dtype)
        # Convolutions of CPUs, and tensor cores, want the channels of a pixel side by side.
        self._model = model.to(self._device).to(  # type: ignore[call-overload]
            memory_format=torch.channels_last)

    @property
    def torch_device(self) -> 'torch.device':
        """Return the device as torch has it."""
        return self._device

    @classmethod
    def refusal(cls, precision: Precision, device: str) -> str | None:
        """Refuse what the device would compute in a slower way than fp32."""
        kind = select_device(device).type
        if precision not in cls.speed:
            return f'has no {precision.value}'
        if kind == 'cpu' and precision is Precision.FP16:
            return 'fp16 is for GPUs'
        if kind == 'cpu' and precision is Precision.BF16 and not _has_bf16():
            return 'this CPU has no bf16'
        return None

    @classmethod
    def version(cls) -> str:
        """Return torch's version."""
        return version('torch')

    @classmethod
    def start(cls, wanted: Wanted) -> 'TorchEngine':
        """Copy the model to the device."""
        return cls(wanted)

    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Normalise, run."""
        count, height, width, _ = images.shape
        at_once = max(1, _CACHED_PIXELS // (height * width)) if self.device == 'cpu' else count
        parts = [self._logits(images[start:start + at_once]) for start in range(0, count, at_once)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        import torch

        with torch.inference_mode():
            x = self._preprocessing.normalize(torch.from_numpy(images).to(self._device))
            with torch.autocast(self._device.type, self._dtype,
                                enabled=self._dtype != torch.float32):
                logits: NDArray[np.float32] = self._model(x).float().cpu().numpy()
        return logits


def has_cuda() -> bool:
    """Say whether torch finds a GPU; where there is no driver of one, torch is not even loaded."""
    if not Path('/dev/kfd').exists():  # AMD's, which torch calls CUDA too
        try:
            ctypes.CDLL('libcuda.so.1')
        except OSError:
            return False
    import torch

    return torch.cuda.is_available()


def select_device(name: str) -> 'torch.device':
    """
    Return torch's device of a name, after trying it.

    :param name: ``'auto'`` (a GPU with CUDA if there is one, else the CPU), or as torch writes it,
        such as ``'cpu'`` or ``'cuda:1'``.
    :raises ConfigError: unknown, or not on this machine.
    """
    import torch

    if name == 'auto':
        return torch.device('cuda' if has_cuda() else 'cpu')
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        device = None
    if device is None or device.type not in _DEVICES:
        raise ConfigError(f'unknown device {name!r}; expected auto, cpu, cuda or cuda:N')
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # no such GPU; torch built without CUDA
        raise ConfigError(
            f'device {name!r} cannot be used here ({str(error).splitlines()[0]}); '
            'use auto or cpu') from error
    return device


def _has_bf16() -> bool:
    """Say whether the CPU computes in bf16 itself; emulating it is slower than fp32."""
    import torch

    try:
        capabilities = torch.cpu.get_capabilities()
    except (AttributeError, RuntimeError):  # torch before 2.11
        return bool(getattr(torch.cpu, '_is_avx512_bf16_supported', lambda: False)())
    return any(capabilities.get(name) for name in ('avx512_bf16', 'amx_bf16', 'amx_tile', 'bf16'))
