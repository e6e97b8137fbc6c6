"""
Memory and CPU of a node by state and engine, and of the baseline's.

Each node is a process of its own; frames are 640 x 480 jpegs. `resident` (Rss) is all that the
process holds in memory; in `proportional` (Pss) a page that several processes hold counts only as
its part; `own` (Private_Dirty) is what it has written itself, which it shares with no other
process and which cannot be read from a file again: the rest is pages of libraries. `peak` (VmHWM)
is the most that was resident so far. CPU is of one core. The baseline's node has no states: it
judges from its start. Needs ROS 2.

    python benchmarks/node_cost.py models/efficientnet_lite0_rig.safetensors
    python benchmarks/node_cost.py MODEL.safetensors --engines opencv-fp32 --python bare/python
"""

import argparse
from collections.abc import Iterator
import json
import os
from pathlib import Path
import sys
from typing import Any, NamedTuple, TYPE_CHECKING

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

if TYPE_CHECKING:
    from watched_node import WatchedNode

#: Until what a state needs is there, before it is measured.
SETTLE_S = 1.5


class Cost(NamedTuple):
    """What a node costs in one state: MB of memory, and percent of one core."""

    state: str
    resident_mb: float
    proportional_mb: float
    own_mb: float
    peak_mb: float
    cpu: float
    answered_hz: float | None = None


def measure(contestant: str, checkpoint: Path, args: argparse.Namespace) -> Iterator[Cost]:
    from lifecycle_msgs.msg import Transition
    from watched_node import watched

    jpegs = sample_jpegs(100)
    with watched(contestant, checkpoint, args.python, autostart=False) as node:
        if contestant == BASELINE:
            node.wait_for_first(jpegs[0])
            yield at_rest(node, 'active, no frames', args.seconds)
        else:
            yield at_rest(node, 'unconfigured', args.seconds)
            node.change_state(Transition.TRANSITION_CONFIGURE)
            yield at_rest(node, 'inactive', args.seconds)
            node.change_state(Transition.TRANSITION_ACTIVATE)
            yield at_rest(node, 'active, no frames', args.seconds)
            if args.rates:
                node.wait_for_first(jpegs[0])
        for rate in args.rates:
            taken, answered = node.film(jpegs, rate, args.seconds)
            yield Cost(f'{rate:g} frames/s', *node.memory_mb(), taken,
                       len(answered) / args.seconds)


def at_rest(node: 'WatchedNode', state: str, seconds: float) -> Cost:
    node.rest(SETTLE_S)
    before = node.cpu_seconds()
    node.rest(seconds)
    return Cost(state, *node.memory_mb(), 100 * (node.cpu_seconds() - before) / seconds)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('checkpoints', type=Path, nargs='+')
    parser.add_argument('--engines', nargs='+', choices=CONTESTANTS, default=CONTESTANTS)
    parser.add_argument('--python', default=sys.executable,
                        help='that runs the nodes, such as .cache/bare/python (this one)')
    parser.add_argument('--rates', type=float, nargs='*', default=[15., 30., 60.], metavar='HZ',
                        help='of the camera (15 30 60)')
    parser.add_argument('--seconds', type=float, default=10., help='for each state (10)')
    parser.add_argument('--json', type=Path, help='file for what was measured')
    parser.add_argument('--alone', action='store_true', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.alone:
        print(json.dumps([cost._asdict() for cost in measure(
            args.engines[0], args.checkpoints[0], args)]))
        return
    os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    rows: list[dict[str, Any]] = []
    table_head('checkpoint', 'engine', 'state', 'resident MB', 'proportional MB', 'own MB',
               'peak MB', 'CPU %', 'answered frames/s')
    for checkpoint in args.checkpoints:
        for contestant in args.engines:
            out = in_own_process(__file__, checkpoint, '--alone', '--seconds', args.seconds,
                                 '--engines', contestant, '--python', args.python, '--rates',
                                 *args.rates)
            for found in json.loads(out) if out else ():
                cost = Cost(**found)
                rows.append({'checkpoint': checkpoint.stem, 'engine': contestant, **found})
                table_row(checkpoint.stem, contestant, cost.state, f'{cost.resident_mb:.0f}',
                          f'{cost.proportional_mb:.0f}', f'{cost.own_mb:.0f}',
                          f'{cost.peak_mb:.0f}', f'{cost.cpu:.1f}',
                          '' if cost.answered_hz is None else f'{cost.answered_hz:.1f}')
    print(f'\n{args.seconds:g} s in each state; {machine()}.')
    keep(args.json, rows)


if __name__ == '__main__':
    main()
