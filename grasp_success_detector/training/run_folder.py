"""The run folder of a training: written while it trains, read by reports and comparisons."""

from collections.abc import Iterator, Mapping
import contextlib
from dataclasses import dataclass
import json
from pathlib import Path
import shutil
from typing import Any

import yaml

from grasp_success_detector.errors import ConfigError, DatasetError, one_line, RunError
from grasp_success_detector.evaluation.predictions import Prediction, read_predictions
from grasp_success_detector.files import fault_text, read_json, read_yaml, write_whole
from grasp_success_detector.training.recipe import load_config, TrainingConfig

#: What may differ between a run and its continuation, as it does not change the result.
_FREE = ('device', 'devices', 'num_nodes', 'workers')

_FORMAT_VERSION = 1

_IN_SUMMARY = {'dataset', 'test_dataset', 'data', 'architecture', 'frozen', 'trainable',
               'parameters', 'versions', 'device', 'best_epoch', 'epochs_run', 'seconds'}
_IN_METRICS = {'val', 'test', 'threshold', 'temperature', 'max_false_positive_rate'}


class RunFolder:
    """
    The folder that a training writes: the paths of its files, and its metrics by epoch.

    ``state``, Lightning's checkpoint of the last epoch, and ``best``, the weights of the best
    epoch, are removed when the training has finished.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.dataset = path / 'dataset'  # made of sources that were no data set
        self.test_dataset = path / 'test_dataset'
        self.config = path / 'config.yaml'
        self.epochs = path / 'metrics.jsonl'  # a line for each epoch
        self.state = path / 'last.ckpt'
        self.best = path / 'best.safetensors'
        self.classifier = path / 'classifier.safetensors'
        self.predictions = path / 'predictions.csv'  # for every validation and test frame
        self.metrics = path / 'metrics.json'
        self.summary = path / 'run.json'  # what was trained on what; written last

    @property
    def finished(self) -> bool:
        """Return whether the training has finished."""
        return self.summary.is_file()

    def begin(self, config: TrainingConfig) -> None:
        """
        Make the folder and write its ``config.yaml``.

        :raises ConfigError: the folder exists, as a run is never overwritten, or cannot be made.
        """
        self.check_new()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            write_whole(self.config, yaml.safe_dump(config.to_json(), sort_keys=False))
        except OSError as error:
            raise ConfigError(f'{self.path}: cannot be made ({fault_text(error, self.path)}); '
                              'choose another --out') from error

    def check_new(self) -> None:
        """Raise a ConfigError if the folder exists; it may hold data sets that were just made."""
        made = {self.dataset.name, self.test_dataset.name}
        if self.path.exists() and not (
                self.path.is_dir() and {path.name for path in self.path.iterdir()} <= made):
            unfinished = self.config.is_file() and not self.finished
            raise ConfigError(f'{self.path}: exists already; a run is never overwritten, choose '
                              f'another --out{" or continue it with --resume" * unfinished}')

    @contextlib.contextmanager
    def removed_unless_begun(self) -> Iterator[None]:
        """Remove the data sets in the folder if the block ends before the training has begun."""
        try:
            yield
        finally:
            if not self.config.is_file():
                for folder in (self.dataset, self.test_dataset):
                    shutil.rmtree(folder, ignore_errors=True)
                with contextlib.suppress(OSError):
                    self.path.rmdir()

    def resume(self, config: TrainingConfig) -> None:
        """
        Check that the training in the folder can be continued; make the folder if there is none.

        :raises ConfigError: the folder holds something else, or a training with other options.
        """
        if not self.path.exists():
            self.begin(config)
            return
        if not self.config.is_file():
            raise ConfigError(f'{self.path}: no run of train_classifier (config.yaml is missing); '
                              'choose another --out')
        old, new = load_config(self.config, {}).to_json(), config.to_json()
        if differ := [f'{name} {old[name]} (now {new[name]})' for name in old
                      if old[name] != new[name] and name not in _FREE]:
            raise ConfigError(f'{self.path}: was begun with {", ".join(differ)}; continue it with '
                              'the same options or choose another --out')

    def read_epochs(self) -> list[dict[str, Any]]:
        """Return the metrics of each epoch, without a last line that is incomplete."""
        lines = self.epochs.read_text(encoding='utf-8').splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith('\n')]

    def drop_epochs_after(self, epoch: int) -> None:
        """Remove the metrics of epochs that will be run again; epochs count from 1."""
        with contextlib.suppress(FileNotFoundError):
            kept = [line for line in self.read_epochs() if line['epoch'] <= epoch]
            write_whole(self.epochs, ''.join(json.dumps(line) + '\n' for line in kept))

    def add_epoch(self, line: Mapping[str, Any]) -> None:
        """Append the metrics of an epoch."""
        with self.epochs.open('a', encoding='utf-8') as file:
            file.write(json.dumps(line) + '\n')


@dataclass(frozen=True)
class Run:
    """
    A finished training.

    :ivar config: the recipe, content of ``config.yaml``.
    :ivar summary: data, layers and versions, content of ``run.json``.
    :ivar epochs: metrics of each epoch, lines of ``metrics.jsonl``.
    :ivar metrics: content of ``metrics.json``: metrics of the best epoch, threshold, temperature.
    :ivar predictions: predictions of the best epoch for validation and test frames.
    """

    folder: Path
    config: Mapping[str, Any]
    summary: Mapping[str, Any]
    epochs: tuple[Mapping[str, Any], ...]
    metrics: Mapping[str, Any]
    predictions: tuple[Prediction, ...]

    @property
    def name(self) -> str:
        """Return the last part of the folder's path."""
        return self.folder.resolve().name

    @property
    def test_dataset(self) -> Path | None:
        """Return the test data set's folder during the training; None if frames were not files."""
        folder = self.summary['test_dataset']
        return None if folder is None else Path(folder)

    @property
    def checkpoint(self) -> Path:
        """Return the path of the resulting checkpoint."""
        return RunFolder(self.folder).classifier

    def of(self, split: str) -> tuple[Prediction, ...]:
        """Return the predictions of one split."""
        return tuple(row for row in self.predictions if row.split == split)


def read_run(folder: Path) -> Run:
    """
    Read the folder of a finished training.

    :raises RunError: the run is missing, unfinished, damaged, or of another format.
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
        summary = read_json(files.summary)
        if (version := summary['format_version']) != _FORMAT_VERSION:
            raise RunError(f'{folder}: a run folder of format {version}; this version reads '
                           f'{_FORMAT_VERSION}')
        metrics = read_json(files.metrics)
        for document, wanted in ((summary, _IN_SUMMARY), (metrics, _IN_METRICS)):
            if lacking := wanted - document.keys():
                raise ValueError(f'{", ".join(sorted(lacking))} missing')
        return Run(folder, read_yaml(files.config), summary,
                   tuple(files.read_epochs()), metrics,
                   tuple(read_predictions(files.predictions)))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError,
            DatasetError) as error:
        raise RunError(f'{folder}: a damaged run folder ({one_line(error)})') from error
