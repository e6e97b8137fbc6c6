"""How long a classifier takes for one frame, here and now."""

from collections.abc import Sequence
from pathlib import Path
import platform
from statistics import median
import time

import torch

from grasp_success_detector.images.decoding import RgbImage
from grasp_success_detector.inference.classifier import GraspClassifier

#: The contestants take turns, so that a busy moment of the machine hits all of them.
_ROUNDS, _FRAMES_PER_ROUND = 5, 10

N = _ROUNDS * _FRAMES_PER_ROUND


def measure_latency(classifiers: Sequence[GraspClassifier], frame: RgbImage) -> list[float]:
    """
    Time ``predict`` on one frame at a time.

    :param frame: RGB uint8 (H, W, 3).
    :returns: for each classifier the median of ``N`` frames after warm-up, in milliseconds.
    """
    for classifier in classifiers:
        classifier.warm_up()
    times: list[list[float]] = [[] for _ in classifiers]
    for _ in range(_ROUNDS):
        for classifier, taken in zip(classifiers, times, strict=True):
            classifier.predict([frame])  # its weights back into the cache
            for _ in range(_FRAMES_PER_ROUND):
                start = time.perf_counter()
                classifier.predict([frame])
                taken.append(1000 * (time.perf_counter() - start))
    return [median(taken) for taken in times]


def describe_timing(frame: RgbImage, device: str) -> str:
    """Say what was measured where."""
    height, width, _ = frame.shape
    threads = torch.get_num_threads()
    where = (torch.cuda.get_device_name(device) if device.startswith('cuda') else
             f'{_cpu()}, {device}, {threads} thread{"s" if threads > 1 else ""}')
    return (f'median of {N} frames of {width} x {height} pixels after warm-up, from picture to '
            f'P(success), on {where}')


def _cpu() -> str:
    try:
        for line in Path('/proc/cpuinfo').read_text(encoding='utf-8').splitlines():
            if line.startswith('model name'):
                return line.partition(':')[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
