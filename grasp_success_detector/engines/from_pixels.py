"""The network with its normalisation, for those who take models out of torch."""

import torch
from torch import nn

from grasp_success_detector.checkpoint import Checkpoint, CheckpointFile
from grasp_success_detector.engines.fusion import fused


class FromPixels(nn.Module):
    """
    From RGB uint8 (B, H, W, 3) of the input's size to logits (B, 2), index = Label.

    What is left to do before it is ``Preprocessing.crop_and_resize``.
    """

    factor: torch.Tensor
    offset: torch.Tensor

    def __init__(self, checkpoint: Checkpoint | CheckpointFile) -> None:
        super().__init__()
        self.model = fused(checkpoint.model)
        factor, offset = checkpoint.metadata.preprocessing.factor_and_offset()
        self.register_buffer('factor', factor.reshape(1, 3, 1, 1))
        self.register_buffer('offset', offset.reshape(1, 3, 1, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        planes = images.permute(0, 3, 1, 2).float()  # (B, 3, H, W)
        logits: torch.Tensor = self.model(planes * self.factor + self.offset)
        return logits
