"""
One self-describing file: the weights and all that is needed to use them, in safetensors.

The metadata is one JSON document under the key ``grasp_success_detector`` of the file's header.
Nothing in the file is ever executed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
import os
from pathlib import Path

import torch
from torch import nn

from grasp_success_detector.architectures import build
from grasp_success_detector.backbones.backbone_file import BACKBONE_KEY, describe_backbone
from grasp_success_detector.backbones.weights_file import CHECKPOINT_KEY
from grasp_success_detector.checkpoint_metadata import CheckpointMetadata, FORMAT_VERSION
from grasp_success_detector.errors import CheckpointError, ConfigError
from grasp_success_detector.tensors_file import (
    check_intact,
    check_tensors,
    read_document,
    read_tensors,
    tensors_sha256,
    write_tensors,
)

__all__ = [
    'Checkpoint', 'CheckpointMetadata', 'FORMAT_VERSION', 'load', 'save', 'tensors_sha256']


@dataclass(frozen=True)
class Checkpoint:
    """
    A checkpoint as loaded.

    :ivar model: in evaluation mode, on the CPU.
    :ivar metadata: what the file says about it.
    :ivar sha256: hash of the tensors (:func:`tensors_sha256`), hexadecimal.
    """

    model: nn.Module
    metadata: CheckpointMetadata
    sha256: str


def save(path: str | os.PathLike[str], model: nn.Module, metadata: CheckpointMetadata,
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
    path = Path(path)
    header, tensors = read_tensors(path)
    try:
        metadata, sha256 = _read_metadata(header)
        # Building draws random weights; the caller's random numbers must not notice.
        with torch.random.fork_rng(devices=[]):
            model = build(metadata.architecture)
        check_tensors(tensors, model.state_dict(), metadata.architecture)
        check_intact(tensors, sha256)
    except (CheckpointError, ConfigError) as error:
        raise CheckpointError(f'{path}: {error}') from error
    model.load_state_dict(tensors)
    return Checkpoint(model.eval(), metadata, sha256)


def _read_metadata(header: Mapping[str, str]) -> tuple[CheckpointMetadata, str]:
    """Return the metadata and the hash that the header of a file holds."""
    if BACKBONE_KEY in header:
        raise CheckpointError(
            f'{describe_backbone(header)}, no grasp classifier; train one from it with '
            'train_classifier --weights')
    if CHECKPOINT_KEY not in header:
        raise CheckpointError(
            'a safetensors file, but not of this package (no metadata of it); expected a '
            'checkpoint of train_classifier')
    document, sha256 = read_document(header[CHECKPOINT_KEY], FORMAT_VERSION)
    return CheckpointMetadata.from_json(document), sha256
