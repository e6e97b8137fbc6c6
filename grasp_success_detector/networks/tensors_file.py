"""
Named tensors and a JSON document in a safetensors file; nothing in it is ever executed.

The document is under one key of the file's header and holds a format version and a SHA-256.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
import hashlib
import json
import os
from pathlib import Path
from typing import Any, TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from grasp_success_detector.errors import CheckpointError, ConfigError
from grasp_success_detector.files import check_new_file, check_regular, fault_text, unfinished
from grasp_success_detector.networks.safetensors_reader import read_safetensors

if TYPE_CHECKING:
    import torch

# torch takes a second to import: only where its tensors are read or written.

Tensors = dict[str, 'torch.Tensor']
Arrays = dict[str, NDArray[Any]]

_MOST_NAMED = 8
_HEADER_START = b'{'  # of the JSON that follows the 8 bytes of its length
_PICKLES = (b'PK\x03\x04', b'\x80\x02', b'\x80\x03', b'\x80\x04', b'\x80\x05')


def tensors_sha256(tensors: 'Mapping[str, torch.Tensor | NDArray[Any]]') -> str:
    """
    Return the SHA-256 of named tensors or arrays, hexadecimal.

    It is computed over the names in sorted order: for each the line ``name dtype shape`` as a JSON
    list (such as ``["fc.bias", "float32", [2]]``), UTF-8, ended by a newline, and then the
    tensor's bytes in row-major order, little-endian. Metadata, order and padding do not count.
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        head = [name, str(tensor.dtype).removeprefix('torch.'), list(tensor.shape)]
        digest.update(json.dumps(head).encode() + b'\n')
        digest.update(_bytes(tensor).data)
    return digest.hexdigest()


def document_sha256(document: Mapping[str, Any]) -> str:
    """
    Return the SHA-256 of a JSON document without its field ``sha256``, hexadecimal.

    It is computed over the document as JSON in ASCII, its keys sorted and without spaces, such as
    ``{"mean":[0.5],"threshold":0.76}``. Numbers are written as Python's ``repr`` does.

    :raises CheckpointError: the document holds something that JSON cannot, such as NaN.
    """
    try:
        # Written and read once: keys that are numbers become text, which sorts in another order.
        content = json.loads(json.dumps(dict(document), allow_nan=False))
        content.pop('sha256', None)
        text = json.dumps(content, allow_nan=False, sort_keys=True, separators=(',', ':'))
    except (TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f'the metadata does not fit into JSON: {error}') from error
    return hashlib.sha256(text.encode()).hexdigest()


def write_tensors(path: Path, state: 'Mapping[str, torch.Tensor]', key: str,
                  document: Mapping[str, Any], verify: Callable[[Path], object],
                  overwrite: bool = False) -> None:
    """
    Write tensors and a document to a file, whole or not at all.

    :param key: key of the document in the file's header.
    :param document: what JSON can hold, with a format version and a SHA-256.
    :param verify: called with a temporary path of the finished file; raises CheckpointError if
        the file cannot be used.
    :raises CheckpointError: the file exists, cannot be written, or could not be read again.
    """
    import safetensors.torch

    if not overwrite:
        check_new_file(path, CheckpointError)
    tensors = {name: tensor.detach().cpu().contiguous().clone()
               for name, tensor in state.items()}
    # The only key, since the library writes several in any order: same content, same bytes.
    content = safetensors.torch.save(tensors, {key: json.dumps(document, allow_nan=False)})
    with unfinished(path) as partial:
        try:
            with partial.open('wb') as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            verify(partial)
            os.replace(partial, path)
        except OSError as error:
            raise CheckpointError(f'{path}: cannot be written ({fault_text(error, path)})'
                                  ) from error
        except CheckpointError as error:
            reason = str(error).removeprefix(f'{partial}: ')
            raise CheckpointError(f'{path}: not written: {reason}') from error


def read_tensors(path: Path, expected: str = 'a checkpoint of train_classifier (.safetensors)',
                 ) -> tuple[Mapping[str, str], Arrays]:
    """
    Read a safetensors file of any origin, without torch.

    :param expected: the kind of file that errors say was expected.
    :returns: the texts in its header, and its arrays.
    :raises CheckpointError: the file cannot be read or is no safetensors file.
    """
    _check_file(path, expected)
    try:
        return read_safetensors(path)
    except (ValueError, OSError) as error:
        raise CheckpointError(
            f'{path}: truncated or damaged; copy or train it again ({error})') from error
    except TypeError as error:
        raise CheckpointError(
            f'{path}: holds numbers of a type that cannot be read ({error})') from error


def read_torch_tensors(path: Path, expected: str) -> tuple[Mapping[str, str], Tensors]:
    """As :func:`read_tensors`, but torch's tensors, which may be of types such as bfloat16."""
    from safetensors import safe_open, SafetensorError

    _check_file(path, expected)
    try:
        with safe_open(path, framework='pt') as file:
            return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f'{path}: truncated or damaged; copy or train it again ({error})') from error


@contextmanager
def named_errors(subject: object) -> Iterator[None]:
    """Prefix a CheckpointError or ConfigError of the block with a subject: CheckpointError."""
    try:
        yield
    except (CheckpointError, ConfigError) as error:
        raise CheckpointError(f'{subject}: {error}') from error


def read_document(text: str, newest: int) -> tuple[dict[str, Any], str]:
    """Return the JSON document and the hash in it; CheckpointError if they cannot be used."""
    try:
        document = json.loads(text)
        version = document['format_version']
        if isinstance(version, bool) or not isinstance(version, int) or version < 1:
            raise ValueError(f'format version {version!r}')
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f'its metadata cannot be read: {error!r}') from error
    if version > newest:
        raise CheckpointError(
            f'has format version {version}, this package reads up to {newest}; upgrade '
            'grasp_success_detector')
    sha256 = document.get('sha256')
    if not isinstance(sha256, str):
        raise CheckpointError('its metadata holds no SHA-256')
    return document, sha256


def check_tensors(tensors: 'Mapping[str, torch.Tensor]',
                  expected: 'Mapping[str, torch.Tensor]', whose: str) -> None:
    """
    Raise a CheckpointError for tensors that are missing, unexpected, of another shape or type.

    :param whose: name of the model that has the ``expected`` tensors.
    """
    faults = {
        'missing': expected.keys() - tensors.keys(),
        'unexpected': tensors.keys() - expected.keys(),
        'of another shape or type': {
            f'{name} ({_kind(tensors[name])}, expected {_kind(expected[name])})'
            for name in expected.keys() & tensors.keys()
            if _kind(tensors[name]) != _kind(expected[name])}}
    if any(faults.values()):
        found = '; '.join(f'{fault}: {_list(names)}' for fault, names in faults.items() if names)
        raise CheckpointError(f'its tensors are not those of {whose}; {found}')


def check_document(document: Mapping[str, Any], sha256: str) -> None:
    """Raise a CheckpointError for a document with another hash (:func:`document_sha256`)."""
    if (actual := document_sha256(document)) != sha256:
        raise CheckpointError(
            f'its metadata was damaged or changed: the SHA-256 is {actual}, the file says '
            f'{sha256}; copy or train it again')


def check_intact(tensors: 'Mapping[str, torch.Tensor | NDArray[Any]]',
                 sha256: object) -> None:
    """Raise a CheckpointError for tensors with another hash, or with NaN or infinite values."""
    if (actual := tensors_sha256(tensors)) != sha256:
        raise CheckpointError(
            f'damaged: the SHA-256 of its tensors is {actual}, the file says {sha256}; copy or '
            'train it again')
    if bad := {name for name, tensor in tensors.items() if not _finite(tensor)}:
        raise CheckpointError(f'holds weights that are not finite (NaN or infinite): {_list(bad)}')


def _bytes(tensor: 'torch.Tensor | NDArray[Any]') -> NDArray[np.uint8]:
    if isinstance(tensor, np.ndarray):
        return np.ascontiguousarray(tensor).reshape(-1).view(np.uint8)
    import torch

    content: NDArray[np.uint8] = (
        tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return content


def _finite(tensor: 'torch.Tensor | NDArray[Any]') -> bool:
    if isinstance(tensor, np.ndarray):
        return bool(np.isfinite(tensor).all())
    return bool(tensor.isfinite().all())


def _check_file(path: Path, expected: str) -> None:
    """Refuse what is not a safetensors file, saying what it is instead."""
    if path.is_dir() or not path.exists():
        raise CheckpointError(f'{path}: {"is a folder" if path.is_dir() else "no such file"}; '
                              f'expected {expected}')
    if is_pickle(path):
        raise CheckpointError(
            f'{path}: is a legacy PyTorch checkpoint (pickle), which is never loaded directly; '
            'import it once, explicitly, with import_checkpoint')
    start = _start(path)
    if not start:
        raise CheckpointError(f'{path}: is empty; copy or train it again')
    if start[8:] != _HEADER_START or int.from_bytes(start[:8], 'little') >= 100_000_000:
        raise CheckpointError(f'{path}: is no safetensors file; expected {expected}')


def is_pickle(path: Path) -> bool:
    """Return whether a file begins as torch.save writes it, and not as safetensors does."""
    start = _start(path)
    return start.startswith(_PICKLES) and start[8:] != _HEADER_START


def _start(path: Path) -> bytes:
    try:
        check_regular(path)
        with path.open('rb') as file:
            return file.read(9)
    except OSError as error:
        raise CheckpointError(f'{path}: cannot be read: {error.strerror}') from error


def _kind(tensor: 'torch.Tensor') -> str:
    return f'{str(tensor.dtype).removeprefix("torch.")} {list(tensor.shape)}'


def _list(names: set[str]) -> str:
    shown = sorted(names)[:_MOST_NAMED]
    more = len(names) - len(shown)
    return ', '.join(shown) + (f' and {more} more' if more else '')
