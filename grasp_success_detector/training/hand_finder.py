"""Train the hand finder on simulated pictures, whose hands' boxes are known."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
import torch
from torch import nn
from torch.nn import functional

from grasp_success_detector.errors import DatasetError
from grasp_success_detector.images.decoding import decode_bytes
from grasp_success_detector.networks.architectures import HAND_FINDER
from grasp_success_detector.networks.checkpoint import HandFinderMetadata, save
from grasp_success_detector.networks.hand_boxes import (
    cell_centres,
    FINDER_INPUT,
    grid_shape,
    HandBox,
    read_box,
    VALUES,
)
from grasp_success_detector.networks.hand_finder import backbone_weights, HandFinderNetwork
from grasp_success_detector.recordings import bags

Image = NDArray[np.uint8]

#: Pictures are kept at this width and height until they are cut: a little above the input's.
_KEPT = 320, 240

#: Shares of samples that are cut so that no hand is in them, and that are mirrored.
_WITHOUT_HAND, _MIRRORED = .12, .5

#: Pictures of a step.
BATCH = 32

#: Share of pictures with a hand in which none is found at the threshold.
MISSED = .03

#: Of the box: what counts as its middle, in width and height.
_MIDDLE = .5


@dataclass(frozen=True)
class Example:
    """A picture, RGB uint8 (H, W, 3), and the box of its hand; None: it has none."""

    image: Image
    box: HandBox | None


def read_examples(bag: Path, size: tuple[int, int] | None = _KEPT) -> Iterator[Example]:
    """
    Yield the pictures of a bag of ``simulate_grasps --preset world``, with their boxes.

    All those of ``simulate_grasps --without-hand`` have none.

    :param size: width and height to which they are scaled; None: as they were recorded.
    """
    with bags.open_bag(bag) as reader:
        wanted = [connection for topic in (bags.COMPRESSED_TOPIC, bags.HAND_BOX_TOPIC)
                  for connection in reader.connections if connection.topic == topic]
        if {connection.topic for connection in wanted} != {
                bags.COMPRESSED_TOPIC, bags.HAND_BOX_TOPIC}:
            raise DatasetError(f'{bag}: has no {bags.COMPRESSED_TOPIC} or no '
                               f'{bags.HAND_BOX_TOPIC}; record it with simulate_grasps --preset '
                               'world (pictures without a hand also: --without-hand)')
        boxes = {stamp_ns: reader.deserialize(data, connection.msgtype) for connection, stamp_ns,
                 data in reader.messages([wanted[-1]])}
        for connection, stamp_ns, data in reader.messages([wanted[0]]):
            message: Any = reader.deserialize(data, connection.msgtype)
            image = decode_bytes(message.data.tobytes())
            height, width, _ = image.shape
            box: Any = boxes.get(stamp_ns)
            yield Example(
                image if size is None else np.asarray(
                    cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8),
                None if box is None else HandBox(
                    box.x_offset / width, box.y_offset / height,
                    (box.x_offset + box.width) / width, (box.y_offset + box.height) / height))


def cut(rng: np.random.Generator, example: Example) -> tuple[Image, HandBox | None]:
    """Return a random part of a picture at the input's size, and the box in it; None: no hand."""
    height, width, _ = example.image.shape
    box = example.box
    if box is None:
        return _resized(example.image, *rng.uniform(0, .3, 2), *rng.uniform(.7, 1, 2)), None
    if rng.random() < _WITHOUT_HAND:
        # The largest rectangle beside the hand, on one of its four sides.
        beside = [(0., 0., box.left, 1.), (box.right, 0., 1., 1.), (0., 0., 1., box.top),
                  (0., box.bottom, 1., 1.)]
        x0, y0, x1, y1 = max(beside, key=lambda part: (part[2] - part[0]) * (part[3] - part[1]))
        if min(x1 - x0, y1 - y0) > .25:
            return _resized(example.image, x0, y0, x1, y1), None
    middle_x, middle_y = (box.left + box.right) / 2, (box.top + box.bottom) / 2
    # Most parts hold the whole hand; some cut it off at its edges, as pictures of cameras do.
    kept = .5 if rng.random() < .8 else .3
    x0 = rng.uniform(0, max(middle_x - kept * (box.right - box.left), 1e-6))
    x1 = rng.uniform(min(middle_x + kept * (box.right - box.left), 1 - 1e-6), 1)
    y0 = rng.uniform(0, max(middle_y - kept * (box.bottom - box.top), 1e-6))
    y1 = rng.uniform(min(middle_y + kept * (box.bottom - box.top), 1 - 1e-6), 1)
    if rng.random() < .4:
        x0, y0, x1, y1 = 0., 0., 1., 1.
    image = _resized(example.image, x0, y0, x1, y1)
    left, right = (np.clip((x - x0) / (x1 - x0), 0, 1) for x in (box.left, box.right))
    top, bottom = (np.clip((y - y0) / (y1 - y0), 0, 1) for y in (box.top, box.bottom))
    if rng.random() < _MIRRORED:
        image, left, right = image[:, ::-1], 1 - right, 1 - left
    return np.ascontiguousarray(image), HandBox(float(left), float(top), float(right),
                                                float(bottom))


def _resized(image: Image, x0: float, y0: float, x1: float, y1: float) -> Image:
    height, width, _ = image.shape
    part = image[int(y0 * height):max(int(np.ceil(y1 * height)), int(y0 * height) + 1),
                 int(x0 * width):max(int(np.ceil(x1 * width)), int(x0 * width) + 1)]
    return np.asarray(cv2.resize(part, (FINDER_INPUT.width, FINDER_INPUT.height),
                                 interpolation=cv2.INTER_AREA), np.uint8)


def targets(box: HandBox | None) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """
    Return what the grid should say of a picture.

    :returns: float32 (rows, columns), 1 in the hand's middle, 0 outside of its box, NaN between;
        and the logarithms of the distances from the cells to its edges, float32 (4, rows,
        columns).
    """
    rows, columns = grid_shape(FINDER_INPUT)
    sure = np.zeros((rows, columns), np.float32)
    if box is None:
        return sure, np.zeros((4, rows, columns), np.float32)
    x, y = cell_centres(FINDER_INPUT)
    edges = np.stack([x - box.left, y - box.top, box.right - x, box.bottom - y])
    sure[(edges > 0).all(0)] = np.nan
    wide, high = box.right - box.left, box.bottom - box.top
    off_x = np.abs(x - (box.left + box.right) / 2) / (wide / 2)
    off_y = np.abs(y - (box.top + box.bottom) / 2) / (high / 2)
    off = np.maximum(off_x, off_y)
    sure[off < _MIDDLE] = 1.
    sure.flat[int(off.argmin())] = 1.   # a small hand may have no cell's middle in its own
    return sure, np.log(np.maximum(edges, .01)).astype(np.float32)


def loss(values: torch.Tensor, sure: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
    """
    Return the loss of a batch, a scalar.

    :param values: output of the network (B, VALUES * rows * columns).
    :param sure: (B, rows, columns) and ``edges`` (B, 4, rows, columns), of :func:`targets`.
    """
    grid = values.view(len(values), VALUES, *sure.shape[1:])
    known, inside = ~sure.isnan(), sure == 1
    wanted = sure.nan_to_num()
    each = functional.binary_cross_entropy_with_logits(grid[:, 0], wanted, reduction='none')
    # Of the many cells without a hand the difficult ones count most (T.-Y. Lin et al., Focal Loss
    # for Dense Object Detection, ICCV 2017).
    chance = torch.sigmoid(grid[:, 0].detach())
    focus = torch.where(inside, (1 - chance) ** 2, chance ** 2)
    hands = inside.sum().clamp(min=1)
    of_sure = (each * focus * known).sum() / hands
    of_edges = (functional.smooth_l1_loss(grid[:, 1:], edges, reduction='none', beta=.1).mean(1)
                * inside).sum() / hands
    return of_sure + 2. * of_edges


def overlap(a: HandBox, b: HandBox) -> float:
    """Return the intersection of two boxes over their union, 0 to 1."""
    wide = min(a.right, b.right) - max(a.left, b.left)
    high = min(a.bottom, b.bottom) - max(a.top, b.top)
    both = max(wide, 0.) * max(high, 0.)
    areas = sum((box.right - box.left) * (box.bottom - box.top) for box in (a, b))
    return both / max(areas - both, 1e-9)


def fit(model: HandFinderNetwork, examples: Sequence[Example], epochs: int, seed: int,
        on_step: Callable[[int, float], None] = lambda step, loss: None,
        ) -> None:
    """
    Train the network; BatchNorm keeps ImageNet's statistics in the blocks taken from it.

    :param on_step: called with the number of the samples seen, and the loss of the last batch.
    """
    from grasp_success_detector.training.augmentation import camera_augmentation
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    change = camera_augmentation()
    first = [*model.conv_stem.parameters(), *model.bn1.parameters(),
             *(p for group in list(model.blocks)[:2] for p in group.parameters())]
    for parameter in first:
        parameter.requires_grad_(False)
    ours = [*model.conv_mix.parameters(), *model.conv_near.parameters(),
            *model.bn2.parameters(), *model.bn3.parameters(), *model.values.parameters()]
    optimizer = torch.optim.AdamW([
        {'params': ours, 'lr': 2e-3},
        {'params': [p for group in list(model.blocks)[2:] for p in group.parameters()],
         'lr': 4e-4}], weight_decay=1e-4)
    steps = epochs * (len(examples) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, [2e-3, 4e-4], total_steps=max(steps, 1), pct_start=.1)
    done = 0
    for _ in range(epochs):
        order = rng.permutation(len(examples))
        for start in range(0, len(order) - BATCH + 1, BATCH):
            model.train()
            for module in (model.bn1, *model.blocks.modules()):
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
            made = [cut(rng, examples[i]) for i in order[start:start + BATCH]]
            images = torch.from_numpy(np.stack([change(image, rng) for image, _ in made]))
            wanted = [targets(box) for _, box in made]
            sure, edges = (torch.from_numpy(np.stack(part)) for part in zip(*wanted, strict=True))
            value = loss(model(FINDER_INPUT.normalize(images)), sure, edges)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            schedule.step()
            done += BATCH
            on_step(done, float(value.detach()))
    model.eval()


def found_boxes(model: HandFinderNetwork, images: Sequence[Image]) -> list[HandBox]:
    """Return what the network finds in pictures, RGB uint8 (H, W, 3) each."""
    out = []
    with torch.inference_mode():
        for image in images:
            small = torch.from_numpy(FINDER_INPUT.squeeze(image))[None]
            out.append(read_box(model(FINDER_INPUT.normalize(small))[0].numpy(), FINDER_INPUT))
    return out


@dataclass(frozen=True)
class Tested:
    """
    How well hands are found in test pictures.

    :ivar overlap: mean intersection over union of found and true boxes.
    :ivar hits: share of the boxes with an overlap of one half or more.
    :ivar threshold: confidence that all but ``MISSED`` of the pictures with a hand reach.
    :ivar false_hands: share of the pictures without a hand that reach it.
    """

    overlap: float
    hits: float
    threshold: float
    false_hands: float


def test_finder(model: HandFinderNetwork, examples: Sequence[Example]) -> Tested:
    """Compare found with true boxes."""
    pairs = list(zip(found_boxes(model, [example.image for example in examples]),
                     [example.box for example in examples], strict=True))
    overlaps = np.array([overlap(found, box) for found, box in pairs if box is not None])
    threshold = float(np.quantile([found.confidence for found, box in pairs if box is not None],
                                  MISSED))
    without = [found.confidence >= threshold for found, box in pairs if box is None]
    return Tested(float(overlaps.mean()), float((overlaps >= .5).mean()), threshold,
                  sum(without) / max(len(without), 1))


def save_finder(path: Path, model: HandFinderNetwork, tested: Tested, epochs: int, pictures: int,
                ) -> None:
    """Write a hand finder with its threshold and figures; CheckpointError if that fails."""
    save(path, model, HandFinderMetadata(
        HAND_FINDER, FINDER_INPUT, ('hand',), {'epochs': epochs, 'pictures': pictures},
        {'simulated test pictures': asdict(tested)}, threshold=max(tested.threshold, .01)))


def new_network() -> HandFinderNetwork:
    """Return a network with ImageNet's weights where it has them."""
    model = HandFinderNetwork()
    model.load_state_dict(backbone_weights(), strict=False)
    return model
