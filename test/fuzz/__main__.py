"""
fuzz: damage good files and give them to the parsers, for as long as told.

Run by ``make fuzz``. Each process prints its seed; inputs that fail are kept as files, which
--replay checks again. Nothing but the package's own errors may be raised, a case may take 1 s of
CPU time, memory may not grow, and no damaged picture of a failed attempt may become a SUCCESS.
"""

import argparse
from collections import Counter
import json
import multiprocessing
from pathlib import Path
from random import Random
import sys

from fuzz.loop import check, work
from fuzz.targets import targets

#: Seconds after the end by which a process has ended, unless it hangs.
_HANGS_S = 120


def replay(path: Path) -> int:
    """Check a kept input again, and print what is wrong with it."""
    name = path.name.rpartition('-')[0]
    target = next(target for target in targets() if target.name == name)
    fault = check(target, path.read_bytes())
    print(f'{path}: {fault or "nothing is wrong with it"}')
    return int(bool(fault))


def main() -> int:
    """Parse the options, run the processes, and print the counts."""
    parser = argparse.ArgumentParser(
        'python -m fuzz', description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--minutes', type=float, default=60.)
    parser.add_argument('--jobs', type=int, default=2, help='processes (2)')
    parser.add_argument('--seed', type=int, help='of an earlier run (a new one)')
    parser.add_argument('--target', action='append', help='only this one; may be repeated')
    parser.add_argument('--judged', type=int, default=8, metavar='N',
                        help='pictures per round that the default checkpoint judges (8)')
    parser.add_argument('--failures', type=Path, default=Path('fuzz-failures'), metavar='FOLDER',
                        help='for inputs that fail (fuzz-failures)')
    parser.add_argument('--replay', type=Path, metavar='FILE', help='check a kept input again')
    parser.add_argument('--verbose', action='store_true', help='print what decoders print')
    options = parser.parse_args()
    if options.replay:
        return replay(options.replay)
    options.failures.mkdir(parents=True, exist_ok=True)
    seed = options.seed if options.seed is not None else Random().getrandbits(32)
    print(f'seed {seed}: {options.minutes:g} minutes in {options.jobs} processes; --seed {seed} '
          'repeats the inputs', flush=True)
    spawn = multiprocessing.get_context('spawn')
    workers = [spawn.Process(target=work, args=(number, seed, options))
               for number in range(options.jobs)]
    for worker in workers:
        worker.start()
    codes = []
    for worker in workers:
        worker.join(60 * options.minutes + _HANGS_S)
        if worker.exitcode is None:
            worker.kill()
            worker.join()
        codes.append(worker.exitcode)
        if worker.exitcode not in (0, 1):
            print(f'a process ended with {worker.exitcode}: it crashed or hung')
    total: Counter[str] = Counter()
    for number in range(options.jobs):
        state = json.loads((options.failures / f'process-{number}.json').read_text('utf-8'))
        total += Counter(state['counts'])
        print(f'process {number}: {state["resident_mb"]} MB, {state["warm_mb"]} MB after the '
              f'first rounds; {state["failures"]} failures; {state["cpu_s"]} s of CPU time')
    images = {target.name for target in targets() if target.images}
    print(f'{sum(total[name] for name in images)} images, '
          f'{sum(n for name, n in total.items() if name not in images and "judged" not in name)} '
          f'files, {total["judged"]} damaged pictures of failed attempts judged: {dict(total)}')
    return int(any(codes))


if __name__ == '__main__':
    sys.exit(main())
