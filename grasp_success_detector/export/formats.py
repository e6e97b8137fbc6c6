"""Export a checkpoint to ONNX and OpenVINO IR, and quantize it to int8 for OpenVINO."""

from collections.abc import Callable
from importlib.util import find_spec
import json
import logging
import os
from pathlib import Path
import tempfile
from typing import Any
import warnings

import numpy as np
from numpy.typing import NDArray
import torch

from grasp_success_detector.datasets.dataset import read_extracted
from grasp_success_detector.errors import CheckpointError, DatasetError, ExportError, one_line
from grasp_success_detector.export.agreement import batches, Images
from grasp_success_detector.inference.engine import int8_path
from grasp_success_detector.inference.openvino_engine import (
    convert,
    installed,
    load_openvino,
    write_model,
)
from grasp_success_detector.inference.torch_engine import TorchEngine
from grasp_success_detector.inference.torch_network import PixelNetwork
from grasp_success_detector.networks.checkpoint import Checkpoint

#: Key of the JSON document in both formats that says how to use the network.
METADATA_KEY = 'grasp_success_detector'

#: NNCF's own default; more frames change little.
CALIBRATION_FRAMES = 300

# Of logits, relative to the largest: what another order of additions changes, and no more.
_TOLERANCE = 1e-3

Logits = NDArray[np.float32]


def export_onnx(checkpoint: Checkpoint, out: Path, images: Images, overwrite: bool) -> float:
    """
    Write ONNX: input ``frames``, RGB uint8 (N, H, W, 3), output ``logits`` (N, 2).

    :param images: on which the logits are compared with torch's.
    :returns: the largest difference of a logit.
    :raises ExportError: onnx or onnxruntime is missing, the file exists or cannot be written, or
        the logits differ.
    """
    if find_spec('onnx') is None or find_spec('onnxruntime') is None:
        raise ExportError('ONNX needs two more packages; pip install onnx onnxruntime')

    def write(path: Path) -> Logits:
        import onnx
        import onnxruntime

        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # of tracing branches that depend on the size only
            torch.onnx.export(
                PixelNetwork(checkpoint).eval(), (torch.from_numpy(images[:1]),), str(path),
                input_names=['frames'], output_names=['logits'], dynamo=False,
                dynamic_axes={'frames': {0: 'N'}, 'logits': {0: 'N'}}, opset_version=17)
        model = onnx.load(str(path))
        onnx.helper.set_model_props(model, {METADATA_KEY: describe(checkpoint)})
        onnx.save(model, str(path))
        session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
        return np.asarray(session.run(['logits'], {'frames': images})[0], np.float32)

    return _export(checkpoint, out, ('.onnx',), images, overwrite, write)


def export_openvino(checkpoint: Checkpoint, out: Path, images: Images, overwrite: bool) -> float:
    """
    Write OpenVINO IR (``.xml`` and ``.bin``) in fp32: RGB uint8 (1, H, W, 3) to logits (1, 2).

    Parameters, result and errors are those of :func:`export_onnx`.
    """
    if not installed():
        raise ExportError('OpenVINO is not installed; pip install openvino')

    def write(path: Path) -> Logits:
        openvino, model = load_openvino(), convert(checkpoint)
        model.set_rt_info(describe(checkpoint), [METADATA_KEY])
        openvino.save_model(model, path, compress_to_fp16=False)
        compiled: Any = openvino.Core().compile_model(
            path, 'CPU', {'INFERENCE_PRECISION_HINT': 'f32'})
        return np.concatenate([compiled([image[None]])[0] for image in images])

    return _export(checkpoint, out, ('.xml', '.bin'), images, overwrite, write)


def describe(checkpoint: Checkpoint) -> str:
    """Return how to use the exported network, as JSON."""
    metadata = checkpoint.metadata
    return json.dumps({
        'architecture': metadata.architecture, 'sha256': checkpoint.sha256,
        'class_names': list(metadata.class_names), 'threshold': metadata.threshold,
        'temperature': metadata.temperature,
        'preprocessing': metadata.preprocessing.to_metadata(),
        'input': 'RGB uint8 (N, height, width, 3): the roi, of it the largest centred rectangle '
                 "of the input's aspect ratio, scaled to height x width (by area when shrinking); "
                 'mean and std are applied inside',
        'output': 'logits (N, 2); P(success) = softmax(logits / temperature)[1]'})


def _export(checkpoint: Checkpoint, out: Path, suffixes: tuple[str, ...], images: Images,
            overwrite: bool, write: Callable[[Path], Logits]) -> float:
    """
    Write to a temporary folder, compare, move: the files appear only if they are right.

    :param write: writes a file and returns the logits that it then gives.
    """
    if out.suffix != suffixes[0]:
        raise ExportError(f'{out}: expected a name that ends in {suffixes[0]}')
    files = [out.with_suffix(suffix) for suffix in suffixes]
    expected = TorchEngine(checkpoint).logits(images)
    try:
        if not overwrite and (there := [str(file) for file in files if file.exists()]):
            raise ExportError(f'{", ".join(there)}: exists already; replace it with --overwrite')
        with tempfile.TemporaryDirectory(prefix=f'.{out.name}.', dir=out.parent) as folder:
            difference = float(abs(write(Path(folder) / out.name) - expected).max())
            if not difference <= _TOLERANCE * max(1., float(abs(expected).max())):
                raise ExportError(f'{out}: not written: its logits differ from those of torch by '
                                  f'{difference:.3g} on real frames')
            for file in reversed(files):  # what refers to the other comes last
                os.replace(Path(folder) / file.name, file)
    except OSError as error:
        raise ExportError(f'{out}: cannot be written: {error.strerror}') from error
    except RuntimeError as error:  # of exporters and runtimes, with pages of text
        raise ExportError(f'{out}: not written: {checkpoint.metadata.architecture} cannot be '
                          f'exported ({one_line(error)})') from error
    return difference


def calibrate(path: Path, dataset: Path, overwrite: bool = False) -> Path:
    """
    Write the int8 model of a checkpoint beside it.

    :param path: checkpoint file.
    :param dataset: folder of extract_frames, on whose training frames int8 is calibrated.
    :returns: the file written.
    :raises ExportError: OpenVINO or NNCF is not installed, or fails.
    :raises CheckpointError: the checkpoint cannot be used, or the file exists.
    :raises DatasetError: the data set cannot be used, or has no training frames.
    """
    if not installed() or find_spec('nncf') is None:
        raise ExportError('int8 needs OpenVINO and NNCF; pip install openvino nncf')
    checkpoint, out = Checkpoint.open(path), int8_path(path)
    if out.exists() and not overwrite:
        raise CheckpointError(f'{out}: exists already; replace it with --overwrite')
    frames = read_extracted(dataset).train
    if not frames:
        raise DatasetError(f'{dataset}: has no training frames; int8 is calibrated on them')
    chosen = frames[::-(-len(frames) // CALIBRATION_FRAMES)]
    images = list(batches(chosen, checkpoint.metadata.preprocessing, 1))
    write_model(out, quantized(checkpoint, images), checkpoint, overwrite)
    return out


def quantized(checkpoint: Checkpoint, images: list[Images]) -> Any:
    """
    Return an ``openvino.Model`` in int8 that takes and gives what :func:`convert`'s does.

    :param images: to calibrate on, RGB uint8 (1, H, W, 3) each.
    :raises ExportError: NNCF fails.
    """
    load_openvino()  # first, and without its reports
    import nncf

    logging.getLogger('nncf').setLevel(logging.ERROR)
    try:
        return nncf.quantize(
            convert(checkpoint), nncf.Dataset(images), subset_size=len(images),
            preset=nncf.QuantizationPreset.MIXED,
            fast_bias_correction=False)  # half the error, in twice the time
    except (RuntimeError, ValueError, nncf.ValidationError) as error:
        raise ExportError(f'NNCF cannot quantize this network ({one_line(error)})') from error
