"""
Intel's OpenVINO: the fastest engine on CPUs, AMD's too; also runs on Intel's GPUs and NPUs.

A network is converted from torch once and kept in one safetensors file: the two parts of
OpenVINO's model as bytes, torch's logits of two probe images, a hash of these, and the identity of
the checkpoint. Reading it needs no torch.
"""

from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
import sys
from typing import Any
import warnings

import numpy as np
from numpy.typing import NDArray

from grasp_success_detector import files
from grasp_success_detector.errors import CheckpointError, ConfigError, one_line
from grasp_success_detector.inference.engine import (
    Engine,
    identity,
    int8_path,
    observed_module,
    Precision,
)
from grasp_success_detector.inference.torch_engine import reference_logits
from grasp_success_detector.networks import tensors_file
from grasp_success_detector.networks.checkpoint import Checkpoint

_DEVICES = ('cpu', 'gpu', 'npu')

# OpenVINO's names of the types that it may compute in; int8 is a property of the model itself.
_TYPES = {Precision.FP32: 'f32', Precision.BF16: 'bf16', Precision.FP16: 'f16',
          Precision.INT8: 'f32'}

_KEY = 'grasp_success_detector_openvino'
_FORMAT_VERSION = 2  # to be raised whenever the conversion changes: it is part of the cache's key
_CACHED_MODELS = 8


class OpenVinoEngine(Engine):
    """Runs a model converted from torch, which comes from a cache after the first start."""

    name = 'openvino'
    speed = {Precision.FP32: 2., Precision.FP16: 3.5, Precision.BF16: 4., Precision.INT8: 6.}

    def __init__(self, checkpoint: Checkpoint, precision: Precision = Precision.FP32,
                 device: str = 'cpu', threads: int | None = None) -> None:
        super().__init__(checkpoint, precision, device, threads)
        options: dict[str, Any] = {
            'PERFORMANCE_HINT': 'LATENCY', 'INFERENCE_PRECISION_HINT': _TYPES[precision]}
        if threads is not None and device == 'cpu':
            options['INFERENCE_NUM_THREADS'] = threads
        openvino = load_openvino()
        try:
            if precision is Precision.INT8 and checkpoint.path is not None:
                model, self.reference, self.artifact = read_model(
                    int8_path(checkpoint.path), checkpoint)
            else:
                model, self.reference, _ = converted(checkpoint)
            if module := observed_module(checkpoint.metadata):
                _add_output(model, module)
            compiled = openvino.Core().compile_model(model, device.upper(), options)
        except CheckpointError as error:
            raise ConfigError(str(error)) from error
        except RuntimeError as error:  # of the device's compiler
            raise ConfigError(f'cannot run this network ({one_line(error)})') from error
        # A device that lacks a precision silently uses another one.
        used = compiled.get_property('INFERENCE_PRECISION_HINT').to_string()
        if used != _TYPES[precision]:
            raise ConfigError(f'openvino computes in {used} on {device} when asked for '
                              f'{precision.value}; choose another precision')
        self._observes = module is not None
        self._request = compiled.create_infer_request()
        self._input = self._request.get_input_tensor(0).data    # uint8 (1, H, W, 3)

    @classmethod
    def unsupported(cls, precision: Precision, device: str) -> str | None:
        """Return a reason if OpenVINO is missing or lacks the device or precision, else None."""
        if device.partition('.')[0] not in _DEVICES:
            return f'runs on {", ".join(_DEVICES)}, not on {device!r}'
        if not installed():
            return 'not installed (pip install openvino)'
        try:
            core = load_openvino().Core()
            there = [name.lower() for name in core.available_devices]
            known = core.get_property(device.upper(), 'OPTIMIZATION_CAPABILITIES') if (
                device in there or f'{device}.0' in there) else None
        except Exception as error:  # noqa: BLE001 - a broken installation or driver, in its own words
            return f'cannot be used here ({one_line(error)})'
        if known is None:
            return f'finds no {device!r} here, only {", ".join(there)}'
        if precision.name not in known and precision is not Precision.FP32:
            return f'{device} has no {precision.value}'
        return None

    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Run frame by frame: batches are no faster on the devices that OpenVINO is for."""
        out, pooled = [], []
        for i in range(len(images)):
            # A copy of so few pixels takes less time than to give the request another array.
            np.copyto(self._input, images[i:i + 1])
            self._request.infer()
            out.append(self._request.get_output_tensor(0).data.reshape(-1).copy())
            if self._observes:
                pooled.append(self._request.get_output_tensor(1).data[0].mean((1, 2)))
        logits = np.stack(out)
        if pooled:
            self._observe(np.stack(pooled), logits)
        return logits


def installed() -> bool:
    """Return whether OpenVINO is installed, without loading it."""
    return find_spec('openvino') is not None


def load_openvino() -> Any:
    """Import OpenVINO without its telemetry, which it sends by default."""
    if 'openvino' not in sys.modules:
        sys.modules.setdefault('openvino_telemetry', None)  # type: ignore[arg-type]
    import openvino

    return openvino


def _add_output(model: Any, module: str) -> None:
    """Add a module's output to those of a converted model, whose file need not change for it."""
    names = f'__module.model.{module}/'
    found = [node for node in model.get_ordered_ops()
             if node.get_friendly_name().startswith(names)
             and node.get_type_name() in ('Add', 'FakeQuantize')]
    if not found:
        raise CheckpointError(f'the converted model has no part {module}, by which familiarity is '
                              'told')
    model.add_outputs([found[-1].output(0)])


def convert(checkpoint: Checkpoint, network: Any = None) -> Any:
    """
    Convert a network to an ``openvino.Model``: RGB uint8 (1, H, W, 3) in, logits (1, 2) out.

    :param network: a module that takes and returns more than the checkpoint's PixelNetwork.
    :raises CheckpointError: OpenVINO cannot express this network.
    """
    import torch

    from grasp_success_detector.inference.torch_network import PixelNetwork

    openvino = load_openvino()
    size = checkpoint.metadata.preprocessing
    shape = (1, size.height, size.width, 3)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # of tracing branches that depend on the size only
            return openvino.convert_model(
                (network or PixelNetwork(checkpoint)).eval(),
                example_input=torch.zeros(shape, dtype=torch.uint8),
                input=[(list(shape), openvino.Type.u8)])
    except Exception as error:  # its converter raises what its parts raised
        raise CheckpointError(
            f'OpenVINO {openvino.__version__} cannot convert {checkpoint.metadata.architecture} '
            f'({type(error).__name__})') from error


#: An ``openvino.Model``, the reference logits (:class:`~.engine.Engine`), and the SHA-256 of both.
ConvertedModel = tuple[Any, NDArray[np.float32], str]


def write_model(path: Path, model: Any, checkpoint: Checkpoint, overwrite: bool) -> None:
    """Write an ``openvino.Model`` into one file, whole or not at all; else CheckpointError."""
    import torch

    with files.unfinished(path) as folder:
        xml = folder / 'model.xml'
        try:
            folder.mkdir()
            with files.disk_faults(path):
                load_openvino().save_model(model, xml, compress_to_fp16=False)
            parts = {suffix: torch.from_numpy(np.fromfile(xml.with_suffix(f'.{suffix}'), np.uint8))
                     for suffix in ('xml', 'bin')}
        except OSError as error:
            raise CheckpointError(f'{path}: cannot be written ({files.fault_text(error, path)})'
                                  ) from error
    parts['expected'] = torch.from_numpy(reference_logits(checkpoint))
    tensors_file.write_tensors(
        path, parts, _KEY,
        {**_document(checkpoint), 'sha256': tensors_file.tensors_sha256(parts)},
        lambda written: read_model(written, checkpoint), overwrite)


def read_model(path: Path, checkpoint: Checkpoint) -> ConvertedModel:
    """Read a file of write_model; CheckpointError if damaged or from another checkpoint."""
    openvino = load_openvino()
    header, parts = tensors_file.read_tensors(path)
    try:
        if _KEY not in header:
            raise CheckpointError('holds no model of OpenVINO')
        document, sha256 = tensors_file.read_document(header[_KEY], _FORMAT_VERSION)
        if document != {**_document(checkpoint), 'sha256': sha256}:
            raise CheckpointError('was made of another checkpoint, or by another version')
        tensors_file.check_intact(parts, sha256)
        model = openvino.Core().read_model(
            parts['xml'].tobytes().decode(), openvino.Tensor(parts['bin']))
    except CheckpointError as error:
        raise CheckpointError(f'{path}: {error}') from error
    except Exception as error:  # of a model that is newer than this OpenVINO
        raise CheckpointError(
            f'{path}: OpenVINO {openvino.__version__} cannot read it') from error
    return model, parts['expected'], sha256


def _document(checkpoint: Checkpoint) -> dict[str, Any]:
    return {'format_version': _FORMAT_VERSION, 'identity': identity(checkpoint)}


def converted(checkpoint: Checkpoint) -> ConvertedModel:
    """
    Return the converted network, from the user's cache folder if an earlier conversion is there.

    A file that is damaged, or of another checkpoint or version, is replaced. Where the cache
    cannot be written, the network is converted at every start.

    :raises CheckpointError: OpenVINO cannot express this network.
    """
    # With the versions in the name, two installations do not replace each other's files.
    versions = '_'.join(f'{name}-{version(name)}' for name in ('openvino', 'torch'))
    folder = files.cache_folder('openvino')
    path = folder / f'{identity(checkpoint)[:32]}_{versions}_{_FORMAT_VERSION}.safetensors'
    try:
        return read_model(path, checkpoint)
    except CheckpointError:
        model = convert(checkpoint)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_model(path, model, checkpoint, overwrite=True)
        newest_first = sorted(folder.glob('*.safetensors'),
                              key=lambda file: file.stat().st_mtime, reverse=True)
        for old in newest_first[_CACHED_MODELS:]:
            old.unlink(missing_ok=True)
        return read_model(path, checkpoint)
    except (OSError, CheckpointError):
        return model, reference_logits(checkpoint), ''
