"""Measure how often each engine decides as torch does in fp32, and keep the figures."""


from collections.abc import Iterator, Sequence
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from grasp_success_detector.console import progress_bar
from grasp_success_detector.datasets.dataset import LabelledFrame, read_extracted
from grasp_success_detector.datasets.torch_dataset import prepare, prepare_message
from grasp_success_detector.errors import BagError, CheckpointError, ConfigError, DatasetError
from grasp_success_detector.files import write_whole
from grasp_success_detector.images.preprocessing import Preprocessing
from grasp_success_detector.inference.choice import ENGINES
from grasp_success_detector.inference.engine import Engine, identity, Precision, Wanted
from grasp_success_detector.inference.proof import Figure, Proof, proof_path, read_proof
from grasp_success_detector.inference.torch_engine import TorchEngine
from grasp_success_detector.networks.architectures import success_probabilities
from grasp_success_detector.networks.checkpoint import Checkpoint
from grasp_success_detector.recordings.bags import image_topic, open_bag

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


def verify(path: Path, dataset: Path, device: str = 'cpu') -> tuple[Proof, dict[str, str]]:
    """
    Compare every engine and precision that this machine has, and write a proof beside the file.

    What an earlier proof says of other devices stays, if it is of the same checkpoint and data.

    :param path: checkpoint file.
    :param dataset: of extract_frames; its validation frames are taken.
    :returns: the proof, and why which engines could not be measured.
    :raises CheckpointError: the checkpoint cannot be used.
    :raises DatasetError: the data set cannot be used, or has no validation frames.
    :raises ConfigError: there is no such device.
    """
    checkpoint = Checkpoint.open(path)
    frames = read_extracted(dataset).val
    if not frames:
        raise DatasetError(f'{dataset}: has no validation frames; extract it with a share for '
                           'them (extract_frames --split)')
    reference = TorchEngine(Wanted(checkpoint, path, Precision.FP32, 'cpu', None))
    engines: dict[str, Engine] = {}
    missing = {}
    for kind in ENGINES.values():
        for precision in kind.speed:
            name = f'{kind.name} {precision.value}'
            wanted = Wanted(checkpoint, path, precision, device, None)
            try:
                if fault := kind.fault(wanted):
                    raise ConfigError(fault)
                engines[name] = kind.start(wanted)
            except ConfigError as error:
                missing[name] = str(error)
    temperature, threshold = checkpoint.metadata.temperature, checkpoint.metadata.threshold
    agreeing = dict.fromkeys(engines, 0)
    largest = dict.fromkeys(engines, 0.)
    with progress_bar(Console(stderr=True)) as progress:
        task = progress.add_task('validation frames', total=len(frames))
        for images in batches(frames, checkpoint.metadata.preprocessing):
            expected = success_probabilities(reference.logits(images), temperature)
            for name, engine in engines.items():
                given = success_probabilities(engine.logits(images), temperature)
                # Not finite is never alike: NaN is below no threshold and above none.
                alike = ((given >= threshold) == (expected >= threshold)) & np.isfinite(given)
                agreeing[name] += int(alike.sum())
                largest[name] = max(largest[name], float(abs(given - expected).max()))
            progress.advance(task, len(images))
    figures = tuple(
        Figure(engine.name, engine.precision.value, _kind(device), engine.version(),
               engine.artifact, len(frames), agreeing[name], largest[name])
        for name, engine in engines.items())
    proof = Proof(identity(checkpoint), dataset.resolve().name, figures)
    try:
        before = read_proof(path, checkpoint)
    except CheckpointError:
        before = None
    if before is not None and before.dataset == proof.dataset:
        proof = Proof(proof.identity, proof.dataset, figures + tuple(
            figure for figure in before.figures if figure.device != _kind(device)))
    text = json.dumps(proof.to_json(), indent=1)
    try:
        write_whole(proof_path(path), f'{text}\n'.encode())
    except OSError as error:
        raise CheckpointError(
            f'{proof_path(path)}: cannot be written: {error.strerror}') from error
    return proof, missing


def _kind(device: str) -> str:
    return device.partition(':')[0].partition('.')[0]
