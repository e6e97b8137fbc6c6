"""Make a checkpoint of what torch.save once wrote: weights without a word of how to use them."""

from collections.abc import Callable, Sequence
import hashlib
from pathlib import Path

import torch

from grasp_success_detector.errors import CheckpointError, ConfigError
from grasp_success_detector.images.preprocessing import Preprocessing
from grasp_success_detector.labels import CLASS_NAMES
from grasp_success_detector.networks.architectures import (
    build,
    default_preprocessing,
    head_parameters,
)
from grasp_success_detector.networks.checkpoint import CheckpointMetadata, save
from grasp_success_detector.networks.tensors_file import (
    check_free,
    check_tensors,
    is_pickle,
    Tensors,
)
from grasp_success_detector.networks.weights import read_weights, with_counters

#: What is recognised by the names of its tensors.
RECOGNISED = ('resnet34', 'cifar_cnn')


def import_legacy(
        legacy: Path, out: Path, classes: Sequence[str], architecture: str | None = None,
        preprocessing: Callable[[str], Preprocessing] = default_preprocessing,
        ) -> CheckpointMetadata:
    """
    Write a checkpoint with the weights of a legacy file.

    :param legacy: state dict of a network with 2 outputs, or a dict that holds it.
    :param out: file to write, which must not exist.
    :param classes: what the file's outputs mean, in its order; a file cannot say it.
    :param architecture: None to tell it by the tensors' names.
    :param preprocessing: says how the input of a network of this architecture was made.
    :returns: what the checkpoint says.
    :raises CheckpointError: the file cannot be read or does not fit, or ``out`` exists.
    :raises ConfigError: unknown architecture, classes, or a size that the network cannot take.
    """
    if sorted(classes) != sorted(CLASS_NAMES):
        raise ConfigError(f'classes {" ".join(classes)}; expected {" ".join(CLASS_NAMES)}, or '
                          f'{" ".join(reversed(CLASS_NAMES))}, as the outputs of the file mean')
    check_free(out)
    tensors = _read(legacy)
    name = architecture or _recognise(tensors, legacy)
    with torch.random.fork_rng(devices=[]):
        model = build(name)
    expected = model.state_dict()
    tensors = with_counters(tensors, expected)
    try:
        check_tensors(tensors, expected, f'{name} with {len(CLASS_NAMES)} outputs')
    except CheckpointError as error:
        raise CheckpointError(f'{legacy}: {error}') from error
    # Outputs in the order of labels.Label, whatever it was.
    order = [list(classes).index(label) for label in CLASS_NAMES]
    for parameter in head_parameters(model, name):
        tensors[parameter] = tensors[parameter][order]
    model.load_state_dict(tensors)
    size = preprocessing(name)
    _try(model.eval(), name, size)
    metadata = CheckpointMetadata(name, size, training={
        'imported_from': legacy.name, 'imported_classes': list(classes),
        'imported_sha256': hashlib.sha256(legacy.read_bytes()).hexdigest()})
    save(out, model, metadata)
    return metadata


def _read(legacy: Path) -> Tensors:
    if not legacy.is_file():
        raise CheckpointError(f'{legacy}: no such file; expected what torch.save wrote (.pth)')
    if not is_pickle(legacy):
        raise CheckpointError(f'{legacy}: was not written by torch.save; expected a .pth file')
    return read_weights(legacy).tensors


def _recognise(tensors: Tensors, legacy: Path) -> str:
    """Return the architecture that shares most names with the tensors."""
    shared = {name: len(tensors.keys() & _on_meta(name).keys()) for name in RECOGNISED}
    best = max(shared, key=lambda name: shared[name])
    if not shared[best]:
        raise CheckpointError(
            f'{legacy}: neither {" nor ".join(RECOGNISED)} has tensors named as here '
            f'({", ".join(list(tensors)[:5])}, ...); name the architecture, or its tensors as '
            'the architecture does')
    return best


def _on_meta(name: str) -> Tensors:
    """Return names and shapes of an architecture's tensors, which hold no numbers."""
    with torch.device('meta'):
        return build(name).state_dict()


def _try(model: torch.nn.Module, name: str, size: Preprocessing) -> None:
    try:
        with torch.inference_mode():
            model(torch.zeros(1, 3, size.height, size.width))
    except (RuntimeError, AssertionError) as error:  # torch's own, or a transformer's check
        raise ConfigError(f'{name} cannot take images of {size.width} x {size.height} pixels '
                          '(width x height); give the size that it was trained on') from error
