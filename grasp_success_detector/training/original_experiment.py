"""The original experiment: two classifiers, 1000 images of each class by transformation."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
import random

from grasp_success_detector.datasets.dataset import LabelledFrame, Split
from grasp_success_detector.errors import CheckpointError, DatasetError
from grasp_success_detector.evaluation.comparison import Contestant
from grasp_success_detector.labels import CLASS_NAMES, Label
from grasp_success_detector.networks.weights import build_pretrained
from grasp_success_detector.training.fit import fit
from grasp_success_detector.training.recipe import (
    ExperimentOptions,
    load_config,
    TrainingConfig,
)
from grasp_success_detector.training.run_folder import Run

#: The classifiers of the experiment, in the order of its tables.
CLASSIFIERS = ('cifar_cnn', 'resnet34')

#: Number of new pictures that both classifiers judge at the end.
NEW_PICTURES = 32

#: P(success) from which a picture is judged a success, in each epoch and at the end.
THRESHOLD = .5


def experiment_split(split: Split, seed: int) -> Split:
    """
    Return the split with at most 32 of its test frames, as many of each label as there are.

    :raises DatasetError: a split has no frame of one of the labels.
    """
    if lacking := [f'{name} has no {CLASS_NAMES[label]}' for name, frames in vars(split).items()
                   for label in Label if label not in {frame.label for frame in frames}]:
        raise DatasetError(
            f'too few attempts ({", ".join(lacking)}); expected three or more with pictures of '
            'each label: for training, for the accuracy after each epoch, and for the new '
            'pictures')
    return replace(split, test=_drawn(split.test, seed))


def _drawn(frames: tuple[LabelledFrame, ...], seed: int) -> tuple[LabelledFrame, ...]:
    """Draw new pictures; where one label has fewer than half of them, the other fills up."""
    order = list(range(len(frames)))
    random.Random(seed).shuffle(order)
    of = {label: [i for i in order if frames[i].label is label] for label in Label}
    half = {label: numbers[:NEW_PICTURES // 2] for label, numbers in of.items()}
    chosen = set(half[Label.FAILURE] + half[Label.SUCCESS])
    chosen.update([i for i in order if i not in chosen][:NEW_PICTURES - len(chosen)])
    return tuple(frame for i, frame in enumerate(frames) if i in chosen)


def configs(options: ExperimentOptions) -> tuple[dict[str, TrainingConfig], str | None]:
    """
    Return the recipe of each classifier, and why resnet34 starts from random weights, if so.

    :raises CheckpointError: the weights given do not fit.
    """
    given = {'epochs': options.epochs, 'samples_per_class': options.per_class,
             'seed': options.seed}
    made = {name: load_config(None, {'architecture': name, **given}) for name in CLASSIFIERS}
    reason = None
    if options.resnet34_weights is not None:
        build_pretrained('resnet34', Path(options.resnet34_weights))
        made['resnet34'] = replace(made['resnet34'], weights=options.resnet34_weights)
    else:
        try:
            build_pretrained('resnet34')
        except CheckpointError as error:
            reason = str(error).replace('--weights', '--resnet34-weights')
            made['resnet34'] = replace(made['resnet34'], pretrained=False)
    return made, reason


def train_both(made: dict[str, TrainingConfig], split: Split, out: Path, dataset: Path,
               say: Callable[[str], None] = print) -> None:
    """
    Train each classifier in a run folder of its name, or go on with its training.

    :param split: of :func:`experiment_split`.
    :param dataset: folder of the frames.
    :raises ConfigError: a run folder holds a training with other options.
    """
    for name, config in made.items():
        fit(config, split, out / name, [dataset], resume=True, say=say)


def contestant_of(run: Run) -> Contestant:
    """Return a finished training for the comparison, with answers by the greater probability."""
    metrics = {**run.metrics, 'test': {**run.metrics['test'], 'threshold': THRESHOLD}}
    return Contestant(run.name, run.of('test'), metrics, run.summary, run.checkpoint,
                      run.test_dataset)
