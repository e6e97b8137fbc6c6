"""The folder of one training: what lies where, and whether it may be begun or continued."""

from collections.abc import Mapping
import contextlib
from dataclasses import asdict, dataclass
import json
from pathlib import Path
from typing import Any

import yaml

from grasp_success_detector.data.frame_writer import write_atomically
from grasp_success_detector.errors import ConfigError
from grasp_success_detector.training.config import load_config, TrainingConfig

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
        write_atomically(self.config, text.encode())

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
            write_atomically(self.epochs, ''.join(kept).encode())

    def add_epoch(self, line: Mapping[str, Any]) -> None:
        """Append an epoch's metrics."""
        with self.epochs.open('a') as file:
            file.write(json.dumps(line) + '\n')


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Write a JSON file, whole or not at all."""
    write_atomically(path, (json.dumps(document, indent=2) + '\n').encode())


def _plain(config: TrainingConfig) -> dict[str, Any]:
    return {**asdict(config), 'augmentation': list(config.augmentation)}
