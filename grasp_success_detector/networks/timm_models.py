"""
Any model of timm by its name, such as ``timm:resnet18`` or ``timm:vit_tiny_patch16_224``.

A model is cut only between its backbone (``forward_features``) and its head (``forward_head``),
which all models have, and its convolutions are counted in the order in which a forward pass
through the backbone calls them.
"""

from collections.abc import KeysView
from difflib import get_close_matches
from functools import partial
from itertools import chain
import logging
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from grasp_success_detector.errors import CheckpointError, ConfigError, one_line
from grasp_success_detector.images.preprocessing import Preprocessing
from grasp_success_detector.labels import CLASS_NAMES
from grasp_success_detector.networks import torchvision_ops  # noqa: F401 (before torchvision)
from grasp_success_detector.networks.architectures import Architecture, Stage

_PREFIX = 'timm:'

#: timm's names of branches beside the main path, which belong to the convolution before them.
_SIDE_PATHS = frozenset({'downsample', 'shortcut', 'se'})

# timm takes seconds to import: only inside functions.


def timm_architecture(name: str) -> Architecture:
    """Return the description of ``timm:NAME``; ConfigError if timm has no such RGB model."""
    import timm
    from timm.data.config import resolve_data_config

    short = name.removeprefix(_PREFIX)
    _check_known(short)
    published = timm.get_pretrained_cfg(short)
    about: dict[str, Any] = published.to_dict() if published else {}
    data = resolve_data_config(pretrained_cfg=about)
    channels, height, width = data['input_size']
    if channels != 3:
        raise ConfigError(f'{name}: takes images of {channels} channels; expected 3 (RGB)')
    classifier = about.get('classifier') or 'head'
    return Architecture(
        partial(timm.create_model, short, num_classes=len(CLASS_NAMES)),
        partial(_pretrained, short, about), _stages,
        Preprocessing(height, width, mean=tuple(data['mean']), std=tuple(data['std'])),
        freeze_conv_layers=None,
        head=(classifier,) if isinstance(classifier, str) else tuple(classifier))


def _check_known(short: str) -> None:
    import timm

    plain, _, tag = short.partition('.')
    if not timm.is_model(plain):
        near = get_close_matches(plain, timm.list_models(), n=5)
        names = ', '.join(_PREFIX + other for other in near)
        hint = f'; did you mean {names}?' if near else ''
        raise ConfigError(f'timm {timm.__version__} has no model {short!r}{hint}')
    tags = [full.partition('.')[2] for full in timm.list_pretrained(f'{plain}.*')]
    if tag and tag not in tags:
        raise ConfigError(f'timm {timm.__version__} has no weights {tag!r} of {plain}; it knows '
                          f'{", ".join(filter(None, tags)) or "none"}')


def _pretrained(short: str, about: dict[str, Any]) -> dict[str, torch.Tensor]:
    import timm

    log = logging.getLogger('huggingface_hub')
    level = log.level
    log.setLevel(logging.ERROR)  # it logs each of its many attempts
    try:
        model = timm.create_model(short, pretrained=True, num_classes=len(CLASS_NAMES))
    # Any class: the errors of the hub's client differ between its versions.
    except Exception as error:
        source = (f'https://huggingface.co/{about["hf_hub_id"]}' if about.get('hf_hub_id')
                  else about.get('url') or 'a state dict of this model')
        raise CheckpointError(
            f'{_PREFIX}{short}: its pre-trained weights are not available here '
            f'({one_line(error)}); bring the file (safetensors or .pth; {source}) and give it '
            'with --weights FILE, or start without pre-trained weights') from error
    finally:
        log.setLevel(level)
    state: dict[str, torch.Tensor] = model.state_dict()
    return state


class _Backbone(nn.Module):
    """
    What a timm model computes before its head, with the parameters of that part only.

    :param own: parameters outside the submodules, such as a transformer's class token.
    """

    def __init__(self, model: Any, children: list[nn.Module], own: list[nn.Parameter]) -> None:
        super().__init__()
        self._model = (model,)  # in a tuple, or it would be a submodule, with its head
        self.parts = nn.ModuleList(children)
        self.own = nn.ParameterList(own)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self._model[0].forward_features(x)
        return features


class _Head(nn.Module):
    """What a timm model computes from its backbone's features."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model.forward_head(features)
        return logits


def _stages(model: Any) -> list[Stage]:
    called = _called_by_features(model)
    children = [child for child in model.children() if not called.isdisjoint(child.modules())]
    backbone = _Backbone(model, children, list(model.parameters(recurse=False)))
    names = {module: set(name.split('.')) for name, module in model.named_modules()}
    steps: list[list[nn.Module]] = [[]]
    for module in called:
        if isinstance(module, nn.Conv2d) and not names[module] & _SIDE_PATHS:
            steps.append([])
        steps[-1].append(_without_parts(module))
    # What is called before the first convolution belongs to it.
    steps[:2] = [list(chain(*steps[:2]))]
    # Parameters that are used without a call of a module, such as a class token, come last.
    steps[-1] += [backbone.own, *(_without_parts(module) for child in children
                                  for module in child.modules() if module not in called)]
    return [Stage('backbone', backbone, tuple(nn.ModuleList(step) for step in steps)),
            Stage('head', _Head(model))]


def _called_by_features(model: Any) -> KeysView[nn.Module]:
    """Return the modules that a forward pass of the backbone calls, in the order they end in."""
    called: dict[nn.Module, None] = {}

    def note(module: nn.Module, *_: object) -> None:
        called.setdefault(module)

    modes = {module: module.training for module in model.modules()}
    hooks = [module.register_forward_hook(note) for module in modes if module is not model]
    size = (model.pretrained_cfg or {}).get('input_size') or (3, 224, 224)
    try:
        model.eval()  # no statistics move, no random numbers are drawn
        with torch.no_grad():
            like = next(model.parameters())
            model.forward_features(torch.zeros(1, *size, dtype=like.dtype, device=like.device))
    finally:
        for hook in hooks:
            hook.remove()
        for module, training in modes.items():
            module.training = training
    return called.keys()


def _without_parts(module: nn.Module) -> nn.Module:
    """Return only a module's own parameters, where its children are in other steps."""
    if isinstance(module, _NormBase) or not any(module.children()):
        return module
    return nn.ParameterList(module.parameters(recurse=False))
