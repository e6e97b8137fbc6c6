"""
Time the recipe of resnet34 with the frozen part's features computed once, and in a plain loop.

Both train on the same samples in one run, each as a process of its own: 25 convolutions frozen,
1000 samples of each class drawn once, 4 epochs, class accuracy on validation and training images
after each. Weights are random, which does not change the time, but lets AdamW blow up differences
of rounding from step to step. The data set is made of the sample bag that ships with the package.

    python benchmarks/training.py                       half an hour on 2 cores
    python benchmarks/training.py --samples-per-class 100 --repeats 1
"""

import argparse
import json
import os
from pathlib import Path
import platform
import statistics
import subprocess
import sys
import tempfile
import time

import torch

from grasp_success_detector.files import SAMPLE_BAG, share_path

PROGRAM = ('import sys; from grasp_success_detector.cli.{0} import main; '
           'sys.exit(main(sys.argv[1:]))')


def run(command: str, *arguments: object) -> float:
    """Run a command of the package; return its seconds, start included."""
    started = time.perf_counter()
    subprocess.run([sys.executable, '-c', PROGRAM.format(command), *map(str, arguments)],
                   check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--arch', default='resnet34')
    parser.add_argument('--samples-per-class', type=int, default=1000)
    parser.add_argument('--repeats', type=int, default=2)
    parser.add_argument('--precision', default='32-true')
    args = parser.parse_args()
    print(f'{args.arch}, {args.samples_per_class} samples per class, {args.precision}; '
          f'{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, '
          f'torch {torch.__version__}')
    taken: dict[str, list[float]] = {'--no-reuse-features': [], '--reuse-features': []}
    losses = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        run('extract_frames', share_path(SAMPLE_BAG), '--split', '.5/.25/.25',
            '--out', folder / 'dataset')
        for repeat in range(args.repeats):
            for way, seconds in taken.items():
                out = folder / f'{repeat}{way}'
                seconds.append(run(
                    'train_classifier', folder / 'dataset', '--arch', args.arch,
                    '--no-pretrained', '--samples-per-class', args.samples_per_class,
                    '--precision', args.precision, way, '--out', out))
                epochs = [json.loads(line) for line in (out / 'metrics.jsonl').open()]
                losses[way] = (epochs[0]['train_loss'], epochs[-1]['val_loss'])
                print(f'{way:22} {seconds[-1]:7.1f} s', flush=True)
    plain, reused = (statistics.median(seconds) for seconds in taken.values())
    first, last = (abs(a - b) / a for a, b in zip(*losses.values(), strict=True))
    print(f'plain loop {plain:.1f} s, features once {reused:.1f} s: {plain / reused:.2f} times as '
          f'fast; the training loss of the first epoch differs by {first:.1e}, the validation '
          f'loss of the last by {last:.1e}')


if __name__ == '__main__':
    main()
