"""Export a checkpoint to ONNX and OpenVINO IR, and quantize it to int8 for OpenVINO."""

from dataclasses import asdict
from importlib.util import find_spec
import json
import logging
import os
from pathlib import Path
from typing import Any
import warnings

import numpy as np
from numpy.typing import NDArray
import torch

from grasp_success_detector.datasets.dataset import read_extracted
from grasp_success_detector.errors import CheckpointError, DatasetError, ExportError, one_line
from grasp_success_detector.export.agreement import batches, Images
from grasp_success_detector.files import disk_faults, fault_text, unfinished
from grasp_success_detector.inference import openvino_engine
from grasp_success_detector.inference.engine import int8_path
from grasp_success_detector.inference.torch_engine import TorchEngine
from grasp_success_detector.inference.torch_network import PixelNetwork
from grasp_success_detector.networks.checkpoint import Checkpoint
from grasp_success_detector.networks.familiarity import (
    Familiarity,
    FAMILIARITY_QUANTILE,
    HIGHEST_EXPONENT,
    SHARES,
)

#: Key of the JSON document in both formats that says how to use the network.
METADATA_KEY = 'grasp_success_detector'

#: Names of the outputs in both formats; the second one only of checkpoints with a familiarity.
OUTPUTS = ['logits', 'familiarity']

#: NNCF's own default; more frames change little.
CALIBRATION_FRAMES = 300

# Of logits, relative to the largest: what another order of additions changes, and no more.
_TOLERANCE = 1e-3


class ExportedNetwork(PixelNetwork):
    """
    A checkpoint's network, and beside the logits (B, 2) the familiarity (B,) of the images.

    The familiarity is that of ``Familiarity.of``, in float32.
    """

    mean: torch.Tensor
    projection: torch.Tensor
    prototypes: torch.Tensor
    scale: torch.Tensor

    def __init__(self, checkpoint: Checkpoint, known: Familiarity) -> None:
        super().__init__(checkpoint)
        for name in ('mean', 'projection', 'prototypes', 'scale'):
            self.register_buffer(name, torch.tensor(getattr(known, name)))
        self._hand = known.hand
        self._maps: list[torch.Tensor] = []
        self.model.get_submodule(known.module).register_forward_hook(
            lambda module, given, output: self._maps.append(output))

    def forward(self, images: torch.Tensor) -> Any:
        """Return logits and familiarity of images, RGB uint8 (B, H, W, 3)."""
        self._maps.clear()
        logits = super().forward(images)
        projected = (self._maps[0].mean((2, 3)) - self.mean) @ self.projection       # (B, K)
        squares = ((projected[:, None] - self.prototypes) ** 2).sum(2) * self.scale  # (B, P)
        familiarity = -squares.min(1).values
        if self._hand is not None:
            below = (self._hand - logits.mean(1)).clamp(max=HIGHEST_EXPONENT)
            familiarity = torch.minimum(familiarity, -below.exp())
        return logits, familiarity


def _network(checkpoint: Checkpoint) -> PixelNetwork:
    known = checkpoint.metadata.familiarity
    return PixelNetwork(checkpoint) if known is None else ExportedNetwork(checkpoint, known)


def export(checkpoint: Checkpoint, out: Path, suffix: str, images: Images,
           overwrite: bool) -> float:
    """
    Write the network as ONNX (``.onnx``) or as OpenVINO IR in fp32 (``.xml`` and ``.bin``).

    Its input is RGB uint8 (N, H, W, 3), N = 1 in OpenVINO IR, its output logits (N, 2), and
    familiarity (N,) where the checkpoint has it. The files are kept only if both equal those of
    torch within rounding.

    :param suffix: the format, which must also be the suffix of ``out``.
    :param images: images on which the logits are compared with torch's.
    :returns: the largest absolute difference of a logit.
    :raises ExportError: a package is missing, a file exists or cannot be written, or the logits
        differ.
    """
    if out.suffix != suffix:
        raise ExportError(f'{out}: expected a name that ends in {suffix}')
    write, suffixes = ((_write_onnx, ['.onnx']) if suffix == '.onnx' else
                       (_write_openvino, ['.bin', '.xml']))  # .xml, which refers to .bin, last
    files = [out.with_suffix(suffix) for suffix in suffixes]
    engine, known = TorchEngine(checkpoint), checkpoint.metadata.familiarity
    expected = engine.logits(images)
    familiarity = None if known is None or engine.features is None else known.of(engine.features)
    try:
        if not overwrite and (there := [str(file) for file in files if file.exists()]):
            raise ExportError(f'{", ".join(there)}: exists already; replace it with --overwrite')
        with unfinished(out) as folder:
            folder.mkdir()
            with disk_faults(out):
                logits, *others = write(checkpoint, folder / out.name, images)
            difference = float(abs(logits - expected).max())
            if not difference <= _TOLERANCE * max(1., float(abs(expected).max())):
                raise ExportError(f'{out}: not written: its logits differ from those of torch by '
                                  f'{difference:.3g} on real frames')
            if familiarity is not None and not np.allclose(
                    others[0].reshape(-1), familiarity, rtol=_TOLERANCE, atol=_TOLERANCE):
                raise ExportError(f'{out}: not written: its familiarity differs from that of '
                                  'torch on real frames')
            for file in files:
                os.replace(folder / file.name, file)
    except OSError as error:
        raise ExportError(f'{out}: cannot be written: {fault_text(error, out)}') from error
    except RuntimeError as error:  # of exporters and runtimes, with pages of text
        raise ExportError(f'{out}: not written: {checkpoint.metadata.architecture} cannot be '
                          f'exported ({one_line(error)})') from error
    return difference


def _write_onnx(checkpoint: Checkpoint, path: Path, images: Images) -> list[NDArray[np.float32]]:
    """Write ONNX with the input ``frames``; return its outputs for the images."""
    if find_spec('onnx') is None or find_spec('onnxruntime') is None:
        raise ExportError('ONNX needs two more packages; pip install onnx onnxruntime')
    import onnx
    import onnxruntime

    outputs = OUTPUTS[:1 if checkpoint.metadata.familiarity is None else 2]
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of tracing branches that depend on the size only
        torch.onnx.export(
            _network(checkpoint).eval(), (torch.from_numpy(images[:1]),), str(path),
            input_names=['frames'], output_names=outputs, dynamo=False,
            dynamic_axes={name: {0: 'N'} for name in ('frames', *outputs)}, opset_version=17)
    model = onnx.load(str(path))
    onnx.helper.set_model_props(model, {METADATA_KEY: describe(checkpoint)})
    onnx.save(model, str(path))
    session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    return [np.asarray(part, np.float32) for part in session.run(outputs, {'frames': images})]


def _write_openvino(checkpoint: Checkpoint, path: Path, images: Images,
                    ) -> list[NDArray[np.float32]]:
    """Write OpenVINO IR; return its outputs for the images."""
    if not openvino_engine.installed():
        raise ExportError('OpenVINO is not installed; pip install openvino')
    openvino = openvino_engine.load_openvino()
    model = openvino_engine.convert(checkpoint, _network(checkpoint))
    for output, name in zip(model.outputs, OUTPUTS, strict=False):
        output.get_tensor().set_names({name})
    model.set_rt_info(describe(checkpoint), [METADATA_KEY])
    openvino.save_model(model, path, compress_to_fp16=False)
    compiled: Any = openvino.Core().compile_model(
        path, 'CPU', {'INFERENCE_PRECISION_HINT': 'f32'})
    answers = [[part.copy() for part in compiled([image[None]]).values()] for image in images]
    return [np.concatenate(parts) for parts in zip(*answers, strict=True)]


def describe(checkpoint: Checkpoint) -> str:
    """Return a JSON text that says how to use the exported network."""
    metadata, known = checkpoint.metadata, checkpoint.metadata.familiarity
    return json.dumps({
        'architecture': metadata.architecture, 'sha256': checkpoint.sha256,
        'class_names': list(metadata.class_names), 'threshold': metadata.threshold,
        'temperature': metadata.temperature,
        'preprocessing': asdict(metadata.preprocessing),
        'input': 'RGB uint8 (N, height, width, 3): the roi, of it the largest centred rectangle '
                 "of the input's aspect ratio, scaled to height x width (by area when shrinking); "
                 'mean and std are applied inside',
        'output': 'logits (N, 2); P(success) = softmax(logits / temperature)[1]',
        **({} if known is None else {
            'familiarity': 'second output (N,), 0 or below: a frame below familiarity_limit is '
            'unlike those that the network knows, and its P(success) says nothing',
            'familiarity_limit': known.limit(FAMILIARITY_QUANTILE),
            'familiarity_shares': SHARES, 'familiarity_reached': known.reached})})


def calibrate(path: Path, dataset: Path, overwrite: bool = False) -> Path:
    """
    Write the int8 model of a checkpoint file beside it, and return its path.

    :param dataset: folder that extract_frames wrote; int8 is calibrated on its training frames.
    :raises ExportError: OpenVINO or NNCF is not installed, or fails.
    :raises CheckpointError: the checkpoint cannot be used, or the file exists.
    :raises DatasetError: the data set cannot be used, or has no training frames.
    """
    if not openvino_engine.installed() or find_spec('nncf') is None:
        raise ExportError('int8 needs OpenVINO and NNCF; pip install openvino nncf')
    checkpoint, out = Checkpoint.open(path), int8_path(path)
    if out.exists() and not overwrite:
        raise CheckpointError(f'{out}: exists already; replace it with --overwrite')
    frames = read_extracted(dataset).train
    if not frames:
        raise DatasetError(f'{dataset}: has no training frames; int8 is calibrated on them')
    chosen = frames[::-(-len(frames) // CALIBRATION_FRAMES)]
    images = list(batches(chosen, checkpoint.metadata.preprocessing, 1))
    openvino_engine.write_model(out, quantized(checkpoint, images), checkpoint, overwrite)
    return out


def quantized(checkpoint: Checkpoint, images: list[Images]) -> Any:
    """
    Return an int8 ``openvino.Model``: input RGB uint8 (1, H, W, 3), output logits (1, 2).

    :param images: calibration images, RGB uint8 (1, H, W, 3) each.
    :raises ExportError: NNCF fails.
    """
    openvino_engine.load_openvino()  # first, and without its telemetry
    import nncf

    logging.getLogger('nncf').setLevel(logging.ERROR)
    try:
        return nncf.quantize(
            openvino_engine.convert(checkpoint), nncf.Dataset(images), subset_size=len(images),
            preset=nncf.QuantizationPreset.MIXED,
            fast_bias_correction=False)  # half the error, in twice the time
    except (RuntimeError, ValueError, nncf.ValidationError) as error:
        raise ExportError(f'NNCF cannot quantize this network ({one_line(error)})') from error
