"""
The network that returns familiarity beside the logits, from pooled features of its stages.

A stage's features are its output averaged over the picture. Those of early and middle stages
describe textures, edges and parts, those of late ones what the training was about.
"""

from collections.abc import Sequence

import torch
from torch import nn

from grasp_success_detector.networks.architectures import stages
from grasp_success_detector.networks.familiarity import Familiarity


class PooledFeatures(nn.Module):
    """A model, computed stage by stage, that also returns the pooled features of some stages."""

    def __init__(self, model: nn.Module, architecture: str, names: Sequence[str]) -> None:
        super().__init__()
        parts = stages(model, architecture)
        self.stages = nn.ModuleList(stage.module for stage in parts)
        self.pooled = tuple(stage.name in names for stage in parts)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits (B, 2) and features (B, C) of normalised images (B, 3, H, W)."""
        features = []
        for stage, pooled in zip(self.stages, self.pooled, strict=True):
            x = stage(x)
            if pooled:
                features.append(self.pool(x) if x.ndim == 4 else x)
        return x, torch.cat(features, 1)


class FamiliarNetwork(nn.Module):
    """A model that returns logits (B, 2) and familiarity (B, 1)."""

    projection: torch.Tensor
    offset: torch.Tensor
    scale: torch.Tensor

    def __init__(self, model: nn.Module, architecture: str, familiarity: Familiarity) -> None:
        super().__init__()
        self.features = PooledFeatures(model, architecture, familiarity.stages)
        self.prototypes, size = familiarity.prototypes.shape
        # Differences from all prototypes in one product: simple operations run in every engine.
        projection = torch.from_numpy(familiarity.projection)
        self.register_buffer('projection', projection.repeat(1, self.prototypes))   # (C, P * K)
        self.register_buffer('offset', torch.from_numpy(
            familiarity.offset - familiarity.prototypes).reshape(-1))               # (P * K,)
        self.register_buffer('scale', torch.from_numpy(familiarity.scale))          # (P,)
        self.size = size

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits (B, 2) and familiarity (B, 1) of normalised images (B, 3, H, W)."""
        logits, features = self.features(x)
        # In fp32 also below it: few numbers, whose small differences count.
        with torch.autocast(features.device.type, enabled=False):
            apart = features.float() @ self.projection + self.offset        # (B, P * K)
            squares = (apart * apart).view(-1, self.prototypes, self.size)  # (B, P, K)
            familiarity = -squares.sum(2) * self.scale                      # (B, P)
            nearest = torch.max_pool2d(familiarity[:, None, None], (1, self.prototypes))
        return logits, nearest.flatten(1)                                   # (B, 1)
