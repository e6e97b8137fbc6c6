"""
Measure adaptation on photographs: learn from k labelled pictures of a rig, judge its others.

    python benchmarks/adaptation.py FOLDER...
    python benchmarks/adaptation.py FOLDER... --start imagenet --ways head
    python benchmarks/adaptation.py FOLDER... --train --splits 1

FOLDER has labels.csv with the columns file and label, and where known rig, attempt. Splits are
random, by attempt. Counts are pooled over splits, whose pictures repeat: intervals are for one
count of each picture. Of so few pictures even a perfectly calibrated detector shows a calibration
error: it is printed beside the measured one, for the same P(success), with one random truth for
each picture. Features of a picture are computed once for all splits.
"""

import argparse
from collections.abc import Callable, Iterator
import contextlib
import csv
from hashlib import sha256
from pathlib import Path
import shutil
import tempfile
import time
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
import torch

from grasp_success_detector.cli.train_classifier import main as train_classifier
from grasp_success_detector.evaluation.calibration import expected_calibration_error
from grasp_success_detector.evaluation.metrics import wilson_interval
from grasp_success_detector.files import checkpoint_path
from grasp_success_detector.images.decoding import read_image
from grasp_success_detector.images.preprocessing import Preprocessing
from grasp_success_detector.inference.classifier import GraspClassifier
from grasp_success_detector.inference.hand_finder import look
from grasp_success_detector.labels import Label
from grasp_success_detector.networks.checkpoint import Checkpoint, CheckpointMetadata
from grasp_success_detector.networks.weights import build_pretrained
from grasp_success_detector.training.adaptation.adaptation import adapt
from grasp_success_detector.training.adaptation.backbone import Backbone
from grasp_success_detector.training.adaptation.frames import FrameOrigin, RigFrames
from grasp_success_detector.training.adaptation.settings import AdaptationConfig, Way
from grasp_success_detector.training.adaptation.views import views

Prepared = dict[Preprocessing, dict[Path, NDArray[np.uint8]]]


class Answers(NamedTuple):
    """P(success), label and file of judged pictures, and the threshold of each."""

    said: list[float]
    truth: list[Label]
    files: list[Path]
    limits: list[float]

    def text(self) -> str:
        """Return what was right, and the calibration error, with intervals."""
        right = sum((said >= limit) == (label is Label.SUCCESS) for said, limit, label in zip(
            self.said, self.limits, self.truth, strict=True))
        total, pictures = len(self.said), len(set(self.files))
        low, high = wilson_interval(round(right / total * pictures), pictures)
        return (f'{right}/{total} = {right / total:.1%} (95 % interval {low:.1%} to {high:.1%} '
                f'for {pictures} pictures), calibration error '
                f'{expected_calibration_error(self.said, self.truth):.3f} '
                f'(perfectly calibrated: {self.error_by_chance():.3f})')

    def error_by_chance(self) -> float:
        """Return the mean calibration error of a perfectly calibrated detector of these values."""
        generator, files = np.random.default_rng(0), sorted(set(self.files))
        errors = []
        for _ in range(200):
            drawn = dict(zip(files, generator.random(len(files)), strict=True))
            errors.append(expected_calibration_error(self.said, [
                Label(int(drawn[file] < said)) for file, said in zip(
                    self.files, self.said, strict=True)]))
        return float(np.mean(errors))


def main() -> None:
    """Adapt on each split, and print what is right on the other pictures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folders', nargs='+', type=Path)
    parser.add_argument('--k', nargs='+', type=int, default=[8, 14, 20])
    parser.add_argument('--splits', type=int, default=5)
    parser.add_argument('--ways', nargs='+', default=[
        way.value for way in AdaptationConfig().ways])
    parser.add_argument('--start', default='', help='checkpoint; imagenet: its weights, on what '
                        'the default checkpoint looks at')
    parser.add_argument('--train', action='store_true',
                        help='by train_classifier --weights START instead of an adaptation')
    args = parser.parse_args()
    Backbone.trunk_features = remembered(Backbone.trunk_features)
    path = checkpoint_path('' if args.start == 'imagenet' else args.start)
    start = Checkpoint.open(path)
    if args.start == 'imagenet':
        start = Checkpoint.of_model(
            build_pretrained(start.metadata.architecture).eval(), CheckpointMetadata(
                start.metadata.architecture, start.metadata.preprocessing))
    config = AdaptationConfig(ways=tuple(map(Way, args.ways)))
    rigs = read_rigs(args.folders)
    images = {row[0]: read_image(row[0]) for rows in rigs.values() for row in rows}
    prepared: Prepared = {}

    def shown(view: Preprocessing, rows: list[Row]) -> NDArray[np.uint8]:
        known = prepared.setdefault(view, {})
        for file in {row[0] for row in rows} - known.keys():
            known[file] = look(images[file], view).image
        return np.stack([known[row[0]] for row in rows])

    def adapted(rig: str, learnt: list[Row]) -> tuple[Checkpoint, str]:
        height, width = images[learnt[0][0]].shape[:2]
        made = views(config, start.metadata.architecture, start.metadata.preprocessing,
                     (height, width))
        done = adapt(start, RigFrames(
            tuple(FrameOrigin(rig, row[2], row[1], 0.) for row in learnt),
            {name: shown(view, learnt) for name, view in made.items()}, made, {}, {}),
            config, say=lambda line: None)
        return (Checkpoint.of_model(done.model, done.metadata),
                done.compared[done.winner].candidate.name)

    for k in args.k:
        everything = Answers([], [], [], [])
        for rig, rows in rigs.items():
            own, kept, began = Answers([], [], [], []), list[str](), time.perf_counter()
            for learnt, rest in splits(rows, k, args.splits):
                made, name = trained(path, learnt) if args.train else adapted(rig, learnt)
                kept.append(name)
                classifier = GraspClassifier(made, 'cpu')
                values = classifier.predict_prepared(shown(classifier.preprocessing, rest))
                for answers in (own, everything):
                    answers.said.extend(values.tolist())
                    answers.truth.extend(row[1] for row in rest)
                    answers.files.extend(row[0] for row in rest)
                    answers.limits.extend([classifier.threshold] * len(rest))
            if own.said:
                print(f'k={k} {rig[:24]:24} {own.text()}; {time.perf_counter() - began:.0f} s, '
                      f'kept {" ".join(kept)}', flush=True)
        if everything.said:
            print(f'k={k} all: {everything.text()}', flush=True)


def trained(weights: Path, learnt: 'list[Row]') -> tuple[Checkpoint, str]:
    """Train with train_classifier's defaults on pictures, from a checkpoint."""
    with tempfile.TemporaryDirectory() as name:
        folder, rows = Path(name) / 'pictures', ['file,label,attempt']
        folder.mkdir()
        for i, (file, label, attempt) in enumerate(learnt):
            shutil.copyfile(file, folder / f'{i}{file.suffix}')
            rows.append(f'{i}{file.suffix},{label.name.lower()},{attempt}')
        (folder / 'labels.csv').write_text('\n'.join(rows), encoding='utf-8')
        with contextlib.redirect_stdout(None):
            code = train_classifier([str(folder), '--weights', str(weights), '--out',
                                     f'{name}/run', '--arch',
                                     Checkpoint.open(weights).metadata.architecture])
        if code:
            raise SystemExit(code)
        checkpoint = Checkpoint.open(Path(name) / 'run/classifier.safetensors')
        assert checkpoint.model     # which is read now: the folder goes
        return checkpoint, 'trained'


def remembered(compute: Callable[..., tuple[torch.Tensor, ...]],
               ) -> Callable[..., tuple[torch.Tensor, ...]]:
    """Return Backbone.trunk_features with a memory of the images of its backbones."""
    known: dict[tuple[str, str, bytes], tuple[torch.Tensor, ...]] = {}

    def remembering(backbone: Backbone, images: NDArray[np.uint8], preprocessing: Preprocessing,
                    on_images: Callable[[int], None] = lambda count: None,
                    ) -> tuple[torch.Tensor, ...]:
        keys = [(backbone.name, repr(preprocessing), sha256(image.tobytes()).digest())
                for image in images]
        new = [i for i, key in enumerate(keys) if key not in known]
        if new:
            for i, *features in zip(new, *compute(backbone, images[new], preprocessing),
                                    strict=True):
                known[keys[i]] = tuple(features)
        return tuple(map(torch.stack, zip(*(known[key] for key in keys), strict=True)))

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


if __name__ == '__main__':
    main()
