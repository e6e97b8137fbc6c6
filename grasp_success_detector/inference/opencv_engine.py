"""OpenCV's own networks (``cv2.dnn``): the engine that needs nothing which apt does not have."""

import cv2
import numpy as np
from numpy.typing import NDArray

from grasp_success_detector.errors import CheckpointError, ConfigError, one_line
from grasp_success_detector.inference.engine import device_type, Engine, observed_module, Precision
from grasp_success_detector.networks.architectures import ARCHITECTURES
from grasp_success_detector.networks.checkpoint import Checkpoint
from grasp_success_detector.networks.onnx_graphs import GRAPHS, LOGITS, MOST_ROWS, onnx_model


class OpenCvEngine(Engine):
    """Runs an ONNX graph that is made of the checkpoint's tensors at each start, in memory."""

    name = 'opencv'
    speed = {Precision.FP32: .8}

    def __init__(self, checkpoint: Checkpoint, precision: Precision = Precision.FP32,
                 device: str = 'cpu', threads: int | None = None) -> None:
        super().__init__(checkpoint, precision, device, threads)
        size = checkpoint.metadata.preprocessing
        if threads is not None:
            cv2.setNumThreads(threads)
        module = observed_module(checkpoint.metadata)
        # OpenCV 5 gives all outputs of a graph at once, and nothing else.
        self._outputs = [LOGITS, module] if module else [LOGITS]
        try:
            model = onnx_model(checkpoint.metadata.architecture, checkpoint.arrays(), size,
                               self._outputs[1:],
                               MOST_ROWS if int(cv2.__version__.split('.')[0]) < 5 else 0)
            self._network = cv2.dnn.readNetFromONNX(np.frombuffer(model, np.uint8))
        except (CheckpointError, cv2.error) as error:
            raise ConfigError(f'cannot run this network ({one_line(error)})') from error
        factor, offset = size.factor_and_offset()
        self._factor, self._offset = factor[:, None, None], offset[:, None, None]
        self._planes = np.empty((1, 3, size.height, size.width), np.float32)

    @classmethod
    def unsupported(cls, precision: Precision, device: str) -> str | None:
        """Return a reason if the device is no CPU, else None."""
        return None if device_type(device) == 'cpu' else f'runs on cpu, not on {device!r}'

    @classmethod
    def check_available(cls, checkpoint: Checkpoint, precision: Precision, device: str) -> None:
        """Raise ConfigError if the engine cannot run the checkpoint; loads no network."""
        super().check_available(checkpoint, precision, device)
        if (name := checkpoint.metadata.architecture) not in GRAPHS:
            raise ConfigError(f'runs {", ".join(ARCHITECTURES)}, not {name}')

    @classmethod
    def version(cls) -> str:
        """Return OpenCV's version, whatever package it came with."""
        return cv2.__version__

    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Normalise and run, frame by frame: batches are no faster."""
        out, pooled = [], []
        for image in images:
            # Outside of the graph, as OpenCV 4.5 reads no graph whose input is uint8.
            np.multiply(image.transpose(2, 0, 1), self._factor, out=self._planes[0])
            self._planes += self._offset
            self._network.setInput(self._planes)
            answers = self._network.forward(self._outputs)
            out.append(answers[0].reshape(-1))
            pooled += [answer[0].mean((1, 2)) for answer in answers[1:]]
        logits: NDArray[np.float32] = np.stack(out)
        if pooled:
            self._observe(np.stack(pooled), logits)
        return logits
