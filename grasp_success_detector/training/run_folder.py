"""The run folder that a training leaves, as reports read it."""


from collections.abc import Mapping
import contextlib
from dataclasses import asdict, dataclass
import json
from pathlib import Path
from typing import Any

import yaml

from grasp_success_detector.errors import ConfigError, DatasetError, one_line, RunError
from grasp_success_detector.evaluation.predictions import Prediction, read_predictions
from grasp_success_detector.files import write_whole
from grasp_success_detector.training.recipe import load_config, TrainingConfig

#: What may differ between a run and its continuation: none of it changes the result.
_FREE = ('device', 'devices', 'num_nodes', 'workers')


@dataclass(frozen=True)
class RunFolder:
    """
    The files of a training.

    :ivar path: the folder.
    """

    path: Path

    @property
    def config(self) -> Path:
        """The configuration (YAML) and the data set, as far as they decide the result."""
        return self.path / 'config.yaml'

    @property
    def epochs(self) -> Path:
        """A line of JSON for each epoch."""
        return self.path / 'metrics.jsonl'

    @property
    def state(self) -> Path:
        """Lightning's checkpoint of the last epoch; gone when the run is finished."""
        return self.path / 'last.ckpt'

    @property
    def best(self) -> Path:
        """The best epoch's weights; gone when the run is finished."""
        return self.path / 'best.safetensors'

    @property
    def classifier(self) -> Path:
        """The result."""
        return self.path / 'classifier.safetensors'

    @property
    def predictions(self) -> Path:
        """The result's answer to every validation and test frame."""
        return self.path / 'predictions.csv'

    @property
    def metrics(self) -> Path:
        """How good the result is."""
        return self.path / 'metrics.json'

    @property
    def summary(self) -> Path:
        """What was trained on what; written when all else is there."""
        return self.path / 'run.json'

    @property
    def finished(self) -> bool:
        """Say whether the training came to its end."""
        return self.summary.is_file()

    def begin(self, config: TrainingConfig) -> None:
        """
        Make the folder.

        :raises ConfigError: it exists; a run is never overwritten.
        """
        if self.path.exists():
            unfinished = self.config.is_file() and not self.finished
            raise ConfigError(f'{self.path}: exists already; a run is never overwritten, choose '
                              f'another --out{" or continue it with --resume" * unfinished}')
        self.path.mkdir(parents=True)
        text = yaml.safe_dump(_plain(config), sort_keys=False)
        write_whole(self.config, text.encode())

    def resume(self, config: TrainingConfig) -> None:
        """
        Check that a folder can be continued; one that is not there is begun.

        :raises ConfigError: it holds another training.
        """
        if not self.path.exists():
            self.begin(config)
            return
        if not self.config.is_file():
            raise ConfigError(f'{self.path}: no run of train_classifier (config.yaml is missing); '
                              'choose another --out')
        old, new = _plain(load_config(self.config, {})), _plain(config)
        if differ := [f'{name} {old[name]} (now {new[name]})' for name in old
                      if old[name] != new[name] and name not in _FREE]:
            raise ConfigError(f'{self.path}: was begun with {", ".join(differ)}; continue it with '
                              'the same options or choose another --out')

    def drop_epochs_after(self, epoch: int) -> None:
        """Forget the metrics of epochs that will be run again; epochs count from 1."""
        with contextlib.suppress(FileNotFoundError):
            kept = [line for line in self.epochs.read_text().splitlines(keepends=True)
                    if line.endswith('\n') and json.loads(line)['epoch'] <= epoch]
            write_whole(self.epochs, ''.join(kept).encode())

    def add_epoch(self, line: Mapping[str, Any]) -> None:
        """Append an epoch's metrics."""
        with self.epochs.open('a') as file:
            file.write(json.dumps(line) + '\n')


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Write a JSON file, whole or not at all."""
    write_whole(path, (json.dumps(document, indent=2) + '\n').encode())


def _plain(config: TrainingConfig) -> dict[str, Any]:
    return {**asdict(config), 'augmentation': list(config.augmentation)}


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
