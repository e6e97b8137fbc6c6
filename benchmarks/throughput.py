"""
Frames per second from jpeg to P(success), for each engine and for a baseline, without ROS.

Each contestant runs in a process of its own, on batches of 32 jpegs of 640 x 480 pixels in memory.
Beside it stands what share of the processor's GEMM speed the network alone reaches, one frame at a
time: the best matrix product in the same precision, measured right after it in the same process
and with as many threads. Every convolution counts as it is written: an algorithm that needs fewer
operations (Winograd) may pass 100 %.

    python benchmarks/throughput.py models/*_rig.safetensors
"""

import argparse
from collections.abc import Callable
from functools import partial
import json
from pathlib import Path
import time

from contestants import (
    BASELINE,
    CONTESTANTS,
    from_jpegs,
    in_own_process,
    keep,
    machine,
    sample_jpegs,
    table_head,
    table_row,
)
import numpy as np
import torch

from grasp_success_detector.inference.classifier import GraspClassifier
from grasp_success_detector.networks.checkpoint import Checkpoint

_BATCH = 32


def measure(contestant: str, checkpoint: Path, seconds: float) -> dict[str, float]:
    """Return frames per second, and milliseconds of the network alone, frame by frame."""
    predict = from_jpegs(contestant, checkpoint)
    jpegs = sample_jpegs(_BATCH)
    predict(jpegs)
    done, began = 0, time.perf_counter()
    while (taken := time.perf_counter() - began) < seconds:
        predict(jpegs)
        done += _BATCH
    found = {'fps': done / taken}
    if contestant != BASELINE:
        engine, precision = contestant.split('-')
        network = GraspClassifier.from_checkpoint(
            checkpoint, 'cpu', engine=engine, precision=precision).engine
        size = Checkpoint.open(checkpoint).metadata.preprocessing
        image = np.zeros((1, size.height, size.width, 3), np.uint8)
        found['network_ms'] = 1000 * best(lambda: network.logits(image), 2.)
        found['gemm_gflops'] = gemm(precision)
    return found


def gemm(precision: str) -> float:
    """
    Return the best GFLOP/s of a matrix product in this precision, sizes 512 to 2048.

    All are oneDNN's: torch.mm in fp32 is MKL's, which uses less than half of an AMD processor.
    """
    best_speed = 0.
    for size in (512, 1024, 2048):
        a, b = torch.randn(2, size, size).unbind()
        if precision == 'int8':
            a, b = (x.mul(30).clamp(-128, 127).to(torch.int8) for x in (a, b))
            product = partial(torch._int_mm, a, b)
        elif precision == 'bf16':
            product = partial(torch.mm, a.bfloat16(), b.bfloat16())
        else:
            product = partial(torch._C._nn.mkldnn_linear, a.to_mkldnn(), b.to_mkldnn())
        with torch.inference_mode():
            best_speed = max(best_speed, 2 * size ** 3 / best(product, 1.) / 1e9)
    return best_speed


def gflop(checkpoint: Path) -> float:
    """Return what the network computes for one frame, a multiplication with addition as two."""
    from torch.utils.flop_counter import FlopCounterMode

    loaded = Checkpoint.open(checkpoint)
    size = loaded.metadata.preprocessing
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        loaded.model(torch.zeros(1, 3, size.height, size.width))
    return counter.get_total_flops() / 1e9


def best(run: Callable[[], object], seconds: float) -> float:
    """Return the seconds of the fastest run: a busy machine only ever adds."""
    taken, until = [], time.perf_counter() + seconds
    while (began := time.perf_counter()) < until or not taken:
        run()
        taken.append(time.perf_counter() - began)
    return min(taken)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('checkpoints', type=Path, nargs='+')
    parser.add_argument('--seconds', type=float, default=5., help='for each engine (default 5)')
    parser.add_argument('--engines', nargs='+', choices=CONTESTANTS, default=CONTESTANTS)
    parser.add_argument('--json', type=Path, help='file for what was measured')
    parser.add_argument('--alone', action='store_true', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.alone:
        print(json.dumps(measure(args.engines[0], args.checkpoints[0], args.seconds)))
        return
    rows = []
    table_head('checkpoint', 'engine', 'frames/s', f'/ {BASELINE}', 'network alone ms', 'GFLOP/s',
               'best GEMM', 'share')
    for checkpoint in args.checkpoints:
        work, base = gflop(checkpoint), None
        for contestant in args.engines:
            out = in_own_process(__file__, checkpoint, '--alone', '--engines', contestant,
                                 '--seconds', args.seconds)
            if out is None:
                continue
            m = json.loads(out)
            base = m['fps'] if contestant == BASELINE else base
            cells = [f'{m["fps"]:.0f}', f'{m["fps"] / base:.1f}' if base else '', '', '', '', '']
            if 'network_ms' in m:
                m['gflops'] = 1000 * work / m['network_ms']
                m['share'] = m['gflops'] / m['gemm_gflops']
                cells[2:] = (f'{m["network_ms"]:.2f}', f'{m["gflops"]:.0f}',
                             f'{m["gemm_gflops"]:.0f}', f'{m["share"]:.0%}')
            rows.append({'checkpoint': checkpoint.stem, 'engine': contestant, 'gflop': work, **m})
            table_row(checkpoint.stem, contestant, *cells)
    works = {row['checkpoint']: row['gflop'] for row in rows}
    print('\nGFLOP per frame: ' + ', '.join(f'{name} {work:.2f}' for name, work in works.items())
          + f'; {machine()}.')
    keep(args.json, rows)


if __name__ == '__main__':
    main()
