"""The recipes of training and pre-training: defaults, YAML file, options of the command line."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from enum import Enum
import os
from pathlib import Path
from typing import Any

from grasp_success_detector.errors import ConfigError, one_line
from grasp_success_detector.files import read_yaml, share_path
from grasp_success_detector.images.preprocessing import Preprocessing
from grasp_success_detector.networks.architectures import (
    ARCHITECTURES,
    check_architecture,
    default_preprocessing,
)
from grasp_success_detector.networks.familiarity import MODULES
from grasp_success_detector.settings import check_settings, setting

#: Numpy and Lightning take no larger seed.
MAX_SEED = 2 ** 32 - 1


class Optimizer(Enum):
    """The optimizer of the weights: AdamW, or stochastic gradient descent with momentum."""

    ADAMW = 'adamw'
    SGD = 'sgd'


class Schedule(Enum):
    """The learning rate over time: a warm-up and one cosine decay to 0, or constant."""

    COSINE = 'cosine'
    CONSTANT = 'constant'


class Samples(Enum):
    """When samples are drawn and augmented: anew in each epoch, or once for all epochs."""

    EACH_EPOCH = 'each_epoch'
    ONCE = 'once'


class Augmentation(Enum):
    """A random change of training images."""

    SHIFT_TURN_ZOOM = 'shift_turn_zoom'
    LIGHT_AND_COLOUR = 'light_and_colour'
    SENSOR_NOISE = 'sensor_noise'
    MIRROR = 'mirror'   #: a mirrored right hand is a left one: for pictures of both


class TrainingPrecision(Enum):
    """
    Values of Lightning's ``Trainer(precision=...)``; weights are float32 in all of them.

    ``AUTO`` is bf16-mixed on CPUs that compute in bf16, and 32-true elsewhere.
    """

    AUTO = 'auto'
    FP32 = '32-true'
    BF16_MIXED = 'bf16-mixed'
    FP16_MIXED = '16-mixed'


class Accelerator(Enum):
    """Values of Lightning's ``Trainer(accelerator=...)``."""

    AUTO = 'auto'
    CPU = 'cpu'
    GPU = 'gpu'
    CUDA = 'cuda'
    MPS = 'mps'


@dataclass(frozen=True)
class TrainingConfig:
    """
    The recipe of a training, and where it runs.

    The fields are the options of ``train_classifier``; its help describes them.
    """

    architecture: str = setting('efficientnet_lite0', option='arch', metavar='NAME', help=
                                'cifar_cnn, resnet34, efficientnet_lite0 (default) or timm:NAME')
    pretrained: bool = setting(
        True, help='start from weights that the backbone was trained with elsewhere')
    weights: str | None = setting(None, metavar='FILE', help='file of these weights '
                                  '(.safetensors or .pth), or the name of a shipped checkpoint, '
                                  'instead of cache and download')
    freeze_conv_layers: int | None = setting(
        None, lowest=0, help='the first N convolutions of the main path keep their weights')
    hand: float = setting(
        0., lowest=0., highest=10., metavar='FACTOR', help='find the hand and cut out a square '
        'around it, with this multiple of the longer side of its box; 0: use the whole picture')
    input_size: int | None = setting(
        None, lowest=32, highest=1024, option='size', metavar='PIXELS',
        help="height and width of the network's input (the architecture's own)")
    epochs: int = setting(4, lowest=1, help='passes over the samples; the best one on validation '
                          'is kept')
    patience: int | None = setting(
        None, lowest=1, help='stop after N epochs without a lower validation loss')
    batch_size: int = setting(
        32, lowest=2, help='of all devices together, so that their number does not matter')
    optimizer: Optimizer = Optimizer.ADAMW
    momentum: float = setting(.9, lowest=0, below=1, help='of sgd')
    schedule: Schedule = setting(
        Schedule.COSINE, help='the learning rate over time, after a warm-up:')
    lr: float = setting(1e-3, above=0, help='peak learning rate of the head')
    backbone_lr: float = setting(
        3e-4, above=0, help='peak learning rate of the unfrozen part of the backbone')
    weight_decay: float = setting(
        1e-2, lowest=0, help='share of the weights that each step takes off, times the learning '
        'rate')
    average_weights: bool = setting(
        False, help='judge and keep a running mean of the weights, over about 500 steps, instead '
        'of the last ones')
    label_smoothing: float = setting(
        0., lowest=0, below=1, metavar='SHARE',
        help='share of the target that is spread over both classes')
    samples: Samples = setting(
        Samples.EACH_EPOCH, help='each_epoch: draw and augment samples anew in each epoch; '
        'once: use the same samples in every epoch')
    samples_per_class: int | None = setting(
        None, lowest=1, help='samples of each class in an epoch (every frame once)')
    augment: bool = setting(True, help='change training images at random')
    augmentation: tuple[Augmentation, ...] = setting(
        (Augmentation.SHIFT_TURN_ZOOM, Augmentation.LIGHT_AND_COLOUR, Augmentation.SENSOR_NOISE),
        help='the random changes:')
    reuse_features: bool = setting(
        True, help="with --samples once: compute the frozen part's features once and keep them "
        'in memory; the same result, faster')
    keep_images: bool = setting(
        False, help="keep decoded and cropped images in each process's memory, so that later "
        'epochs read them faster')
    without_hand: tuple[str, ...] = setting(
        (), metavar='BAG', help='recordings of simulate_grasps --preset world or --without-hand: '
        'pictures in them without a hand, where the hand finder sees one, are shown as well, as '
        'many as of a class; the checkpoint calls what resembles them unfamiliar')
    teachers: tuple[str, ...] = setting(
        (), option='teacher', metavar='CHECKPOINT', help='learn the mean answer of these '
        'checkpoints instead of the labels; with the change mirror, to mirrored images as well')
    train_accuracy: bool = setting(
        True, help='after each epoch also judge the training images (2,400 of them if samples are '
        'drawn anew), as the original experiment did; the report labels it')
    max_false_positive_rate: float = setting(
        .01, above=0, below=1, metavar='SHARE', help='largest share of the failure frames of '
        'validation that may count as success; chooses the threshold')
    seed: int = setting(0, lowest=0, highest=MAX_SEED, help='the same seed draws the same samples')
    precision: TrainingPrecision = setting(
        TrainingPrecision.FP32, help='type of the numbers that the network computes with; auto: '
        'bf16-mixed on CPUs that have it, else 32-true')
    device: Accelerator = Accelerator.AUTO
    devices: int = setting(1, lowest=1, help='number of devices on each machine')
    num_nodes: int = setting(1, lowest=1, help='number of machines')
    workers: int = setting(
        0, lowest=0, help='processes that decode and augment; 0: the training process does')

    def __post_init__(self) -> None:
        check_settings(self, ConfigError, 'training:')
        check_architecture(self.architecture)
        if self.batch_size % self.processes:
            raise ConfigError(f'training: batch_size {self.batch_size} (expected a multiple of '
                              f'the {self.processes} devices)')
        if self.samples is Samples.ONCE and (self.without_hand or self.teachers):
            raise ConfigError('training: pictures without a hand, and teachers, need the samples '
                              'each_epoch')
        if self.without_hand and self.architecture not in MODULES:
            raise ConfigError(f'training: a checkpoint of {self.architecture} cannot tell what '
                              'is unfamiliar, so that pictures without a hand are of no use; '
                              f'expected {", ".join(MODULES)}')

    @property
    def processes(self) -> int:
        """Return the number of processes that train together."""
        return self.devices * self.num_nodes

    def preprocessing(self) -> Preprocessing:
        """Return crop, size and normalization of the training's images."""
        own = default_preprocessing(self.architecture)
        return replace(own, height=self.input_size or own.height,
                       width=self.input_size or own.width, hand=self.hand)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON and YAML hold them."""
        def plain(value: Any) -> Any:
            return value.value if isinstance(value, Enum) else value

        return {name: [*map(plain, value)] if isinstance(value, tuple) else plain(value)
                for name, value in asdict(self).items()}


@dataclass(frozen=True)
class PretrainingConfig:
    """
    The recipe of ``pretrain_cifar10``, chosen on 5,000 training images kept out of training.

    The learning rate of stochastic gradient descent with Nesterov's momentum rises in the first
    fifth of the steps and then falls (one cycle).
    """

    epochs: int = setting(10, lowest=1, help='passes over the training images')
    batch_size: int = setting(64, lowest=1, help='images of a step')
    lr: float = setting(.05, above=0, help='peak learning rate')
    momentum: float = setting(.9, lowest=0, below=1)
    weight_decay: float = setting(5e-4, lowest=0)
    seed: int = setting(0, lowest=0, highest=MAX_SEED, help='of weights, order and changes')
    device: Accelerator = Accelerator.AUTO

    def __post_init__(self) -> None:
        check_settings(self, ConfigError, 'pre-training:')


@dataclass(frozen=True)
class ExperimentOptions:
    """
    What may differ from the original experiment.

    The fields are the options of ``original_experiment``; its help describes them.
    """

    per_class: int = setting(1000, lowest=1, help='training images of each class, made by '
                             'transformation of the training pictures')
    epochs: int = setting(TrainingConfig.epochs, lowest=1, help='passes over these images')
    seed: int = setting(0, lowest=0, highest=MAX_SEED,
                        help='of the training images and of the choice of new pictures')
    resnet34_weights: str | None = setting(
        None, metavar='FILE', help="resnet34's ImageNet weights (.safetensors or .pth), instead "
        "of torch's cache and download")

    def __post_init__(self) -> None:
        check_settings(self, ConfigError, 'options:')


def load_config(path: Path | None, overrides: Mapping[str, Any]) -> TrainingConfig:
    """
    Read a YAML file of ``TrainingConfig`` fields and override some of them.

    :param path: YAML file; if None, the recipe that ships with the package for the architecture.
    :param overrides: fields that override those of the file, unless they are None.
    :raises ConfigError: no such file, no YAML mapping, unknown fields, or impossible values.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    architecture = given.get('architecture', TrainingConfig.architecture)
    if path is None and architecture in ARCHITECTURES:
        path = share_path(f'config/train_{architecture}.yaml')
    return TrainingConfig(**(_read_yaml(path) if path is not None else {}) | given)


def check_processes(config: TrainingConfig) -> None:
    """Raise a ConfigError if torchrun has started another number of processes than expected."""
    if 'TORCHELASTIC_RUN_ID' not in os.environ:     # a program that is not run by torchrun
        return
    here, in_all = (int(os.environ[name]) for name in ('LOCAL_WORLD_SIZE', 'WORLD_SIZE'))
    if (here, in_all) != (config.devices, config.processes):
        raise ConfigError(f'torchrun has started {here} of {in_all} processes here, expected '
                          f'{config.devices} of {config.processes}; give its --nproc-per-node '
                          'as --devices too, and its --nnodes as --num-nodes')


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = read_yaml(path) or {}
    except (OSError, ValueError) as error:
        raise ConfigError(f'{path}: cannot read the training configuration '
                          f'({one_line(error)})') from error
    if not isinstance(values, dict):
        raise ConfigError(f'{path}: expected a YAML mapping of training options')
    known = {field.name for field in fields(TrainingConfig)}
    if unknown := sorted(set(map(str, values)) - known):
        raise ConfigError(f'{path}: unknown training options {", ".join(unknown)}; known: '
                          f'{", ".join(sorted(known))}')
    return values
