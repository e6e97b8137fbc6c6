"""
Time from the start of a node's process to its first decided verdict, frames coming all the while.

Each engine starts twice; the second time OpenVINO's conversion comes from the cache. Needs ROS 2.

    python benchmarks/startup.py models/efficientnet_lite0_rig.safetensors
"""

import argparse
import json
import os
from pathlib import Path
import tempfile

from contestants import (
    CONTESTANTS,
    in_own_process,
    keep,
    machine,
    sample_jpegs,
    table_head,
    table_row,
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('checkpoints', type=Path, nargs='+')
    parser.add_argument('--engines', nargs='+', choices=CONTESTANTS, default=CONTESTANTS)
    parser.add_argument('--json', type=Path, help='file for what was measured')
    parser.add_argument('--alone', action='store_true', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.alone:
        from watched_node import watched

        jpeg, = sample_jpegs(1)
        with watched(args.engines[0], args.checkpoints[0]) as node:
            print(json.dumps((node.wait_for_first(jpeg), node.memory_mb().resident)))
        return
    os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    rows = []
    table_head('checkpoint', 'engine', 'first start s', 'next start s', 'resident MB first',
               'resident MB next')
    for checkpoint in args.checkpoints:
        for contestant in args.engines:
            with tempfile.TemporaryDirectory() as cache:
                os.environ['XDG_CACHE_HOME'] = cache
                runs = [in_own_process(__file__, checkpoint, '--alone', '--engines', contestant)
                        for _ in range(2)]
            if None in runs:
                continue
            (first, first_mb), (then, then_mb) = (json.loads(run or '') for run in runs)
            rows.append({'checkpoint': checkpoint.stem, 'engine': contestant, 'first_s': first,
                         'next_s': then, 'first_mb': first_mb, 'next_mb': then_mb})
            table_row(checkpoint.stem, contestant, f'{first:.1f}', f'{then:.1f}',
                      f'{first_mb:.0f}', f'{then_mb:.0f}')
    print(f'\n{machine()}.')
    keep(args.json, rows)


if __name__ == '__main__':
    main()
