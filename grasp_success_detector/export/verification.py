"""Measure how often each engine decides as torch does in fp32, and keep the figures."""

import json
from pathlib import Path

import numpy as np
from rich.console import Console

from grasp_success_detector.checkpoint import load
from grasp_success_detector.console import progress_bar
from grasp_success_detector.data.extracted import read_extracted
from grasp_success_detector.data.frame_writer import write_atomically
from grasp_success_detector.engines.choice import ENGINES
from grasp_success_detector.engines.engine import Engine, identity, Precision, Wanted
from grasp_success_detector.engines.proof import Figure, Proof, proof_path, read_proof
from grasp_success_detector.engines.torch_engine import TorchEngine
from grasp_success_detector.errors import CheckpointError, ConfigError, DatasetError
from grasp_success_detector.export.frames import batches
from grasp_success_detector.probability import success_probabilities


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
    checkpoint = load(path)
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
        write_atomically(proof_path(path), f'{text}\n'.encode())
    except OSError as error:
        raise CheckpointError(
            f'{proof_path(path)}: cannot be written: {error.strerror}') from error
    return proof, missing


def _kind(device: str) -> str:
    return device.partition(':')[0].partition('.')[0]
