"""An int8 model for OpenVINO, calibrated on training frames."""


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
from grasp_success_detector.export.agreement import batches, Images, spread
from grasp_success_detector.inference.engine import Precision, Wanted
from grasp_success_detector.inference.openvino_model import (
    convert,
    installed,
    int8_path,
    load_openvino,
    write_model,
)
from grasp_success_detector.inference.torch_engine import TorchEngine
from grasp_success_detector.inference.torch_network import FromPixels
from grasp_success_detector.networks.checkpoint import Checkpoint

#: Under this key both formats hold what is needed to use them, as JSON.
METADATA_KEY = 'grasp_success_detector'

# Of logits, relative to the largest: what the order of additions changes, and no more.
_TOLERANCE = 1e-3

Logits = NDArray[np.float32]


def export_onnx(checkpoint: Checkpoint, out: Path, images: Images, overwrite: bool) -> float:
    """
    Write ONNX: input ``frames``, uint8 (N, H, W, 3) RGB, output ``logits`` (N, 2).

    :param images: to compare on, RGB uint8 (N, H, W, 3) of the network's input size.
    :returns: largest difference of a logit from torch's.
    :raises ExportError: onnx or onnxruntime are missing, the file exists, or the answers differ.
    """
    if find_spec('onnx') is None or find_spec('onnxruntime') is None:
        raise ExportError('ONNX needs two more packages; pip install onnx onnxruntime')

    def write(path: Path) -> None:
        import onnx

        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # of tracing branches that depend on the size only
            torch.onnx.export(
                FromPixels(checkpoint).eval(), (torch.from_numpy(images[:1]),), str(path),
                input_names=['frames'], output_names=['logits'], dynamo=False,
                dynamic_axes={'frames': {0: 'N'}, 'logits': {0: 'N'}}, opset_version=17)
        model = onnx.load(str(path))
        onnx.helper.set_model_props(model, {METADATA_KEY: describe(checkpoint)})
        onnx.save(model, str(path))

    def run(path: Path) -> Logits:
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
        return np.asarray(session.run(['logits'], {'frames': images})[0], np.float32)

    return _export(checkpoint, out, ('.onnx',), images, overwrite, write, run)


def export_openvino(checkpoint: Checkpoint, out: Path, images: Images, overwrite: bool) -> float:
    """
    Write OpenVINO IR (``.xml`` and ``.bin``): uint8 (1, H, W, 3) RGB to logits (1, 2), in fp32.

    Parameters, result and errors as of :func:`export_onnx`.
    """
    if not installed():
        raise ExportError('OpenVINO is not installed; pip install openvino')

    def write(path: Path) -> None:
        model = convert(checkpoint)
        model.set_rt_info(describe(checkpoint), [METADATA_KEY])
        load_openvino().save_model(model, path, compress_to_fp16=False)

    def run(path: Path) -> Logits:
        core = load_openvino().Core()
        compiled: Any = core.compile_model(path, 'CPU', {'INFERENCE_PRECISION_HINT': 'f32'})
        return np.concatenate([compiled([image[None]])[0] for image in images])

    return _export(checkpoint, out, ('.xml', '.bin'), images, overwrite, write, run)


def describe(checkpoint: Checkpoint) -> str:
    """Return what a user of the exported network needs to know, as JSON."""
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
            overwrite: bool, write: Callable[[Path], None],
            run: Callable[[Path], Logits]) -> float:
    """Write beside the place, compare, move: the files appear only if they are right."""
    if out.suffix != suffixes[0]:
        raise ExportError(f'{out}: expected a name that ends in {suffixes[0]}')
    files = [out.with_suffix(suffix) for suffix in suffixes]
    if not overwrite and (there := [str(file) for file in files if file.exists()]):
        raise ExportError(f'{", ".join(there)}: exists already; replace it with --overwrite')
    engine = TorchEngine(Wanted(checkpoint, None, Precision.FP32, 'cpu', None))
    try:
        with tempfile.TemporaryDirectory(prefix=f'.{out.name}.', dir=out.parent) as folder:
            unfinished = Path(folder) / out.name
            write(unfinished)
            expected = engine.logits(images)
            difference = float(abs(run(unfinished) - expected).max())
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


#: NNCF's own default; more change little.
CALIBRATION_FRAMES = 300


def calibrate(path: Path, dataset: Path, overwrite: bool = False) -> Path:
    """
    Write the int8 model of a checkpoint beside it.

    :param path: checkpoint file.
    :param dataset: of extract_frames; its training frames are taken.
    :returns: the file written.
    :raises ExportError: OpenVINO or NNCF are not installed, or fail.
    :raises CheckpointError: the checkpoint cannot be used, or the file exists.
    :raises DatasetError: the data set cannot be used, or has no training frames.
    """
    if not installed() or find_spec('nncf') is None:
        raise ExportError('int8 needs OpenVINO and NNCF; pip install openvino nncf')
    out = int8_path(path)
    if out.exists() and not overwrite:
        raise CheckpointError(f'{out}: exists already; replace it with --overwrite')
    checkpoint = Checkpoint.open(path)
    frames = spread(read_extracted(dataset).train, CALIBRATION_FRAMES)
    if not frames:
        raise DatasetError(f'{dataset}: has no training frames; int8 is calibrated on them')
    images = list(batches(frames, checkpoint.metadata.preprocessing, 1))
    write_model(out, quantized(checkpoint, images), checkpoint, overwrite)
    return out


def quantized(checkpoint: Checkpoint, images: list[Images]) -> Any:
    """
    Return an ``openvino.Model`` in int8, as :func:`~.openvino_model.convert` gives it in fp32.

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
