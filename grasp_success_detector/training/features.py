"""Run what cannot change once: the frozen trunk's features of a fixed sample."""

from contextlib import AbstractContextManager

from rich.console import Console
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from grasp_success_detector.console import progress_bar
from grasp_success_detector.engines.fusion import fused
from grasp_success_detector.preprocessing import Preprocessing

Item = tuple[torch.Tensor, int]


def cache_features(trunk: nn.Module, frames: Dataset[Item], preprocessing: Preprocessing,
                   precision: AbstractContextManager[object], device: torch.device,
                   workers: int) -> TensorDataset:
    """
    Compute the trunk's features of every frame once.

    What the plain loop would compute anew in each epoch, in the same precision; an augmented
    frame keeps the change that was drawn for it.

    :param trunk: the frozen part of the model.
    :param frames: items are an RGB uint8 tensor (h, w, 3) and a label.
    :param precision: the context in which training runs the model.
    :param device: where training runs it; the features stay in main memory.
    :returns: features, in the dtype that the trunk gives, and labels, in the frames' order.
    """
    trunk = fused(trunk).to(device)
    features: torch.Tensor | None = None
    labels = torch.empty(len(frames), dtype=torch.int64)  # type: ignore[arg-type]
    start = 0
    with torch.no_grad(), precision, progress_bar(Console(stderr=True)) as progress:
        task = progress.add_task('features of the frozen part', total=len(labels))
        for images, batch_labels in DataLoader(frames, 32, num_workers=workers):
            normalised = preprocessing.normalize(images.to(device))
            batch = trunk(normalised.to(memory_format=torch.channels_last))  # (B, C, h, w)
            if features is None:
                features = torch.empty(
                    (len(labels), *batch.shape[1:]), dtype=batch.dtype)
            features[start:start + len(batch)] = batch
            labels[start:start + len(batch)] = batch_labels
            start += len(batch)
            progress.advance(task, len(batch))
    assert features is not None, 'a split is never empty'
    return TensorDataset(features, labels)
