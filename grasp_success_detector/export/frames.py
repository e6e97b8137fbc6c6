"""Real frames to calibrate and to compare on, ready for the network."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from grasp_success_detector.data.bags import image_topic, open_bag
from grasp_success_detector.data.dataset import prepare, prepare_message
from grasp_success_detector.data.extracted import LabelledFrame
from grasp_success_detector.errors import BagError
from grasp_success_detector.preprocessing import Preprocessing

Images = NDArray[np.uint8]


def batches(frames: Sequence[LabelledFrame], preprocessing: Preprocessing,
            size: int = 32) -> Iterator[Images]:
    """
    Yield frames in batches of RGB uint8 (B, H, W, 3) at the network's input size.

    :raises DatasetError: a frame cannot be read.
    """
    for start in range(0, len(frames), size):
        yield np.stack([prepare(frame, preprocessing) for frame in frames[start:start + size]])


def spread(frames: Sequence[LabelledFrame], most: int) -> Sequence[LabelledFrame]:
    """Return at most so many frames, evenly from all."""
    return frames[::-(-len(frames) // most)] if frames else frames


def bag_images(bag: Path, preprocessing: Preprocessing, most: int) -> Images:
    """
    Return at most so many frames of a bag, evenly from all, at the network's input size.

    :returns: RGB uint8 (N, H, W, 3).
    :raises BagError: no readable bag, or no frame in its image topic.
    :raises ImageDecodeError: a frame cannot be decoded.
    """
    with open_bag(bag) as reader:
        topic = image_topic(reader)
        connections = [c for c in reader.connections if c.topic == topic]
        step = -(-sum(c.msgcount for c in connections) // most)
        images = [
            prepare_message(reader.deserialize(data, c.msgtype), preprocessing)
            for i, (c, _, data) in enumerate(reader.messages(connections)) if i % step == 0]
    if not images:
        raise BagError(f'{bag}: no frames in {topic}; expected a bag with some')
    return np.stack(images)
