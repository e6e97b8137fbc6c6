"""
CPU time of OpenCV's networks with and without depthwise convolutions computed by rows.

Both graphs run in turns in this process on one thread, so that other work of the machine meets
both. Needs NumPy and OpenCV only, so that it also runs on a distribution's own:

    python benchmarks/opencv_rows.py
    PYTHONPATH=. .cache/bare/python benchmarks/opencv_rows.py
"""

import argparse
from collections.abc import Callable
from pathlib import Path
import time

import cv2
import numpy as np

from grasp_success_detector.files import share_path
from grasp_success_detector.inference.hand_finder import FINDER_FILE
from grasp_success_detector.networks import onnx_graphs
from grasp_success_detector.networks.checkpoint import Checkpoint, HandFinderMetadata


def network(checkpoint: Path, most_rows: int) -> Callable[[], np.ndarray]:
    """Return what runs a network once."""
    opened = (Checkpoint.open(checkpoint, HandFinderMetadata)
              if checkpoint.name == Path(FINDER_FILE).name else Checkpoint.open(checkpoint))
    size = opened.metadata.preprocessing
    model = np.frombuffer(onnx_graphs.onnx_model(
        opened.metadata.architecture, opened.arrays(), size,
        most_rows=most_rows), np.uint8)
    planes = np.random.default_rng(0).normal(size=(1, 3, size.height, size.width))
    net = cv2.dnn.readNetFromONNX(model)

    def run() -> np.ndarray:
        net.setInput(planes.astype(np.float32))
        return net.forward(onnx_graphs.LOGITS)
    return run


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('checkpoints', type=Path, nargs='*', help=(
        'the default one and the hand finder'), default=[share_path(
            'models/efficientnet_lite0_world.safetensors'), share_path(FINDER_FILE)])
    parser.add_argument('--runs', type=int, default=100, help='of each (100)')
    args = parser.parse_args()
    cv2.setNumThreads(1)
    print('| OpenCV | network | by rows | CPU ms, median | largest difference |')
    print('| --- | --- | --- | --- | --- |')
    for checkpoint in args.checkpoints:
        made = {most: network(checkpoint, most) for most in (0, onnx_graphs.MOST_ROWS)}
        taken: dict[int, list[float]] = {most: [] for most in made}
        for _ in range(args.runs):
            for most, run in made.items():
                began = time.process_time()
                run()
                taken[most].append(1000 * (time.process_time() - began))
        plain = made[0]()
        for most, run in made.items():
            print(f'| {cv2.__version__} | {checkpoint.stem} | {"yes" if most else "no"} | '
                  f'{np.median(taken[most]):.1f} | {np.abs(run() - plain).max():.0e} |')


if __name__ == '__main__':
    main()
