"""Intel's OpenVINO: the fastest on CPUs, also on those of AMD; Intel's GPUs and NPUs as well."""

from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grasp_success_detector.errors import CheckpointError, ConfigError, one_line
from grasp_success_detector.inference.engine import Engine, Precision, Wanted
from grasp_success_detector.inference.openvino_model import (
    converted,
    installed,
    int8_path,
    load_openvino,
    read_model,
)
from grasp_success_detector.labels import Label

_DEVICES = ('cpu', 'gpu', 'npu')
# What OpenVINO calls a precision that it may compute in; int8 is in the model itself.
_TYPES = {Precision.FP32: 'f32', Precision.BF16: 'bf16', Precision.FP16: 'f16',
          Precision.INT8: 'f32'}


class OpenVinoEngine(Engine):
    """Converted from torch when it starts, or read from the cache; one frame at a time."""

    name = 'openvino'
    speed = {Precision.FP32: 1.5, Precision.FP16: 3.5, Precision.BF16: 4., Precision.INT8: 6.}

    def __init__(self, wanted: Wanted) -> None:
        self.precision, self.device = wanted.precision, wanted.device
        if self.precision is Precision.INT8:
            assert wanted.path is not None
            model, self.expected, self.artifact = read_model(
                int8_path(wanted.path), wanted.checkpoint)
        else:
            model, self.expected, _ = converted(wanted.checkpoint)
        options: dict[str, Any] = {
            'PERFORMANCE_HINT': 'LATENCY', 'INFERENCE_PRECISION_HINT': _TYPES[self.precision]}
        if wanted.threads is not None and wanted.device == 'cpu':
            options['INFERENCE_NUM_THREADS'] = wanted.threads
        openvino = load_openvino()
        compiled = openvino.Core().compile_model(model, wanted.device.upper(), options)
        # A device that lacks a precision takes another one without a word.
        taken = compiled.get_property('INFERENCE_PRECISION_HINT').to_string()
        if taken != _TYPES[self.precision]:
            raise ConfigError(f'openvino computes in {taken} on {wanted.device} when asked for '
                              f'{self.precision.value}; choose another precision')
        self._request = compiled.create_infer_request()
        self._input = self._request.get_input_tensor(0).data    # uint8 (1, H, W, 3)

    @classmethod
    def refusal(cls, precision: Precision, device: str) -> str | None:
        """Refuse where OpenVINO is missing, or does not know the device or precision."""
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

    @classmethod
    def fault(cls, wanted: Wanted) -> str | None:
        """Refuse int8 also where nobody has calibrated this checkpoint."""
        fault = super().fault(wanted)
        if fault is None and wanted.precision is Precision.INT8 and (
                wanted.path is None or not int8_path(wanted.path).exists()):
            return ('there is no int8 model beside the checkpoint; make it by '
                    'export_classifier CHECKPOINT --calibrate DATASET')
        return fault

    @classmethod
    def version(cls) -> str:
        """Return OpenVINO's version."""
        return version('openvino')

    @classmethod
    def start(cls, wanted: Wanted) -> 'OpenVinoEngine':
        """Convert or read, and compile for the device."""
        try:
            return cls(wanted)
        except CheckpointError as error:
            raise ConfigError(str(error)) from error
        except RuntimeError as error:  # of the device's compiler
            raise ConfigError(f'cannot run this network ({one_line(error)})') from error

    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Run frame by frame: batches are no faster on the devices that it is for."""
        out = np.empty((len(images), len(Label)), np.float32)
        for i in range(len(images)):
            # A copy of so few pixels takes less time than to give the request another array.
            np.copyto(self._input, images[i:i + 1])
            self._request.infer()
            out[i] = self._request.get_output_tensor(0).data[0]
        return out
