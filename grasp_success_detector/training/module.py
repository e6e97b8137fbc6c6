"""The Lightning module of the training: loss, optimizer, schedule; and Lightning's trainer."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
import logging
import math
import signal
import sys
from typing import Any
import warnings

import lightning
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import RichProgressBar
import torch
from torch import nn
from torch.nn import functional as F

from grasp_success_detector.datasets.torch_dataset import WITHOUT_HAND
from grasp_success_detector.errors import ConfigError, one_line, TrainingError
from grasp_success_detector.images.preprocessing import Preprocessing
from grasp_success_detector.inference.torch_network import fold_batch_norm, in_parts
from grasp_success_detector.labels import Label
from grasp_success_detector.networks.architectures import head_parameters, split_at_freeze
from grasp_success_detector.networks.checkpoint import Checkpoint
from grasp_success_detector.training import recipe

#: Images or features, and their labels; or logits (N, 2), and the labels (N,).
Batch = tuple[torch.Tensor, torch.Tensor]

@dataclass(frozen=True)
class Teacher:
    """A checkpoint whose answers a network learns (G. Hinton et al., Distilling the Knowledge)."""

    network: nn.Module
    preprocessing: Preprocessing
    temperature: float

    @classmethod
    def open(cls, path: str) -> 'Teacher':
        """Read a checkpoint; CheckpointError if it cannot be used."""
        checkpoint = Checkpoint.open(path)
        return cls(fold_batch_norm(checkpoint.model), checkpoint.metadata.preprocessing,
                   checkpoint.metadata.temperature)

    def margins(self, images: torch.Tensor) -> torch.Tensor:
        """Return the calibrated margin, float32 (B,), of RGB uint8 images (B, h, w, 3)."""
        size = self.preprocessing.height, self.preprocessing.width
        planes = self.preprocessing.normalize(images)
        if planes.shape[2:] != size:
            planes = F.interpolate(planes, size, mode='bilinear', antialias=True)
        logits = in_parts(self.network, planes).float()
        return (logits[:, Label.SUCCESS] - logits[:, Label.FAILURE]) / self.temperature


#: Share of the steps in which the learning rate rises from 0.
_WARM_UP = .1


@contextmanager
def lightning_run() -> Iterator[None]:
    """
    Hide Lightning's hints and warnings within the block, and convert its errors.

    :raises ConfigError: this machine lacks what the trainer needs, such as a GPU.
    :raises KeyboardInterrupt: on Ctrl-C, which Lightning turns into ``sys.exit(1)``.
    """
    handler = signal.getsignal(signal.SIGINT)
    loggers = [logging.getLogger(name) for name in ('lightning.pytorch', 'lightning.fabric')]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings('ignore', module='lightning')
            yield
    except MisconfigurationException as error:
        raise ConfigError(f'training cannot run here: {one_line(error)}') from error
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            signal.signal(signal.SIGINT, handler)  # Lightning has it ignored
            raise KeyboardInterrupt from error
        raise
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def make_trainer(*callbacks: lightning.Callback, **options: Any) -> lightning.Trainer:
    """Return a deterministic trainer, with a progress bar if stderr is a terminal."""
    shows = sys.stderr.isatty()
    bars = [RichProgressBar(leave=False, console_kwargs={'stderr': True})] * shows
    return lightning.Trainer(
        **options, callbacks=[*callbacks, *bars], enable_progress_bar=shows, deterministic=True,
        enable_model_summary=False, num_sanity_val_steps=0)


class GraspTraining(lightning.LightningModule):
    """
    Trains the parameters of a classifier that are not frozen.

    :param rest: the part of the model after its frozen trunk, if batches hold the trunk's features
        instead of images. Otherwise the trunk runs here, with BatchNorm folded, as it does not
        change.
    :param teachers: whose answers are learnt; of none, the labels are.
    """

    def __init__(self, model: nn.Module, preprocessing: Preprocessing,
                 config: recipe.TrainingConfig, rest: nn.Module | None = None,
                 teachers: Sequence[Teacher] = ()) -> None:
        super().__init__()
        self.model = model
        trunk, learning = split_at_freeze(model, config.architecture)
        self._rest = learning if rest is None else rest
        # In a list, as it is no part of what Lightning saves and moves.
        self._trunk = [fold_batch_norm(trunk)] if rest is None else []
        self._preprocessing = preprocessing
        self._config = config
        self._teachers = teachers
        self._answers: defaultdict[int, list[Batch]] = defaultdict(list)
        self._losses: list[torch.Tensor] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits (B, 2) of RGB uint8 images (B, h, w, 3), or of the trunk's features."""
        x = images
        for trunk in self._trunk:
            x = in_parts(trunk, self._preprocessing.normalize(x))   # (B, C, h, w)
        if x.dim() == 4:  # as the classifier feeds it, and much faster on CPUs
            x = x.to(memory_format=torch.channels_last)
        logits: torch.Tensor = self._rest(x)
        return logits

    def on_fit_start(self) -> None:
        """Move the frozen trunk, and the teachers, to the device of the training."""
        for network in (*self._trunk, *(teacher.network for teacher in self._teachers)):
            network.to(self.device)

    def on_train_epoch_start(self) -> None:
        """Seed the random numbers of the epoch, so that a resumed run draws the same ones."""
        torch.manual_seed(self._config.seed * 1_000_003 + self.current_epoch)
        self._losses.clear()

    def training_step(self, batch: Batch, batch_index: int) -> torch.Tensor:
        """
        Return the cross entropy of one batch, of images without a hand that of their mean logit.

        :raises TrainingError: it is not finite in one of the processes.
        """
        images, labels = batch
        logits, shown = self(images).float(), labels != WITHOUT_HAND
        loss = F.cross_entropy(
            logits[shown], self._taught(images[shown]) if self._teachers else labels[shown],
            label_smoothing=self._config.label_smoothing)
        if self._config.without_hand:
            loss = loss + F.binary_cross_entropy_with_logits(logits.mean(1), shown.float())
        mean: Any = self.trainer.strategy.reduce(loss.detach(), reduce_op='mean')
        if not torch.isfinite(mean):
            raise TrainingError(f'the loss is {float(mean)} in epoch {self.current_epoch + 1}, '
                                f'step {batch_index + 1}')
        self._losses.append(mean)
        self.log('train_loss', mean, prog_bar=True)
        return loss

    def _taught(self, images: torch.Tensor) -> torch.Tensor:
        """Return what the teachers say of RGB uint8 images (B, h, w, 3): shares (B, 2)."""
        mirrored = recipe.Augmentation.MIRROR in self._config.augmentation
        margins = [teacher.margins(view) for teacher in self._teachers
                   for view in (images, images.flip(2))[:1 + mirrored]]
        success = torch.stack(margins).mean(0).sigmoid()
        return torch.stack([1 - success, success], 1)

    def validation_step(self, batch: Batch, batch_index: int, dataloader_idx: int = 0) -> None:
        """Keep logits and labels of one batch for :meth:`take_answers`."""
        images, labels = batch
        self._answers[dataloader_idx].append((self(images).float(), labels))

    def take_answers(self) -> list[Batch]:
        """Return logits and labels of each validation loader since the last call, on the CPU."""
        taken = []
        loaders: Any = self.trainer.val_dataloaders
        for number, loader in enumerate(loaders):
            batches = self._answers.pop(number)
            logits, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
            if self.trainer.world_size > 1:
                # Each process has every n-th frame: (processes, n, ...) -> frames in their order.
                every: Any = self.all_gather((logits, labels))
                logits, labels = (part.transpose(0, 1).flatten(0, 1) for part in every)
            size = len(loader.dataset)  # several processes repeat some frames at the end
            taken.append((logits[:size].cpu(), labels[:size].cpu()))
        return taken

    @property
    def train_loss(self) -> float:
        """Return the mean loss of the epoch's batches so far; NaN before the first."""
        return float(torch.stack(self._losses).mean()) if self._losses else math.nan

    def configure_optimizers(self) -> Any:
        """Return the optimizer of the unfrozen parameters, and the schedule over all steps."""
        config = self._config
        head = set(head_parameters(self.model, config.architecture))
        named = [(name, p) for name, p in self.model.named_parameters() if p.requires_grad]
        groups = [group for group in (
            {'params': [p for name, p in named if name in head], 'lr': config.lr},
            {'params': [p for name, p in named if name not in head], 'lr': config.backbone_lr},
        ) if group['params']]
        # One pass over the weights instead of ten. In mixed precision Lightning cannot clip
        # gradients then, and before torch 2.5 some devices lack it.
        fused = config.precision is recipe.TrainingPrecision.FP32 and torch.__version__ >= '2.5'
        optimizer: torch.optim.Optimizer = (
            torch.optim.AdamW(groups, weight_decay=config.weight_decay, fused=fused)
            if config.optimizer is recipe.Optimizer.ADAMW else
            torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum,
                            weight_decay=config.weight_decay))
        if config.schedule is recipe.Schedule.CONSTANT:
            return optimizer
        steps = int(self.trainer.estimated_stepping_batches)
        warm_up = max(1, round(_WARM_UP * steps))

        def factor(step: int) -> float:
            if step < warm_up:
                return (step + 1) / warm_up
            return .5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {'optimizer': optimizer, 'lr_scheduler': {'scheduler': schedule,
                                                         'interval': 'step'}}
