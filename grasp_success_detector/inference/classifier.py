"""Compute P(success) of camera frames with the network of a checkpoint."""

from collections.abc import Sequence
from contextlib import suppress
import ctypes
import gc
import os
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from grasp_success_detector.inference.engine import Engine, REFERENCE
from grasp_success_detector.inference.engine_selection import select_engine
from grasp_success_detector.inference.hand_finder import HandFinder, look, View
from grasp_success_detector.labels import Label
from grasp_success_detector.networks.architectures import success_probabilities
from grasp_success_detector.networks.checkpoint import Checkpoint
from grasp_success_detector.networks.hand_boxes import HandBox

#: Frames per call of a network, in everything but training; bounds the memory.
BATCH_SIZE = 32


class Judgement(NamedTuple):
    """
    What a checkpoint says of frames.

    :ivar probabilities: P(success), float32 (N,), 0 to 1.
    :ivar familiarity: float64 (N,), see :mod:`~grasp_success_detector.networks.familiarity`; None
        where the checkpoint does not know what its frames look like.
    """

    probabilities: NDArray[np.float32]
    familiarity: NDArray[np.float64] | None


class GraspClassifier:
    """
    Estimates for each frame the probability that the hand holds the object.

    Calls from several threads must not overlap.

    :ivar preprocessing: crop, size and normalization, at first the checkpoint's. May be replaced
        by one with another region of interest, or without a search for the hand (``hand`` 0),
        which is used from the next call on.
    :ivar selection: the engine that runs the network, and why no faster one does.
    """

    def __init__(self, checkpoint: Checkpoint, device: str = 'auto',
                 threads: int | None = None, *, engine: str = REFERENCE[0],
                 precision: str = REFERENCE[1]) -> None:
        """
        Prepare a checkpoint's network; by default it runs exactly as in training.

        :param device: ``'auto'`` (a GPU with CUDA if there is one, else the CPU), or as torch
            writes it, such as ``'cpu'`` or ``'cuda:1'``; for OpenVINO also ``'gpu'``, ``'npu'``.
        :param threads: CPU threads of torch, for the whole process, and of the engine; None
            leaves them as they are.
        :param engine: ``'torch'``, ``'openvino'``, ``'opencv'``, or ``'auto'``: the fastest that
            is installed and proven to decide as torch does in fp32; without torch at least
            ``'opencv'``.
        :param precision: ``'fp32'``, ``'bf16'``, ``'fp16'``, ``'int8'``, or ``'auto'``: the
            fastest that is proven.
        :raises ConfigError: engine, precision or device is unknown or cannot be used here, or
            ``threads`` is below 1.
        """
        self.metadata, self.sha256 = checkpoint.metadata, checkpoint.sha256
        self.preprocessing = checkpoint.metadata.preprocessing
        self.selection = select_engine(checkpoint, engine, precision, device, threads)
        self._finder = HandFinder(
            type(self.engine), self.engine.precision, self.engine.device,
        ) if self.preprocessing.hand else None

    @classmethod
    def from_checkpoint(cls, path: str | os.PathLike[str], device: str = 'auto',
                        threads: int | None = None, *, engine: str = REFERENCE[0],
                        precision: str = REFERENCE[1]) -> 'GraspClassifier':
        """
        Load a checkpoint file; other parameters, and ConfigErrors, are those of the constructor.

        :raises CheckpointError: the file is missing, damaged, foreign, or of a newer format.
        """
        classifier = cls(Checkpoint.open(path), device, threads, engine=engine,
                         precision=precision)
        _return_memory()
        return classifier

    @property
    def engine(self) -> Engine:
        """The engine that runs the network; ``str()`` names it with precision and device."""
        return self.selection.engine

    @property
    def threshold(self) -> float:
        """The checkpoint's threshold: lowest P(success) that counts as success."""
        return self.metadata.threshold

    def warm_up(self) -> None:
        """Run twice on a black frame, because the first runs of an engine are slow."""
        size = self.metadata.preprocessing
        for _ in range(2):
            self.predict([np.zeros((size.height, size.width, 3), np.uint8)])
        _return_memory()

    def predict(self, frames: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """
        Return P(success) of each frame, calibrated by the checkpoint's temperature.

        :param frames: RGB uint8 (H, W, 3) each, of any size; may be empty.
        :returns: float32 (N,), 0 to 1.
        :raises ImageDecodeError: a frame is not RGB uint8 (H, W, 3).
        """
        return success_probabilities(self.logits(frames), self.metadata.temperature)

    def prepare(self, frames: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """
        Crop and scale one or more frames: the first part of :meth:`predict`.

        :returns: RGB uint8 (N, H, W, 3) of the network's input size.
        :raises ImageDecodeError: a frame is not RGB uint8 (H, W, 3).
        """
        return np.stack([self.look(frame).image for frame in frames])

    def look(self, frame: NDArray[np.uint8], box: HandBox | None = None) -> View:
        """
        Return what the network is shown of a frame, and the hand that was found in it.

        May be called from several threads.

        :param frame: RGB uint8 (H, W, 3); ImageDecodeError for another array.
        :param box: the hand, where it is known already.
        """
        return look(frame, self.preprocessing, self._finder, box)

    def predict_prepared(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return P(success), float32 (N,), of images that :meth:`prepare` returned."""
        return success_probabilities(self.engine.logits(images), self.metadata.temperature)

    def judge_prepared(self, images: NDArray[np.uint8]) -> Judgement:
        """Return P(success) and familiarity of images that :meth:`prepare` returned."""
        probabilities = self.predict_prepared(images)
        known, features = self.metadata.familiarity, self.engine.features
        return Judgement(probabilities, None if known is None or features is None
                         else known.of(features))

    def unfamiliar(self, count: int, quantile: float) -> NDArray[np.bool_]:
        """
        Return which of the images that were run last are unfamiliar, bool (N,).

        :param count: N, their number.
        :param quantile: share of known frames that count as familiar; 0: all frames do.
        """
        known, features = self.metadata.familiarity, self.engine.features
        if known is None or features is None:
            return np.zeros(count, bool)
        return np.asarray(known.of(features) < known.limit(quantile))

    def judge(self, frames: Sequence[NDArray[np.uint8]]) -> Judgement:
        """Return P(success) and familiarity of each frame; parameters as of :meth:`predict`."""
        parts = [self.judge_prepared(self.prepare(frames[start:start + BATCH_SIZE]))
                 for start in range(0, len(frames), BATCH_SIZE)]
        return Judgement(np.concatenate([part.probabilities for part in parts]), None if any(
            part.familiarity is None for part in parts) else np.concatenate(
                [part.familiarity for part in parts if part.familiarity is not None]))

    def logits(self, frames: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """
        Return the logits, float32 (N, 2), index = Label; no temperature or softmax is applied.

        :param frames: RGB uint8 (H, W, 3) each; ImageDecodeError for other arrays.
        """
        out = np.empty((len(frames), len(Label)), np.float32)
        for start in range(0, len(frames), BATCH_SIZE):
            batch = frames[start:start + BATCH_SIZE]
            out[start:start + len(batch)] = self.engine.logits(self.prepare(batch))
        return out


def _return_memory() -> None:
    """
    Return to the system what glibc holds of freed memory.

    While a network is loaded, checked, converted and run for the first time there are several
    copies of it; without their memory the node's process is smaller by a tenth and more.
    """
    gc.collect()
    with suppress(OSError, AttributeError):     # another C library
        ctypes.CDLL('libc.so.6').malloc_trim(0)
