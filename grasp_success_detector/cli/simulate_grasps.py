"""simulate_grasps: record simulated Allegro grasp attempts, with ground truth, into a rosbag2."""

import argparse
from collections.abc import Sequence
from dataclasses import fields
import time

from grasp_success_detector.cli.arguments import add_worker_arguments
from grasp_success_detector.console import (
    command,
    command_parser,
    counted,
    ExitCode,
    needing,
    progress_bar,
    stderr_console,
)
from grasp_success_detector.recordings.remote_results import put_in_place
from grasp_success_detector.settings import add_options, given_options
from grasp_success_detector.simulation.presets import RecordingSettings

EPILOG = """\
examples:
  simulate_grasps bags/train --attempts 2000 --frames 8 --seed 1
      eight labelled frames of each of 2000 attempts, to train on
  simulate_grasps bags/video --attempts 6
      six attempts as a camera sees them, 15 frames/s, to play
  simulate_grasps bags/hard --preset random --storage sqlite3 --encoding raw
      any camera, light and colour; uncompressed images in a sqlite3 bag
  simulate_grasps bags/world --preset world --attempts 2000 --frames 6 --looks 3
      three pictures of each frame, each with another hand, arm, table, camera and light
  simulate_grasps bags/no_hand --without-hand --attempts 500 --frames 3
      other grippers in the place of the hand, for train_classifier --without-hand
  simulate_grasps /shared/bags/train --attempts 100000 --frames 8 --dask tcp://head:8786
      on a Dask cluster whose workers see /shared

The bag holds /camera/image_raw/compressed (or /camera/image_raw), the joint states, /ground_truth
(std_msgs/Bool, one for each labelled frame) and /attempt (begin and end of each attempt, JSON);
of the preset world /hand_box (sensor_msgs/RegionOfInterest) instead of the joints.

Stopped or killed at any time, also by a full disk, the same command goes on. The finished attempts
lie in the hidden folder .NAME.attempts beside the bag until it is complete.

exit codes: 0 recorded, 1 wrong value or place, 2 wrong option, 130 Ctrl-C
"""


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments, record the attempts, and print a summary."""
    args = _parser().parse_args(argv)
    settings = RecordingSettings(**given_options(RecordingSettings, args))
    with needing('sim', 'the simulation'):
        from grasp_success_detector.simulation.attempt_files import attempts_folder
        from grasp_success_detector.simulation.recorder import record
    started = time.perf_counter()
    with (put_in_place(args.out, 'metadata.yaml', dask=args.dask) as out,
          progress_bar(stderr_console(), 'attempts') as progress):
        task = progress.add_task('simulating', total=settings.attempts)
        try:
            done = record(settings, out, args.jobs, lambda _: progress.advance(task), args.dask)
        except KeyboardInterrupt:
            if attempts_folder(out).exists():
                print(f'{args.out}: the same command goes on after the attempts that are recorded')
            raise
        size = sum(file.stat().st_size for file in out.iterdir())
    seconds = time.perf_counter() - started
    successes = sum(summary.success for summary in done)
    print(f'{args.out}: {counted(len(done), "simulated attempt")}, {successes} successful '
          f'({successes / len(done):.0%}), {sum(s.frames for s in done)} frames, '
          f'{sum(s.labelled for s in done)} of them labelled, {size / 1e6:.1f} MB, '
          f'{len(done) / seconds:.1f} attempts/s')
    if short := sum(s.labelled < (settings.frames or 0) * settings.looks for s in done
                    if not settings.without_hand):
        print(f'{counted(short, "attempt")} had fewer frames than --frames {settings.frames}')
    return ExitCode.OK


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__, EPILOG)
    parser.add_argument('out', help='the rosbag2 folder to make, or its address (s3://...); it '
                        'must not exist')
    add_options(parser, RecordingSettings, *(field.name for field in fields(RecordingSettings)))
    add_worker_arguments(parser.add_argument_group('work'))
    return parser


if __name__ == '__main__':
    raise SystemExit(main(None))
