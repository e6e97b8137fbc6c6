"""
One self-describing file: the weights and all that is needed to use them, in safetensors.

The metadata is one JSON document under the key ``grasp_success_detector`` of the file's header.
Nothing in the file is ever executed.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
import hashlib
import json
import os
from pathlib import Path

from safetensors import safe_open, SafetensorError
import safetensors.torch
import torch
from torch import nn

from grasp_success_detector.architectures import build
from grasp_success_detector.checkpoint_metadata import CheckpointMetadata, FORMAT_VERSION
from grasp_success_detector.errors import CheckpointError

__all__ = [
    'Checkpoint', 'CheckpointMetadata', 'FORMAT_VERSION', 'load', 'save', 'tensors_sha256']

_KEY = 'grasp_success_detector'
_PICKLES = (b'PK\x03\x04', b'\x80\x02', b'\x80\x03', b'\x80\x04', b'\x80\x05')


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


def tensors_sha256(tensors: Mapping[str, torch.Tensor]) -> str:
    """
    Return the SHA-256 of named tensors, hexadecimal.

    For each name in sorted order it takes the line ``name dtype shape`` as JSON list (such as
    ``["fc.bias", "float32", [2]]``), UTF-8, ended by a newline, and then the tensor's bytes in
    row-major order, little-endian. Metadata, order and padding in the file do not count.
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        head = [name, str(tensor.dtype).removeprefix('torch.'), list(tensor.shape)]
        digest.update(json.dumps(head).encode() + b'\n')
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


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
    path = Path(path)
    if path.exists() and not overwrite:
        raise CheckpointError(f'{path}: exists already; choose another name or allow overwriting')
    if not path.parent.is_dir():
        raise CheckpointError(f'{path}: the folder {path.parent} does not exist')
    tensors = {name: tensor.detach().cpu().contiguous().clone()
               for name, tensor in model.state_dict().items()}
    sha256 = tensors_sha256(tensors)
    try:
        document = json.dumps(
            {**replace(metadata, format_version=FORMAT_VERSION).to_json(), 'sha256': sha256},
            allow_nan=False)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f'{path}: the metadata does not fit into JSON: {error}') from error
    # The only key, since the library writes several in any order: same content, same bytes.
    content = safetensors.torch.save(tensors, {_KEY: document})
    unfinished = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
    try:
        with unfinished.open('wb') as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        load(unfinished)
        os.replace(unfinished, path)
    except OSError as error:
        raise CheckpointError(f'{path}: cannot be written: {error.strerror}') from error
    except CheckpointError as error:
        reason = str(error).removeprefix(f'{unfinished}: ')
        raise CheckpointError(f'{path}: not written: {reason}') from error
    finally:
        with suppress(OSError):
            unfinished.unlink()
    return sha256


def load(path: str | os.PathLike[str]) -> Checkpoint:
    """
    Read a checkpoint and check everything about it.

    :returns: model in evaluation mode on the CPU, metadata, hash.
    :raises CheckpointError: one line that names the path and what is wrong.
    """
    path = Path(path)
    _check_file(path)
    try:
        with safe_open(path, framework='pt') as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f'{path}: truncated or damaged; copy or train it again ({error})') from error
    try:
        metadata, sha256 = _read_metadata(header)
        # Building draws random weights; the caller's random numbers must not notice.
        with torch.random.fork_rng(devices=[]):
            model = build(metadata.architecture)
        _check_tensors(tensors, model, metadata.architecture, sha256)
    except CheckpointError as error:
        raise CheckpointError(f'{path}: {error}') from error
    model.load_state_dict(tensors)
    return Checkpoint(model.eval(), metadata, sha256)


def _check_file(path: Path) -> None:
    """Refuse what is no safetensors file at all, saying what it is instead."""
    if not path.exists():
        raise CheckpointError(f'{path}: no such file; expected a checkpoint (.safetensors)')
    if path.is_dir():
        raise CheckpointError(f'{path}: is a folder; expected a checkpoint file (.safetensors)')
    try:
        with path.open('rb') as file:
            start = file.read(9)
    except OSError as error:
        raise CheckpointError(f'{path}: cannot be read: {error.strerror}') from error
    if not start:
        raise CheckpointError(f'{path}: is empty; copy or train it again')
    if start[8:] == b'{' and int.from_bytes(start[:8], 'little') < 100_000_000:
        return  # 8 bytes of length, then JSON: what follows is the library's to judge
    if start.startswith(_PICKLES):
        raise CheckpointError(
            f'{path}: is a legacy PyTorch checkpoint (pickle), which is never loaded directly; '
            'import it once, explicitly, into a .safetensors checkpoint')
    raise CheckpointError(
        f'{path}: is no safetensors file; expected a checkpoint of train_classifier')


def _read_metadata(header: Mapping[str, str]) -> tuple[CheckpointMetadata, str]:
    """Return the metadata and the hash that the header of a file holds."""
    if _KEY not in header:
        raise CheckpointError(
            'a safetensors file, but not of this package (no metadata of it); expected a '
            'checkpoint of train_classifier')
    try:
        document = json.loads(header[_KEY])
        version = document['format_version']
        if isinstance(version, bool) or not isinstance(version, int) or version < 1:
            raise ValueError(f'format version {version!r}')
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f'its metadata cannot be read: {error!r}') from error
    if version > FORMAT_VERSION:
        raise CheckpointError(
            f'has format version {version}, this package reads up to {FORMAT_VERSION}; upgrade '
            'grasp_success_detector')
    sha256 = document.pop('sha256', None)
    if not isinstance(sha256, str):
        raise CheckpointError('its metadata holds no SHA-256 of the tensors')
    return CheckpointMetadata.from_json(document), sha256


def _check_tensors(tensors: Mapping[str, torch.Tensor], model: nn.Module, architecture: str,
                   sha256: str) -> None:
    """Refuse tensors that are not exactly those of the model, hashed, and finite."""
    expected = model.state_dict()
    faults = {
        'missing': expected.keys() - tensors.keys(),
        'unexpected': tensors.keys() - expected.keys(),
        'of another shape or type': {
            f'{name} ({_kind(tensors[name])}, expected {_kind(expected[name])})'
            for name in expected.keys() & tensors.keys()
            if _kind(tensors[name]) != _kind(expected[name])}}
    if any(faults.values()):
        found = '; '.join(f'{fault}: {_list(names)}' for fault, names in faults.items() if names)
        raise CheckpointError(f'its tensors are not those of {architecture}; {found}')
    if (actual := tensors_sha256(tensors)) != sha256:
        raise CheckpointError(
            f'damaged: the SHA-256 of its tensors is {actual}, the file says {sha256}; copy or '
            'train it again')
    if bad := {name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()}:
        raise CheckpointError(f'holds weights that are not finite (NaN or infinite): {_list(bad)}')


def _kind(tensor: torch.Tensor) -> str:
    return f'{str(tensor.dtype).removeprefix("torch.")} {list(tensor.shape)}'


def _list(names: set[str]) -> str:
    return ', '.join(sorted(names))
