"""The run folder that a training leaves, as reports read it."""

from collections.abc import Mapping
from dataclasses import dataclass
import json
from pathlib import Path
from typing import Any, Final

import yaml

from grasp_success_detector.errors import DatasetError, one_line, RunError
from grasp_success_detector.evaluation.predictions import Prediction, read_predictions

CHECKPOINT: Final = 'classifier.safetensors'
REPORT: Final = 'report.html'

_DESCRIPTION = 'run.json'
_FORMAT_VERSION = 1
_FINISHED = ('metrics.jsonl', 'metrics.json', 'predictions.csv', CHECKPOINT)


@dataclass(frozen=True)
class Run:
    """
    A finished training.

    :ivar config: the recipe, ``config.yaml``.
    :ivar description: data, layers, versions: ``run.json``.
    :ivar epochs: what was measured after each epoch, ``metrics.jsonl``.
    :ivar metrics: of the best epoch, by split, with threshold and temperature: ``metrics.json``.
    :ivar predictions: of the best epoch on validation and test frames.
    """

    folder: Path
    config: Mapping[str, Any]
    description: Mapping[str, Any]
    epochs: tuple[Mapping[str, Any], ...]
    metrics: Mapping[str, Any]
    predictions: tuple[Prediction, ...]

    @property
    def name(self) -> str:
        """Return the folder's own name."""
        return self.folder.resolve().name

    @property
    def dataset(self) -> Path:
        """Return where the data set was at the time of the training."""
        return Path(self.description['dataset'])

    @property
    def checkpoint(self) -> Path:
        """Return the checkpoint file."""
        return self.folder / CHECKPOINT

    def of(self, split: str) -> tuple[Prediction, ...]:
        """Return the predictions of one split."""
        return tuple(row for row in self.predictions if row.split == split)


def read_run(folder: Path) -> Run:
    """
    Read a run folder.

    :raises RunError: there is none, or it is unfinished, damaged, or of another format.
    """
    if not (folder / _DESCRIPTION).is_file():
        what = ('this training has not got beyond its start; let it end, or resume it'
                if (folder / 'config.yaml').is_file() else
                f'no run folder ({_DESCRIPTION} is missing); train_classifier makes one'
                if folder.is_dir() else 'no such folder; expected a run of train_classifier')
        raise RunError(f'{folder}: {what}')
    if missing := [name for name in _FINISHED if not (folder / name).is_file()]:
        raise RunError(f'{folder}: this training is not finished ({", ".join(missing)} '
                       f'{"is" if len(missing) == 1 else "are"} missing); let it end, or resume '
                       'it')
    try:
        description = json.loads((folder / _DESCRIPTION).read_text())
        if (version := description['format_version']) != _FORMAT_VERSION:
            raise RunError(f'{folder}: a run folder of format {version}; this version reads '
                           f'{_FORMAT_VERSION}')
        metrics = json.loads((folder / 'metrics.json').read_text())
        config = yaml.safe_load((folder / 'config.yaml').read_text())
        epochs = tuple(map(json.loads, (folder / 'metrics.jsonl').read_text().splitlines()))
        for document, wanted in ((description, _IN_DESCRIPTION), (metrics, _IN_METRICS)):
            if lacking := wanted - document.keys():
                raise ValueError(f'{", ".join(sorted(lacking))} missing')
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise RunError(f'{folder}: a damaged run folder ({one_line(error)})'
                       ) from error
    try:
        predictions = tuple(read_predictions(folder / 'predictions.csv'))
    except DatasetError as error:
        raise RunError(str(error)) from error
    return Run(folder, config, description, epochs, metrics, predictions)


_IN_DESCRIPTION = {'dataset', 'data', 'architecture', 'frozen', 'trainable', 'parameters',
                   'versions', 'device', 'best_epoch', 'epochs_run', 'seconds'}
_IN_METRICS = {'val', 'test', 'threshold', 'temperature', 'max_false_positive_rate'}
