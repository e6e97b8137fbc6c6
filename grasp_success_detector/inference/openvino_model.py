"""
A network as OpenVINO has it: converted from torch once, kept in one file that cannot be mistaken.

The file is safetensors, like a checkpoint: the model's two parts as bytes and torch's answers to
two pictures, with a hash of them and the identity of the checkpoint that they were made of. Who
reads it needs no torch.
"""

from importlib.metadata import version
from importlib.util import find_spec
import os
from pathlib import Path
import sys
import tempfile
from typing import Any, NamedTuple
import warnings

import numpy as np
from numpy.typing import NDArray

from grasp_success_detector.errors import CheckpointError
from grasp_success_detector.inference.engine import identity
from grasp_success_detector.inference.proof import torchs_logits
from grasp_success_detector.networks.checkpoint import Checkpoint
from grasp_success_detector.networks.tensors_file import (
    check_intact,
    read_arrays,
    read_document,
    write_tensors,
)

_KEY = 'grasp_success_detector_openvino'
_FORMAT_VERSION = 2  # to be raised whenever the conversion changes: it is part of the cache's key
_KEPT = 8


class Converted(NamedTuple):
    """
    What a file holds.

    :ivar model: an ``openvino.Model``.
    :ivar expected: torch's answers in fp32 to ``likeness.pictures``, float32 (2, 2).
    :ivar sha256: of the content, hexadecimal.
    """

    model: Any
    expected: NDArray[np.float32]
    sha256: str


def installed() -> bool:
    """Say whether OpenVINO is there, without loading it."""
    return find_spec('openvino') is not None


def load_openvino() -> Any:
    """Import OpenVINO, and keep it from reporting to its makers, which it does by default."""
    if 'openvino' not in sys.modules:
        sys.modules.setdefault('openvino_telemetry', None)  # type: ignore[arg-type]
    import openvino

    return openvino


def convert(checkpoint: Checkpoint) -> Any:
    """
    Convert to an ``openvino.Model`` that takes uint8 (1, H, W, 3), RGB, and gives logits (1, 2).

    :raises CheckpointError: OpenVINO cannot express this network.
    """
    import torch

    from grasp_success_detector.inference.torch_network import FromPixels

    openvino = load_openvino()
    size = checkpoint.metadata.preprocessing
    shape = (1, size.height, size.width, 3)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # of tracing branches that depend on the size only
            return openvino.convert_model(
                FromPixels(checkpoint).eval(), example_input=torch.zeros(shape, dtype=torch.uint8),
                input=[(list(shape), openvino.Type.u8)])
    except Exception as error:  # its converter raises what its parts raised
        raise CheckpointError(
            f'OpenVINO {openvino.__version__} cannot convert {checkpoint.metadata.architecture} '
            f'({type(error).__name__})') from error


def write_model(path: Path, model: Any, checkpoint: Checkpoint,
                overwrite: bool) -> str:
    """
    Write an ``openvino.Model`` into one file, which appears whole or not at all.

    :returns: the SHA-256 of its content, hexadecimal.
    :raises CheckpointError: the file exists, or cannot be written.
    """
    import torch

    openvino = load_openvino()
    with tempfile.TemporaryDirectory() as folder:
        xml = Path(folder) / 'model.xml'
        openvino.save_model(model, xml, compress_to_fp16=False)
        parts = {suffix: torch.from_numpy(np.fromfile(xml.with_suffix(f'.{suffix}'), np.uint8))
                 for suffix in ('xml', 'bin')}
    parts['expected'] = torch.from_numpy(torchs_logits(checkpoint))
    document = {'format_version': _FORMAT_VERSION, 'identity': identity(checkpoint)}
    return write_tensors(path, parts, _KEY, document,
                         lambda written: read_model(written, checkpoint), overwrite)


def read_model(path: Path, checkpoint: Checkpoint) -> Converted:
    """
    Read what :func:`write_model` wrote.

    :raises CheckpointError: missing, damaged, foreign, or made of another checkpoint.
    """
    openvino = load_openvino()
    header, parts = read_arrays(path)
    try:
        if _KEY not in header:
            raise CheckpointError('holds no model of OpenVINO')
        document, sha256 = read_document(header[_KEY], _FORMAT_VERSION)
        if document != {'format_version': _FORMAT_VERSION, 'identity': identity(checkpoint)}:
            raise CheckpointError('was made of another checkpoint, or by another version')
        check_intact(parts, sha256)
    except CheckpointError as error:
        raise CheckpointError(f'{path}: {error}') from error
    try:
        model = openvino.Core().read_model(
            parts['xml'].tobytes().decode(), openvino.Tensor(parts['bin']))
    except Exception as error:  # of a model that is newer than this OpenVINO
        raise CheckpointError(
            f'{path}: OpenVINO {openvino.__version__} cannot read it') from error
    return Converted(model, parts['expected'], sha256)


def converted(checkpoint: Checkpoint) -> Converted:
    """
    Convert, or read what an earlier conversion left in the user's cache folder.

    What is damaged, or of another checkpoint or version, is made again. A cache that cannot be
    written is done without.

    :raises CheckpointError: OpenVINO cannot express this network.
    """
    # The name tells versions apart, so that two of them do not overwrite each other's all the time
    versions = '_'.join(f'{name}-{version(name)}' for name in ('openvino', 'torch'))
    path = cache_folder() / (
        f'{identity(checkpoint)[:32]}_{versions}_{_FORMAT_VERSION}.safetensors')
    try:
        return read_model(path, checkpoint)
    except CheckpointError:
        model = convert(checkpoint)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_model(path, model, checkpoint, overwrite=True)
        for old in sorted(path.parent.glob('*.safetensors'), key=_age)[_KEPT:]:
            old.unlink(missing_ok=True)
        return read_model(path, checkpoint)
    except (OSError, CheckpointError):
        return Converted(model, torchs_logits(checkpoint), '')


def cache_folder() -> Path:
    """Return where converted networks are kept, by the XDG base directory specification."""
    base = os.environ.get('XDG_CACHE_HOME', '')
    return (Path(base) if Path(base).is_absolute() else Path.home() / '.cache'
            ) / 'grasp_success_detector' / 'openvino'


def int8_path(checkpoint: Path) -> Path:
    """Return where the int8 model of a checkpoint file lies."""
    return checkpoint.with_suffix('.int8.safetensors')


def _age(path: Path) -> float:
    try:
        return -path.stat().st_mtime
    except OSError:  # gone meanwhile
        return 0.
