"""Features of a rig's frames and of their augmented copies, each computed once."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
import torch

from grasp_success_detector.datasets.workers import Task, Workers
from grasp_success_detector.images.preprocessing import Preprocessing
from grasp_success_detector.networks.checkpoint import Checkpoint
from grasp_success_detector.training.adaptation.backbone import Backbone, BATCH
from grasp_success_detector.training.adaptation.frames import RigFrames

#: Frames and copies that are computed for a view of a network; about 10 ms each on one core.
IMAGES = 400
#: The same for a head alone, which gains less from copies.
FEW_IMAGES = 200
_MOST_COPIES = 5


@dataclass
class FeatureCache:
    """
    Computes features when they are first asked for.

    :ivar frames: labelled frames.
    :ivar seed: of the augmented copies.
    :ivar on_images: called with the number of images just computed.
    :ivar images: number of frames and copies, about.
    :ivar workers: who computes the features of checkpoints; None: this process.
    """

    frames: RigFrames
    seed: int
    on_images: Callable[[int], None] = lambda count: None
    images: int = IMAGES
    workers: Workers | None = None
    _pooled: dict[tuple[str, str], torch.Tensor] = field(default_factory=dict)
    _trunk: dict[tuple[str, str], tuple[torch.Tensor, torch.Tensor]] = field(
        default_factory=dict)

    @property
    def copies(self) -> int:
        """Return the number of augmented copies of each frame: the more, the fewer frames."""
        return min(_MOST_COPIES, max(self.images // len(self.frames.origins) - 1, 0))

    @property
    def count(self) -> int:
        """Return the number of images of a view: frames and copies."""
        return len(self.frames.origins) * (1 + self.copies)

    def pooled(self, backbone: Backbone, view: str) -> torch.Tensor:
        """Return the input of a network's last layer, float32 (N, 1 + copies, C)."""
        key = backbone.name, view
        if key not in self._pooled:
            if backbone.can_learn_blocks:
                pooled = backbone.pooled_of_trunk(self.trunk(backbone, view).flatten(0, 1))
            else:
                pooled, = self._computed(_pooled, backbone, view)
            self._pooled[key] = self._by_frame(pooled)
        return self._pooled[key]

    def trunk(self, backbone: Backbone, view: str) -> torch.Tensor:
        """Return the output of a network's trunk, float16 (N, 1 + copies, C', h', w')."""
        return self._looked(backbone, view)[0]

    def looks(self, backbone: Backbone, view: str) -> torch.Tensor:
        """
        Return by what the familiarity of each frame is measured, float32 (N, c + 1).

        The last column, the mean of the network's two logits, is the same with a head of ours.
        """
        pooled, head = self.pooled(backbone, view)[:, 0], backbone.head
        with torch.no_grad():
            means = pooled @ head.weight.mean(0) + head.bias.mean()
        return torch.cat([self._looked(backbone, view)[1][:, 0], means[:, None]], 1)

    def _looked(self, backbone: Backbone, view: str) -> tuple[torch.Tensor, torch.Tensor]:
        key = backbone.name, view
        if key not in self._trunk:
            maps, means = self._computed(Backbone.trunk_features, backbone, view)
            self._trunk[key] = self._by_frame(maps), self._by_frame(means)
        return self._trunk[key]

    def _computed(self, compute: 'Compute', backbone: Backbone, view: str,
                  ) -> tuple[torch.Tensor, ...]:
        images, preprocessing = self.frames.views[view], self.frames.preprocessings[view]
        if self.workers is None or backbone.origin is None:
            return compute(backbone, _flat(with_copies(images, self.copies, self.seed)),
                           preprocessing, self.on_images)
        tasks = [partial(_on_worker, compute, *backbone.origin, images[start:start + BATCH],
                         self.copies, self.seed, preprocessing)
                 for start in range(0, len(images), BATCH)]
        made: dict[Task, tuple[NDArray[Any], ...]] = {}
        for task, arrays in self.workers.run(deque(tasks)):
            made[task] = arrays
            self.on_images(len(arrays[0]))
        return tuple(torch.from_numpy(np.concatenate(parts))
                     for parts in zip(*(made[task] for task in tasks), strict=True))

    def _by_frame(self, rows: torch.Tensor) -> torch.Tensor:
        framed: torch.Tensor = rows.unflatten(0, (len(self.frames.origins), -1))
        return framed


Compute = Callable[[Backbone, NDArray[np.uint8], Preprocessing, Callable[[int], None]],
                   tuple[torch.Tensor, ...]]


def _pooled(backbone: Backbone, images: NDArray[np.uint8], preprocessing: Preprocessing,
            on_images: Callable[[int], None]) -> tuple[torch.Tensor]:
    return backbone.pooled(images, preprocessing, on_images),


def _flat(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return images.reshape(-1, *images.shape[2:])


@lru_cache(1)
def _backbone(path: Path, sha256: str) -> Backbone:
    return Backbone.of_checkpoint(Checkpoint.open(path), sha256)


def _on_worker(compute: Compute, path: Path, sha256: str, images: NDArray[np.uint8], copies: int,
               seed: int, preprocessing: Preprocessing) -> tuple[NDArray[Any], ...]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)    # the workers share the cores
    try:
        return tuple(tensor.numpy() for tensor in compute(
            _backbone(path, sha256), _flat(with_copies(images, copies, seed)), preprocessing,
            lambda count: None))
    finally:
        torch.set_num_threads(threads)


def with_copies(images: NDArray[np.uint8], copies: int, seed: int) -> NDArray[np.uint8]:
    """
    Return images, each with augmented copies behind it.

    The seed and the image determine its copies, whatever the other images are.

    :param images: RGB uint8 (N, h, w, 3).
    :returns: RGB uint8 (N, 1 + copies, h, w, 3).
    """
    made = np.empty((len(images), 1 + copies, *images.shape[1:]), np.uint8)
    made[:, 0] = images
    if copies:
        from grasp_success_detector.training.augmentation import camera_augmentation

        change = camera_augmentation()
        for image, row in zip(images, made, strict=True):
            rng = np.random.default_rng(seed + crc32(image.tobytes()))
            for copy in range(1, 1 + copies):
                row[copy] = change(image, rng)
    return made
