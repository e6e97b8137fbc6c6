"""
Let a Dask cluster of 32 in-process workers do the bookkeeping of many tasks, with fake work.

The tasks sleep instead of simulating or judging, so that one machine holds a cluster that is far
wider than its cores; what runs for real is the way from ``Workers.run`` through scheduler and
workers and back. During the run workers are lost and others join. Reported are tasks per second,
the memory of the process (client, scheduler and workers together), and whether each task was
yielded exactly once.

    python benchmarks/cluster.py                    20,000 tasks
    python benchmarks/cluster.py --tasks 100000 --work-ms 0
"""

import argparse
from collections import Counter, deque
from functools import partial
import logging
import os
from pathlib import Path
import platform
import random
import time

import dask
from distributed import LocalCluster

from grasp_success_detector.datasets.workers import open_workers


def fake_work(number: int, seconds: float, settings: bytes) -> tuple[int, bytes]:
    """Take as long as a task, and return about as much as a summary of an attempt."""
    time.sleep(random.Random(number).uniform(.5, 1.5) * seconds)
    return number, settings[:64]


def memory_mb() -> float:
    pages = int(Path('/proc/self/statm').read_text(encoding='ascii').split()[1])
    return pages * os.sysconf('SC_PAGE_SIZE') / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--workers', type=int, default=32)
    parser.add_argument('--tasks', type=int, default=20_000)
    parser.add_argument('--work-ms', type=float, default=50., help='of one task, in the mean')
    parser.add_argument('--lose', type=int, default=4, help='workers that are lost, then replaced')
    args = parser.parse_args()
    logging.disable()     # workers that are lost are no news
    # In one process 32 workers would sample 32 times what all of them do, every 10 ms.
    dask.config.set({'distributed.worker.profile.enabled': False,
                     'distributed.admin.system-monitor.interval': '10 s'})
    with LocalCluster(args.workers, threads_per_worker=1, processes=False,
                      dashboard_address=':0') as cluster:
        print(f'{platform.machine()}, {len(os.sched_getaffinity(0))} cores, '
              f'load {os.getloadavg()[0]:.1f}; {args.workers} workers in one process, '
              f'{args.tasks} tasks of {args.work_ms:g} ms')
        seen: Counter[int] = Counter()
        idle = memory_mb()
        held = most = 0
        started, worked = time.perf_counter(), time.process_time()
        with open_workers(dask=cluster.scheduler_address) as workers:
            tasks = deque(partial(fake_work, number, args.work_ms / 1e3, bytes(500))
                          for number in range(args.tasks))
            listed = memory_mb() - idle
            for _, (number, _) in workers.run(tasks):
                seen[number] += 1
                done = len(seen)
                if args.lose and done == args.tasks // 3:
                    cluster.scale(args.workers - args.lose)
                if args.lose and done == 2 * args.tasks // 3:
                    cluster.scale(args.workers)
                if done % 500 == 0:
                    held = max(held, len(cluster.scheduler.tasks))
                    most = max(most, memory_mb())
        seconds, cpu = time.perf_counter() - started, time.process_time() - worked
        ideal = args.tasks * args.work_ms / 1e3 / args.workers
        assert len(seen) == args.tasks and set(seen.values()) == {1}
        print(f'each task was yielded once; {args.tasks / seconds:.0f} tasks/s, '
              f'{ideal / seconds:.0%} of the time of the workers was work, '
              f'{cpu / args.tasks * 1e3:.2f} ms of CPU per task for the bookkeeping')
        print(f'the scheduler held {held} tasks at most; memory {idle:.0f} MB before, '
              f'{most:.0f} MB at most, {listed * 1e3 / args.tasks:.2f} kB per waiting task '
              'in the command')


if __name__ == '__main__':
    main()
