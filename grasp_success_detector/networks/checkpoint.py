"""
One self-describing file: the weights and all that is needed to use them, in safetensors.

The metadata is one JSON document under the key ``grasp_success_detector`` of the file's header.
Nothing in the file is ever executed.
"""


from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
import math
import os
from pathlib import Path
from typing import Any, TYPE_CHECKING

from grasp_success_detector.errors import CheckpointError, ConfigError
from grasp_success_detector.images.preprocessing import Preprocessing
from grasp_success_detector.labels import CLASS_NAMES
from grasp_success_detector.networks.architecture import ARCHITECTURES, check_architecture
from grasp_success_detector.networks.tensors_file import (
    check_intact,
    check_tensors,
    CHECKPOINT_KEY,
    read_arrays,
    read_document,
    tensors_sha256,
    write_tensors,
)

if TYPE_CHECKING:
    from torch import nn


FORMAT_VERSION = 1


@dataclass(frozen=True)
class CheckpointMetadata:
    """
    What a checkpoint says about its weights.

    :ivar architecture: name that :func:`~grasp_success_detector.networks.build.build` knows.
    :ivar preprocessing: how a frame becomes the model's input.
    :ivar class_names: names of the logits, in order.
    :ivar threshold: P(success) from which on a frame counts as success, 0 to 1.
    :ivar temperature: what the logits are divided by before the softmax, above 0.
    :ivar training: how and on what it was trained; anything JSON can hold.
    :ivar metrics: what was measured, on which split; anything JSON can hold.
    :ivar format_version: of the file.
    :raises CheckpointError: a field has a value that cannot be used.
    """

    architecture: str
    preprocessing: Preprocessing
    class_names: tuple[str, ...] = CLASS_NAMES
    threshold: float = 0.5
    temperature: float = 1.0
    training: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        """Check every field."""
        for name in ('training', 'metrics'):
            if not isinstance(getattr(self, name), Mapping):
                raise CheckpointError(
                    f'{name} is {getattr(self, name)!r}; expected names and values')
        try:
            check_architecture(self.architecture)
        except ConfigError as error:
            raise CheckpointError(str(error)) from error
        if tuple(self.class_names) != CLASS_NAMES:
            raise CheckpointError(
                f'class names are {list(self.class_names)}; expected {list(CLASS_NAMES)}, in '
                'this order')
        if not _is_number(self.threshold) or not 0 <= self.threshold <= 1:
            raise CheckpointError(
                f'threshold is {self.threshold!r}; expected a probability from 0 to 1')
        if not _is_number(self.temperature) or self.temperature <= 0:
            raise CheckpointError(
                f'temperature is {self.temperature!r}; expected a number above 0')

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON holds them."""
        return {**{name: getattr(self, name) for name in self.__dataclass_fields__},
                'class_names': list(self.class_names),
                'preprocessing': self.preprocessing.to_metadata()}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> 'CheckpointMetadata':
        """
        Build from what :meth:`to_json` returned.

        :raises CheckpointError: fields are missing, unknown, or have unusable values.
        """
        wrong = set(document) ^ set(cls.__dataclass_fields__)
        if wrong:
            raise CheckpointError(
                f'fields missing from or unknown in the metadata: {", ".join(sorted(wrong))}')
        try:
            return cls(**{**document,
                          'class_names': tuple(document['class_names']),
                          'preprocessing': Preprocessing.from_metadata(document['preprocessing'])})
        except (ConfigError, TypeError) as error:
            raise CheckpointError(str(error)) from error


def _is_number(value: object) -> bool:
    return (isinstance(value, int | float) and not isinstance(value, bool)
            and math.isfinite(value))


__all__ = [
    'Checkpoint', 'CheckpointFile', 'CheckpointMetadata', 'FORMAT_VERSION', 'load',
    'open_checkpoint', 'save', 'tensors_sha256']

# torch and the networks take seconds to import: only where a model is asked for.


@dataclass(frozen=True)
class Checkpoint:
    """
    A checkpoint as loaded.

    :ivar model: in evaluation mode, on the CPU.
    :ivar metadata: what the file says about it.
    :ivar sha256: hash of the tensors (:func:`tensors_sha256`), hexadecimal.
    """

    model: 'nn.Module'
    metadata: CheckpointMetadata
    sha256: str


@dataclass(frozen=True)
class CheckpointFile:
    """
    A checkpoint whose content is known to be whole, but whose model is not needed by everybody.

    :ivar metadata: as of :class:`Checkpoint`; so is ``sha256``.
    """

    path: Path
    metadata: CheckpointMetadata
    sha256: str

    @cached_property
    def model(self) -> 'nn.Module':
        """
        Return the model in evaluation mode, on the CPU; loaded when first asked for.

        :raises CheckpointError: as of :func:`load`, or the file was replaced since it was opened.
        """
        loaded = load(self.path)
        if (loaded.sha256, loaded.metadata) != (self.sha256, self.metadata):
            raise CheckpointError(f'{self.path}: was replaced while it was being loaded')
        return loaded.model


def save(path: str | os.PathLike[str], model: 'nn.Module', metadata: CheckpointMetadata,
         overwrite: bool = False) -> str:
    """
    Write a checkpoint; the file appears whole or not at all, and is known to load.

    :param path: file to write, usually ``*.safetensors``, in a folder that exists.
    :param model: of the architecture that the metadata names; it is not changed.
    :param overwrite: whether an existing file is replaced.
    :returns: the SHA-256 of the tensors, hexadecimal.
    :raises CheckpointError: the file exists, cannot be written, or could not be loaded again.
    """
    document = replace(metadata, format_version=FORMAT_VERSION).to_json()
    return write_tensors(
        Path(path), model.state_dict(), CHECKPOINT_KEY, document, load, overwrite)


def load(path: str | os.PathLike[str]) -> Checkpoint:
    """
    Read a checkpoint and check everything about it.

    :returns: model in evaluation mode on the CPU, metadata, hash.
    :raises CheckpointError: one line that names the path and what is wrong.
    """
    import torch

    from grasp_success_detector.networks.build import build

    path = Path(path)
    header, arrays = read_arrays(path)
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    try:
        metadata, sha256 = _read_metadata(header)
        # Building draws random weights: in vain, and the caller's random numbers must not notice.
        # Models of timm may hold more than their state dict, which must be computed.
        own = metadata.architecture in ARCHITECTURES
        with torch.random.fork_rng(devices=[]), torch.device('meta' if own else 'cpu'):
            model = build(metadata.architecture)
        check_tensors(tensors, model.state_dict(), metadata.architecture)
        check_intact(arrays, sha256)
    except (CheckpointError, ConfigError) as error:
        raise CheckpointError(f'{path}: {error}') from error
    model.load_state_dict(tensors, assign=own)
    return Checkpoint(model.eval(), metadata, sha256)


def open_checkpoint(path: str | os.PathLike[str]) -> CheckpointFile:
    """
    Read what a checkpoint says and check that its tensors are whole, without torch.

    :raises CheckpointError: as of :func:`load`, but for what only building the model can tell.
    """
    path = Path(path)
    header, arrays = read_arrays(path)
    try:
        metadata, sha256 = _read_metadata(header)
        check_intact(arrays, sha256)
    except CheckpointError as error:
        raise CheckpointError(f'{path}: {error}') from error
    return CheckpointFile(path, metadata, sha256)


def _read_metadata(header: Mapping[str, str]) -> tuple[CheckpointMetadata, str]:
    """Return the metadata and the hash that the header of a file holds."""
    if CHECKPOINT_KEY not in header:
        from grasp_success_detector.networks.weights import BACKBONE_KEY, describe_backbone

        if BACKBONE_KEY in header:
            raise CheckpointError(
                f'{describe_backbone(header)}, no grasp classifier; train one from it with '
                'train_classifier --weights')
        raise CheckpointError(
            'a safetensors file, but not of this package (no metadata of it); expected a '
            'checkpoint of train_classifier')
    document, sha256 = read_document(header[CHECKPOINT_KEY], FORMAT_VERSION)
    return CheckpointMetadata.from_json(document), sha256
