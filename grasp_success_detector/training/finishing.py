"""Finish a training: calibrate the best epoch, choose its threshold, test it once."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
import json
from pathlib import Path
import platform
from typing import Any

import lightning
from rich.console import Console
import torch

from grasp_success_detector import checkpoint
from grasp_success_detector.architectures import Freezing
from grasp_success_detector.classifier import GraspClassifier
from grasp_success_detector.console import progress_bar
from grasp_success_detector.data.dataset import decode
from grasp_success_detector.data.extracted import describe_frames, LabelledFrame, Split
from grasp_success_detector.data.splits import SPLITS
from grasp_success_detector.decision import DecisionConfig
from grasp_success_detector.evaluation.calibration import fit_temperature, threshold_for
from grasp_success_detector.evaluation.predictions import Prediction, write_predictions
from grasp_success_detector.evaluation.report import write_report
from grasp_success_detector.evaluation.summary import summarize
from grasp_success_detector.labels import Label
from grasp_success_detector.training.best_epoch import SPARSE
from grasp_success_detector.training.config import TrainingConfig
from grasp_success_detector.training.run_folder import RunFolder, write_json

_BATCH = 32

#: An attempt with more frames than this was filmed as a whole, and is decided as the node does.
_FILMED = 20


def finish(config: TrainingConfig, split: Split, run: RunFolder, best_epoch: int,
           freezing: Freezing, datasets: Sequence[Path], say: Callable[[str], None]) -> None:
    """
    Write the result of a training into its run folder.

    Validation gives temperature and threshold; the test frames are looked at once, here.
    """
    best = checkpoint.load(run.best)
    classifier = GraspClassifier(best, _device(config.device))
    logits = {name: _logits(classifier, getattr(split, name), name) for name in ('val', 'test')}
    val_labels = torch.tensor([int(frame.label) for frame in split.val])
    temperature = fit_temperature(logits['val'], val_labels)
    threshold = threshold_for(_probabilities(logits['val'], temperature),
                              [frame.label for frame in split.val],
                              config.max_false_positive_rate)
    predictions = {name: _predictions(name, getattr(split, name), logits[name], temperature)
                   for name in logits}
    write_predictions(run.predictions, [row for rows in predictions.values() for row in rows])
    metrics = {name: summarize(rows, threshold, _decision(getattr(split, name), threshold))
               for name, rows in predictions.items()}
    record = {'threshold': threshold, 'temperature': temperature,
              'max_false_positive_rate': config.max_false_positive_rate}
    write_json(run.metrics, {**metrics, **record})
    data = {name: describe_frames(getattr(split, name)) for name in SPLITS}
    versions = {'python': platform.python_version(), 'torch': torch.__version__,
                'lightning': lightning.__version__}
    checkpoint.save(run.classifier, best.model, replace(
        best.metadata, temperature=temperature, threshold=threshold, metrics=metrics,
        training={'config': asdict(config), 'best_epoch': best_epoch, 'data': data,
                  'versions': versions}), overwrite=True)
    folders = [str(folder.resolve()) for folder in datasets]
    epochs = list(map(json.loads, run.epochs.read_text().splitlines()))
    counts = {'trainable': freezing.trainable, 'frozen': freezing.frozen}
    sizes = {name: parameter.numel() for name, parameter in best.model.named_parameters()}
    write_json(run.summary, {
        'format_version': 1, 'dataset': folders[0], 'test_dataset': folders[-1],
        'data': data, 'architecture': config.architecture, **counts,
        'parameters': {kind: sum(sizes[name] for name in names)
                       for kind, names in counts.items()},
        'versions': versions, 'device': str(classifier.device), 'best_epoch': best_epoch,
        'epochs_run': len(epochs), 'seconds': sum(epoch['seconds'] for epoch in epochs)})
    for leftover in (run.best, run.state):
        leftover.unlink(missing_ok=True)
    _say_result(metrics['test'], threshold, config, say)
    say(f'report: {write_report(run.path)}')


def _logits(classifier: GraspClassifier, frames: Sequence[LabelledFrame],
            name: str) -> torch.Tensor:
    """Answer as the node would: the same decoding, preprocessing and network."""
    parts = []
    with progress_bar(Console(stderr=True)) as progress:
        task = progress.add_task(f'{name} frames', total=len(frames))
        for start in range(0, len(frames), _BATCH):
            batch = frames[start:start + _BATCH]
            parts.append(torch.from_numpy(classifier.logits([decode(f) for f in batch])))
            progress.advance(task, len(batch))
    return torch.cat(parts)


def _probabilities(logits: torch.Tensor, temperature: float) -> Any:
    return (logits / temperature).softmax(1)[:, Label.SUCCESS].numpy()


def _predictions(name: str, frames: Sequence[LabelledFrame], logits: torch.Tensor,
                 temperature: float) -> list[Prediction]:
    return [Prediction(name, frame.source, frame.attempt, frame.stamp_ns, frame.file,
                       frame.label, float(probability), float(uncalibrated))
            for frame, probability, uncalibrated in zip(
                frames, _probabilities(logits, temperature), _probabilities(logits, 1.),
                strict=True)]


def _decision(frames: Sequence[LabelledFrame], threshold: float) -> DecisionConfig:
    filmed = len(frames) > _FILMED * len({frame.attempt for frame in frames})
    return replace(DecisionConfig() if filmed else SPARSE, threshold=threshold)


def _device(accelerator: str) -> str:
    return {'gpu': 'cuda'}.get(accelerator, accelerator if accelerator == 'cpu' else 'auto')


def _say_result(test: dict[str, Any], threshold: float, config: TrainingConfig,
                say: Callable[[str], None]) -> None:
    for name in ('frames', 'attempts'):
        measured = test[name]
        low, high = measured['wilson_95']
        say(f'test {name}: {measured["value"]:.1%} ({measured["correct"]}/{measured["total"]}, '
            f'95 % interval {low:.1%} to {high:.1%})')
    say(f'threshold {threshold:.3f}: at most {config.max_false_positive_rate:.1%} of the failure '
        'frames of validation lie above it')
