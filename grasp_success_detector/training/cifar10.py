"""Pre-train the small network on CIFAR-10, so that its convolutions can be transferred."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
import math
from pathlib import Path
from typing import Any

import lightning
import torch
from torch.nn import functional as F
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

from grasp_success_detector.errors import ConfigError
from grasp_success_detector.evaluation.metrics import Accuracy
from grasp_success_detector.images.preprocessing import Preprocessing
from grasp_success_detector.networks.checkpoint import BackboneMetadata, save
from grasp_success_detector.networks.cifar_cnn import CifarCnn
from grasp_success_detector.training.cifar10_images import LabelledImages
from grasp_success_detector.training.module import Batch, lightning_run, make_trainer
from grasp_success_detector.training.recipe import PretrainingConfig

#: The largest random shift of a training image, in pixels.
_SHIFT = 2
#: Test images per batch; a limit on the memory.
_TEST_BATCH = 1000


@dataclass(frozen=True)
class EpochResult:
    """Accuracy on all test images, and by class, after an epoch; epochs count from 1."""

    epoch: int
    train_loss: float
    images: Accuracy
    classes: dict[str, Accuracy]

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON holds them."""
        return {'epoch': self.epoch, 'train_loss': self.train_loss,
                'test': {'images': self.images.to_json(),
                         'classes': {name: a.to_json() for name, a in self.classes.items()}}}


def pretrain(train: LabelledImages, test: LabelledImages, preprocessing: Preprocessing,
             config: PretrainingConfig, out: Path, data_name: str,
             on_epoch: Callable[[EpochResult], None]) -> None:
    """
    Pre-train and write the weights of the last epoch; test images are only used to measure it.

    :param out: file to write, which must not exist.
    :param preprocessing: normalization of the images.
    :param data_name: name of the data in the file's metadata.
    :param on_epoch: called with the result of each epoch.
    :raises ConfigError: this machine lacks the device, or the loss is not finite.
    :raises CheckpointError: the file cannot be written.
    """
    lightning.seed_everything(config.seed, workers=True, verbose=False)
    model = CifarCnn(len(train.class_names))
    dataset = TensorDataset(train.images, train.labels)
    # A list of indexes fetches a batch at once: 50,000 single images an epoch would take longer
    # than this network does.
    batches = BatchSampler(
        RandomSampler(dataset, generator=torch.Generator().manual_seed(config.seed)),
        config.batch_size, drop_last=len(dataset) > config.batch_size)
    loader = DataLoader(dataset, sampler=batches, batch_size=None)
    module = _Pretraining(model, preprocessing, config, test.class_names, on_epoch)
    with lightning_run():
        make_trainer(
            max_epochs=config.epochs, accelerator=config.device.value, devices=1,
            logger=False, enable_checkpointing=False,
        ).fit(module, loader, DataLoader(TensorDataset(test.images, test.labels), _TEST_BATCH))
    save(out, model, BackboneMetadata(
        'cifar_cnn', preprocessing, train.class_names,
        training={'data': data_name,
                  'config': asdict(config) | {'device': config.device.value},
                  'images': {'train': len(train.labels), 'test': len(test.labels)},
                  'versions': {'torch': torch.__version__, 'lightning': lightning.__version__}},
        metrics={'test': module.results[-1].to_json()['test'],
                 'epochs': [result.to_json() for result in module.results]}))


def shift_and_mirror(images: torch.Tensor) -> torch.Tensor:
    """
    Shift each image by up to 2 pixels, with reflected borders, and mirror it with probability 1/2.

    A mirrored frog is still a frog; images of a right hand are never mirrored.

    :param images: uint8 (B, h, w, 3).
    :returns: the same shape.
    """
    count, height, width, _ = images.shape
    rows, columns = (
        _reflect(torch.arange(size) + torch.randint(-_SHIFT, _SHIFT + 1, (count, 1)), size)
        for size in (height, width))  # (B, h), (B, w)
    mirrored = torch.rand(count, 1) < .5
    columns = torch.where(mirrored, width - 1 - columns, columns)
    at = [index.to(images.device) for index in (
        torch.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :])]
    return images[at[0], at[1], at[2]]  # (B, h, w, 3)


def _reflect(index: torch.Tensor, size: int) -> torch.Tensor:
    """Reflect indexes outside of 0 to ``size`` - 1 at the borders: -1 becomes 1."""
    return size - 1 - (size - 1 - index.abs()).abs()


class _Pretraining(lightning.LightningModule):
    """Trains the network, and measures its accuracy after each epoch."""

    def __init__(self, model: CifarCnn, preprocessing: Preprocessing, config: PretrainingConfig,
                 class_names: tuple[str, ...], on_epoch: Callable[[EpochResult], None]) -> None:
        super().__init__()
        self.model = model
        self._preprocessing = preprocessing
        self._config = config
        self._class_names = class_names
        self._on_epoch = on_epoch
        self.results: list[EpochResult] = []
        self._losses: list[torch.Tensor] = []
        self._answers: list[Batch] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits (B, classes) of RGB uint8 images (B, h, w, 3)."""
        logits: torch.Tensor = self.model(self._preprocessing.normalize(images))
        return logits

    def training_step(self, batch: Batch, batch_index: int) -> torch.Tensor:
        """Return the cross entropy of one batch."""
        images, labels = batch
        loss = F.cross_entropy(self(shift_and_mirror(images)), labels)
        self._losses.append(loss.detach())
        return loss

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Note the classes given to one batch of test images."""
        images, labels = batch
        self._answers.append((self(images).argmax(1).cpu(), labels.cpu()))

    def on_validation_epoch_end(self) -> None:
        """Measure the epoch and report it."""
        epoch = self.current_epoch + 1
        train_loss = float(torch.stack(self._losses).mean())
        answers, labels = (torch.cat(parts) for parts in zip(*self._answers, strict=True))
        self._losses.clear()
        self._answers.clear()
        if not math.isfinite(train_loss):
            raise ConfigError(f'the loss is not finite in epoch {epoch}; '
                              f'try a learning rate below {self._config.lr}')
        right = answers == labels
        self.results.append(EpochResult(
            epoch, train_loss, Accuracy(int(right.sum()), len(right)),
            {name: Accuracy(int(right[labels == i].sum()), int((labels == i).sum()))
             for i, name in enumerate(self._class_names)}))
        self._on_epoch(self.results[-1])

    def configure_optimizers(self) -> Any:
        """Return stochastic gradient descent and one cycle of the learning rate."""
        optimizer = torch.optim.SGD(
            self.parameters(), lr=self._config.lr, momentum=self._config.momentum, nesterov=True,
            weight_decay=self._config.weight_decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, self._config.lr, pct_start=.2,
            total_steps=int(self.trainer.estimated_stepping_batches))
        return {'optimizer': optimizer,
                'lr_scheduler': {'scheduler': schedule, 'interval': 'step'}}
