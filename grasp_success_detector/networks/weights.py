"""
Read state dicts, in safetensors or written by torch.save, as weights of a backbone.

No code in a file is ever run: a pickle is read with ``weights_only=True``.
"""

from pathlib import Path
import pickle
import re
from typing import Any
import warnings

import torch
from torch import nn

from grasp_success_detector.errors import CheckpointError, one_line
from grasp_success_detector.files import checkpoint_path
from grasp_success_detector.networks import checkpoint, tensors_file
from grasp_success_detector.networks.architectures import architecture_of
from grasp_success_detector.networks.tensors_file import Tensors

#: Keys under which training scripts save a state dict.
_WRAPPERS = ('state_dict', 'model_state_dict', 'model')
#: Prefix that nn.DataParallel and DistributedDataParallel put before every name.
_PARALLEL = 'module.'
#: A BatchNorm's number of batches: older files lack it, and inference does not need it.
_COUNTER = '.num_batches_tracked'


def read_backbone_weights(path: Path, architecture: str) -> Tensors:
    """
    Read the weights of a file, or of a shipped checkpoint that is named instead.

    :raises CheckpointError: there is no such file, or its weights are of another architecture.
    """
    expected = 'weights: .safetensors, or .pth of torch.save'
    path = checkpoint_path(path, expected)
    if path.is_file() and tensors_file.is_pickle(path):
        return read_pickle(path)
    header, tensors = tensors_file.read_torch_tensors(path, expected)
    for kind in (checkpoint.CheckpointMetadata, checkpoint.BackboneMetadata):
        if kind.KEY in header:
            with tensors_file.named_errors(path):
                about, _ = checkpoint.read_metadata(header, tensors, kind)
                if about.architecture != architecture:
                    raise CheckpointError(
                        f'holds weights of {about.architecture}; expected some of {architecture}')
            return tensors
    return _without_prefix(tensors)


def build_pretrained(name: str, weights: Path | None = None) -> nn.Module:
    """
    Build a classifier whose backbone has pre-trained weights and whose head is random.

    :param name: one of ``ARCHITECTURES``, or ``timm:NAME``.
    :param weights: a state dict of torchvision's or timm's model, with a head of any number of
        classes, or a checkpoint of the same architecture. None: published weights: for cifar_cnn
        those of CIFAR-10 that ship with the package; for resnet34 ImageNet's, from torch's cache
        or a download; for efficientnet_lite0 ImageNet's, from a Python package; for ``timm:NAME``
        timm's default, from Hugging Face's cache or a download.
    :raises ConfigError: unknown name.
    :raises CheckpointError: the weights are not available, or do not fit.
    """
    architecture = architecture_of(name)
    # Weights first: reading them may fail.
    tensors = read_backbone_weights(weights, name) if weights else architecture.pretrained()
    model = architecture.build()
    with tensors_file.named_errors(weights or 'pre-trained weights'):
        fill_backbone(model, tensors, architecture.head, name)
    return model


def fill_backbone(model: nn.Module, tensors: Tensors, head: tuple[str, ...],
                  architecture: str) -> None:
    """
    Load weights into all modules of a model but its head.

    :param tensors: weights by name; those of the head are ignored, whatever their shapes.
    :raises CheckpointError: tensors are missing, unexpected or of another shape; names them all.
    """
    prefixes = tuple(f'{name}.' for name in head)
    expected = {name: tensor for name, tensor in model.state_dict().items()
                if not name.startswith(prefixes)}
    given = {name: tensor.to(expected[name].dtype)
             if name in expected and tensor.is_floating_point() else tensor
             for name, tensor in tensors.items() if not name.startswith(prefixes)}
    complete = with_counters(given, expected)
    tensors_file.check_tensors(complete, expected, f"{architecture}'s backbone")
    model.load_state_dict(complete, strict=False)


def with_counters(tensors: Tensors, expected: Tensors) -> Tensors:
    """Return the tensors, with ``num_batches_tracked`` added where old files lack it."""
    return {name: torch.zeros_like(tensor) for name, tensor in expected.items()
            if name.endswith(_COUNTER)} | tensors


def read_pickle(path: Path) -> Tensors:
    """
    Read a state dict that torch.save wrote, or a dict that holds one, without running code.

    The prefix ``module.`` of nn.DataParallel is removed from the names.

    :raises CheckpointError: the file is missing, damaged, not of torch.save, or not only tensors.
    """
    if not path.is_file():
        raise CheckpointError(f'{path}: no such file; expected what torch.save wrote (.pth)')
    if not tensors_file.is_pickle(path):
        raise CheckpointError(f'{path}: was not written by torch.save; expected a .pth file')
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # about TorchScript; the error below repeats it
            content: Any = torch.load(path, map_location='cpu', weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, IndexError, AttributeError,
            TypeError, AssertionError, pickle.UnpicklingError) as error:
        text = str(error)
        # The second is what older versions of torch say.
        found = re.search(r'GLOBAL (\S*\w) was|Unsupported class (\S+)|(TorchScript)', text)
        if found:
            raise CheckpointError(
                f'{path}: holds more than tensors ({found[found.lastindex or 0]}) and could run '
                'code, so it is not loaded; where it was made, save the weights alone: '
                "torch.save(model.state_dict(), 'weights.pth')") from error
        # The advice that torch puts before its reason does not help here.
        reason = text.rpartition('WeightsUnpickler error: ')[2].partition('. This is')[0]
        raise CheckpointError(
            f'{path}: truncated or damaged, or no file of torch.save; copy it again '
            f'({one_line(type(error)(reason)) if reason else type(error).__name__})') from error
    tensors = next((content[key] for key in _WRAPPERS
                    if isinstance(content, dict) and isinstance(content.get(key), dict)), content)
    if (not isinstance(tensors, dict) or not tensors
            or not all(isinstance(tensor, torch.Tensor) for tensor in tensors.values())):
        held = (f'a dict of {", ".join(map(str, list(content)[:8])) or "nothing"}'
                if isinstance(content, dict) else type(content).__name__)
        raise CheckpointError(
            f'{path}: holds no state dict, but {held}; expected tensors by name, or a dict with '
            f'them as {", ".join(map(repr, _WRAPPERS[:-1]))} or {_WRAPPERS[-1]!r}')
    return _without_prefix({str(name): tensor for name, tensor in tensors.items()})


def _without_prefix(tensors: Tensors) -> Tensors:
    if all(name.startswith(_PARALLEL) for name in tensors):
        return {name.removeprefix(_PARALLEL): tensor for name, tensor in tensors.items()}
    return tensors
