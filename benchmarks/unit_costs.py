"""
Measure what one attempt and one frame cost, and print what many of them cost.

Each command runs on a small and on a larger input; the difference of CPU seconds, of all processes
and threads, by the difference of items is the cost of one item, without the start. CPU seconds
hardly depend on what else runs on the machine. The table multiplies these costs.

    python benchmarks/unit_costs.py
"""

import argparse
from collections.abc import Callable
import os
from pathlib import Path
import platform
import resource
import subprocess
import sys
import tempfile

FRAMES = 8      # of each attempt
COUNTS = (1_000, 1_000_000, 100_000_000)


def run(command: str, *arguments: object) -> float:
    """Run a command of the package, and return its CPU seconds."""
    def worked() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    before = worked()
    subprocess.run(
        [sys.executable, '-m', f'grasp_success_detector.cli.{command}', *map(str, arguments)],
        check=True, stdout=subprocess.DEVNULL)
    return worked() - before


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob('*') if path.is_file())


def cost(command: Callable[[int], float], small: int, large: int) -> float:
    """Return the CPU seconds of one item more."""
    return (command(large) - command(small)) / (large - small)


def bytes_text(count: float) -> str:
    for unit in ('B', 'kB', 'MB', 'GB', 'TB'):
        if count < 1000 or unit == 'TB':
            break
        count /= 1000
    return f'{count:.3g} {unit}'


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--small', type=int, default=10, help='attempts')
    parser.add_argument('--large', type=int, default=60, help='attempts')
    parser.add_argument('--checkpoint', default='efficientnet_lite0_rig')
    args = parser.parse_args()
    small, large = args.small, args.large
    print(f'{platform.machine()}, {len(os.sched_getaffinity(0))} cores; attempts of {FRAMES} '
          f'frames of 320 x 240; {args.checkpoint}')
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        jobs = ('--jobs', 2)
        simulate = cost(lambda n: run(
            'simulate_grasps', folder / f'bag{n}', '--attempts', n, '--frames', FRAMES, *jobs),
            small, large)
        raw = cost(lambda n: run(
            'simulate_grasps', folder / f'raw{n}', '--attempts', n, '--frames', FRAMES,
            '--encoding', 'raw', *jobs), small, large)
        frames = [FRAMES * n for n in (small, large)]
        rows = [('simulate_grasps', 'attempts', simulate,
                 size_of(folder / f'bag{large}') / large)]
        for title, bag in (('extract_frames, jpeg copied', 'bag'),
                           ('extract_frames, raw to jpeg', 'raw')):
            seconds = cost(lambda n, bag=bag: run(
                'extract_frames', folder / f'{bag}{n // FRAMES}', '--out',
                folder / f'{bag}-set{n}', *jobs), *frames)
            rows.append((title, 'frames', seconds,
                         size_of(folder / f'{bag}-set{frames[1]}') / frames[1]))
        rows.append(('inspect_dataset', 'frames', cost(lambda n: run(
            'inspect_dataset', folder / f'bag-set{n}', '--out', folder / f'page{n}', *jobs),
            *frames), 0.))
        rows.append(('evaluate_classifier', 'frames', cost(lambda n: run(
            'evaluate_classifier', args.checkpoint, folder / f'bag{n // FRAMES}', '--out',
            folder / f'judged{n}', '--timelines', 0, *jobs), *frames),
            size_of(folder / f'judged{frames[1]}') / frames[1]))
    print(f'(simulating raw frames instead: {raw:.3f} CPU s per attempt)')
    print(f'| command | of one item | {" | ".join(f"{n:,}" for n in COUNTS)} |')
    for title, what, seconds, size in rows:
        many = ' | '.join(f'{n * seconds / 3600:,.3g} core hours, {bytes_text(n * size)}'
                          for n in COUNTS)
        print(f'| {title} ({what}) | {seconds * 1e3:.1f} ms, {bytes_text(size)} | {many} |')


if __name__ == '__main__':
    main()
