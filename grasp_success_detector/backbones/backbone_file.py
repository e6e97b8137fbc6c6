"""
Pre-trained weights of a backbone with the head of another task, in safetensors.

Told from a checkpoint by the key of its metadata, since it answers another question: nothing that
wants a grasp classifier takes it for one.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
import json
import os
from pathlib import Path
from typing import Any

from torch import nn

from grasp_success_detector.errors import CheckpointError, ConfigError
from grasp_success_detector.preprocessing import Preprocessing
from grasp_success_detector.tensors_file import (
    check_intact,
    read_document,
    read_tensors,
    Tensors,
    write_tensors,
)

BACKBONE_KEY = 'grasp_success_detector.backbone'
BACKBONE_FORMAT_VERSION = 1


@dataclass(frozen=True)
class BackboneMetadata:
    """
    What a file of pre-trained weights says about them.

    :ivar architecture: name of the network, as ``architectures.build`` knows it.
    :ivar preprocessing: how an image became the model's input.
    :ivar class_names: names of the logits of this head, in order.
    :ivar training: how and on what it was trained; anything JSON can hold.
    :ivar metrics: what was measured, on which split; anything JSON can hold.
    :ivar format_version: of the file.
    """

    architecture: str
    preprocessing: Preprocessing
    class_names: tuple[str, ...]
    training: Mapping[str, Any]
    metrics: Mapping[str, Any]
    format_version: int = BACKBONE_FORMAT_VERSION


def save_backbone(path: str | os.PathLike[str], model: nn.Module,
                  metadata: BackboneMetadata) -> str:
    """
    Write pre-trained weights; the file appears whole or not at all, and is known to be readable.

    :returns: the SHA-256 of the tensors, hexadecimal.
    :raises CheckpointError: the file exists or cannot be written, or weights are not finite.
    """
    document = {**asdict(metadata), 'preprocessing': metadata.preprocessing.to_metadata(),
                'format_version': BACKBONE_FORMAT_VERSION}
    return write_tensors(Path(path), model.state_dict(), BACKBONE_KEY, document, read_backbone)


def read_backbone(path: str | os.PathLike[str]) -> tuple[Tensors, BackboneMetadata]:
    """
    Read pre-trained weights.

    :raises CheckpointError: missing, damaged, or another kind of file.
    """
    path = Path(path)
    header, tensors = read_tensors(path)
    try:
        if BACKBONE_KEY not in header:
            raise CheckpointError('holds no pre-trained weights of pretrain_cifar10')
        document, sha256 = read_document(header[BACKBONE_KEY], BACKBONE_FORMAT_VERSION)
        check_intact(tensors, sha256)
        metadata = BackboneMetadata(**{
            **document, 'class_names': tuple(document['class_names']),
            'preprocessing': Preprocessing.from_metadata(document['preprocessing'])})
    except CheckpointError as error:
        raise CheckpointError(f'{path}: {error}') from error
    except (ConfigError, KeyError, TypeError) as error:
        raise CheckpointError(f'{path}: its metadata cannot be read: {error!r}') from error
    return tensors, metadata


def describe_backbone(header: Mapping[str, str]) -> str:
    """Say in a few words what a file of pre-trained weights is, whatever its header holds."""
    try:
        document = json.loads(header[BACKBONE_KEY])
        names = list(document['class_names'])
        return (f'holds pre-trained weights of {document["architecture"]} for {len(names)} '
                f'classes ({", ".join(names)})')
    except (ValueError, KeyError, TypeError):
        return 'holds pre-trained weights'
