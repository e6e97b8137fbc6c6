"""Lightning callback: report each epoch, keep the best weights, stop early."""

from collections.abc import Callable, Sequence
import math
import time
from typing import Any

import lightning
import torch
from torch.nn import functional as F

from grasp_success_detector.datasets.dataset import LabelledFrame
from grasp_success_detector.errors import TrainingError
from grasp_success_detector.evaluation.attempts import SPARSE
from grasp_success_detector.evaluation.judging import predictions_of
from grasp_success_detector.evaluation.metrics import (
    accuracy_by_class,
    frame_confusion,
    summarize,
)
from grasp_success_detector.images.preprocessing import Preprocessing
from grasp_success_detector.networks.architectures import success_probabilities
from grasp_success_detector.networks.checkpoint import CheckpointMetadata, save
from grasp_success_detector.training.module import GraspTraining
from grasp_success_detector.training.recipe import TrainingConfig
from grasp_success_detector.training.run_folder import RunFolder

#: Used until the threshold is chosen at the end; it only compares epochs with each other.
_THRESHOLD = .5


class BestEpoch(lightning.Callback):
    """
    Writes a line of metrics per epoch and keeps the weights with the lowest validation loss.

    :ivar epoch: number of the best epoch so far, from 1; 0 before the first.
    """

    def __init__(self, config: TrainingConfig, preprocessing: Preprocessing,
                 val: Sequence[LabelledFrame], run: RunFolder, say: Callable[[str], None]) -> None:
        self._config, self._preprocessing = config, preprocessing
        self._val, self._run, self._say = val, run, say
        self._loss = float('inf')
        self.epoch = 0

    def state_dict(self) -> dict[str, Any]:
        """Return lowest loss and best epoch, which Lightning stores for a resumed training."""
        return {'loss': self._loss, 'epoch': self.epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state that :meth:`state_dict` returned."""
        self._loss, self.epoch = state_dict['loss'], state_dict['epoch']

    def on_train_epoch_start(self, trainer: lightning.Trainer,
                             pl_module: lightning.LightningModule) -> None:
        """Remember when the epoch began."""
        self._began = time.monotonic()

    def on_validation_epoch_end(self, trainer: lightning.Trainer,
                                pl_module: lightning.LightningModule) -> None:
        """Evaluate the epoch, report it, and keep it if it is the best."""
        assert isinstance(pl_module, GraspTraining)
        val, *train = pl_module.take_answers()
        loss = float(F.cross_entropy(*val))
        epoch = trainer.current_epoch + 1
        if not math.isfinite(loss):
            raise TrainingError(f'the validation loss is {loss} in epoch {epoch}')
        best = loss < self._loss
        if best:
            self._loss, self.epoch = loss, epoch
        if trainer.is_global_zero:
            metrics = summarize(predictions_of(self._val, val[0].numpy(), 1., 'val'),
                                _THRESHOLD, SPARSE)
            line = {'epoch': epoch, 'seconds': time.monotonic() - self._began,
                    'learning_rate': trainer.optimizers[0].param_groups[0]['lr'],
                    'train_loss': pl_module.train_loss, 'val_loss': loss,
                    **{f'val_{name}': metrics[name] for name in ('frames', 'attempts', 'classes')},
                    'train_classes': _classes(*train[0]) if train else None}
            self._run.add_epoch(line)
            self._say(_sentence(line, self._config.epochs))
            if best:
                save(self._run.best, pl_module.model, CheckpointMetadata(
                    self._config.architecture, self._preprocessing), overwrite=True)
        patience = self._config.patience
        if patience is not None and epoch - self.epoch >= patience:
            trainer.should_stop = True
            if trainer.is_global_zero:
                self._say(f'stopped: no lower validation loss in {patience} epochs')


def _classes(logits: torch.Tensor, labels: torch.Tensor) -> dict[str, Any]:
    return accuracy_by_class(frame_confusion(
        success_probabilities(logits.numpy()), labels.tolist(), _THRESHOLD))


def _sentence(line: dict[str, Any], epochs: int) -> str:
    text = (f'epoch {line["epoch"]}/{epochs}: loss {line["train_loss"]:.3f}, validation loss '
            f'{line["val_loss"]:.3f}; validation: frames {_share(line["val_frames"])}, attempts '
            f'{_share(line["val_attempts"])}, {_each(line["val_classes"])}')
    if line['train_classes']:
        text += f'; training images: {_each(line["train_classes"])}'
    return text


def _each(classes: dict[str, Any]) -> str:
    return ', '.join(f'{name} {accuracy["value"]:.1%}' for name, accuracy in classes.items())


def _share(accuracy: dict[str, Any]) -> str:
    low, high = accuracy['wilson_95']
    return f'{accuracy["value"]:.1%} ({low:.1%} to {high:.1%})'
