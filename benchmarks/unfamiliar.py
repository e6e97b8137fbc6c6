"""
How pictures without an Allegro hand are decided, and frames of the own rig.

1,000 pictures by default: crops of sample pictures of scikit-image, scikit-learn and matplotlib,
simulated scenes without a hand and with other grippers, noise, textures, gradients and drawings.
Each picture is decided by itself, as SUCCESS, FAILURE or UNKNOWN.

    simulate_grasps bags/own --attempts 100 --frames 8 --seed 1001
    python benchmarks/unfamiliar.py models/efficientnet_lite0_rig.safetensors --own bags/own

With --photos FOLDER, pictures of a folder (such as CIFAR-10's) are judged too.
"""

import argparse
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
import tempfile

import numpy as np
from unfamiliar_pictures import folder_pictures, make_pictures, Picture

from grasp_success_detector.decision import Reason
from grasp_success_detector.evaluation.frame_sources import open_recordings
from grasp_success_detector.evaluation.metrics import wilson_interval
from grasp_success_detector.evaluation.single_pictures import decide_picture
from grasp_success_detector.inference.classifier import GraspClassifier
from grasp_success_detector.labels import Verdict
from grasp_success_detector.networks.familiarity import FAMILIARITY_QUANTILE
from grasp_success_detector.recordings.selection import FrameSelection


def count(classifier: GraspClassifier, pictures: Iterable[tuple[str, Picture]],
          quantile: float) -> dict[str, Counter[str]]:
    """Return by kind how many got each verdict, have ``no_hand``, and are ``unfamiliar``."""
    counts: dict[str, Counter[str]] = {}
    for kind, picture in pictures:
        said = decide_picture(classifier, picture, quantile)
        for name in (kind, ''):
            counts.setdefault(name, Counter())[said.verdict.value] += 1
            counts[name]['unfamiliar'] += said.reason is Reason.UNFAMILIAR
            counts[name]['no_hand'] += said.reason is Reason.NO_HAND
    return counts


def own_frames(recordings: list[str]) -> Iterable[tuple[str, Picture]]:
    with tempfile.TemporaryDirectory() as folder:
        for recording in open_recordings(recordings, FrameSelection(), Path(folder)):
            for _, picture in recording.read(recording.frames, lambda picture: picture, None):
                yield f'own: {recording.name}', np.asarray(picture, np.uint8)


def row(name: str, counts: Counter[str]) -> str:
    total = sum(counts[verdict.value] for verdict in Verdict)
    cells = []
    for what in ('unknown', 'no_hand', 'unfamiliar', 'success', 'failure'):
        low, high = wilson_interval(counts[what], total)
        cells.append(f'{counts[what] / total:.1%} ({low:.1%} to {high:.1%})')
    return f'| {name or "all without a hand"} | {total} | {" | ".join(cells)} |'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument('checkpoint', type=Path)
    parser.add_argument('--own', nargs='+', default=[], metavar='BAG', help='of the own rig')
    parser.add_argument('--photos', type=Path, metavar='FOLDER', help='further pictures')
    parser.add_argument('--count', type=int, default=1000)
    parser.add_argument('--seed', type=int, default=1)
    parser.add_argument('--quantile', type=float, default=FAMILIARITY_QUANTILE)
    parser.add_argument('--engine', default='torch')
    parser.add_argument('--precision', default='fp32')
    args = parser.parse_args()
    classifier = GraspClassifier.from_checkpoint(
        args.checkpoint, 'cpu', engine=args.engine, precision=args.precision)
    print(f'{args.checkpoint.name}, {classifier.engine}, quantile {args.quantile}\n')
    print('| pictures | number | UNKNOWN | no hand found | unfamiliar | SUCCESS | FAILURE |\n'
          + '| --- ' * 7 + '|')
    counts = count(classifier, make_pictures(args.count, args.seed), args.quantile)
    total = counts.pop('')
    groups = [*counts.items(), ('', total)]
    for pictures in ([folder_pictures(args.photos, args.count, args.seed)] if args.photos else []
                     ) + ([own_frames(args.own)] if args.own else []):
        more = count(classifier, pictures, args.quantile)
        more.pop('', None)
        groups += more.items()
    for name, each in groups:
        print(row(name, each))


if __name__ == '__main__':
    main()
