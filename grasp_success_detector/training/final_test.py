"""Finish a training: calibrate the best epoch, choose its threshold, test it once."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
import json
from pathlib import Path
import platform
from typing import Any

import lightning
import torch

from grasp_success_detector.datasets.dataset import describe_frames, Split
from grasp_success_detector.datasets.splits import SPLITS
from grasp_success_detector.evaluation.calibration import fit_temperature
from grasp_success_detector.evaluation.judging import decision_for, logits_of, predictions_of
from grasp_success_detector.evaluation.metrics import summarize
from grasp_success_detector.evaluation.predictions import write_predictions
from grasp_success_detector.evaluation.threshold import choose_threshold
from grasp_success_detector.inference.classifier import GraspClassifier
from grasp_success_detector.networks.architectures import Freezing, success_probabilities
from grasp_success_detector.networks.checkpoint import Checkpoint, save
from grasp_success_detector.training.recipe import TrainingConfig
from grasp_success_detector.training.run_folder import RunFolder, write_json


def finish(config: TrainingConfig, split: Split, run: RunFolder, best_epoch: int,
           freezing: Freezing, datasets: Sequence[Path], say: Callable[[str], None]) -> None:
    """
    Write the result of a training into its run folder.

    Validation gives temperature and threshold; the test frames are looked at once, here.
    """
    best = Checkpoint.open(run.best)
    classifier = GraspClassifier(best, _device(config.device))
    logits = {name: logits_of(classifier, getattr(split, name), f'{name} frames')
              for name in ('val', 'test')}
    val_labels = torch.tensor([int(frame.label) for frame in split.val])
    temperature = fit_temperature(torch.from_numpy(logits['val']), val_labels)
    threshold = choose_threshold(success_probabilities(logits['val'], temperature),
                              [frame.label for frame in split.val],
                              config.max_false_positive_rate)
    predictions = {name: predictions_of(getattr(split, name), logits[name], temperature, name)
                   for name in logits}
    write_predictions(run.predictions, [row for rows in predictions.values() for row in rows])
    metrics = {name: summarize(rows, threshold, decision_for(getattr(split, name), threshold))
               for name, rows in predictions.items()}
    record = {'threshold': threshold, 'temperature': temperature,
              'max_false_positive_rate': config.max_false_positive_rate}
    write_json(run.metrics, {**metrics, **record})
    data = {name: describe_frames(getattr(split, name)) for name in SPLITS}
    versions = {'python': platform.python_version(), 'torch': torch.__version__,
                'lightning': lightning.__version__}
    save(run.classifier, best.model, replace(
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
        'versions': versions, 'device': classifier.engine.device, 'best_epoch': best_epoch,
        'epochs_run': len(epochs), 'seconds': sum(epoch['seconds'] for epoch in epochs)})
    for leftover in (run.best, run.state):
        leftover.unlink(missing_ok=True)
    _say_result(metrics['test'], threshold, config, say)


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
