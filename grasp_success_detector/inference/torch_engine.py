"""PyTorch: the reference that every other engine is compared with."""

import ctypes
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from grasp_success_detector.errors import ConfigError
from grasp_success_detector.images.preprocessing import Preprocessing
from grasp_success_detector.inference.engine import Engine, observed_module, Precision
from grasp_success_detector.networks.checkpoint import Checkpoint

if TYPE_CHECKING:
    import torch

# torch takes a second to import: not before this engine is used.

_DEVICES = ('cpu', 'cuda', 'mps', 'xpu')
_TYPES = {Precision.FP32: 'float32', Precision.BF16: 'bfloat16', Precision.FP16: 'float16'}


class TorchEngine(Engine):
    """
    Runs the checkpoint's own model, BatchNorm folded into convolutions.

    Below fp32 it computes as torch.autocast does, with the weights of convolutions and linear
    layers converted once instead of in every call.
    """

    name = 'torch'
    speed = {Precision.FP32: 1., Precision.BF16: 1.7, Precision.FP16: 1.6}

    def __init__(self, checkpoint: Checkpoint, precision: Precision = Precision.FP32,
                 device: str = 'cpu', threads: int | None = None) -> None:
        import torch

        from grasp_success_detector.inference.torch_network import fold_batch_norm

        super().__init__(checkpoint, precision, device, threads)
        self._device = select_device(device)
        if threads is not None:
            torch.set_num_threads(threads)
        self._dtype: torch.dtype = getattr(torch, _TYPES[precision])
        self._preprocessing = checkpoint.metadata.preprocessing
        model = fold_batch_norm(checkpoint.model)
        self._pooled: list[torch.Tensor] = []
        if observed := observed_module(checkpoint.metadata):
            model.get_submodule(observed).register_forward_hook(
                lambda module, given, output: self._pooled.append(output.float().mean((2, 3))))
        if self._dtype != torch.float32:
            for module in model.modules():
                if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
                    module.to(self._dtype)
        # Convolutions of CPUs, and tensor cores, want the channels of a pixel side by side.
        self._model = model.to(self._device).to(  # type: ignore[call-overload]
            memory_format=torch.channels_last)

    @classmethod
    def unsupported(cls, precision: Precision, device: str) -> str | None:
        """Return a reason if the device is slower in this precision than in fp32, else None."""
        if not installed():
            return 'not installed (pip install torch)'
        on_cpu = select_device(device).type == 'cpu'
        if on_cpu and precision is Precision.FP16:
            return 'fp16 is for GPUs'
        if on_cpu and precision is Precision.BF16 and not _has_bf16():
            return 'this CPU has no bf16'
        return None

    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Normalise and run, on a CPU a few frames at a time."""
        import torch

        from grasp_success_detector.inference.torch_network import images_at_once

        at_once = images_at_once(self._device, *images.shape[1:3])
        parts = []
        self._pooled.clear()
        with torch.inference_mode():
            for start in range(0, len(images), at_once):
                x = self._preprocessing.normalize(
                    torch.from_numpy(images[start:start + at_once]).to(self._device))
                with torch.autocast(self._device.type, self._dtype,
                                    enabled=self._dtype != torch.float32):
                    parts.append(self._model(x).float().cpu().numpy())
        logits: NDArray[np.float32] = np.concatenate(parts)
        if self._pooled:
            self._observe(torch.cat(self._pooled).cpu().numpy(), logits)
        return logits


def probe_images(size: Preprocessing) -> NDArray[np.uint8]:
    """Return two smooth images of the network's input size, RGB uint8 (2, H, W, 3)."""
    down, across = np.mgrid[:size.height, :size.width]
    ramp = (255 * (down / size.height + across / size.width) / 2).astype(np.uint8)
    grey = np.full_like(ramp, 128)
    return np.ascontiguousarray(np.stack(
        [np.stack(planes, -1) for planes in ((grey, grey, grey), (ramp, 255 - ramp, grey))]))


def reference_logits(checkpoint: Checkpoint) -> NDArray[np.float32]:
    """Return the logits of torch in fp32 for :func:`probe_images`, float32 (2, 2)."""
    return TorchEngine(checkpoint).logits(probe_images(checkpoint.metadata.preprocessing))


def installed() -> bool:
    """Return whether torch is installed, without loading it."""
    return find_spec('torch') is not None


def has_cuda() -> bool:
    """Return whether torch finds a GPU; without a GPU's driver torch is not even loaded."""
    if not installed():
        return False
    if not Path('/dev/kfd').exists():  # AMD's, which torch calls CUDA too
        try:
            ctypes.CDLL('libcuda.so.1')
        except OSError:
            return False
    import torch

    return torch.cuda.is_available()


def select_device(name: str) -> 'torch.device':
    """
    Return the ``torch.device`` for a name such as ``'cuda:1'``, after a test allocation on it.

    :raises ConfigError: the device is unknown, or not on this machine.
    """
    import torch

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
    """Return whether the CPU computes in bf16; where it emulates bf16, fp32 is faster."""
    import torch

    try:
        capabilities = torch.cpu.get_capabilities()
    except (AttributeError, RuntimeError):  # torch before 2.11
        return bool(getattr(torch.cpu, '_is_avx512_bf16_supported', lambda: False)())
    return any(capabilities.get(name) for name in ('avx512_bf16', 'amx_bf16', 'amx_tile', 'bf16'))
