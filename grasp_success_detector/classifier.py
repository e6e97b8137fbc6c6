"""From a checkpoint and camera frames to P(success)."""

from collections.abc import Sequence
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray
import torch

from grasp_success_detector.checkpoint import Checkpoint, CheckpointMetadata, load
from grasp_success_detector.errors import ConfigError
from grasp_success_detector.labels import Label

_MAX_BATCH = 32  # bounds the memory; larger batches are no faster on a CPU
_DEVICES = ('cpu', 'cuda', 'mps', 'xpu')


class GraspClassifier:
    """
    Says for each frame how probable it is that the hand holds the object.

    One caller at a time: calls from several threads must not overlap.

    :ivar metadata: what the checkpoint says about itself.
    :ivar preprocessing: how frames are prepared: the checkpoint's way, unless somebody sets
        another region of interest; a call of ``predict`` takes what is there when it begins.
    :ivar sha256: hash of the checkpoint's tensors, hexadecimal.
    :ivar device: where the model runs.
    """

    def __init__(self, checkpoint: Checkpoint, device: str = 'auto',
                 threads: int | None = None) -> None:
        """
        Take over a loaded checkpoint; its model is moved to the device.

        :param device: ``'auto'`` (a GPU with CUDA if there is one, else the CPU), or as torch
            writes it, such as ``'cpu'`` or ``'cuda:1'``.
        :param threads: CPU threads of torch, for the whole process; None leaves them as they are.
        :raises ConfigError: the device is unknown or not there, or threads is not above 0.
        """
        self.device = select_device(device)
        if threads is not None:
            if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
                raise ConfigError(f'threads is {threads!r}; expected a whole number above 0')
            torch.set_num_threads(threads)
        self.metadata: CheckpointMetadata = checkpoint.metadata
        self.preprocessing = checkpoint.metadata.preprocessing
        self.sha256: str = checkpoint.sha256
        self._model = checkpoint.model.to(self.device).eval()

    @classmethod
    def from_checkpoint(cls, path: str | os.PathLike[str], device: str = 'auto',
                        threads: int | None = None) -> 'GraspClassifier':
        """
        Load a checkpoint file; parameters and errors as of the constructor.

        :raises CheckpointError: the file is missing, damaged, foreign, or of a newer format.
        """
        return cls(load(path), device, threads)

    @property
    def threshold(self) -> float:
        """P(success) from which on a frame counts as success, as the checkpoint says."""
        return self.metadata.threshold

    def warm_up(self) -> None:
        """Run on a black frame, so that the first real one does not pay for what torch sets up."""
        size = self.metadata.preprocessing
        black = np.zeros((size.height, size.width, 3), np.uint8)
        for _ in range(2):
            self.predict([black])

    def predict(self, frames: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """
        Return P(success) of each frame, the checkpoint's temperature applied.

        :param frames: RGB uint8 (H, W, 3) each, of any size; there may be none.
        :returns: float32 (N,), 0 to 1.
        :raises ImageDecodeError: a frame is no RGB uint8 (H, W, 3).
        """
        scaled = torch.from_numpy(self.logits(frames)) / self.metadata.temperature
        probabilities: NDArray[np.float32] = torch.softmax(scaled, 1)[:, Label.SUCCESS].numpy()
        return probabilities

    def logits(self, frames: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """
        Return the model's own answer, before temperature and softmax.

        :param frames: as of :meth:`predict`.
        :returns: float32 (N, 2), index = Label.
        :raises ImageDecodeError: a frame is no RGB uint8 (H, W, 3).
        """
        out = np.empty((len(frames), len(Label)), np.float32)
        for start in range(0, len(frames), _MAX_BATCH):
            batch = frames[start:start + _MAX_BATCH]
            out[start:start + len(batch)] = self._logits(batch)
        return out

    @torch.inference_mode()
    def _logits(self, frames: Sequence[NDArray[np.uint8]]) -> Any:
        preprocessing = self.preprocessing
        images = np.stack([preprocessing.crop_and_resize(frame) for frame in frames])
        x = preprocessing.normalize(torch.from_numpy(images).to(self.device))  # (B, 3, H, W)
        x = x.to(memory_format=torch.channels_last)  # large batches run 1.5 times as fast on CPUs
        return self._model(x).float().cpu().numpy()


def select_device(name: str) -> torch.device:
    """
    Return the device of a name, after trying it.

    :param name: as of :class:`GraspClassifier`.
    :raises ConfigError: unknown, or not on this machine.
    """
    if name == 'auto':
        return torch.device('cuda' if torch.cuda.is_available() else 'cpu')
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
