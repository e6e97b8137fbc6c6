"""The training step as a Lightning module: loss, optimizer, schedule, metrics per epoch."""

from collections.abc import Callable
import math
from typing import Any

import lightning
import torch
from torch import nn
from torch.nn import functional as F

from grasp_success_detector.architectures import head_parameters
from grasp_success_detector.preprocessing import Preprocessing
from grasp_success_detector.training.config import TrainingConfig

Batch = tuple[torch.Tensor, torch.Tensor]

#: Share of the steps in which the learning rate rises from 0.
_WARM_UP = .1

OnEpoch = Callable[['GraspTraining', int, torch.Tensor, torch.Tensor, float], None]


class GraspTraining(lightning.LightningModule):
    """
    Teach a classifier the two labels.

    Only parameters that are not frozen reach the optimizer. Validation logits are gathered and
    handed on once per epoch.

    :param rest: what learns of the model, where batches hold the features of its frozen trunk
        instead of images.
    :param on_epoch: called after each validation with this module, the epoch from 0, logits
        (N, 2), labels (N,) and the mean training loss.
    """

    def __init__(self, model: nn.Module, preprocessing: Preprocessing, config: TrainingConfig,
                 on_epoch: OnEpoch, rest: nn.Module | None = None) -> None:
        super().__init__()
        self.model = model
        self._rest = rest
        self._preprocessing = preprocessing
        self._config = config
        self._on_epoch = on_epoch
        self._validation: list[Batch] = []
        self._losses: list[torch.Tensor] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits (B, 2) of RGB uint8 images (B, h, w, 3), or of the trunk's features."""
        if self._rest is None:
            network, x = self.model, self._preprocessing.normalize(images)  # (B, 3, h, w)
        else:
            network, x = self._rest, images
        if x.dim() == 4:  # as the classifier feeds it, and much faster on CPUs
            x = x.to(memory_format=torch.channels_last)
        logits: torch.Tensor = network(x)
        return logits

    def training_step(self, batch: Batch, batch_index: int) -> torch.Tensor:
        """Return the cross entropy of one batch."""
        images, labels = batch
        loss = F.cross_entropy(self(images).float(), labels,
                               label_smoothing=self._config.label_smoothing)
        self._losses.append(loss.detach())
        self.log('train_loss', loss, prog_bar=True)
        return loss

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Gather the logits of one batch."""
        images, labels = batch
        self._validation.append((self(images).float().cpu(), labels.cpu()))

    def on_validation_epoch_end(self) -> None:
        """Hand the gathered logits on."""
        logits, labels = (torch.cat(parts) for parts in zip(*self._validation, strict=True))
        self._validation.clear()
        train_loss = float(torch.stack(self._losses).mean()) if self._losses else math.nan
        self._losses.clear()
        self.log('val_loss', F.cross_entropy(logits, labels), prog_bar=True)
        self._on_epoch(self, self.current_epoch, logits, labels, train_loss)

    def configure_optimizers(self) -> Any:
        """Return AdamW over what learns, and one warm-up and cosine decay over all steps."""
        head = set(head_parameters(self.model, self._config.architecture))
        named = [(name, p) for name, p in self.model.named_parameters() if p.requires_grad]
        groups = [
            {'params': [p for name, p in named if name in head], 'lr': self._config.lr},
            {'params': [p for name, p in named if name not in head],
             'lr': self._config.backbone_lr}]
        optimizer = torch.optim.AdamW([group for group in groups if group['params']],
                                      weight_decay=self._config.weight_decay)
        steps = int(self.trainer.estimated_stepping_batches)
        warm_up = max(1, round(_WARM_UP * steps))

        def factor(step: int) -> float:
            if step < warm_up:
                return (step + 1) / warm_up
            return .5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {'optimizer': optimizer, 'lr_scheduler': {'scheduler': schedule,
                                                         'interval': 'step'}}
