"""
What the benchmarks of speed compare: this package's engines, and the way it is done without it.

The baseline is written for the comparison, as scripts of this field do it: PIL, torchvision's
transforms, eager torch in fp32, and a node with a queue of 10. It runs the same weights.
"""

from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from io import BytesIO
import json
import os
from pathlib import Path
import platform
import subprocess
import sys
from typing import Any

import cv2
import numpy as np

from grasp_success_detector.files import SAMPLE_BAG, share_path
from grasp_success_detector.images.decoding import decode_bytes, decode_message
from grasp_success_detector.images.encoding import encode_jpeg
from grasp_success_detector.inference.classifier import GraspClassifier
from grasp_success_detector.labels import Label
from grasp_success_detector.networks import torchvision_ops  # noqa: F401 (before torchvision)
from grasp_success_detector.networks.checkpoint import Checkpoint
from grasp_success_detector.recordings.bags import image_topic, open_bag

BASELINE = 'baseline'
IDLE = 'idle'       # a node that answers without any work
CONTESTANTS = (BASELINE, 'opencv-fp32', 'torch-fp32', 'torch-bf16', 'openvino-fp32',
               'openvino-bf16', 'openvino-int8')


class Baseline:
    """PIL, torchvision and eager torch; the frame is squeezed to the input's size."""

    def __init__(self, checkpoint: Path) -> None:
        from torchvision import transforms

        loaded = Checkpoint.open(checkpoint)
        size = loaded.metadata.preprocessing
        self.model = loaded.model
        self.temperature = loaded.metadata.temperature
        self.transform = transforms.Compose([
            transforms.Resize((size.height, size.width)), transforms.ToTensor(),
            transforms.Normalize(size.mean, size.std)])

    def predict_jpegs(self, jpegs: Sequence[bytes]) -> list[float]:
        from PIL import Image
        import torch

        images = [self.transform(Image.open(BytesIO(jpeg)).convert('RGB')) for jpeg in jpegs]
        with torch.no_grad():
            logits = self.model(torch.stack(images)) / self.temperature
        return logits.softmax(1)[:, Label.SUCCESS].tolist()


def from_jpegs(contestant: str, checkpoint: Path) -> Callable[[Sequence[bytes]], Any]:
    """
    Return what gives P(success) of jpegs.

    :raises ConfigError: the engine cannot be used here.
    """
    if contestant == BASELINE:
        return Baseline(checkpoint).predict_jpegs
    engine, precision = contestant.split('-')
    classifier = GraspClassifier.from_checkpoint(
        checkpoint, 'cpu', engine=engine, precision=precision)
    half_suffices = classifier.preprocessing.half_suffices
    return lambda jpegs: classifier.predict(
        [decode_bytes(jpeg, half_suffices) for jpeg in jpegs])


def node_command(contestant: str, checkpoint: Path, python: str = sys.executable,
                 autostart: bool = True) -> list[str]:
    """
    Return how to start a node that judges /image/compressed.

    :param python: that runs it.
    :param autostart: whether it activates itself; the baseline always does.
    """
    if contestant == IDLE:
        return [python, str(Path(__file__).with_name('baseline_node.py'))]
    if contestant == BASELINE:
        return [python, str(Path(__file__).with_name('baseline_node.py')), str(checkpoint)]
    engine, precision = contestant.split('-')
    values = {
        'checkpoint': checkpoint.resolve(), 'device': 'cpu', 'engine': engine,
        'precision': precision, 'image_transport': 'compressed', 'autostart': autostart,
        # A verdict on every frame, whatever it shows.
        'frozen_after_s': 0., 'max_black': 1., 'max_white': 1., 'undecided': 0.,
        'window_s': 0., 'min_frames': 1, 'familiarity_quantile': 0.}
    arguments = [part for name, value in values.items() for part in ('-p', f'{name}:={value}')]
    return [python, '-m', 'grasp_success_detector.cli.detector_node', '--ros-args',
            *arguments]


def sample_jpegs(count: int, width: int = 640, height: int = 480) -> list[bytes]:
    """Return frames of the sample bag, scaled, each a little different, as jpeg."""
    with open_bag(share_path(SAMPLE_BAG)) as reader:
        topic = image_topic(reader)
        connections = [c for c in reader.connections if c.topic == topic]
        frames = [decode_message(reader.deserialize(data, c.msgtype)) for c, _, data in (
            message for message, _ in zip(reader.messages(connections), range(count),
                                          strict=False))]
    return [encode_jpeg(np.asarray(cv2.resize(frame, (width, height)), np.uint8), 90)
            for frame in frames]


def in_own_process(script: str, *arguments: object) -> str | None:
    """Run a part of a benchmark alone, since thread pools disturb each other; None: it failed."""
    done = subprocess.run([sys.executable, script, *map(str, arguments)], capture_output=True,
                          text=True)
    if done.returncode:
        print(f'{" ".join(map(str, arguments))}: {done.stderr.strip().splitlines()[-1]}',
              file=sys.stderr)
        return None
    return done.stdout


def table_head(*names: str) -> None:
    """Begin a table in Markdown."""
    table_row(*names)
    print('| --- ' * len(names) + '|')


def table_row(*cells: str) -> None:
    print('| ' + ' | '.join(cells) + ' |', flush=True)


def keep(path: Path | None, rows: list[dict[str, Any]]) -> None:
    """Write what was measured, if that is wanted."""
    if path is not None:
        path.write_text(json.dumps(rows, indent=1) + '\n', encoding='utf-8')


def machine() -> str:
    """Say what was measured on, and how busy it was."""
    import torch

    cpu = next((line.partition(':')[2].strip()
                for line in Path('/proc/cpuinfo').read_text(encoding='utf-8').splitlines()
                if line.startswith('model name')), platform.machine())
    try:
        openvino = f', OpenVINO {version("openvino")}'
    except PackageNotFoundError:
        openvino = ''
    return (f'{cpu}, {len(os.sched_getaffinity(0))} cores of {os.cpu_count()}, load '
            f'{os.getloadavg()[0]:.1f} at the end; Python {platform.python_version()}, torch '
            f'{torch.__version__}{openvino}')
