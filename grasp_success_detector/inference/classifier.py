"""From a checkpoint and camera frames to P(success)."""


from collections.abc import Sequence
import ctypes
import gc
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from grasp_success_detector.errors import ConfigError
from grasp_success_detector.inference.choice import Choice, choose
from grasp_success_detector.inference.engine import REFERENCE
from grasp_success_detector.labels import Label
from grasp_success_detector.networks.architectures import success_probabilities
from grasp_success_detector.networks.checkpoint import Checkpoint, CheckpointMetadata

if TYPE_CHECKING:
    import torch


def give_back() -> None:
    """
    Return freed memory to the system, where the C library can (glibc).

    A network is held several times over while it is loaded, checked and converted; the node's
    process shrinks by a tenth and more.
    """
    gc.collect()
    try:
        ctypes.CDLL('libc.so.6').malloc_trim(0)
    except (OSError, AttributeError):  # another C library
        pass


#: Frames per call of a network, in everything but training; bounds the memory.
BATCH_SIZE = 32


class GraspClassifier:
    """
    Says for each frame how probable it is that the hand holds the object.

    One caller at a time: calls from several threads must not overlap.

    :ivar metadata: what the checkpoint says about itself.
    :ivar preprocessing: how frames are prepared: the checkpoint's way, unless somebody sets
        another region of interest; a call of ``predict`` takes what is there when it begins.
    :ivar sha256: hash of the checkpoint's tensors, hexadecimal.
    :ivar choice: what runs the network, and why nothing faster does; a line for the user.
    """

    def __init__(self, checkpoint: Checkpoint, device: str = 'auto',
                 threads: int | None = None, *, engine: str = REFERENCE[0],
                 precision: str = REFERENCE[1], path: Path | None = None) -> None:
        """
        Take over a loaded checkpoint. Unless told otherwise it runs exactly as in training.

        :param device: ``'auto'`` (a GPU with CUDA if there is one, else the CPU); as torch
            writes it, such as ``'cpu'`` or ``'cuda:1'``; for OpenVINO also ``'gpu'``, ``'npu'``.
        :param threads: CPU threads of torch, for the whole process, and of the engine; None
            leaves them as they are.
        :param engine: ``'torch'``, ``'openvino'``, or ``'auto'``: the fastest of them that is
            installed and proven to decide as torch does in fp32.
        :param precision: ``'fp32'``, ``'bf16'``, ``'fp16'``, ``'int8'``, or ``'auto'``: the
            fastest that is proven.
        :param path: file of the checkpoint, beside which proof and int8 model lie.
        :raises ConfigError: engine, precision or device are unknown or not there, or threads is
            not above 0.
        """
        if threads is not None and (
                isinstance(threads, bool) or not isinstance(threads, int) or threads < 1):
            raise ConfigError(f'threads is {threads!r}; expected a whole number above 0')
        self.metadata: CheckpointMetadata = checkpoint.metadata
        self.preprocessing = checkpoint.metadata.preprocessing
        self.sha256: str = checkpoint.sha256
        self.choice: Choice = choose(checkpoint, path, engine, precision, device, threads)

    @classmethod
    def from_checkpoint(cls, path: str | os.PathLike[str], device: str = 'auto',
                        threads: int | None = None, *, engine: str = REFERENCE[0],
                        precision: str = REFERENCE[1]) -> 'GraspClassifier':
        """
        Load a checkpoint file; parameters and errors as of the constructor.

        :raises CheckpointError: the file is missing, damaged, foreign, or of a newer format.
        """
        classifier = cls(Checkpoint.open(path), device, threads, engine=engine,
                         precision=precision, path=Path(path))
        give_back()
        return classifier

    @property
    def device(self) -> 'torch.device':
        """Return where torch's part of the work, if there is any, is done."""
        return self.choice.engine.torch_device

    @property
    def threshold(self) -> float:
        """P(success) from which on a frame counts as success, as the checkpoint says."""
        return self.metadata.threshold

    def warm_up(self) -> None:
        """Run on a black frame, so that the first real one does not pay for what is set up."""
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
        return success_probabilities(self.logits(frames), self.metadata.temperature)

    def prepare(self, frames: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """
        Do the first part of :meth:`predict`: crop and scale.

        :param frames: as there, but at least one.
        :returns: RGB uint8 (N, H, W, 3) of the network's input size.
        :raises ImageDecodeError: a frame is no RGB uint8 (H, W, 3).
        """
        resize = self.preprocessing.crop_and_resize
        return np.stack([resize(frame) for frame in frames])

    def predict_prepared(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Do the rest of :meth:`predict`, on what :meth:`prepare` returned."""
        return success_probabilities(
            self.logits_of_prepared(images), self.metadata.temperature)

    def logits(self, frames: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """
        Return the model's own answer, before temperature and softmax.

        :param frames: as of :meth:`predict`.
        :returns: float32 (N, 2), index = Label.
        :raises ImageDecodeError: a frame is no RGB uint8 (H, W, 3).
        """
        out = np.empty((len(frames), len(Label)), np.float32)
        for start in range(0, len(frames), BATCH_SIZE):
            batch = frames[start:start + BATCH_SIZE]
            out[start:start + len(batch)] = self.logits_of_prepared(self.prepare(batch))
        return out

    def logits_of_prepared(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the same of what :meth:`prepare` returned; at least one image."""
        return self.choice.engine.logits(images)
