"""
Measure ways of adapting to frames without labels: learn from half of the attempts, judge the rest.

    python benchmarks/unlabelled.py bags/random --checkpoint efficientnet_lite0_rig
    python benchmarks/unlabelled.py bags/rig --attempts 100
    python benchmarks/unlabelled.py --pictures FOLDER

Both halves are judged, each by what was learnt from the other, so that every attempt counts once:
a success if the mean P(success) of its last three frames of its last label reaches the threshold.
FOLDER has labels.csv (file,label,rig,lifted,attempt); each rig of it with eight lifted pictures
and four attempts is adapted to by itself. Labels are used to judge, and by the last row.
Features are aligned to those of the shipped sample bag.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
import tempfile

import numpy as np
from numpy.typing import NDArray
from real_world import read_labels
import torch
from torch import nn

from grasp_success_detector.evaluation.comparison import mcnemar_exact
from grasp_success_detector.evaluation.frame_sources import open_recordings, Recording
from grasp_success_detector.evaluation.metrics import roc_auc, wilson_interval
from grasp_success_detector.files import checkpoint_path, SAMPLE_BAG, share_path
from grasp_success_detector.hand.model import read_hand
from grasp_success_detector.images.decoding import read_image
from grasp_success_detector.inference.hand_finder import look
from grasp_success_detector.labels import Label
from grasp_success_detector.networks.checkpoint import Checkpoint
from grasp_success_detector.recordings.reader import RefusedFrame
from grasp_success_detector.recordings.selection import FrameSelection
from grasp_success_detector.training.adaptation.backbone import Backbone
from grasp_success_detector.training.adaptation.cross_validation import Grouping
from grasp_success_detector.training.adaptation.hand_labels import labelled_by_hand
from grasp_success_detector.training.adaptation.head import fit_head, Head, head_of
from grasp_success_detector.training.adaptation.unlabelled import compare, Trial

Floats, Places = NDArray[np.float32], NDArray[np.int64]
#: Shares of the new statistics, of those of BatchNorm and of the features.
SHARES = (.1, .3, 1.)


@dataclass(frozen=True)
class Frames:
    """Inputs of the network, and of each: attempt, true label and the hand's (-1: none), rig."""

    images: NDArray[np.uint8]
    attempts: NDArray[np.str_]
    labels: NDArray[np.int64]
    told: NDArray[np.int64]
    rigs: NDArray[np.str_]


class Ways:
    """P(success), shifted so that 0.5 is the threshold, of judged frames by each way."""

    def __init__(self, checkpoint: Checkpoint, source: Frames, frames: Frames,
                 batch_norm: bool) -> None:
        # Before a backbone freezes layers, whose statistics then stay as they are.
        self.free = deepcopy(checkpoint.model)
        self.start = Backbone.of_checkpoint(checkpoint)
        self.known, self.frames, self.batch_norm = checkpoint.metadata, frames, batch_norm
        self.head = head_of(self.start.head)
        self.trial: Trial | None = None     # of the labels of the joints, in this half
        self.source, self.features = (self.start.pooled(
            each.images, self.known.preprocessing) for each in (source, frames))

    def log_odds(self, margins: torch.Tensor, threshold: float | None = None) -> Floats:
        """Return log-odds of success that are 0 at the threshold (that of the checkpoint)."""
        limit = self.known.threshold if threshold is None else threshold
        return margins.numpy() / self.known.temperature - np.log(limit / (1 - limit))

    def __call__(self, learnt: Places, judged: Places) -> Iterator[tuple[str, Floats]]:
        """Yield each way's name, and its log-odds of the frames to judge."""
        old, seen = self.head.margins(self.features), self.features[judged]
        yield 'the checkpoint as it is', self.log_odds(old[judged])
        yield 'its threshold at 0.5', self.log_odds(old[judged], .5)
        if self.batch_norm:
            yield from self.normalized(learnt, judged)
        yield from self.aligned(learnt, seen)
        low, high = two_means(old[learnt].numpy())
        yield 'threshold between the two modes', self.log_odds(old[judged] - (low + high) / 2, .5)
        said = self.log_odds(old, .5)
        attempts, told = self.frames.attempts, self.frames.told
        for odds in (np.log(4), np.log(19)):
            sure = np.array([i for i in learnt if alike(said, attempts, i, odds)], int)
            yield (f'pseudo-labels, P beyond {1 / (1 + np.exp(-odds)):.2f} over time',
                   self.fitted(sure, said[sure] > 0, judged)[0])
        hand = learnt[told[learnt] >= 0]
        agree = hand[(told[hand] == 1) == (said[hand] > 0)]
        for name, places in (('labels where joints and P agree', agree),
                             ('labels of the joints', hand)):
            if len(hand):
                alone, averaged, self.trial = self.fitted(places, told[places] == 1, judged)
                yield name, alone
                yield f'{name}, averaged with the old head', averaged
        right = learnt[self.frames.labels[learnt] >= 0]
        yield '(true labels)', self.fitted(right, self.frames.labels[right] == 1, judged)[0]

    def normalized(self, learnt: Places, judged: Places) -> Iterator[tuple[str, Floats]]:
        """Yield log-odds with statistics of BatchNorm that are partly those of new frames."""
        margins = self.head.margins(self.features[learnt]).numpy() / self.known.temperature
        above = margins > np.log(self.known.threshold / (1 - self.known.threshold))
        generator = np.random.default_rng(0)
        half = max(len(learnt) // 2, 16)
        balanced = np.concatenate([generator.choice(part, half) for part in (
            learnt[above], learnt[~above]) if len(part)])
        everything = np.resize(generator.permutation(learnt), max(32, len(learnt)))
        for name, places, shares in (('balanced by P', generator.permutation(balanced), SHARES),
                                     ('all', everything, (.3,))):
            new = statistics(self.free, self.known.preprocessing.normalize,
                             self.frames.images[places])
            for share in shares:
                model = deepcopy(self.free)
                for layer, (mean, variance) in zip(batch_norms(model), new, strict=True):
                    layer.running_mean.lerp_(mean, share)
                    layer.running_var.lerp_(variance, share)
                features = Backbone('', self.start.architecture, model).pooled(
                    self.frames.images[judged], self.known.preprocessing)
                yield (f'BatchNorm, {share:g} of the statistics of frames, {name}',
                       self.log_odds(self.head.margins(features)))

    def aligned(self, learnt: Places, seen: torch.Tensor) -> Iterator[tuple[str, Floats]]:
        """Yield log-odds of features moved to the mean or covariance of known ones."""
        own, known = self.features[learnt], self.source
        for share in SHARES:
            moved = seen + share * (known.mean(0) - own.mean(0))
            yield (f'mean of the features moved, {share:g} of the way',
                   self.log_odds(self.head.margins(moved)))
        # B. Sun, J. Feng and K. Saenko, Return of Frustratingly Easy Domain Adaptation, AAAI 2016.
        turned = (seen - own.mean(0)) @ power(own, -.5) @ power(known, .5) + known.mean(0)
        yield 'covariance of the features (CORAL)', self.log_odds(self.head.margins(turned))

    def fitted(self, places: Places, success: NDArray[np.bool_],
               judged: Places) -> tuple[Floats, Floats, Trial | None]:
        """Return log-odds by a head that learnt from frames, and by its mean with the old one."""
        seen = self.features[judged]
        if len(set(success.tolist())) < 2:
            old = self.log_odds(self.head.margins(seen))
            return old, old, None
        labels = success.astype(np.float32)
        grouping = Grouping.of(labels, self.frames.attempts[places].tolist())

        def learn(chosen: Places) -> Head:
            return fit_head(self.features[places[chosen]], torch.from_numpy(labels[chosen]),
                            torch.from_numpy(grouping.weights(chosen)), 1.)

        head = learn(np.arange(len(places)))
        held_out = torch.zeros(len(places))
        for fold in grouping.folds(5, 0):
            rest = np.setdiff1d(np.arange(len(places)), fold)
            held_out[fold] = learn(rest).mixed(self.head, .5).margins(
                self.features[places[fold]])
        before, after = (torch.sigmoid(margins / self.known.temperature).numpy() for margins in (
            self.head.margins(self.features[places]), held_out))
        threshold, trial = compare(before, after, grouping, self.known.threshold)
        return (self.log_odds(head.margins(seen), .5), self.log_odds(
            head.mixed(self.head, .5).margins(seen), threshold), trial)


def alike(said: Floats, attempts: NDArray[np.str_], place: int, odds: float) -> bool:
    """Return whether a frame and those before and after it are as sure of the same."""
    near = [i for i in (place - 1, place, place + 1)
            if 0 <= i < len(said) and attempts[i] == attempts[place]]
    return bool((said[near] > odds).all() or (said[near] < -odds).all())


def two_means(values: Floats) -> tuple[float, float]:
    """Return the two means that are nearest to the values, the lower first."""
    low, high = np.quantile(values, (.1, .9))
    for _ in range(50):
        upper = values > (low + high) / 2
        if upper.all() or not upper.any():
            break
        low, high = values[~upper].mean(), values[upper].mean()
    return float(low), float(high)


def power(features: torch.Tensor, exponent: float) -> torch.Tensor:
    """Return a power of the shrunk covariance of features."""
    size = features.shape[1]
    spread = torch.cov(features.T).double() + .1 * features.var(0).mean() * torch.eye(size)
    values, vectors = torch.linalg.eigh(spread)
    return ((vectors * values ** exponent) @ vectors.T).float()


def batch_norms(model: nn.Module) -> list[nn.BatchNorm2d]:
    return [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]


@torch.no_grad()
def statistics(model: nn.Module, normalize: object, images: NDArray[np.uint8],
               ) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return mean and variance of the input of each BatchNorm layer over images."""
    model = deepcopy(model).eval()
    for layer in batch_norms(model):
        layer.momentum = None       # the mean over batches
        layer.reset_running_stats()
        layer.train()
    for start in range(0, len(images) - 15, 32):
        model(normalize(torch.from_numpy(images[start:start + 32])))    # type: ignore[operator]
    return [(layer.running_mean, layer.running_var)     # type: ignore[misc]
            for layer in batch_norms(model)]


def frames_of(source: str, checkpoint: Checkpoint, most: int, each: int) -> Frames:
    """Read some frames, spread evenly, of some attempts of a bag or data set."""
    rows = defaultdict(list)
    with tempfile.TemporaryDirectory() as unpacked:
        recording, = open_recordings([source], FrameSelection(), Path(unpacked))
        (by_hand,), _ = labelled_by_hand([recording], read_hand())
        told = {frame.number: frame.label for frame in by_hand.frames}
        for frame, image in recording.read(
                some(recording, most, each),
                lambda picture: look(picture, checkpoint.metadata.preprocessing).image):
            if not isinstance(image, RefusedFrame):
                rows['images'].append(image)
                rows['attempts'].append(frame.attempt)
                for name, label in (('labels', frame.label), ('told', told[frame.number])):
                    rows[name].append(-1 if label is None else int(label))
    return Frames(**{name: np.array(values) for name, values in rows.items()},
                  rigs=np.array([''] * len(rows['images'])))


def some(recording: Recording, most: int, each: int) -> list:
    """Return some frames of the first attempts of a recording."""
    attempts = defaultdict(list)
    for frame in recording.frames:
        attempts[frame.attempt].append(frame)
    return sorted((frames[i] for frames in list(attempts.values())[:most] for i in sorted({
        round(at) for at in np.linspace(0, len(frames) - 1, min(each, len(frames))).tolist()})),
        key=lambda frame: frame.number)


def pictures_of(folder: Path, checkpoint: Checkpoint) -> Frames:
    """Read the lifted pictures of a folder in which a hand is found."""
    seen = [(picture, look(read_image(folder / picture.file), checkpoint.metadata.preprocessing))
            for picture in read_labels(folder) if picture.lifted]
    kept = [(picture, view.image) for picture, view in seen if not view.no_hand]
    return Frames(
        np.stack([image for _, image in kept]), np.array([it.attempt for it, _ in kept]),
        np.array([int(it.label) for it, _ in kept]), np.full(len(kept), -1),
        np.array([it.rig for it, _ in kept]))


def halves(frames: Frames) -> Iterator[tuple[Places, Places]]:
    """Yield frames to learn from and to judge, by halves of the attempts of each rig."""
    generator = np.random.default_rng(0)
    for rig in np.unique(frames.rigs):
        places = np.flatnonzero(frames.rigs == rig)
        names = generator.permutation(np.unique(frames.attempts[places]))
        if len(places) < 8 or len(names) < 4:
            continue
        first = np.isin(frames.attempts[places], names[:len(names) // 2])
        yield places[first], places[~first]
        yield places[~first], places[first]


def verdicts(frames: Frames, said: dict[int, float]) -> dict[str, tuple[bool, bool]]:
    """Return for each attempt whether it succeeded, and whether it is called so."""
    attempts = defaultdict(list)
    for place in sorted(said):
        if frames.labels[place] >= 0:
            attempts[str(frames.attempts[place])].append(place)
    made = {}
    for name, places in attempts.items():
        last = frames.labels[places[-1]]
        ends = [1 / (1 + np.exp(-said[i])) for i in places if frames.labels[i] == last][-3:]
        made[name] = bool(last == 1), bool(np.mean(ends) >= .5)
    return made


def main() -> None:
    """Judge each way, and print a row for it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('source', nargs='?')
    parser.add_argument('--pictures', type=Path)
    parser.add_argument('--checkpoint', default='', help='to start from (the default)')
    parser.add_argument('--attempts', type=int, default=200)
    parser.add_argument('--frames', type=int, default=8, help='of each attempt')
    parser.add_argument('--no-batch-norm', action='store_true', help='leave out what takes long')
    args = parser.parse_args()
    checkpoint = Checkpoint.open(checkpoint_path(args.checkpoint))
    frames = (frames_of(args.source, checkpoint, args.attempts, args.frames)
              if args.pictures is None else pictures_of(args.pictures, checkpoint))
    source = frames_of(str(share_path(SAMPLE_BAG)), checkpoint, 8, 20)
    ways = Ways(checkpoint, source, frames, not args.no_batch_norm)
    said: dict[str, dict[int, float]] = defaultdict(dict)
    for learnt, judged in halves(frames):
        for name, log_odds in ways(learnt, judged):
            said[name].update(zip(judged.tolist(), log_odds.tolist(), strict=True))
        if ways.trial is not None:
            print(f'{"kept" if ways.trial.helps else "nothing changed"}: {ways.trial}')
    known = frames.told >= 0
    if (both := known & (frames.labels >= 0)).any():
        print(f'the joints tell the label of {known.mean():.0%} of {len(known)} frames; '
              f'{(frames.told == frames.labels)[both].mean():.1%} of these labels are right')
    print('| way | attempts right (95 % interval) | gained, lost, p | failures called SUCCESS | '
          'ROC-AUC of frames |\n' + '| --- ' * 5 + '|')
    before = verdicts(frames, next(iter(said.values())))
    for name, values in said.items():
        now = verdicts(frames, values)
        right, was = ([truth is called for truth, called in each.values()]
                      for each in (now, before))
        gained, lost = (sum(one > other for one, other in zip(*pair, strict=True))
                        for pair in ((right, was), (was, right)))
        low, high = wilson_interval(sum(right), len(right))
        failures = [called for truth, called in now.values() if not truth]
        places = [i for i in values if frames.labels[i] >= 0]
        auc = roc_auc([values[i] for i in places], [Label(frames.labels[i]) for i in places])
        print(f'| {name} | {sum(right)}/{len(right)}, {low:.1%} to {high:.1%} | '
              f'{gained}, {lost}, {mcnemar_exact(gained, lost):.3f} | '
              f'{sum(failures)}/{len(failures)} | {auc:.3f} |', flush=True)


if __name__ == '__main__':
    main()
