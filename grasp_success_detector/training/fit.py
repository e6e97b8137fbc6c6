"""Train a classifier and test it on other attempts; write its run folder and checkpoint."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
import platform
from typing import Any

import lightning
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy
import torch

from grasp_success_detector.datasets.dataset import describe_frames, Split
from grasp_success_detector.datasets.splits import check_labels, SPLITS
from grasp_success_detector.datasets.torch_dataset import FrameDataset
from grasp_success_detector.errors import CheckpointError, DatasetError, TrainingError
from grasp_success_detector.evaluation.judging import answers_of, decision_for, predictions_of
from grasp_success_detector.evaluation.metrics import (
    accuracy_text,
    attempts_text,
    few_attempts,
    summarize,
)
from grasp_success_detector.evaluation.operating_point import operating_point
from grasp_success_detector.evaluation.predictions import write_predictions
from grasp_success_detector.files import json_text, write_whole
from grasp_success_detector.images.preprocessing import Preprocessing
from grasp_success_detector.inference.classifier import GraspClassifier
from grasp_success_detector.inference.engine import Precision
from grasp_success_detector.inference.torch_engine import has_cuda, TorchEngine
from grasp_success_detector.labels import Label
from grasp_success_detector.networks import architectures
from grasp_success_detector.networks.checkpoint import Checkpoint, save
from grasp_success_detector.networks.familiarity import MODULES
from grasp_success_detector.networks.learnt_frames import with_record
from grasp_success_detector.networks.weights import build_pretrained
from grasp_success_detector.training.augmentation import camera_augmentation
from grasp_success_detector.training.best_epoch import BestEpoch
from grasp_success_detector.training.known_frames import familiarity_with_frames, MOST_FRAMES
from grasp_success_detector.training.loaders import make_loaders
from grasp_success_detector.training.module import (
    GraspTraining,
    lightning_run,
    make_trainer,
    Teacher,
)
from grasp_success_detector.training.recipe import Accelerator, TrainingConfig, TrainingPrecision
from grasp_success_detector.training.run_folder import RunFolder
from grasp_success_detector.training.without_hand import read_without_hand

#: Each process computes all features itself, so that the first ones wait for the slowest.
_PATIENCE_OF_PROCESSES = timedelta(hours=12)

#: Share of the running mean of the weights that is kept at each step.
_KEPT_OF_MEAN = .998

#: Devices of the classifier, where they are named differently than Lightning's accelerators.
_DEVICES = {Accelerator.GPU: 'cuda', Accelerator.CUDA: 'auto', Accelerator.MPS: 'auto'}


def fit(config: TrainingConfig, split: Split, out: Path, datasets: Sequence[Path],
        resume: bool = False, say: Callable[[str], None] = print) -> bool:
    """
    Train, keep the epoch with the lowest validation loss, calibrate it, and test it once.

    The same configuration and data give the same result but for rounding errors, on any number of
    devices, and also if the training was stopped and resumed.

    :param out: run folder to make; see :class:`~.run_folder.RunFolder`.
    :param datasets: folders of the data sets, which are noted in the run folder: that of training
        and validation, and that of the test frames if it is another one.
    :param resume: go on after the last whole epoch of an unfinished run.
    :param say: called with each line of the progress report.
    :returns: whether this process has finished the run; False if the run was finished before, and
        in all but the first of several processes.
    :raises ConfigError: ``out`` exists, or holds a run of another configuration.
    :raises DatasetError: a split lacks a label, or a frame cannot be read.
    :raises TrainingError: the loss is not finite, and ``out`` keeps the best epoch before; or
        another process of the training is gone, and the run can be resumed.
    :raises KeyboardInterrupt: the user pressed Ctrl-C; the run can be resumed.
    """
    _check_labels(split)
    config = replace(config, precision=_precision(config))
    lightning.seed_everything(config.seed, workers=True, verbose=False)
    preprocessing = config.preprocessing()
    weights = None if config.weights is None else Path(config.weights)
    model = (build_pretrained(config.architecture, weights) if weights or config.pretrained
             else architectures.build(config.architecture))
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    freezing = architectures.freeze(model, config.architecture, config.freeze_conv_layers)
    run = RunFolder(out)
    # Before the run begins, as reading may fail.
    teachers = [Teacher.open(path) for path in config.teachers]
    train = FrameDataset(
        split.train, preprocessing,
        camera_augmentation(config.augmentation) if config.augment else None, config.keep_images,
        [] if run.finished else read_without_hand(config.without_hand, preprocessing))
    val = FrameDataset(split.val, preprocessing, keep=config.keep_images)
    best = BestEpoch(config, preprocessing, split.val, run, say)
    with lightning_run():
        trainer = _trainer(config, run, best)
        if trainer.is_global_zero:
            run.resume(config) if resume else run.begin(config)
            for line in _layers(model, config.architecture, freezing):
                say(line)
        if not run.finished:
            _train(config, train, val, model, preprocessing, run, trainer, teachers)
    if not trainer.is_global_zero:
        return False
    if run.finished:
        say(f'{out}: is finished already')
        return False
    _finish(config, split, train, val, run, best.epoch, freezing, datasets, say)
    return True


def _precision(config: TrainingConfig) -> TrainingPrecision:
    """Return what ``auto`` is on this machine, or the precision that is asked for."""
    if config.precision is not TrainingPrecision.AUTO:
        return config.precision
    on_cpu = config.device is Accelerator.CPU or (
        config.device is Accelerator.AUTO
        and not (has_cuda() or torch.backends.mps.is_available()))
    return TrainingPrecision.BF16_MIXED if on_cpu and TorchEngine.unsupported(
        Precision.BF16, 'cpu') is None else TrainingPrecision.FP32


def _check_labels(split: Split) -> None:
    parts = {name: getattr(split, name) for name in SPLITS}
    if faults := list(filter(None, (
            check_labels(name, [f.attempt for f in frames], [f.label for f in frames])
            for name, frames in parts.items()))):
        missing = set(Label) - {frame.label for frames in parts.values() for frame in frames}
        mend = ' and '.join(f'label some frames {label.name.lower()}' for label in missing) or (
            'record more attempts, or extract with another --split or --seed')
        raise DatasetError(f'these splits lack frames of a label: {"; ".join(faults)}; {mend}')


def _train(config: TrainingConfig, frames: FrameDataset, val: FrameDataset,
           model: torch.nn.Module, preprocessing: Preprocessing, run: RunFolder,
           trainer: lightning.Trainer, teachers: Sequence[Teacher]) -> None:
    train, judged, rest = make_loaders(config, frames, val, model, preprocessing, trainer)
    state = run.state if run.state.is_file() else None
    if trainer.is_global_zero:
        done = 0 if state is None else 1 + int(
            torch.load(state, map_location='cpu', weights_only=True)['epoch'])
        run.drop_epochs_after(done)
    try:
        trainer.fit(GraspTraining(model, preprocessing, config, rest, teachers), train, judged,
                    ckpt_path=state)
    except TrainingError as error:
        kept = (f'the best epoch before is kept in {run.best}' if run.best.is_file() else
                'no epoch was finished before')
        raise TrainingError(f'{error}; {kept}; try a lower --lr and --backbone-lr, or '
                            '--precision 32-true') from error
    except RuntimeError as error:
        # Of what PyTorch's processes talk by; Gloo has no class of errors for it.
        if config.processes == 1 or not any(name in str(error) for name in ('gloo', 'NCCL')):
            raise
        what = str(error).partition('. ')[0].rpartition('] ')[2]
        raise TrainingError(f'another of the {config.processes} processes of this training has '
                            f'ended or cannot be reached ({what}); the same commands with '
                            '--resume go on after the last whole epoch, or begin again if there '
                            'is none') from error


def _trainer(config: TrainingConfig, run: RunFolder, best: BestEpoch) -> lightning.Trainer:
    # After ``best``, which is to see the mean before it is exchanged for the weights that learn.
    mean = [EMAWeightAveraging(decay=_KEPT_OF_MEAN)] if config.average_weights else []
    return make_trainer(
        best, *mean, ModelCheckpoint(run.path, run.state.stem, save_top_k=1,
                              save_on_train_epoch_end=True, enable_version_counter=False),
        max_epochs=config.epochs, accelerator=config.device.value, devices=config.devices,
        num_nodes=config.num_nodes, precision=config.precision.value,
        strategy=DDPStrategy(timeout=_PATIENCE_OF_PROCESSES) if config.processes > 1 else 'auto',
        gradient_clip_val=1., logger=TensorBoardLogger(run.path, name='tensorboard', version=''),
        log_every_n_steps=10, use_distributed_sampler=False)


def _layers(model: torch.nn.Module, architecture: str,
            freezing: architectures.Freezing) -> list[str]:
    """Say which layers are frozen and which learn, and how many parameters that is."""
    learns = {id(p) for name, p in model.named_parameters() if name in freezing.trainable}
    layers: dict[str, list[str]] = {'frozen': [], 'learn': []}
    seen: set[int] = set()  # a head of timm is the whole model, used from where its backbone ends
    for stage in architectures.stages(model, architecture):
        own = {id(p) for p in stage.module.parameters()} - seen
        seen |= own
        if own:
            part = ' (in part)' if own & learns and own - learns else ''
            layers['learn' if own & learns else 'frozen'].append(stage.name + part)
    counts = {'frozen': 0, 'learn': 0}
    for parameter in model.parameters():
        counts['learn' if id(parameter) in learns else 'frozen'] += parameter.numel()
    return [f'{architecture}: {counts[verb]:,} parameters {verb}: {", ".join(names) or "none"}'
            for verb, names in layers.items()]


def _begun_with(config: TrainingConfig) -> Mapping[str, Any]:
    """Return how the checkpoint was trained whose backbone learnt further; empty without one."""
    try:
        return Checkpoint.open(config.weights).metadata.training if config.weights else {}
    except CheckpointError:     # weights of another kind
        return {}


def _finish(config: TrainingConfig, split: Split, train: FrameDataset, val: FrameDataset,
            run: RunFolder, best_epoch: int, freezing: architectures.Freezing,
            datasets: Sequence[Path], say: Callable[[str], None]) -> None:
    """Choose temperature and threshold on validation frames, test once, and write the result."""
    best = Checkpoint.open(run.best)
    classifier = GraspClassifier(best, _DEVICES.get(config.device, config.device.value))
    held_out = answers_of(classifier, val, 'val frames')
    logits = {'val': held_out.logits, 'test': answers_of(
        classifier, FrameDataset(split.test, classifier.preprocessing), 'test frames').logits}
    temperature, threshold, notes = operating_point(
        logits['val'], [frame.label for frame in split.val],
        [frame.attempt for frame in split.val], config.max_false_positive_rate)
    predictions = {name: predictions_of(getattr(split, name), logits[name], temperature, name)
                   for name in logits}
    write_predictions(run.predictions, [row for rows in predictions.values() for row in rows])
    metrics = {name: summarize(
        rows, threshold, decision_for([row.attempt for row in rows], threshold))
        for name, rows in predictions.items()}
    write_whole(run.metrics, json_text({
        **metrics, 'threshold': threshold, 'temperature': temperature,
        'max_false_positive_rate': config.max_false_positive_rate}))
    data = {name: describe_frames(getattr(split, name)) for name in SPLITS}
    versions = {'python': platform.python_version(), 'torch': torch.__version__,
                'lightning': lightning.__version__}
    save(run.classifier, best.model, replace(
        best.metadata, temperature=temperature, threshold=threshold, metrics=metrics,
        familiarity=familiarity_with_frames(
            [answers_of(classifier, train, 'known frames', MOST_FRAMES)], [held_out],
            config.architecture, bool(config.without_hand),
        ) if config.architecture in MODULES else None,
        training={'config': config.to_json(), 'best_epoch': best_epoch, 'data': data,
                  'versions': versions, **with_record(
                      (frame.hash for frame in split.train + split.val), _begun_with(config))},
        ), overwrite=True)
    folders = [str(folder.resolve()) for folder in datasets]
    epochs = run.read_epochs()
    counts = {'trainable': freezing.trainable, 'frozen': freezing.frozen}
    sizes = {name: parameter.numel() for name, parameter in best.model.named_parameters()}
    write_whole(run.summary, json_text({
        'format_version': 1, 'dataset': folders[0], 'test_dataset': folders[-1],
        'data': data, 'architecture': config.architecture, **counts,
        'parameters': {kind: sum(sizes[name] for name in names)
                       for kind, names in counts.items()},
        'versions': versions, 'device': classifier.engine.device, 'best_epoch': best_epoch,
        'epochs_run': len(epochs), 'seconds': sum(epoch['seconds'] for epoch in epochs)}))
    for leftover in (run.best, run.state):
        leftover.unlink(missing_ok=True)
    if note := few_attempts(metrics['test']['attempts']['total']):
        say(note)
    say(f'test frames: {accuracy_text(metrics["test"]["frames"])}')
    say(f'test attempts: {attempts_text(metrics["test"])}')
    if notes:
        for note in notes:
            say(f'validation: {note}')
    else:
        say(f'threshold {threshold:.3f}: at most {config.max_false_positive_rate:.1%} of the '
            'failure frames of validation lie above it')
