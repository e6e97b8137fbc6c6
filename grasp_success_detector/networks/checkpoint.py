"""
The checkpoint: one safetensors file with a network's weights and all that is needed to use them.

The metadata is one JSON document under the key ``grasp_success_detector`` of the file's header.
Nothing in the file is ever executed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
import os
from pathlib import Path
from typing import Any, TYPE_CHECKING

from grasp_success_detector.errors import CheckpointError, ConfigError
from grasp_success_detector.images.preprocessing import Preprocessing
from grasp_success_detector.labels import CLASS_NAMES
from grasp_success_detector.networks.architectures import ARCHITECTURES, build, check_architecture
from grasp_success_detector.networks.tensors_file import (
    Arrays,
    check_intact,
    check_tensors,
    CHECKPOINT_KEY,
    read_arrays,
    read_document,
    tensors_sha256,
    write_tensors,
)
from grasp_success_detector.settings import check_settings, setting

if TYPE_CHECKING:
    from torch import nn

# torch and the networks take seconds to import: only where a model is read.

#: Of the files that are written; files of older versions are read too.
FORMAT_VERSION = 1

#: For each older version the function that turns its document into one of the next version. A new
#: field that has a default needs neither a new version nor a migration.
MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}

#: Fields that every file has; those that came later take their defaults where they are missing.
_REQUIRED = frozenset({
    'architecture', 'preprocessing', 'class_names', 'threshold', 'temperature', 'training',
    'metrics', 'format_version'})


@dataclass(frozen=True)
class CheckpointMetadata:
    """
    What a checkpoint says about its weights.

    :ivar architecture: name that :func:`~.architectures.build` knows.
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
    threshold: float = setting(0.5, lowest=0., highest=1.)
    temperature: float = setting(1., above=0.)
    training: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        """Check every field."""
        try:
            check_architecture(self.architecture)
        except ConfigError as error:
            raise CheckpointError(str(error)) from error
        check_settings(self, CheckpointError, 'metadata:', [
            ('class_names', self.class_names in (CLASS_NAMES, list(CLASS_NAMES)),
             f'{list(CLASS_NAMES)}, in this order')])

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON holds them."""
        return {**{name: getattr(self, name) for name in self.__dataclass_fields__},
                'class_names': list(self.class_names),
                'preprocessing': self.preprocessing.to_metadata()}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> 'CheckpointMetadata':
        """
        Build from what :meth:`to_json` returned, now or before further fields were added.

        :raises CheckpointError: fields are missing, unknown, or have unusable values.
        """
        known = {declared.name for declared in fields(cls)}
        if wrong := (_REQUIRED - document.keys()) | (document.keys() - known):
            raise CheckpointError(
                f'fields missing from or unknown in the metadata: {", ".join(sorted(wrong))}')
        try:
            preprocessing = Preprocessing.from_metadata(document['preprocessing'])
        except ConfigError as error:
            raise CheckpointError(str(error)) from error
        return cls(**{**document, 'preprocessing': preprocessing})


@dataclass(frozen=True)
class Checkpoint:
    """
    A checkpoint file whose content is known to be intact, or a model in memory.

    :ivar metadata: what the file says about the model.
    :ivar sha256: hash of the tensors (:func:`~.tensors_file.tensors_sha256`), hexadecimal.
    :ivar path: the file; None where there is only a model in memory.
    """

    metadata: CheckpointMetadata
    sha256: str
    path: Path | None = None

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> 'Checkpoint':
        """
        Read a file's metadata and check the hash of its tensors, without importing torch.

        Whether the tensors fit the architecture is checked when :attr:`model` is first read.

        :raises CheckpointError: the file is missing, damaged, foreign, or of a newer format.
        """
        path = Path(path)
        metadata, sha256, _ = _read(path)
        return cls(metadata, sha256, path)

    @classmethod
    def of_model(cls, model: 'nn.Module', metadata: CheckpointMetadata) -> 'Checkpoint':
        """Return the checkpoint of a model in memory, which is used as it is."""
        checkpoint = cls(metadata, tensors_sha256(model.state_dict()))
        vars(checkpoint)['model'] = model  # where cached_property looks for it
        return checkpoint

    @cached_property
    def model(self) -> 'nn.Module':
        """
        The model in evaluation mode, on the CPU; loaded when it is first read.

        :raises CheckpointError: the tensors do not fit the architecture, the architecture cannot
            be built here, or the file has changed since it was opened.
        """
        import torch

        assert self.path is not None
        metadata, sha256, arrays = _read(self.path)
        if (sha256, metadata) != (self.sha256, self.metadata):
            raise CheckpointError(f'{self.path}: was replaced while it was being loaded')
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        # Building draws random weights: in vain, and the caller's random numbers must not notice.
        # Models of timm may hold more than their state dict, which must be computed.
        own = metadata.architecture in ARCHITECTURES
        try:
            with torch.random.fork_rng(devices=[]), torch.device('meta' if own else 'cpu'):
                model = build(metadata.architecture)
            check_tensors(tensors, model.state_dict(), metadata.architecture)
        except (CheckpointError, ConfigError) as error:
            raise CheckpointError(f'{self.path}: {error}') from error
        model.load_state_dict(tensors, assign=own)
        return model.eval()


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
    return write_tensors(Path(path), model.state_dict(), CHECKPOINT_KEY, document,
                         lambda written: Checkpoint.open(written).model, overwrite)


def _read(path: Path) -> tuple[CheckpointMetadata, str, Arrays]:
    """Return the metadata of a file, and its tensors with the hash that they have."""
    header, arrays = read_arrays(path)
    try:
        if CHECKPOINT_KEY not in header:
            raise CheckpointError(_foreign(header))
        document, sha256 = read_document(header[CHECKPOINT_KEY], FORMAT_VERSION)
        for version in range(document['format_version'], FORMAT_VERSION):
            document = MIGRATIONS[version](document)
        metadata = CheckpointMetadata.from_json({**document, 'format_version': FORMAT_VERSION})
        check_intact(arrays, sha256)
    except CheckpointError as error:
        raise CheckpointError(f'{path}: {error}') from error
    return metadata, sha256, arrays


def _foreign(header: Mapping[str, str]) -> str:
    """Return what a safetensors file without a checkpoint's metadata is instead."""
    from grasp_success_detector.networks.weights import BACKBONE_KEY, describe_backbone

    if BACKBONE_KEY in header:
        return (f'{describe_backbone(header)}, no grasp classifier; train one from it with '
                'train_classifier --weights')
    return ('a safetensors file, but not of this package (no metadata of it); expected a '
            'checkpoint of train_classifier')
