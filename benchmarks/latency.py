"""
Time from a frame's publication to its verdict, over DDS, for each engine and for a baseline.

Each contestant is a node in a process of its own; frames are 640 x 480 jpegs. First the next frame
follows when the last is answered, then a camera films at a steady rate, whatever the node can do.
What counts are the ratios within one run. Needs ROS 2.

    python benchmarks/latency.py models/*_rig.safetensors
    python benchmarks/latency.py resnet34.safetensors --frames 500 --engines baseline openvino-bf16
    python benchmarks/latency.py models/efficientnet_lite0_rig.safetensors --rates 60 --busy 2
"""

import argparse
import json
import os
from pathlib import Path
import shlex
import subprocess
import sys
from typing import Any

from contestants import (
    BASELINE,
    CONTESTANTS,
    in_own_process,
    keep,
    machine,
    sample_jpegs,
    table_head,
    table_row,
)
import numpy as np


def measure(contestant: str, checkpoint: Path, args: argparse.Namespace) -> dict[str, Any]:
    from watched_node import watched

    jpegs = sample_jpegs(100)
    with watched(contestant, checkpoint, args.python, prefix=shlex.split(args.prefix)) as node:
        node.wait_for_first(jpegs[0])
        for jpeg in jpegs[:10]:
            node.ask(jpeg)
        before = node.cpu_seconds()
        taken = []
        for i in range(args.frames):
            taken.append(1000 * node.ask(jpegs[i % len(jpegs)]))
            node.rest(.01)
        cpu = 1000 * (node.cpu_seconds() - before) / args.frames
        p50, p95, p99 = np.percentile(taken, (50, 95, 99))
        found = {'p50': p50, 'p95': p95, 'p99': p99, 'cpu': cpu, 'mb': node.memory_mb().resident,
                 'filmed': []}
        for rate in args.rates:
            loops = [subprocess.Popen([sys.executable, '-c', 'while True: pass'])
                     for _ in range(args.busy)]
            try:
                _, answered = node.film(jpegs, rate, args.seconds)
            finally:
                for loop in loops:
                    loop.kill()
                    loop.wait()
            p50, p99 = np.percentile(list(answered.values()), (50, 99)) * 1000
            published = round(rate * args.seconds)
            found['filmed'].append({
                'rate': rate, 'answered_hz': len(answered) / args.seconds, 'p50': p50, 'p99': p99,
                'unanswered': published - len(answered), 'published': published})
        return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('checkpoints', type=Path, nargs='+')
    parser.add_argument('--frames', type=int, default=300, help='one after the other (300)')
    parser.add_argument('--rates', type=float, nargs='*', default=[60., 30.], metavar='HZ',
                        help='of the camera that films steadily (60 30)')
    parser.add_argument('--seconds', type=float, default=10., help='for each rate (10)')
    parser.add_argument('--busy', type=int, default=0, metavar='N',
                        help='endless loops that run beside the camera (0)')
    parser.add_argument('--engines', nargs='+', choices=CONTESTANTS, default=CONTESTANTS)
    parser.add_argument('--python', default=sys.executable,
                        help='that runs the nodes, such as .cache/bare/python (this one)')
    parser.add_argument('--prefix', default='', metavar='COMMAND',
                        help="before the nodes' commands, such as 'nice -n -20' (none)")
    parser.add_argument('--json', type=Path, help='file for what was measured')
    parser.add_argument('--alone', action='store_true', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.alone:
        print(json.dumps(measure(args.engines[0], args.checkpoints[0], args)))
        return
    os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    rows = []
    table_head('checkpoint', 'engine', 'p50 ms', 'p95 ms', 'p99 ms', 'CPU ms per frame',
               'resident MB', f'{BASELINE} p50 / p50')
    for checkpoint in args.checkpoints:
        base = None
        for contestant in args.engines:
            out = in_own_process(
                __file__, checkpoint, '--alone', '--frames', args.frames, '--seconds',
                args.seconds, '--engines', contestant, '--busy', args.busy, '--python',
                args.python, '--prefix', args.prefix, '--rates', *args.rates)
            if out is None:
                continue
            m = json.loads(out)
            base = m['p50'] if contestant == BASELINE else base
            m['ratio'] = base / m['p50'] if base else None
            rows.append({'checkpoint': checkpoint.stem, 'engine': contestant, **m})
            table_row(checkpoint.stem, contestant, f'{m["p50"]:.1f}', f'{m["p95"]:.1f}',
                      f'{m["p99"]:.1f}', f'{m["cpu"]:.1f}', f'{m["mb"]:.0f}',
                      f'{m["ratio"]:.1f}' if base else '')
    if args.rates:
        print()
        table_head('checkpoint', 'engine', 'camera frames/s', 'answered frames/s', 'unanswered',
                   'p50 ms', 'p99 ms', 'p99 in frame periods')
    for row in rows:
        for film in row['filmed']:
            table_row(row['checkpoint'], row['engine'], f'{film["rate"]:.0f}',
                      f'{film["answered_hz"]:.1f}',
                      f'{film["unanswered"]} of {film["published"]}', f'{film["p50"]:.1f}',
                      f'{film["p99"]:.1f}', f'{film["p99"] * film["rate"] / 1000:.2f}')
    print(f'\n{args.frames} frames one after the other, {args.seconds:.0f} s at each rate'
          f'{f" beside {args.busy} endless loops" if args.busy else ""}'
          f'{f", nodes started by {args.prefix}" if args.prefix else ""}; '
          f'{machine()}.')
    keep(args.json, rows)


if __name__ == '__main__':
    main()
