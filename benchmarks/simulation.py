"""
Time simulate_grasps against an earlier version of itself, on the same attempts in one run.

Both versions take turns, each as a process of its own whose start counts; their bags must hold the
same messages. CPU seconds, of all processes and threads, are less disturbed by what else runs on
the machine than the time on the clock.

    python benchmarks/simulation.py --before 4e78830
    python benchmarks/simulation.py --before 4e78830 --attempts 200 --jobs 4
"""

import argparse
import os
from pathlib import Path
import platform
import statistics
import tempfile

from versions import earlier_version, ROOT, run

from grasp_success_detector.recordings.bags import open_bag

CASES = {'rig, 8 frames': ('--preset', 'rig', '--frames', '8'),
         'random, 8 frames': ('--preset', 'random', '--frames', '8'),
         'rig, 2 frames': ('--preset', 'rig', '--frames', '2'),
         'rig, 15 frames/s': ('--preset', 'rig')}


def messages(bag: Path) -> list[tuple[str, int, bytes]]:
    with open_bag(bag) as reader:
        return [(connection.topic, stamp, bytes(data))
                for connection, stamp, data in reader.messages()]


def compare(case: str, versions: dict[str, Path], folder: Path, options: tuple[str, ...],
            attempts: int, repeats: int) -> None:
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in versions}
    for turn in range(repeats):
        seed = ('--seed', str(turn), '--attempts', str(attempts))
        bags = {name: folder / f'{case}-{turn}-{name}'.replace('/', ' per ') for name in versions}
        for name, version in versions.items():
            taken[name].append(run(version, 'simulate_grasps', bags[name], *options, *seed))
        before, after = map(messages, bags.values())
        assert before == after, f'{case}: the versions give different bags'
    rates = {name: attempts / statistics.median(clock for clock, _ in rows)
             for name, rows in taken.items()}
    ratios = [sorted(old[i] / new[i] for old, new in zip(*taken.values(), strict=True))
              for i in range(2)]
    work = [statistics.median(cpu for _, cpu in rows) / attempts for rows in taken.values()]
    print(f'{case:18}{rates["before"]:8.2f}{rates["now"]:8.2f} attempts/s, '
          f'{statistics.median(ratios[0]):.2f} times ({ratios[0][0]:.2f} to {ratios[0][-1]:.2f}); '
          f'{work[0]:.2f} and {work[1]:.2f} CPU s per attempt, '
          f'{statistics.median(ratios[1]):.2f} times ({ratios[1][0]:.2f} to {ratios[1][-1]:.2f}); '
          'the same messages', flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--before', required=True, metavar='COMMIT')
    parser.add_argument('--attempts', type=int, default=40)
    parser.add_argument('--jobs', type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument('--repeats', type=int, default=3)
    parser.add_argument('--cases', nargs='+', choices=CASES, default=[*CASES])
    args = parser.parse_args()
    print(f'{platform.machine()}, {len(os.sched_getaffinity(0))} cores, '
          f'load {os.getloadavg()[0]:.1f}; {args.attempts} attempts, {args.jobs} processes, '
          f'median of {args.repeats} pairs', flush=True)
    with tempfile.TemporaryDirectory() as folder, earlier_version(args.before) as earlier:
        for case in args.cases:
            compare(case, {'before': earlier, 'now': ROOT}, Path(folder),
                    (*CASES[case], '--jobs', str(args.jobs)), args.attempts, args.repeats)


if __name__ == '__main__':
    main()
