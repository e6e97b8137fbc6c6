"""The loop of one fuzzing process, and what it checks of each case."""

import argparse
from collections import Counter
import faulthandler
import hashlib
import json
import os
from pathlib import Path
from random import Random
import sys
import time
import traceback

from fuzz.edits import apply, draw
from fuzz.targets import folder, MAX_CASE_S, Target, targets
from fuzz.verdicts import FailureStream

#: Cases of one target in a row, pictures and files; the files are read through the disk's cache.
_IMAGES_IN_A_ROW, _FILES_IN_A_ROW = 4000, 20
_WARM_UP = 2
#: Growth of the resident memory over a whole run that is not the allocator's.
_MAX_GROWTH = 96 << 20


def resident() -> int:
    """Return the resident memory of this process, in bytes."""
    return int(Path('/proc/self/statm').read_text(encoding='ascii').split()[1]) * os.sysconf(
        'SC_PAGESIZE')


def check(target: Target, data: bytes) -> str:
    """Check one case; return what is wrong with it, '' if nothing is."""
    started = time.process_time()
    try:
        target.run(data)
    except Exception:  # noqa: BLE001 any error that is not the package's own is what is sought
        return traceback.format_exc()
    seconds = time.process_time() - started
    return '' if seconds <= MAX_CASE_S else f'took {seconds:.2f} s of CPU time'


def work(number: int, seed: int, options: argparse.Namespace) -> None:
    """Fuzz in one process until the time is over, and write its counts."""
    faulthandler.enable()
    if not options.verbose:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)    # libjpeg prints each damage
    random, counts, failures = Random(f'{seed}/{number}'), Counter(), 0
    chosen = [target for target in targets()
              if not options.target or target.name in options.target]
    stream = None if options.target else FailureStream()
    contents = {target.name: [path.read_bytes() for path in target.seeds] for target in chosen}
    for target in chosen:   # loads what the parsers import, which is no part of a case's time
        for data in contents[target.name]:
            target.run(data)
    current = folder() / 'current'
    end, rounds, warm = time.monotonic() + 60 * options.minutes, 0, 0
    while time.monotonic() < end:
        for target in chosen:
            for _ in range(_IMAGES_IN_A_ROW if target.images else _FILES_IN_A_ROW):
                data = apply(random.choice(contents[target.name]), draw(random))
                current.write_bytes(data)
                counts[target.name] += 1
                if fault := check(target, data):
                    failures += 1
                    keep(options.failures, target.name, data, fault)
        if stream is not None:
            for data, fault in stream.run(random, options.judged, counts):
                failures += 1
                keep(options.failures, 'failure', data, fault)
        rounds += 1
        if rounds == _WARM_UP:
            warm = resident()
        state = {'process': number, 'seed': seed, 'counts': counts, 'failures': failures,
                 'resident_mb': resident() >> 20, 'warm_mb': warm >> 20,
                 'cpu_s': round(time.process_time())}
        (options.failures / f'process-{number}.json').write_text(
            json.dumps(state), encoding='utf-8')
    grown = resident() - warm if warm else 0
    if grown > _MAX_GROWTH:
        keep(options.failures, 'memory', b'', f'grew by {grown >> 20} MB')
        failures += 1
    sys.exit(failures > 0)


def keep(out: Path, name: str, data: bytes, fault: str) -> None:
    """Write an input that fails, and what is wrong with it."""
    path = out / f'{name}-{hashlib.sha256(data).hexdigest()[:12]}'
    path.write_bytes(data)
    path.with_name(path.name + '.txt').write_text(fault, encoding='utf-8', errors='replace')
