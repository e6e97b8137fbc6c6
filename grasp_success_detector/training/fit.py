"""Train on whole attempts, judge on others, and leave a run folder with a checkpoint."""

from collections.abc import Callable, Sequence
import csv
from dataclasses import asdict, dataclass, replace
import json
import logging
from pathlib import Path
from typing import Any
import warnings

import lightning
from lightning.pytorch.loggers import TensorBoardLogger
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
import yaml

from grasp_success_detector import checkpoint
from grasp_success_detector.architectures import (
    build,
    default_preprocessing,
    freeze,
    split_at_freeze,
)
from grasp_success_detector.checkpoint import CheckpointMetadata
from grasp_success_detector.classifier import GraspClassifier
from grasp_success_detector.data.dataset import FrameDataset
from grasp_success_detector.data.recordings import LabelledFrame
from grasp_success_detector.data.splits import outcomes, split_attempts, SPLITS
from grasp_success_detector.decision import DecisionConfig
from grasp_success_detector.errors import ConfigError, DatasetError
from grasp_success_detector.evaluation.calibration import fit_temperature
from grasp_success_detector.evaluation.evaluate import evaluate
from grasp_success_detector.evaluation.metrics import (
    attempt_accuracy,
    attempt_verdicts,
    class_accuracy,
    frame_accuracy,
)
from grasp_success_detector.labels import Label
from grasp_success_detector.training.augmentation import camera_augmentation
from grasp_success_detector.training.config import TrainingConfig
from grasp_success_detector.training.features import cache_features
from grasp_success_detector.training.module import GraspTraining
from grasp_success_detector.training.sampling import draw_per_class, PerClassSampler

CHECKPOINT_NAME = 'classifier.safetensors'
_BEST_NAME = 'best.safetensors'

#: Attempts may be recorded as a few frames only: the verdict rests on what there is.
_SPARSE = DecisionConfig(min_frames=1)


@dataclass(frozen=True)
class Split:
    """The frames of each split, whole attempts only."""

    train: tuple[LabelledFrame, ...]
    val: tuple[LabelledFrame, ...]
    test: tuple[LabelledFrame, ...]


def make_split(frames: Sequence[LabelledFrame], config: TrainingConfig,
               test: Sequence[LabelledFrame] = ()) -> Split:
    """
    Split frames by attempt.

    :param test: frames of a recording of its own; then nothing of ``frames`` is kept for testing.
    :raises DatasetError: an attempt of ``test`` is also in ``frames``, or a split lacks a label.
    """
    fractions = config.split
    if test:
        if shared := {f.attempt for f in frames} & {f.attempt for f in test}:
            raise DatasetError(f'{len(shared)} attempts are in the training and the test '
                               f'recording, {min(shared)} among them')
        train, val, _ = fractions
        fractions = (train / (train + val), val / (train + val), 0.)
    assigned = split_attempts([f.attempt for f in frames], [f.label for f in frames],
                              fractions, config.seed)
    parts = {name: tuple(f for f in frames if assigned[f.attempt] == name) for name in SPLITS}
    return Split(parts['train'], parts['val'], tuple(test) or parts['test'])


def fit(config: TrainingConfig, split: Split, out: Path,
        say: Callable[[str], None] = print) -> CheckpointMetadata:
    """
    Train, keep the epoch with the lowest validation loss, calibrate, test once.

    :param out: run folder to make: ``config.yaml``, ``splits.csv``, ``metrics.jsonl``, the
        TensorBoard log and ``classifier.safetensors``.
    :param say: takes each line of the report as training goes on.
    :returns: the metadata of the checkpoint.
    :raises ConfigError: ``out`` exists.
    """
    if out.exists():
        raise ConfigError(f'{out}: exists already; a run is never overwritten, choose another')
    _quieten()
    out.mkdir(parents=True)
    _write_inputs(out, config, split)
    lightning.seed_everything(config.seed, workers=True, verbose=False)
    preprocessing = default_preprocessing(config.architecture)
    model = build(config.architecture, config.pretrained)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    freeze(model, config.architecture, config.freeze_depth)
    say(f'{config.architecture}: {_count(model, True):,} parameters learn, '
        f'{_count(model, False):,} are frozen')
    trainer = lightning.Trainer(
        max_epochs=config.epochs, accelerator=config.device, devices=1,
        precision=config.precision, deterministic=True, gradient_clip_val=1.,
        logger=TensorBoardLogger(out, name='tensorboard', version=''),
        enable_checkpointing=False, enable_model_summary=False, num_sanity_val_steps=0,
        log_every_n_steps=10)
    # A generator of its own: the order must not depend on what else draws random numbers.
    generator = torch.Generator().manual_seed(config.seed)
    train_frames = split.train
    sampler = None
    if config.samples_per_class is not None:
        labels = [frame.label for frame in train_frames]
        if config.samples == 'once':
            train_frames = tuple(train_frames[i] for i in draw_per_class(
                labels, config.samples_per_class, generator))
        else:
            sampler = PerClassSampler(labels, config.samples_per_class, config.seed)
    train: Dataset[Any] = FrameDataset(
        train_frames, preprocessing,
        camera_augmentation(config.augmentation) if config.augment else None)
    val: Dataset[Any] = FrameDataset(split.val, preprocessing)
    rest, workers = None, config.workers
    if config.samples == 'once':
        trunk, rest = split_at_freeze(model, config.architecture)
        train, val = (cache_features(
            trunk, frames, preprocessing, trainer.precision_plugin.forward_context(),
            trainer.strategy.root_device, workers) for frames in (train, val))
        workers = 0  # what is left to load is a copy within memory
        say(f'features of {len(train_frames) + len(split.val)} frames computed')
    samples = len(train_frames) if sampler is None else len(sampler)
    loader = DataLoader(train, config.batch_size, shuffle=sampler is None, sampler=sampler,
                        generator=generator, drop_last=samples > config.batch_size,
                        num_workers=workers, persistent_workers=workers > 0)
    keeper = _BestEpoch(config, split, out, say)
    module = GraspTraining(model, preprocessing, config, keeper, rest)
    trainer.fit(module, loader, DataLoader(val, config.batch_size))
    return _finish(config, split, out, keeper, say)


class _BestEpoch:
    """Reports each epoch and keeps the weights of the best."""

    def __init__(self, config: TrainingConfig, split: Split, out: Path,
                 say: Callable[[str], None]) -> None:
        self._config, self._val, self._out, self._say = config, split.val, out, say
        self.loss = float('inf')
        self.epoch = -1
        self.temperature = 1.

    def __call__(self, module: GraspTraining, epoch: int, logits: torch.Tensor,
                 labels: torch.Tensor, train_loss: float) -> None:
        loss = float(F.cross_entropy(logits, labels))
        probabilities = logits.softmax(1)[:, Label.SUCCESS].numpy()
        truth = [frame.label for frame in self._val]
        attempts = [frame.attempt for frame in self._val]
        verdicts = attempt_verdicts(probabilities, [f.stamp_ns for f in self._val], attempts,
                                    _SPARSE)
        frames = frame_accuracy(probabilities, truth, .5)
        classes = class_accuracy(probabilities, truth, .5)
        per_attempt = attempt_accuracy(verdicts, outcomes(attempts, truth))
        line = {'epoch': epoch + 1, 'train_loss': train_loss, 'val_loss': loss,
                'val_frames': frames.to_json(), 'val_attempts': per_attempt.to_json(),
                'val_classes': {name: a.to_json() for name, a in classes.items()}}
        with (self._out / 'metrics.jsonl').open('a') as file:
            file.write(json.dumps(line) + '\n')
        self._say(f'epoch {epoch + 1}/{self._config.epochs}: loss {train_loss:.3f}, validation '
                  f'loss {loss:.3f}, frames {frames}, attempts {per_attempt}, '
                  + ', '.join(f'{name} {a.value:.1%}' for name, a in classes.items()))
        if loss < self.loss:
            self.loss, self.epoch = loss, epoch + 1
            self.temperature = fit_temperature(logits, labels)
            checkpoint.save(self._out / _BEST_NAME, module.model, CheckpointMetadata(
                self._config.architecture, default_preprocessing(self._config.architecture)),
                overwrite=True)


def _finish(config: TrainingConfig, split: Split, out: Path, best: _BestEpoch,
            say: Callable[[str], None]) -> CheckpointMetadata:
    """Put temperature, training record and test metrics into the best epoch's checkpoint."""
    loaded = checkpoint.load(out / _BEST_NAME)
    training = {'config': asdict(config), 'best_epoch': best.epoch, 'data': {
        name: _describe(getattr(split, name)) for name in SPLITS}, 'versions': {
            'torch': torch.__version__, 'lightning': lightning.__version__}}
    metadata = replace(loaded.metadata, temperature=best.temperature, training=training)
    candidate = out / CHECKPOINT_NAME
    checkpoint.save(candidate, loaded.model, metadata)
    classifier = GraspClassifier.from_checkpoint(candidate, device='cpu')
    # A test attempt filmed as a whole is decided as the node decides; a few frames as they allow.
    dense = len(split.test) > 20 * len({frame.attempt for frame in split.test})
    decision = replace(DecisionConfig() if dense else _SPARSE, threshold=metadata.threshold)
    metrics = {'test': evaluate(classifier, split.test, decision)
               | {'window_s': decision.window_s, 'min_frames': decision.min_frames}}
    metadata = replace(metadata, metrics=metrics)
    checkpoint.save(candidate, loaded.model, metadata, overwrite=True)
    (out / _BEST_NAME).unlink()
    (out / 'test_metrics.json').write_text(json.dumps(metrics, indent=2) + '\n')
    for name in ('frames', 'attempts'):
        measured = metrics['test'][name]
        low, high = measured['wilson_95']
        say(f'test {name}: {measured["value"]:.1%} ({measured["correct"]}/{measured["total"]}, '
            f'95 % interval {low:.1%} to {high:.1%})')
    return metadata


def _write_inputs(out: Path, config: TrainingConfig, split: Split) -> None:
    (out / 'config.yaml').write_text(yaml.safe_dump(
        {**asdict(config), 'split': list(config.split),
         'augmentation': list(config.augmentation)}, sort_keys=False))
    with (out / 'splits.csv').open('w', newline='') as file:
        rows = csv.writer(file)
        rows.writerow(['attempt', 'split'])
        for name in SPLITS:
            for attempt in dict.fromkeys(frame.attempt for frame in getattr(split, name)):
                rows.writerow([attempt, name])


def _describe(frames: Sequence[LabelledFrame]) -> dict[str, Any]:
    return {'sources': sorted({frame.source for frame in frames}), 'frames': len(frames),
            'attempts': len({frame.attempt for frame in frames}),
            'success_frames': sum(frame.label == Label.SUCCESS for frame in frames)}


def _count(model: torch.nn.Module, learning: bool) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad == learning)


def _quieten() -> None:
    """Silence Lightning's hints about hardware and loaders, which name no mistake of the user."""
    logging.getLogger('lightning.pytorch').setLevel(logging.ERROR)
    warnings.filterwarnings('ignore', module='lightning', category=UserWarning)
