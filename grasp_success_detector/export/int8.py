"""An int8 model for OpenVINO, calibrated on training frames."""

from importlib.util import find_spec
import logging
from pathlib import Path
from typing import Any

from grasp_success_detector.checkpoint import Checkpoint, load
from grasp_success_detector.data.extracted import read_extracted
from grasp_success_detector.engines.openvino_model import (
    convert,
    installed,
    int8_path,
    load_openvino,
    write_model,
)
from grasp_success_detector.errors import CheckpointError, DatasetError, ExportError, one_line
from grasp_success_detector.export.frames import batches, Images, spread

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
    checkpoint = load(path)
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
