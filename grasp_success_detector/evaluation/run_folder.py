"""The run folder that a training leaves, as reports read it."""

from collections.abc import Mapping
from dataclasses import dataclass
import json
from pathlib import Path
from typing import Any

import yaml

from grasp_success_detector.errors import DatasetError, one_line, RunError
from grasp_success_detector.evaluation.predictions import Prediction, read_predictions
from grasp_success_detector.training.run_folder import RunFolder

_FORMAT_VERSION = 1

_IN_SUMMARY = {'dataset', 'test_dataset', 'data', 'architecture', 'frozen', 'trainable',
               'parameters', 'versions', 'device', 'best_epoch', 'epochs_run',
               'seconds'}
_IN_METRICS = {'val', 'test', 'threshold', 'temperature', 'max_false_positive_rate'}


@dataclass(frozen=True)
class Run:
    """
    A finished training.

    :ivar config: the recipe.
    :ivar summary: data, layers, versions: ``run.json``.
    :ivar epochs: what was measured after each epoch.
    :ivar metrics: of the best epoch, by split, with threshold and temperature.
    :ivar predictions: of the best epoch on validation and test frames.
    """

    folder: Path
    config: Mapping[str, Any]
    summary: Mapping[str, Any]
    epochs: tuple[Mapping[str, Any], ...]
    metrics: Mapping[str, Any]
    predictions: tuple[Prediction, ...]

    @property
    def name(self) -> str:
        """Return the folder's own name."""
        return self.folder.resolve().name

    @property
    def test_dataset(self) -> Path | None:
        """Return where the test frames were at the time of the training, if they were files."""
        folder = self.summary['test_dataset']
        return None if folder is None else Path(folder)

    @property
    def checkpoint(self) -> Path:
        """Return the checkpoint file."""
        return RunFolder(self.folder).classifier

    def of(self, split: str) -> tuple[Prediction, ...]:
        """Return the predictions of one split."""
        return tuple(row for row in self.predictions if row.split == split)


def read_run(folder: Path) -> Run:
    """
    Read a run folder.

    :raises RunError: there is none, or it is unfinished, damaged, or of another format.
    """
    files = RunFolder(folder)
    if not files.finished:
        raise RunError(f'{folder}: ' + (
            'this training is not finished; let it end, or go on with it by train_classifier '
            '--resume' if files.config.is_file() else
            f'no run of train_classifier ({files.summary.name} is missing)' if folder.is_dir()
            else 'no such folder; expected a run of train_classifier'))
    if missing := [path.name for path in (
            files.config, files.epochs, files.metrics, files.predictions, files.classifier)
            if not path.is_file()]:
        raise RunError(f'{folder}: a damaged run folder, lacking {", ".join(missing)}')
    try:
        summary = json.loads(files.summary.read_text())
        if (version := summary['format_version']) != _FORMAT_VERSION:
            raise RunError(f'{folder}: a run folder of format {version}; this version reads '
                           f'{_FORMAT_VERSION}')
        metrics = json.loads(files.metrics.read_text())
        for document, wanted in ((summary, _IN_SUMMARY), (metrics, _IN_METRICS)):
            if lacking := wanted - document.keys():
                raise ValueError(f'{", ".join(sorted(lacking))} missing')
        return Run(folder, yaml.safe_load(files.config.read_text()), summary,
                   tuple(map(json.loads, files.epochs.read_text().splitlines())), metrics,
                   tuple(read_predictions(files.predictions)))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError,
            DatasetError) as error:
        raise RunError(f'{folder}: a damaged run folder ({one_line(error)})') from error
