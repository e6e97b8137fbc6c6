"""What every engine has, and in which words users ask for one."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
import hashlib
import json
from pathlib import Path
from typing import ClassVar, Final, TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from grasp_success_detector.networks.checkpoint import Checkpoint

if TYPE_CHECKING:
    import torch

ENGINE: Final = (
    'What runs the network: torch, openvino, or auto: the fastest that is installed and proven '
    'for the checkpoint (export_classifier --verify).')
PRECISION: Final = (
    'What it computes in: fp32, bf16, fp16, int8, or auto: the fastest that is proven.')

#: What the node takes.
AUTO: Final = 'auto'

#: What everything else takes: the network exactly as in training.
REFERENCE: Final = ('torch', 'fp32')


class Precision(str, Enum):
    """Numbers that the network computes with; every engine takes and gives the same."""

    FP32 = 'fp32'
    BF16 = 'bf16'
    FP16 = 'fp16'
    INT8 = 'int8'   #: of a file that export_classifier --calibrate wrote beside the checkpoint


@dataclass(frozen=True)
class Wanted:
    """
    What an engine is to be made of.

    :ivar path: file of the checkpoint, beside which its int8 model lies; None: only in memory.
    :ivar device: resolved: never ``'auto'``.
    :ivar threads: CPU threads; None: as many as the engine takes by itself.
    """

    checkpoint: Checkpoint
    path: Path | None
    precision: Precision
    device: str
    threads: int | None


class Engine(ABC):
    """
    Runs one network on one device; one caller at a time.

    :cvar name: what users call it.
    :cvar speed: for each precision that it has, roughly how many times as fast as torch in fp32.
    :ivar device: where it runs, as users name devices.
    :ivar artifact: SHA-256 of the file that it was read from, if that is not the checkpoint.
    :ivar expected: torch's answers in fp32 to ``likeness.pictures``, float32 (2, 2), where they
        were kept in that file.
    """

    name: ClassVar[str]
    speed: ClassVar[Mapping[Precision, float]]

    precision: Precision
    device: str
    artifact: str | None = None
    expected: NDArray[np.float32] | None = None

    @property
    def torch_device(self) -> 'torch.device':
        """Return where torch's part of the work, if there is any, is done."""
        import torch  # takes a second: not every engine needs it

        return torch.device('cpu')

    @classmethod
    @abstractmethod
    def refusal(cls, precision: Precision, device: str) -> str | None:
        """
        Say in a few words why it cannot run here, what to do then; None where it can.

        :raises ConfigError: there is no such device.
        """

    @classmethod
    def fault(cls, wanted: Wanted) -> str | None:
        """Say the same of all that is wanted, the files beside the checkpoint included."""
        return cls.refusal(wanted.precision, wanted.device)

    @classmethod
    @abstractmethod
    def version(cls) -> str:
        """Return the version of the library behind it, which must be installed."""

    @classmethod
    @abstractmethod
    def start(cls, wanted: Wanted) -> 'Engine':
        """
        Make it ready.

        :raises ConfigError: it cannot run this network here.
        """

    @abstractmethod
    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """
        Run the network.

        :param images: RGB uint8 (B, H, W, 3) of the network's input size, C-contiguous.
        :returns: float32 (B, 2), index = Label.
        """


def identity(checkpoint: Checkpoint) -> str:
    """Return a hash, hexadecimal, of all that a checkpoint's decisions depend on."""
    metadata = checkpoint.metadata
    content = [checkpoint.sha256, metadata.architecture, metadata.preprocessing.to_metadata(),
               metadata.threshold, metadata.temperature]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
