"""
Measure adaptation on photographs: learn from k labelled pictures of a rig, judge its others.

Features of a picture are computed once for all splits: that is why it takes minutes, not hours.
FOLDER has labels.csv with the columns file and label, and where known rig, attempt. Splits are
random, by attempt. Counts are pooled over splits, whose pictures repeat: intervals are for one
count of each picture.
"""

import argparse
from collections.abc import Callable, Iterator
import csv
from hashlib import sha256
from pathlib import Path
import time

import numpy as np
from numpy.typing import NDArray
import torch

from grasp_success_detector.evaluation.calibration import expected_calibration_error
from grasp_success_detector.evaluation.metrics import wilson_interval
from grasp_success_detector.files import checkpoint_path
from grasp_success_detector.images.decoding import read_image
from grasp_success_detector.images.preprocessing import Preprocessing
from grasp_success_detector.inference.classifier import GraspClassifier
from grasp_success_detector.labels import Label
from grasp_success_detector.networks.checkpoint import Checkpoint
from grasp_success_detector.training.adaptation.adaptation import adapt
from grasp_success_detector.training.adaptation.backbone import Backbone
from grasp_success_detector.training.adaptation.frames import FrameOrigin, RigFrames
from grasp_success_detector.training.adaptation.settings import AdaptationConfig, Way
from grasp_success_detector.training.adaptation.views import views


def main() -> None:
    """Adapt on each split, and print what is right on the other pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('folders', nargs='+', type=Path)
    parser.add_argument('--k', nargs='+', type=int, default=[8, 14, 20])
    parser.add_argument('--splits', type=int, default=5)
    parser.add_argument('--ways', nargs='+', default=[
        way.value for way in AdaptationConfig().ways if way is not Way.SIMULATED])
    parser.add_argument('--checkpoint', default='')
    args = parser.parse_args()
    Backbone.pooled = remembered(Backbone.pooled)
    start = Checkpoint.open(checkpoint_path(args.checkpoint))
    config = AdaptationConfig(ways=tuple(map(Way, args.ways)))
    rigs = read_rigs(args.folders)
    for k in args.k:
        right, total, pictures, said, truth = 0, 0, 0, [], []
        for rig, rows in rigs.items():
            mine, others, judged, began = 0, 0, set(), time.perf_counter()
            kept: list[str] = []
            for learnt, rest in splits(rows, k, args.splits):
                images = {row: read_image(row[0]) for row in learnt + rest}
                size = images[learnt[0]].shape[:2]
                made = views(config, start.metadata.architecture, start.metadata.preprocessing,
                             (size[0], size[1]))
                frames = RigFrames(
                    tuple(FrameOrigin(rig, row[2], row[1], 0.) for row in learnt),
                    {name: np.stack([view.crop_and_resize(images[row]) for row in learnt])
                     for name, view in made.items()}, made, {}, {})
                done = adapt(start, frames, config, say=lambda line: None)
                kept.append(done.compared[done.winner].candidate.name)
                classifier = GraspClassifier(Checkpoint.of_model(done.model, done.metadata))
                values = classifier.predict([images[row] for row in rest])
                labels = [row[1] for row in rest]
                mine += int(((values >= classifier.threshold) == np.array(labels)).sum())
                others += len(rest)
                judged |= set(rest)
                said += values.tolist()
                truth += labels
            if others:
                print(f'k={k} {rig[:24]:24} {_text(mine, others, len(judged))} '
                      f'{time.perf_counter() - began:.0f} s, kept {" ".join(kept)}', flush=True)
            right, total, pictures = right + mine, total + others, pictures + len(judged)
        if total:
            print(f'k={k} all: {_text(right, total, pictures)}, expected calibration error '
                  f'{expected_calibration_error(said, truth):.3f}', flush=True)


def remembered(pooled: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """Return Backbone.pooled with a memory of the features of each image of its backbones."""
    known: dict[tuple[str, str, bytes], torch.Tensor] = {}

    def remembering(backbone: Backbone, images: NDArray[np.uint8], preprocessing: Preprocessing,
                    on_images: Callable[[int], None] = lambda count: None) -> torch.Tensor:
        keys = [(backbone.name, repr(preprocessing), sha256(image.tobytes()).digest())
                for image in images]
        new = [i for i, key in enumerate(keys) if key not in known]
        if new:
            for i, features in zip(new, pooled(backbone, images[new], preprocessing), strict=True):
                known[keys[i]] = features
        return torch.stack([known[key] for key in keys])

    return remembering


Row = tuple[Path, Label, str]


def read_rigs(folders: list[Path]) -> dict[str, list[Row]]:
    """Return the labelled pictures of the rigs that have two attempts of each label or more."""
    rigs: dict[str, list[Row]] = {}
    for folder in folders:
        with (folder / 'labels.csv').open(newline='', encoding='utf-8') as file:
            for row in csv.DictReader(file):
                if row['label'] in ('success', 'failure'):
                    rigs.setdefault(row.get('rig') or folder.name, []).append((
                        folder / row['file'], Label[row['label'].upper()],
                        row.get('attempt') or row['file']))
    return {rig: rows for rig, rows in rigs.items() if all(
        len({row[2] for row in rows if row[1] is label}) >= 2 for label in Label)}


def splits(rows: list[Row], k: int, count: int) -> Iterator[tuple[list[Row], list[Row]]]:
    """Yield random splits by attempt: k or k - 1 pictures to learn from, and the others."""
    generator = np.random.default_rng(0)
    names = sorted({row[2] for row in rows})
    found = 0
    for _ in range(300):
        learnt: list[Row] = []
        for name in generator.permutation(names):
            attempt = [row for row in rows if row[2] == name]
            if len(learnt) + len(attempt) <= k:
                learnt += attempt
        rest = [row for row in rows if row not in learnt]
        if rest and len(learnt) >= k - 1 and all(
                len({row[2] for row in learnt if row[1] is label}) >= 2 for label in Label):
            found += 1
            yield learnt, rest
            if found == count:
                return


def _text(right: int, total: int, pictures: int) -> str:
    low, high = wilson_interval(round(right / total * pictures), pictures)
    return (f'{right}/{total} = {right / total:.1%} (95 % interval {low:.1%} to {high:.1%} '
            f'for {pictures} pictures)')


if __name__ == '__main__':
    main()
