"""
Frames per second from jpeg to P(success), for each engine and for a baseline, without ROS.

Each contestant runs in a process of its own, on batches of 32 jpegs of 640 x 480 pixels in memory.
Beside it stands what share of the processor's measured GEMM speed the network alone reaches, one
frame at a time.

    python benchmarks/throughput.py models/*_rig.safetensors
"""

import argparse
import json
from pathlib import Path
import sys
import time

from contestants import BASELINE, CONTESTANTS, from_jpegs, in_own_process, machine, sample_jpegs
import numpy as np
import torch

from grasp_success_detector.checkpoint import load
from grasp_success_detector.classifier import GraspClassifier

_BATCH = 32
_GEMM = 'gemm'


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
            checkpoint, 'cpu', engine=engine, precision=precision).choice.engine
        size = load(checkpoint).metadata.preprocessing
        image = np.zeros((1, size.height, size.width, 3), np.uint8)
        found['network_ms'] = 1000 * best(lambda: network.logits(image), 100)
    return found


def gemm() -> dict[str, float]:
    """
    Return the processor's best GFLOP/s on matrices of several sizes, by precision.

    As convolutions with 1 x 1 kernels, which torch gives to oneDNN: its matrix product in fp32 is
    MKL's, which uses half of what AMD's processors can do.
    """
    speeds = {}
    for name, dtype in (('fp32', torch.float32), ('bf16', torch.bfloat16)):
        for channels in (128, 256, 512, 1024):
            x, weight = (torch.randn(shape).to(dtype, memory_format=torch.channels_last) for shape
                         in ((1, channels, 32, 32), (channels, channels, 1, 1)))
            with torch.inference_mode():
                seconds = best(lambda x=x, w=weight: torch.conv2d(x, w), 100)
            speed = 2 * channels ** 2 * 32 ** 2 / seconds / 1e9
            speeds[name] = max(speed, speeds.get(name, 0.))
    return speeds


def gflop(checkpoint: Path) -> float:
    """Return what the network computes for one frame, a multiplication with addition as two."""
    from torch.utils.flop_counter import FlopCounterMode

    loaded = load(checkpoint)
    size = loaded.metadata.preprocessing
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        loaded.model(torch.zeros(1, 3, size.height, size.width))
    return counter.get_total_flops() / 1e9


def best(run, times: int) -> float:
    """Return the seconds of the fastest run: a busy machine only ever adds."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        run()
        taken.append(time.perf_counter() - began)
    return min(taken)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('checkpoints', type=Path, nargs='+')
    parser.add_argument('--seconds', type=float, default=5., help='for each engine (default 5)')
    parser.add_argument('--engines', nargs='+', choices=CONTESTANTS, default=CONTESTANTS)
    parser.add_argument('--alone', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.alone:
        print(json.dumps(gemm() if args.alone == _GEMM else measure(
            args.alone, args.checkpoints[0], args.seconds)))
        return
    peak = json.loads(in_own_process(__file__, args.checkpoints[0], '--alone', _GEMM) or '{}')
    print(f'| checkpoint | engine | frames/s | / {BASELINE} | network alone ms | GFLOP/s | of the '
          'GEMM speed |\n' + '| --- ' * 7 + '|')
    for checkpoint in args.checkpoints:
        work, base = gflop(checkpoint), None
        for contestant in args.engines:
            out = in_own_process(__file__, checkpoint, '--alone', contestant, '--seconds',
                                 args.seconds)
            if out is None:
                continue
            m = json.loads(out)
            base = m['fps'] if contestant == BASELINE else base
            cells = [f'{m["fps"]:.0f}', f'{m["fps"] / base:.1f}' if base else '', '', '', '']
            if 'network_ms' in m:
                speed = 1000 * work / m['network_ms']
                cells[2:4] = f'{m["network_ms"]:.2f}', f'{speed:.0f}'
                if limit := peak.get(contestant.partition('-')[2]):
                    cells[4] = f'{speed / limit:.0%}'
            print(f'| {checkpoint.stem} | {contestant} | {" | ".join(cells)} |', flush=True)
        print(f'| {checkpoint.stem} | {work:.2f} GFLOP | | | | | |')
    print('\nBest GEMM: ' + ', '.join(
        f'{name} {speed:.0f} GFLOP/s' for name, speed in peak.items())
        + f'; {machine()}. {" ".join(sys.argv)}')


if __name__ == '__main__':
    main()
