"""
Time trainings: the recipe of resnet34 against a plain loop, the default's against earlier code.

Ways take turns, each as a process of its own whose start counts. CPU seconds, of all threads, are
less disturbed by what else runs on the machine than the time on the clock. With each way stand the
frames of the test attempts that are right, with Wilson's 95 % interval.

The first case is the original recipe: 25 convolutions of resnet34 frozen, samples of each class
drawn once, 4 epochs, class accuracy on validation and training images after each. The plain loop
computes everything anew in each epoch, in fp32. Weights are random, which does not change the
time. The data set is made of the sample bag that ships with the package.

    python benchmarks/training.py                       half an hour on 2 cores
    python benchmarks/training.py --samples-per-class 100 --repeats 1

The second is the recipe by which the default checkpoint of the earlier version was trained on, on
a data set of your own, extracted by that version. An epoch has 0.76 samples for each training
frame, as there.

    python benchmarks/training.py --before d104d46 --dataset data/world

The parts of both, in CPU milliseconds of one thread for 32 images, take half a minute:

    python benchmarks/training.py --parts
"""

import argparse
from collections.abc import Callable, Sequence
from contextlib import ExitStack
import json
import os
from pathlib import Path
import platform
import statistics
import tempfile
import time

from contestants import machine, table_head, table_row
import cv2
import numpy as np
import torch
from versions import earlier_version, ROOT, run

from grasp_success_detector.files import DEFAULT_CHECKPOINT, SAMPLE_BAG, share_path

ORIGINAL = ('--arch', 'resnet34', '--no-pretrained')
PLAIN = ('--no-reuse-features', '--precision', '32-true')
SHIPPED = (
    '--hand', '1.5', '--size', '176', '--freeze-conv-layers', '24', '--samples', 'each_epoch',
    '--epochs', '2', '--lr', '0.0008', '--backbone-lr', '0.0005', '--average-weights',
    '--keep-images', '--precision', 'bf16-mixed', '--augmentation', 'shift_turn_zoom',
    'light_and_colour', 'sensor_noise', 'mirror')
SAMPLES_PER_FRAME = 28000 / 36784


def compare(ways: dict[str, tuple[Path, Sequence[object]]], dataset: Path, folder: Path,
            repeats: int) -> None:
    """Train in each way in turn, and print the ratios of the first to the last."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for repeat in range(repeats):
        for name, (version, options) in ways.items():
            out = folder / f'{repeat} {name}'
            clock, cpu = run(version, 'train_classifier', dataset, *options, '--out', out)
            taken[name].append((clock, cpu))
            test = json.loads((out / 'metrics.json').read_text(encoding='utf-8'))['test']['frames']
            low, high = test['wilson_95']
            print(f'{name:12} {clock:7.1f} s {cpu:7.1f} CPU s; right {test["correct"]} of '
                  f'{test["total"]} frames, {low:.1%} to {high:.1%}', flush=True)
    first, last = ([statistics.median(column) for column in zip(*rows, strict=True)]
                   for rows in (taken[[*ways][0]], taken[[*ways][-1]]))
    print(f'{[*ways][-1]} is {first[0] / last[0]:.2f} times as fast as {[*ways][0]} by the clock, '
          f'{first[1] / last[1]:.2f} times by CPU seconds')


def parts(name: str, frozen: int, size: int) -> None:
    """Print what the parts of a step of an architecture cost for 32 images, in fp32 and bf16."""
    from grasp_success_detector.inference.torch_network import fold_batch_norm, in_parts
    from grasp_success_detector.networks import architectures

    model = architectures.build(name).to(memory_format=torch.channels_last)
    architectures.freeze(model, name, frozen)
    trunk, rest = architectures.split_at_freeze(model.train(), name)
    folded, labels = fold_batch_norm(trunk), torch.arange(32) % 2
    images = torch.randn(32, 3, size, size).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        features = trunk(images)

    def cost(work: Callable[[], torch.Tensor], bf16: bool, learn: bool) -> float:
        began = time.process_time()
        with torch.autocast('cpu', torch.bfloat16, enabled=bf16):
            answer = work()
        if learn:
            torch.nn.functional.cross_entropy(answer.float(), labels).backward()
        return 1000 * (time.process_time() - began)

    for part, work, learn in (
            ('whole network, forward and back', lambda: model(images), True),
            ('frozen part', lambda: in_parts(folded, images), False),
            ('the rest, forward', lambda: rest(features), False),
            ('the rest, forward and back', lambda: rest(features), True)):
        best = [min(cost(work, bf16, learn) for _ in range(3)) for bf16 in (False, True)]
        table_row(f'{name} at {size} x {size}: {part}', *(f'{taken:.0f}' for taken in best))


def augmentation() -> float:
    """Return CPU milliseconds of all four changes of 32 images of 176 x 176 pixels."""
    from grasp_success_detector.training.augmentation import camera_augmentation
    from grasp_success_detector.training.recipe import Augmentation

    rng, change = np.random.default_rng(0), camera_augmentation(tuple(Augmentation))
    image = rng.integers(0, 256, (176, 176, 3), np.uint8)
    began = time.process_time()
    for _ in range(320):
        change(image, rng)
    return 100 * (time.process_time() - began)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--samples-per-class', type=int, default=1000, help='of resnet34')
    parser.add_argument('--repeats', type=int, default=2)
    parser.add_argument('--before', metavar='COMMIT', help='for the recipe of the default')
    parser.add_argument('--dataset', type=Path, help='of extract_frames, with all three splits')
    parser.add_argument('--parts', action='store_true')
    args = parser.parse_args()
    if args.parts:
        torch.set_num_threads(1)
        cv2.setNumThreads(1)
        table_head('CPU ms of one thread for 32 images', 'fp32', 'bf16')
        parts('resnet34', 25, 224)
        parts('efficientnet_lite0', 24, 176)
        print(f'\nAugmentation, all four changes: {augmentation():.0f} ms; {machine()}.')
        return
    if (args.before is None) != (args.dataset is None):
        parser.error('--before and --dataset go together')
    print(f'{platform.machine()}, {len(os.sched_getaffinity(0))} cores, load '
          f'{os.getloadavg()[0]:.1f}, torch {torch.__version__}, {torch.get_num_threads()} '
          'threads', flush=True)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if args.before is None:
            dataset = folder / 'dataset'
            run(ROOT, 'extract_frames', share_path(SAMPLE_BAG), '--split', '.5/.25/.25', '--out',
                dataset)
            options = (*ORIGINAL, '--samples-per-class', args.samples_per_class)
            print(f'resnet34, {args.samples_per_class} samples of each class', flush=True)
            compare({'plain loop': (ROOT, (*options, *PLAIN)), 'the recipe': (ROOT, options)},
                    dataset, folder, args.repeats)
            return
        earlier = stack.enter_context(earlier_version(args.before))
        dataset = args.dataset.resolve()
        manifest = (dataset / 'manifest.csv').read_text(encoding='utf-8')
        frames = sum(',train,' in line for line in manifest.splitlines())
        samples = round(SAMPLES_PER_FRAME * frames / 2)
        # That of the earlier version, which cannot read later files.
        weights = earlier / DEFAULT_CHECKPOINT
        options = (*SHIPPED, '--samples-per-class', samples, '--weights', weights)
        print(f'recipe of the default, {frames} training frames, {samples} samples of each class '
              'in an epoch', flush=True)
        compare({'before': (earlier, options), 'now': (ROOT, options)}, dataset, folder,
                args.repeats)


if __name__ == '__main__':
    main()
