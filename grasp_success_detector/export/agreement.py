"""Measure how often each engine decides as torch does in fp32, and write the proof."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from grasp_success_detector.console import progress_bar, stderr_console
from grasp_success_detector.datasets.dataset import LabelledFrame, read_extracted
from grasp_success_detector.datasets.torch_dataset import view, view_message
from grasp_success_detector.errors import BagError, CheckpointError, ConfigError, DatasetError
from grasp_success_detector.files import fault_text, json_text, write_whole
from grasp_success_detector.images.preprocessing import Preprocessing
from grasp_success_detector.inference import engine_selection
from grasp_success_detector.inference.classifier import BATCH_SIZE
from grasp_success_detector.inference.engine import device_type, Engine, identity
from grasp_success_detector.inference.engine_selection import Figure, Proof
from grasp_success_detector.inference.torch_engine import reference_logits, TorchEngine
from grasp_success_detector.networks.architectures import success_probabilities
from grasp_success_detector.networks.checkpoint import Checkpoint
from grasp_success_detector.recordings.bags import image_topic, open_bag

#: RGB uint8 (N, H, W, 3), H and W those of a network's input.
Images = NDArray[np.uint8]


def batches(frames: Sequence[LabelledFrame], preprocessing: Preprocessing,
            size: int = BATCH_SIZE) -> Iterator[Images]:
    """Yield frames in batches at the network's input size; DatasetError if one is unreadable."""
    for start in range(0, len(frames), size):
        yield np.stack([view(frame, preprocessing).image
                        for frame in frames[start:start + size]])


def bag_images(bag: Path, preprocessing: Preprocessing, most: int,
               topic: str | None = None) -> Images:
    """
    Return up to ``most`` frames of a bag, evenly spread, at the network's input size.

    :param topic: image topic; None: the bag's only one.
    :raises BagError: the bag cannot be read, or its image topic holds no frame.
    :raises ImageDecodeError: a frame cannot be decoded.
    """
    with open_bag(bag) as reader:
        topic = image_topic(reader, topic)
        connections = [c for c in reader.connections if c.topic == topic]
        step = -(-sum(c.msgcount for c in connections) // most)
        images = [
            view_message(reader.deserialize(data, c.msgtype), preprocessing).image
            for i, (c, _, data) in enumerate(reader.messages(connections)) if i % step == 0]
    if not images:
        raise BagError(f'{bag}: no frames in {topic}; expected a bag with some')
    return np.stack(images)


def verify(path: Path, dataset: Path, device: str = 'cpu') -> tuple[Proof, dict[str, str]]:
    """
    Compare every engine and precision of this machine with torch, and write the proof.

    An existing proof of the same checkpoint and data set keeps its figures of other devices and of
    other versions of the engines.

    :param path: checkpoint file; the proof is written beside it.
    :param dataset: folder that extract_frames wrote, whose validation frames are used.
    :returns: the proof, and for each engine that could not be measured the reason.
    :raises CheckpointError: the checkpoint cannot be used, or the proof cannot be written.
    :raises DatasetError: the data set cannot be used, or has no validation frames.
    :raises ConfigError: no engine runs on this device.
    """
    checkpoint = Checkpoint.open(path)
    frames = read_extracted(dataset).val
    if not frames:
        raise DatasetError(f'{dataset}: has no validation frames; extract it with a share for '
                           'them (extract_frames --split)')
    engines: list[Engine] = []
    missing = {}
    for kind in engine_selection.ENGINES.values():
        for precision in kind.speed:
            try:
                kind.check_available(checkpoint, precision, device)
                engines.append(kind(checkpoint, precision, device))
            except ConfigError as error:
                missing[f'{kind.name} {precision.value}'] = str(error)
    if not engines:
        raise ConfigError(f'no engine runs on device {device!r}: ' + '; '.join(
            dict.fromkeys(missing.values())))
    figures, name = tuple(_compare(engines, checkpoint, frames)), dataset.resolve().name
    with suppress(CheckpointError):     # an earlier proof that cannot be used
        earlier = engine_selection.read_proof(checkpoint)
        if earlier is not None and earlier.dataset == name:
            measured = {(figure.engine, figure.version) for figure in figures}
            figures += tuple(figure for figure in earlier.figures
                             if figure.device != device_type(device)
                             or (figure.engine, figure.version) not in measured)
    proof = Proof(identity(checkpoint), name, figures,
                  reference=tuple(map(tuple, reference_logits(checkpoint).tolist())))
    out = engine_selection.proof_path(path)
    try:
        write_whole(out, json_text(asdict(proof)))
    except OSError as error:
        raise CheckpointError(f'{out}: cannot be written: {fault_text(error, out)}') from error
    return proof, missing


def _compare(engines: Sequence[Engine], checkpoint: Checkpoint,
             frames: Sequence[LabelledFrame]) -> Iterator[Figure]:
    """Yield the figure of each engine on the same frames."""
    temperature, threshold = checkpoint.metadata.temperature, checkpoint.metadata.threshold
    reference = TorchEngine(checkpoint)
    agreeing, largest = np.zeros(len(engines), int), np.zeros(len(engines))
    with progress_bar(stderr_console()) as progress:
        task = progress.add_task('validation frames', total=len(frames))
        for images in batches(frames, checkpoint.metadata.preprocessing):
            expected = success_probabilities(reference.logits(images), temperature)
            for i, engine in enumerate(engines):
                given = success_probabilities(engine.logits(images), temperature)
                # NaN, on neither side of the threshold, never agrees.
                alike = ((given >= threshold) == (expected >= threshold)) & np.isfinite(given)
                agreeing[i] += alike.sum()
                largest[i] = np.fmax(largest[i], abs(given - expected).max())
            progress.advance(task, len(images))
    for engine, count, difference in zip(engines, agreeing, largest, strict=True):
        yield Figure(engine.name, engine.precision.value, device_type(engine.device),
                     engine.version(), engine.artifact, len(frames), int(count), float(difference))
