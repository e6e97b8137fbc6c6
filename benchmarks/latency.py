"""
Time from a frame's publication to its verdict, over DDS, for each engine and for a baseline.

Each contestant is a node in a process of its own; frames are 640 x 480 jpegs, the next one follows
when the last is answered. What counts are the ratios within one run. Needs ROS 2.

    python benchmarks/latency.py models/*_rig.safetensors
    python benchmarks/latency.py resnet34.safetensors --frames 500 --engines baseline openvino-bf16
"""

import argparse
import json
import os
from pathlib import Path
import sys

from contestants import BASELINE, CONTESTANTS, in_own_process, machine, sample_jpegs
import numpy as np


def measure(contestant: str, checkpoint: Path, frames: int) -> dict[str, float]:
    from watched_node import watched

    jpegs = sample_jpegs(min(frames, 100))
    with watched(contestant, checkpoint) as node:
        node.wait_for_first(jpegs[0])
        for jpeg in jpegs[:10]:
            node.ask(jpeg)
        before = node.cpu_seconds()
        taken = []
        for i in range(frames):
            taken.append(1000 * node.ask(jpegs[i % len(jpegs)]))
            node.rest(.01)
        cpu = 1000 * (node.cpu_seconds() - before) / frames
        p50, p95, p99 = np.percentile(taken, (50, 95, 99))
        return {'p50': p50, 'p95': p95, 'p99': p99, 'cpu': cpu, 'mb': node.resident_mb()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('checkpoints', type=Path, nargs='+')
    parser.add_argument('--frames', type=int, default=300)
    parser.add_argument('--engines', nargs='+', choices=CONTESTANTS, default=CONTESTANTS)
    parser.add_argument('--alone', action='store_true', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.alone:
        print(json.dumps(measure(args.engines[0], args.checkpoints[0], args.frames)))
        return
    os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    print('| checkpoint | engine | p50 ms | p95 ms | p99 ms | CPU ms per frame | resident MB | '
          f'{BASELINE} p50 / p50 |\n' + '| --- ' * 8 + '|')
    for checkpoint in args.checkpoints:
        base = None
        for contestant in args.engines:
            out = in_own_process(__file__, checkpoint, '--alone', '--frames', args.frames,
                                 '--engines', contestant)
            if out is None:
                continue
            m = json.loads(out)
            base = m['p50'] if contestant == BASELINE else base
            ratio = f'{base / m["p50"]:.1f}' if base else ''
            print(f'| {checkpoint.stem} | {contestant} | {m["p50"]:.1f} | {m["p95"]:.1f} | '
                  f'{m["p99"]:.1f} | {m["cpu"]:.1f} | {m["mb"]:.0f} | {ratio} |', flush=True)
    print(f'\n{args.frames} frames each; {machine()}. {" ".join(sys.argv)}')


if __name__ == '__main__':
    main()
