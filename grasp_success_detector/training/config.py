"""The training recipe: defaults, a YAML file, options on the command line, in this order."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_args, Literal

import yaml

from grasp_success_detector.architectures import ARCHITECTURES
from grasp_success_detector.errors import ConfigError
from grasp_success_detector.resources import share_path

AUGMENTATION_NAMES = ('shift_turn_zoom', 'light_and_colour', 'sensor_noise')
SAMPLES = ('each_epoch', 'once')
Precision = Literal['32-true', 'bf16-mixed', '16-mixed']
PRECISIONS = get_args(Precision)


@dataclass(frozen=True)
class TrainingConfig:
    """
    All that a training depends on, besides its data.

    :ivar pretrained: start from ImageNet weights where the architecture has them.
    :ivar freeze_depth: how much stays frozen; see ``architectures.freeze``; None: its default.
    :ivar epochs: passes over the training frames; the best one on validation is kept.
    :ivar lr: peak learning rate of the head (AdamW, one cycle of cosine decay after a warm-up).
    :ivar backbone_lr: peak learning rate of the unfrozen part of the backbone.
    :ivar label_smoothing: share of the target that is spread over both classes.
    :ivar samples: each_epoch: every epoch sees each frame changed anew; once: the change is drawn
        once, and the features of the frozen part are computed once and kept in memory.
    :ivar samples_per_class: so many samples of each class make an epoch, whatever the data set
        has: drawn anew in each epoch, or once, as ``samples`` says; None: every frame once.
    :ivar augmentation: the random changes of training frames, where ``augment`` is on.
    :ivar split: fractions of the attempts for train, val and test.
    :ivar precision: Lightning's name; weights are float32 in all of them.
    :ivar workers: processes that decode and augment; 0: none besides the training one.
    """

    architecture: str = 'efficientnet_lite0'
    pretrained: bool = True
    freeze_depth: int | None = None
    epochs: int = 4
    batch_size: int = 32
    lr: float = 1e-3
    backbone_lr: float = 3e-4
    weight_decay: float = 1e-2
    label_smoothing: float = 0.
    augment: bool = True
    samples: str = 'each_epoch'
    samples_per_class: int | None = None
    augmentation: tuple[str, ...] = AUGMENTATION_NAMES
    split: tuple[float, float, float] = (.7, .15, .15)
    seed: int = 0
    precision: Precision = '32-true'
    device: str = 'auto'
    workers: int = 0

    def __post_init__(self) -> None:
        checks = (
            ('architecture', self.architecture in ARCHITECTURES, ' or '.join(ARCHITECTURES)),
            ('epochs', self.epochs >= 1, '1 or more'),
            ('batch_size', self.batch_size >= 2, '2 or more'),
            ('lr', self.lr > 0, 'above 0'),
            ('backbone_lr', self.backbone_lr > 0, 'above 0'),
            ('weight_decay', self.weight_decay >= 0, '0 or more'),
            ('label_smoothing', 0 <= self.label_smoothing < 1, '0 up to 1'),
            ('samples', self.samples in SAMPLES, ' or '.join(SAMPLES)),
            ('samples_per_class', self.samples_per_class is None or self.samples_per_class >= 1,
             '1 or more'),
            ('augmentation', set(self.augmentation) <= set(AUGMENTATION_NAMES),
             'some of ' + ', '.join(AUGMENTATION_NAMES)),
            ('seed', self.seed >= 0, '0 or more'),
            ('precision', self.precision in PRECISIONS, ' or '.join(PRECISIONS)),
            ('workers', self.workers >= 0, '0 or more'))
        wrong = [f'{name} {getattr(self, name)!r} (expected {expected})'
                 for name, good, expected in checks if not good]
        if wrong:
            raise ConfigError('training: ' + ', '.join(wrong))


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
        if architecture not in ARCHITECTURES:
            raise ConfigError(f'unknown architecture {architecture}; expected one of '
                              f'{", ".join(ARCHITECTURES)}')
        path = share_path(f'config/train_{architecture}.yaml')
    values = _read_yaml(path) | given
    try:
        if 'split' in values:
            values['split'] = tuple(float(part) for part in values['split'])
        if 'augmentation' in values:
            values['augmentation'] = tuple(map(str, values['augmentation']))
        return TrainingConfig(**values)
    except (TypeError, ValueError) as error:
        raise ConfigError(f'training: a value of the wrong kind ({error})') from error


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text()) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f'{path}: cannot read the training configuration '
                          f'({" ".join(str(error).split())})') from error
    if not isinstance(values, dict):
        raise ConfigError(f'{path}: expected a YAML mapping of training options')
    known = {field.name for field in fields(TrainingConfig)}
    if unknown := sorted(set(map(str, values)) - known):
        raise ConfigError(f'{path}: unknown training options {", ".join(unknown)}; known: '
                          f'{", ".join(sorted(known))}')
    return values
