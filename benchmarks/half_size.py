"""
Whether a jpeg decoded at half size is decided as one decoded in full, and what it saves.

Half size is taken wherever `Preprocessing.half_suffices` says so; a recording without a frame that
is large enough is refused. Torch in fp32, each frame by itself.

    simulate_grasps bags/large --attempts 300 --frames 4 --seed 41 --width 640 --height 480
    python benchmarks/half_size.py models/*_rig.safetensors --recordings bags/large
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from statistics import median
import tempfile
import time

from contestants import machine, sample_jpegs, table_head, table_row
import numpy as np
from rich.console import Console

from grasp_success_detector.console import progress_bar
from grasp_success_detector.evaluation.frame_sources import open_recordings, Recording
from grasp_success_detector.evaluation.metrics import wilson_interval
from grasp_success_detector.images.decoding import decode_bytes, HalfSuffices
from grasp_success_detector.images.preprocessing import Preprocessing
from grasp_success_detector.inference.classifier import GraspClassifier
from grasp_success_detector.labels import Label
from grasp_success_detector.recordings.bags import GROUND_TRUTH_TOPIC
from grasp_success_detector.recordings.selection import FrameSelection


def probabilities(classifier: GraspClassifier, recording: Recording,
                  half_suffices: HalfSuffices | None) -> Iterator[tuple[int, float]]:
    """Yield the height that each frame is judged at, and P(success)."""
    with progress_bar(Console(stderr=True)) as progress:
        task = progress.add_task(recording.name, total=len(recording.frames))
        for _, judged in recording.read(
                recording.frames,
                lambda picture: (picture.shape[0], float(classifier.predict([picture])[0])),
                half_suffices):
            yield judged
            progress.advance(task)


def share(held: np.ndarray) -> str:
    low, high = wilson_interval(int(held.sum()), held.size)
    return f'{held.mean():.2%} ({held.sum()}/{held.size}, {low:.2%} to {high:.2%})'


def saving(preprocessing: Preprocessing) -> tuple[float, float]:
    """Return ms for decoding, cropping and scaling a 640 x 480 jpeg: in full, at half size."""
    taken: dict[HalfSuffices | None, list[float]] = {None: [], preprocessing.half_suffices: []}
    jpegs = sample_jpegs(50)
    for _ in range(10):     # in turns, so that a busy moment of the machine hits both
        for half_suffices, times in taken.items():
            for jpeg in jpegs:
                start = time.perf_counter()
                preprocessing.crop_and_resize(decode_bytes(jpeg, half_suffices))
                times.append(1000 * (time.perf_counter() - start))
    full, half = map(median, taken.values())
    return full, half


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('checkpoints', type=Path, nargs='+')
    parser.add_argument('--recordings', nargs='+', required=True, metavar='BAG',
                        help='with jpegs and labels, as simulate_grasps records them')
    args = parser.parse_args()
    table_head('checkpoint', 'recording', 'decided alike', 'largest difference of P(success)',
               'right, in full', 'right, at half size')
    with tempfile.TemporaryDirectory() as folder:
        for recording in open_recordings(
                args.recordings, FrameSelection(label_topic=GROUND_TRUTH_TOPIC), Path(folder)):
            labels = np.array([frame.label is Label.SUCCESS for frame in recording.frames])
            for checkpoint in args.checkpoints:
                classifier = GraspClassifier.from_checkpoint(checkpoint, 'cpu')
                (heights, full), (halves, half) = (
                    np.array(list(probabilities(classifier, recording, how))).T
                    for how in (None, classifier.preprocessing.half_suffices))
                if not (halved := halves < heights).all():
                    parser.error(f'{recording.name}: only {halved.sum()} of {len(half)} frames '
                                 'are jpegs large enough to be halved; record larger ones')
                in_full, at_half = full >= classifier.threshold, half >= classifier.threshold
                table_row(checkpoint.stem, recording.name, share(in_full == at_half),
                          f'{np.abs(full - half).max():.3f}',
                          share(in_full == labels), share(at_half == labels))
    print()
    for checkpoint in args.checkpoints:
        size = GraspClassifier.from_checkpoint(checkpoint, 'cpu').preprocessing
        full, half = saving(size)
        print(f'From a 640 x 480 jpeg to {size.width} x {size.height} pixels: {full:.2f} ms in '
              f'full, {half:.2f} ms at half size, {full / half:.1f} times as fast.')
    print(f'{machine()}.')


if __name__ == '__main__':
    main()
