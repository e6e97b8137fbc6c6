"""The last blocks of a network, fine-tuned on few frames and their augmented copies."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from grasp_success_detector.labels import Label
from grasp_success_detector.training.adaptation.backbone import Backbone, channels_last
from grasp_success_detector.training.adaptation.head import Head


@dataclass(frozen=True)
class FineTuning:
    """
    How the last blocks learn.

    :ivar steps: number of steps of the optimizer.
    :ivar batch_size: images of a step, half of them successes.
    :ivar lr: peak learning rate of the head.
    :ivar backbone_lr: peak learning rate of the blocks.
    """

    steps: int = 24
    batch_size: int = 16
    lr: float = 1e-3
    backbone_lr: float = 5e-4


def fine_tune(start: Backbone, head: Head, features: torch.Tensor, labels: torch.Tensor,
              weights: torch.Tensor, seed: int, recipe: FineTuning) -> Backbone:
    """
    Return a copy of a network whose blocks behind the trunk, and head, have learnt.

    They begin with a head that was fitted alone: from a random one, the first steps would distort
    the blocks (A. Kumar et al., Fine-tuning can distort pretrained features and underperform
    out-of-distribution, ICLR 2022). BatchNorm keeps its statistics, as few frames have poor ones.
    Single precision: on small maps bf16 is no faster.

    :param features: output of the trunk, float16 (N, 1 + copies, ...): of each frame and of
        its augmented copies.
    :param labels: float32 (N,), 1 for success.
    :param weights: how often each frame is drawn among those of its label (N,).
    """
    learner = start.copy()
    rest = learner.parts[1].eval()
    head.write_to(learner.head)
    generator = torch.Generator().manual_seed(seed)
    of_head = list(learner.head.parameters())
    blocks = [p for p in rest.parameters() if not any(p is q for q in of_head)]
    rates = [recipe.lr, recipe.backbone_lr]
    optimizer = torch.optim.AdamW(
        [{'params': parameters, 'lr': rate} for parameters, rate in zip(
            (of_head, blocks), rates, strict=True)], weight_decay=0., fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, rates, total_steps=recipe.steps, pct_start=.2)
    of_label = {label: torch.nonzero(labels == label).flatten() for label in Label}
    for _ in range(recipe.steps):
        drawn = torch.cat([places[torch.multinomial(
            weights[places], recipe.batch_size // 2, replacement=True, generator=generator)]
            for places in of_label.values()])
        copies = torch.randint(features.shape[1], (len(drawn),), generator=generator)
        batch = channels_last(features[drawn, copies].float())
        loss = F.cross_entropy(rest(batch), labels[drawn].long())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(rest.parameters(), 1.)
        optimizer.step()
        schedule.step()
    return learner
