"""simulate_grasps: record simulated Allegro grasp attempts, with ground truth, into a rosbag2."""

import argparse
from collections.abc import Sequence
from dataclasses import fields
import os
from pathlib import Path
import time

from rich.console import Console

from grasp_success_detector.console import command, ExitCode, progress_bar
from grasp_success_detector.errors import SimulationError

EPILOG = """\
examples:
  simulate_grasps bags/train --attempts 2000 --frames 8 --seed 1
      eight labelled frames of each of 2000 attempts, to train on
  simulate_grasps bags/video --attempts 6
      six attempts as a camera sees them, 15 frames/s, to play
  simulate_grasps bags/hard --preset random --storage sqlite3 --encoding raw
      any camera, light and colour; uncompressed images in a sqlite3 bag

The bag holds /camera/image_raw/compressed (or /camera/image_raw), the joint states, /ground_truth
(std_msgs/Bool, one for each labelled frame) and /attempt (begin and end of each attempt, JSON).
"""


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments, record, and say what came out."""
    args = _parser().parse_args(argv)
    try:
        from grasp_success_detector.simulation.recorder import record, Recording
    except ImportError as error:
        raise SimulationError(
            f'the simulation needs MuJoCo ({error}); pip install grasp_success_detector[sim]'
        ) from error
    recording = Recording(**{
        field.name: value for field in fields(Recording)
        if (value := getattr(args, field.name)) is not None})
    started = time.perf_counter()
    console = Console(stderr=True)
    with progress_bar(console) as progress:
        task = progress.add_task('simulating', total=recording.attempts)
        done = record(recording, args.out, args.jobs, lambda _: progress.advance(task))
    seconds = time.perf_counter() - started
    successes = sum(summary.success for summary in done)
    size = sum(file.stat().st_size for file in args.out.iterdir())
    print(f'{args.out}: {len(done)} simulated attempts, {successes} successes '
          f'({successes / len(done):.0%}), {sum(s.frames for s in done)} frames, '
          f'{sum(s.labelled for s in done)} of them labelled, {size / 1e6:.1f} MB, '
          f'{len(done) / seconds:.1f} attempts/s')
    return ExitCode.OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='simulate_grasps', description=__doc__.split(': ', 1)[1], epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('out', type=Path, help='the rosbag2 folder to make; it must not exist')
    # Defaults live in Recording alone: an option left out is not passed on.
    parser.add_argument('--attempts', type=int, help='how many attempts (100)')
    parser.add_argument('--seed', type=int, help='the same seed gives the same bag (0)')
    parser.add_argument('--first-attempt', type=int,
                        help='number of the first attempt; other numbers, other attempts (0)')
    parser.add_argument('--preset', help='rig: one fixed camera, small changes; random: any (rig)')
    parser.add_argument('--frames', type=int,
                        help='labelled frames per attempt (default: all frames at --fps)')
    parser.add_argument('--fps', type=float, help='frames per second (15)')
    parser.add_argument('--width', type=int, help='pixels (320)')
    parser.add_argument('--height', type=int, help='pixels (240)')
    parser.add_argument('--storage', help='mcap or sqlite3 (mcap)')
    parser.add_argument('--encoding', help='jpeg or raw images (jpeg)')
    parser.add_argument('--jobs', type=int, default=None,
                        help=f'processes (one per core: {os.cpu_count()})')
    return parser
