"""The training recipe: defaults, a YAML file, options on the command line, in this order."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints, Literal, Union

import yaml

from grasp_success_detector.errors import check_fields, ConfigError, one_line
from grasp_success_detector.files import share_path
from grasp_success_detector.networks.architectures import ARCHITECTURES, check_architecture

AUGMENTATION_NAMES = ('shift_turn_zoom', 'light_and_colour', 'sensor_noise')
SAMPLES = ('each_epoch', 'once')
OPTIMIZERS = ('adamw', 'sgd')
SCHEDULES = ('cosine', 'constant')
DEVICES = ('auto', 'cpu', 'gpu', 'cuda', 'mps')
Precision = Literal['32-true', 'bf16-mixed', '16-mixed']
PRECISIONS = get_args(Precision)


@dataclass(frozen=True)
class TrainingConfig:
    """
    All that a training depends on, besides its data.

    :ivar architecture: see ``architectures.build``.
    :ivar pretrained: start from the weights that the backbone was trained with elsewhere.
    :ivar weights: file that these weights are in; None: where the architecture finds them.
    :ivar freeze_conv_layers: so many convolutions stay as they are, counted along the main path;
        see ``architectures.freeze``; None: the architecture's default.
    :ivar epochs: passes over the training samples; the best one on validation is kept.
    :ivar patience: stop after so many epochs without a lower validation loss; None: never.
    :ivar batch_size: of all devices together, so that their number does not change the recipe.
    :ivar optimizer: adamw, or sgd with ``momentum``.
    :ivar schedule: cosine: a warm-up and one cosine decay to 0; constant.
    :ivar lr: peak learning rate of the head.
    :ivar backbone_lr: peak learning rate of the unfrozen part of the backbone.
    :ivar label_smoothing: share of the target that is spread over both classes.
    :ivar samples: each_epoch: every epoch draws its samples anew; once: the same samples, changed
        in the same way, in every epoch.
    :ivar samples_per_class: so many samples of each class make an epoch, whatever the data set
        has; None: every frame once.
    :ivar augment: change training frames at random.
    :ivar augmentation: the random changes, where ``augment`` is on.
    :ivar reuse_features: with ``samples`` once, compute the frozen part's features once and keep
        them in memory; the same result, faster.
    :ivar train_accuracy: after each epoch also judge the training images, as the original
        experiment did; it says little, and is labelled so.
    :ivar max_false_positive_rate: the threshold is set so that this share of the failure frames
        of validation is taken for success at most.
    :ivar precision: Lightning's name; weights are float32 in all of them.
    :ivar device: auto, cpu, gpu, as Lightning names accelerators.
    :ivar devices: on each machine.
    :ivar num_nodes: machines.
    :ivar workers: processes that decode and augment; 0: none besides the training one.
    """

    architecture: str = 'efficientnet_lite0'
    pretrained: bool = True
    weights: str | None = None
    freeze_conv_layers: int | None = None
    epochs: int = 4
    patience: int | None = None
    batch_size: int = 32
    optimizer: str = 'adamw'
    momentum: float = .9
    schedule: str = 'cosine'
    lr: float = 1e-3
    backbone_lr: float = 3e-4
    weight_decay: float = 1e-2
    label_smoothing: float = 0.
    samples: str = 'each_epoch'
    samples_per_class: int | None = None
    augment: bool = True
    augmentation: tuple[str, ...] = AUGMENTATION_NAMES
    reuse_features: bool = True
    train_accuracy: bool = True
    max_false_positive_rate: float = .01
    seed: int = 0
    precision: Precision = '32-true'
    device: str = 'auto'
    devices: int = 1
    num_nodes: int = 1
    workers: int = 0

    @property
    def processes(self) -> int:
        """Return how many processes train together."""
        return self.devices * self.num_nodes

    def __post_init__(self) -> None:
        check_architecture(self.architecture)
        check_fields(self, ConfigError, 'training:', (
            ('epochs', self.epochs >= 1, '1 or more'),
            ('patience', self.patience is None or self.patience >= 1, '1 or more'),
            ('devices', self.devices >= 1, '1 or more'),
            ('num_nodes', self.num_nodes >= 1, '1 or more'),
            ('batch_size', self.batch_size >= 2
             and self.batch_size % max(self.processes, 1) == 0,
             f'2 or more, a multiple of the {self.processes} devices'),
            ('optimizer', self.optimizer in OPTIMIZERS, ' or '.join(OPTIMIZERS)),
            ('momentum', 0 <= self.momentum < 1, '0 up to 1'),
            ('schedule', self.schedule in SCHEDULES, ' or '.join(SCHEDULES)),
            ('lr', self.lr > 0, 'above 0'),
            ('backbone_lr', self.backbone_lr > 0, 'above 0'),
            ('weight_decay', self.weight_decay >= 0, '0 or more'),
            ('label_smoothing', 0 <= self.label_smoothing < 1, '0 up to 1'),
            ('samples', self.samples in SAMPLES, ' or '.join(SAMPLES)),
            ('samples_per_class', self.samples_per_class is None or self.samples_per_class >= 1,
             '1 or more'),
            ('augmentation', set(self.augmentation) <= set(AUGMENTATION_NAMES),
             'some of ' + ', '.join(AUGMENTATION_NAMES)),
            ('max_false_positive_rate', 0 < self.max_false_positive_rate < 1, 'above 0, below 1'),
            ('seed', self.seed >= 0, '0 or more'),
            ('precision', self.precision in PRECISIONS, ' or '.join(PRECISIONS)),
            ('device', self.device in DEVICES, ' or '.join(DEVICES)),
            ('workers', self.workers >= 0, '0 or more')))


def load_config(path: Path | None, overrides: Mapping[str, Any]) -> TrainingConfig:
    """
    Read a YAML file of ``TrainingConfig`` fields and put other values over it.

    :param path: None for the recipe of the architecture that ships with the package.
    :param overrides: fields that win; None values count as not given.
    :raises ConfigError: no such file, no YAML mapping, unknown fields, or values out of range.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    if path is None:
        architecture = given.get('architecture', TrainingConfig.architecture)
        if architecture in ARCHITECTURES:
            path = share_path(f'config/train_{architecture}.yaml')
    values = (_read_yaml(path) if path is not None else {}) | given
    if isinstance(values.get('augmentation'), list):
        values['augmentation'] = tuple(values['augmentation'])
    hints = get_type_hints(TrainingConfig)
    if wrong := [f'{name} {value!r} (expected {_named(hints[name])})'
                 for name, value in values.items() if not _fits(value, hints[name])]:
        raise ConfigError('training: a value of the wrong kind: ' + ', '.join(wrong))
    return TrainingConfig(**values)


def _fits(value: object, hint: Any) -> bool:
    if get_origin(hint) in (Union, UnionType):
        return any(_fits(value, part) for part in get_args(hint))
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if get_origin(hint) is tuple:
        return isinstance(value, tuple) and all(isinstance(part, str) for part in value)
    if isinstance(value, bool):
        return hint is bool
    return isinstance(value, (int, float) if hint is float else hint)


def _named(hint: Any) -> str:
    if get_origin(hint) in (Union, UnionType):
        return ' or '.join(map(_named, get_args(hint)))
    if get_origin(hint) is Literal:
        return ' or '.join(get_args(hint))
    return {str: 'text', int: 'a whole number', float: 'a number', bool: 'true or false',
            NoneType: 'nothing'}.get(hint, 'a list of names')


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding='utf-8')) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f'{path}: cannot read the training configuration '
                          f'({one_line(error)})') from error
    if not isinstance(values, dict):
        raise ConfigError(f'{path}: expected a YAML mapping of training options')
    known = {field.name for field in fields(TrainingConfig)}
    if unknown := sorted(set(map(str, values)) - known):
        raise ConfigError(f'{path}: unknown training options {", ".join(unknown)}; known: '
                          f'{", ".join(sorted(known))}')
    return values
