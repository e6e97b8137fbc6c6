"""The interface of an engine, which runs a network, and the names by which users choose one."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict
from enum import Enum
import hashlib
from importlib import metadata
import json
from pathlib import Path
from typing import ClassVar, Final, TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from grasp_success_detector.errors import ConfigError
from grasp_success_detector.networks.familiarity import MODULES

if TYPE_CHECKING:   # it loads OpenCV, which the help of a command does not need
    from grasp_success_detector.networks.checkpoint import Checkpoint, CheckpointMetadata

ENGINE_HELP: Final = (
    'What runs the network: torch, openvino, opencv, or auto: the fastest that is installed and '
    'proven for the checkpoint (export_classifier --verify); without torch at least opencv.')
PRECISION_HELP: Final = (
    'What it computes in: fp32, bf16, fp16, int8, or auto: the fastest that is proven.')

#: Engine and precision are chosen by speed and proof: the default of the node.
AUTO: Final = 'auto'

#: Engine and precision of training, the default of everything but the node.
REFERENCE: Final = ('torch', 'fp32')


class Precision(str, Enum):
    """Type of the numbers that a network computes with; input and output do not depend on it."""

    FP32 = 'fp32'
    BF16 = 'bf16'
    FP16 = 'fp16'
    INT8 = 'int8'   #: from a file that export_classifier --calibrate wrote beside the checkpoint


class Engine(ABC):
    """
    Runs one network on one device; calls from several threads must not overlap.

    :cvar name: name in options and messages, and of the library's Python distribution.
    :cvar speed: supported precisions, each with its rough speed relative to fp32 torch.
    :ivar artifact: SHA-256 of the int8 model's file; None in other precisions.
    :ivar reference: fp32 torch's logits of :func:`~.torch_engine.probe_images`, float32 (2, 2),
        where the converted model's file holds them.
    """

    name: ClassVar[str]
    speed: ClassVar[Mapping[Precision, float]]

    #: Averaged output of :func:`observed_module` and the mean of the logits, float32 (B, C + 1),
    #: of the images that were last run; None where there is no such module.
    features: NDArray[np.float32] | None = None
    artifact: str | None = None
    reference: NDArray[np.float32] | None = None

    def __init__(self, checkpoint: 'Checkpoint', precision: Precision = Precision.FP32,
                 device: str = 'cpu', threads: int | None = None) -> None:
        """
        Prepare a checkpoint's network.

        :param device: the engine's name of the device, such as ``'cpu'``; not ``'auto'``.
        :param threads: CPU threads, 1 or more; None for the engine's own default.
        :raises ConfigError: the engine cannot run this network here.
        """
        self.precision, self.device = precision, device

    def __str__(self) -> str:
        """Return engine, precision and device, such as ``'torch fp32 on cpu'``."""
        return f'{self.name} {self.precision.value} on {self.device}'

    @classmethod
    @abstractmethod
    def unsupported(cls, precision: Precision, device: str) -> str | None:
        """
        Return why this machine cannot run a precision on a device, or None if it can.

        :raises ConfigError: there is no such device.
        """

    @classmethod
    def check_available(cls, checkpoint: 'Checkpoint', precision: Precision, device: str) -> None:
        """Raise ConfigError if the engine cannot run the checkpoint; loads no network."""
        if reason := cls.unsupported(precision, device):
            raise ConfigError(reason)
        if precision is Precision.INT8 and not (
                checkpoint.path and int8_path(checkpoint.path).exists()):
            raise ConfigError('there is no int8 model beside the checkpoint; make it by '
                              'export_classifier CHECKPOINT --calibrate DATASET')

    def _observe(self, pooled: NDArray[np.float32], logits: NDArray[np.float32]) -> None:
        """Set :attr:`features`."""
        self.features = np.hstack([pooled, logits.mean(1, keepdims=True)])

    @classmethod
    def version(cls) -> str:
        """Return the version of the engine's library, which must be installed."""
        return metadata.version(cls.name)

    @abstractmethod
    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """
        Run the network.

        :param images: RGB uint8 (B, H, W, 3) of the network's input size, C-contiguous.
        :returns: float32 (B, 2), index = Label; of the hand finder (B, K), the values of its grid.
        """


def int8_path(checkpoint: Path) -> Path:
    """Return the path of the int8 model beside a checkpoint file."""
    return checkpoint.with_suffix('.int8.safetensors')


def observed_module(metadata: 'CheckpointMetadata') -> str | None:
    """Return the path of the module whose output familiarity is told by; None without one."""
    known = metadata.familiarity
    return known.module if known else MODULES.get(metadata.architecture)


def device_type(device: str) -> str:
    """Return a device without its number, such as ``'cuda'`` for ``'cuda:1'``."""
    return device.partition(':')[0].partition('.')[0]


def identity(checkpoint: 'Checkpoint') -> str:
    """
    Return a hexadecimal hash of the weights and metadata that decisions depend on.

    It does not depend on the version of the file's format: what was proven stays proven when a
    file of an older version is written again.
    """
    about = checkpoint.metadata
    preprocessing = asdict(about.preprocessing)
    if not preprocessing['hand']:       # as files were written before there was this field
        del preprocessing['hand']
    content = [checkpoint.tensors_sha256, about.architecture, preprocessing,
               about.threshold, about.temperature]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
