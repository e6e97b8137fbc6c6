"""
The checkpoint: one safetensors file with a network's weights and all that is needed to use them.

The metadata is one JSON document in the file's header. Files of pre-trained weights (a backbone
with a head for any classes) are written and read in the same way, under another key.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
import os
from pathlib import Path
from typing import Any, ClassVar, TYPE_CHECKING, TypeVar

from grasp_success_detector.errors import CheckpointError
from grasp_success_detector.files import checkpoint_path
from grasp_success_detector.images.preprocessing import Preprocessing
from grasp_success_detector.labels import CLASS_NAMES
from grasp_success_detector.networks import tensors_file
from grasp_success_detector.networks.architectures import (
    build,
    check_architecture,
    HAND_FINDER,
    is_own,
)
from grasp_success_detector.networks.familiarity import Familiarity
from grasp_success_detector.settings import check_settings, setting

if TYPE_CHECKING:
    from torch import nn  # takes seconds, as the networks do: only where a model is read

_Metadata = TypeVar('_Metadata', bound='BackboneMetadata')

#: Version of the files that are written; files of older versions are read too.
FORMAT_VERSION = 2


#: For each older version the function that turns its document into one of the next version. A new
#: field that has a default needs neither a new version nor a migration.
MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {
    # The only hash was that of the tensors: nothing tells whether the metadata was changed.
    1: lambda document: {**document, 'tensors_sha256': document['sha256']}}

#: Fewest pixels of a network's input in height and in width: less shows no hand.
SMALLEST_INPUT = 8

#: Fields that every file has; those that came later take their defaults where they are missing.
_REQUIRED = frozenset({
    'architecture', 'preprocessing', 'class_names', 'threshold', 'temperature', 'training',
    'metrics', 'format_version'})


@dataclass(frozen=True)
class BackboneMetadata:
    """
    Metadata of a file of pre-trained weights.

    :ivar architecture: name that :func:`~.architectures.build` knows.
    :ivar preprocessing: input size, crop and normalization that the network expects.
    :ivar class_names: names of the classes, in the order of the logits.
    :ivar training: settings and data of the training, as JSON values.
    :ivar metrics: measured figures and their splits, as JSON values.
    :raises ConfigError: the architecture is unknown; CheckpointError: another field is invalid.
    """

    KEY: ClassVar[str] = 'grasp_success_detector.backbone'

    architecture: str
    preprocessing: Preprocessing
    class_names: tuple[str, ...] = CLASS_NAMES
    training: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        """Check every field."""
        check_architecture(self.architecture)
        check_settings(self, CheckpointError, 'metadata:', self._checks())

    def _checks(self) -> Iterator[tuple[str, bool, str]]:
        size = self.preprocessing
        yield ('preprocessing', min(size.height, size.width) >= SMALLEST_INPUT,
               f'height and width of {SMALLEST_INPUT} pixels or more')

    @classmethod
    def from_json(cls: type[_Metadata], document: Mapping[str, Any]) -> _Metadata:
        """
        Build from the fields of a JSON document; those that were added later may be missing.

        :raises CheckpointError: fields are missing, unknown, or have unusable values.
        :raises ConfigError: the architecture or the preprocessing cannot be used.
        """
        known = {declared.name for declared in fields(cls)}
        if wrong := (_REQUIRED & known - document.keys()) | (document.keys() - known):
            raise CheckpointError(
                f'fields missing from or unknown in the metadata: {", ".join(sorted(wrong))}')
        return cls(**{**document,
                      'preprocessing': Preprocessing.from_metadata(document['preprocessing'])})


@dataclass(frozen=True)
class CheckpointMetadata(BackboneMetadata):
    """Metadata of a checkpoint: those of its backbone, threshold and temperature."""

    KEY: ClassVar[str] = 'grasp_success_detector'

    #: Lowest P(success) that counts as success.
    threshold: float = setting(0.5, above=0., highest=1.)   # from 0 on, every frame would count
    #: Number by which the logits are divided before the softmax.
    temperature: float = setting(1., lowest=0.01, highest=100.)
    #: What its frames look like; None: not known.
    familiarity: Familiarity | None = None

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> 'CheckpointMetadata':
        """Build from the fields of a JSON document, as :class:`BackboneMetadata` does."""
        known = document.get('familiarity')
        try:
            familiarity = None if known is None else Familiarity(**known)
        except (TypeError, IndexError) as error:
            raise CheckpointError(f'familiarity: cannot be used ({error})') from error
        return super().from_json({**document, 'familiarity': familiarity})

    def _checks(self) -> Iterator[tuple[str, bool, str]]:
        yield from super()._checks()
        yield ('class_names', self.class_names == CLASS_NAMES,
               f'{list(CLASS_NAMES)}, in this order')


@dataclass(frozen=True)
class HandFinderMetadata(CheckpointMetadata):
    """Metadata of a hand finder; below ``threshold`` a picture has no hand."""

    KEY: ClassVar[str] = 'grasp_success_detector.hand_finder'

    def _checks(self) -> Iterator[tuple[str, bool, str]]:
        yield from BackboneMetadata._checks(self)
        yield 'architecture', self.architecture == HAND_FINDER, HAND_FINDER


@dataclass(frozen=True)
class Checkpoint:
    """
    A checkpoint file with a verified hash, or a model in memory.

    :ivar sha256: hash of metadata and tensors (:func:`~.tensors_file.document_sha256` of the
        metadata and the tensors' hash), hexadecimal; of a file of version 1 the tensors' hash.
    :ivar tensors_sha256: hash of the tensors (:func:`~.tensors_file.tensors_sha256`), hexadecimal.
    :ivar path: the file; None for a model in memory.
    """

    metadata: CheckpointMetadata
    sha256: str
    tensors_sha256: str
    path: Path | None = None

    @classmethod
    def open(cls, path: str | os.PathLike[str],
             kind: type[CheckpointMetadata] | None = None) -> 'Checkpoint':
        """
        Read a file's metadata and check its hash, without importing torch.

        The hash of a file of version 1 covers its tensors only: a change of its metadata is
        noticed only where a value is out of range. Whether the tensors fit the architecture is
        checked when :attr:`model` is first read.

        :param path: a file, or the name of a shipped checkpoint (:func:`~.files.checkpoint_path`).
        :param kind: of its metadata: of a hand finder; None: of a classifier.
        :raises CheckpointError: the file is missing, damaged, foreign, or of a newer format, or a
            value in it is out of range.
        """
        path = checkpoint_path(path)
        metadata, hashes, _ = _read(path, kind or CheckpointMetadata)
        return cls(metadata, *hashes, path)

    @classmethod
    def of_model(cls, model: 'nn.Module', metadata: CheckpointMetadata) -> 'Checkpoint':
        """Return a checkpoint of a model in memory; the model is neither copied nor changed."""
        document = _document(metadata, model)
        checkpoint = cls(metadata, document['sha256'], document['tensors_sha256'])
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
        tensors = {name: torch.from_numpy(array) for name, array in self.arrays().items()}
        # Building draws random weights: in vain, and the caller's random numbers must not notice.
        # Models of timm may hold more than their state dict, which must be computed.
        architecture = self.metadata.architecture
        own = is_own(architecture)
        with tensors_file.named_errors(self.path):
            with torch.random.fork_rng(devices=[]), torch.device('meta' if own else 'cpu'):
                model = build(architecture)
            tensors_file.check_tensors(tensors, model.state_dict(), architecture)
        model.load_state_dict(tensors, assign=own)
        return model.eval()

    def arrays(self) -> tensors_file.Arrays:
        """
        Return the tensors as arrays, without torch where there is a file.

        :raises CheckpointError: the file has changed since it was opened.
        """
        if self.path is None:
            return {name: tensor.cpu().numpy()
                    for name, tensor in self.model.state_dict().items()}
        metadata, hashes, arrays = _read(self.path, type(self.metadata))
        if (metadata, *hashes) != (self.metadata, self.sha256, self.tensors_sha256):
            raise CheckpointError(f'{self.path}: was replaced while it was being loaded')
        return arrays


def save(path: str | os.PathLike[str], model: 'nn.Module', metadata: BackboneMetadata,
         overwrite: bool = False) -> str:
    """
    Write a checkpoint, or with BackboneMetadata a file of pre-trained weights.

    The file is written whole or not at all, and is loaded once as a test.

    :param path: file to write, usually ``*.safetensors``, in a folder that exists.
    :returns: the SHA-256 of metadata and tensors, hexadecimal.
    :raises CheckpointError: the file exists, cannot be written, or could not be loaded again.
    """
    def load(written: Path) -> object:
        if isinstance(metadata, CheckpointMetadata):
            return Checkpoint.open(written, type(metadata)).model
        return read_backbone(written)

    with tensors_file.named_errors(path):
        document = _document(metadata, model)
    tensors_file.write_tensors(
        Path(path), model.state_dict(), metadata.KEY, document, load, overwrite)
    return str(document['sha256'])


def _document(metadata: BackboneMetadata, model: 'nn.Module') -> dict[str, Any]:
    document = {**asdict(metadata), 'format_version': FORMAT_VERSION,
                'tensors_sha256': tensors_file.tensors_sha256(model.state_dict())}
    return {**document, 'sha256': tensors_file.document_sha256(document)}


def read_backbone(path: Path) -> tuple[tensors_file.Tensors, BackboneMetadata]:
    """Read a file of pre-trained weights; CheckpointError if it is something else."""
    import torch

    metadata, _, arrays = _read(path, BackboneMetadata)
    return {name: torch.from_numpy(array) for name, array in arrays.items()}, metadata


def read_metadata(header: Mapping[str, str], tensors: Mapping[str, Any],
                  kind: type[_Metadata]) -> tuple[_Metadata, tuple[str, str]]:
    """
    Return the metadata in a file's header, the file's hash, and that of its tensors; check both.

    :raises CheckpointError: the metadata is missing or unusable, or the tensors are damaged.
    :raises ConfigError: the architecture or the preprocessing cannot be used.
    """
    if kind.KEY not in header:
        raise CheckpointError(_other_content(header, tensors, kind))
    document, sha256 = tensors_file.read_document(header[kind.KEY], FORMAT_VERSION)
    written = document['format_version']
    if written > 1:
        tensors_file.check_document(document, sha256)
    for version in range(written, FORMAT_VERSION):
        document = MIGRATIONS[version](document)
    of_tensors = document.get('tensors_sha256')
    tensors_file.check_intact(tensors, of_tensors)
    metadata = kind.from_json({
        name: value for name, value in {**document, 'format_version': FORMAT_VERSION}.items()
        if name not in ('sha256', 'tensors_sha256')})
    return metadata, (sha256, str(of_tensors))


def _read(path: Path, kind: type[_Metadata]
          ) -> tuple[_Metadata, tuple[str, str], tensors_file.Arrays]:
    header, arrays = tensors_file.read_tensors(path)
    with tensors_file.named_errors(path):
        return *read_metadata(header, arrays, kind), arrays


def _other_content(header: Mapping[str, str], tensors: Mapping[str, Any],
                   kind: type[BackboneMetadata]) -> str:
    """Return what a safetensors file without the expected metadata is instead."""
    if kind is not CheckpointMetadata:
        return ('holds no hand finder' if kind is HandFinderMetadata else
                'holds no pre-trained weights of pretrain_cifar10')
    if BackboneMetadata.KEY in header:
        about, _ = read_metadata(header, tensors, BackboneMetadata)
        return (f'holds pre-trained weights of {about.architecture} for '
                f'{len(about.class_names)} classes ({", ".join(about.class_names)}), no grasp '
                'classifier; train one from it with train_classifier --weights')
    return ('a safetensors file, but not of this package (no metadata of it); expected a '
            'checkpoint of train_classifier')
