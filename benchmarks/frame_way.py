"""
Show where the milliseconds go between a frame and its verdict, beside what each stage takes alone.

For each checkpoint, with the engine that `auto` takes: a message with a 640 x 480 jpeg goes over
DDS to a node that does nothing, and its answer back; each stage runs alone in a process, frame by
frame; then the whole node answers. Medians, and the fastest frame, to which a busy machine adds
least. Needs ROS 2.

    python benchmarks/frame_way.py models/efficientnet_lite0_world.safetensors \
        models/efficientnet_lite0_rig.safetensors
"""

import argparse
from collections import defaultdict
from collections.abc import Callable
import json
import os
from pathlib import Path
import time
from typing import Any

from contestants import IDLE, in_own_process, machine, sample_jpegs, table_head, table_row
import numpy as np

from grasp_success_detector.images import visibility
from grasp_success_detector.images.decoding import decode_bytes
from grasp_success_detector.inference.classifier import GraspClassifier
from grasp_success_detector.inference.engine import AUTO

DDS, WHOLE, SUM = 'over DDS and back, no work', 'node, whole', 'sum of the stages'


def stages(checkpoint: Path, count: int) -> dict[str, Any]:
    """Return the milliseconds of each stage for some frames, and the engine."""
    classifier = GraspClassifier.from_checkpoint(checkpoint, 'cpu', engine=AUTO, precision=AUTO)
    taken: defaultdict[str, list[float]] = defaultdict(list)

    def timed(stage: str, work: Callable[..., Any], *given: Any) -> Any:
        began = time.perf_counter()
        made = work(*given)
        taken[stage].append(1000 * (time.perf_counter() - began))
        return made

    given, jpegs = classifier.preprocessing, sample_jpegs(100)
    for i in range(count):
        image = timed('decode', decode_bytes, jpegs[i % len(jpegs)], given.half_suffices)
        timed('look whether anything can be seen', visibility.appearance, image)
        if (finder := classifier._finder) is not None:
            small = timed("scale to the finder's input", finder._size.squeeze, image)
            timed("finder's network", finder.engine.logits, small[None])
        box = finder and finder.find(image)
        view = timed('cut out and scale', classifier.look, image, box) if finder is None or box \
            else classifier.look(image)
        timed('network', classifier.predict_prepared, view.image[None])
        time.sleep(.01)     # as between the frames that the node gets
    return {'engine': f'{classifier.engine.name}-{classifier.engine.precision.value}',
            'taken': taken}


def asked(contestant: str, checkpoint: Path, count: int) -> list[float]:
    """Return the milliseconds from the publication of frames to the answers of a node."""
    from watched_node import watched

    jpegs, taken = sample_jpegs(100), []
    with watched(contestant, checkpoint) as node:
        node.wait_for_first(jpegs[0])
        for i in range(count):
            taken.append(1000 * node.ask(jpegs[i % len(jpegs)]))
            node.rest(.01)
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('checkpoints', type=Path, nargs='+')
    parser.add_argument('--frames', type=int, default=300)
    parser.add_argument('--alone', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.alone:
        checkpoint = args.checkpoints[0]
        print(json.dumps(stages(checkpoint, args.frames) if args.alone == 'stages' else
                         asked(args.alone, checkpoint, args.frames)))
        return
    os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    table_head('checkpoint', 'stage', 'p50 ms', 'fastest ms')
    for checkpoint in args.checkpoints:
        def alone(part: str, checkpoint: Path = checkpoint) -> Any:
            out = in_own_process(__file__, checkpoint, '--alone', part, '--frames', args.frames)
            return json.loads(out or 'null')

        found = alone('stages')
        name = f'{checkpoint.stem}, {found["engine"]}'
        taken = {DDS: alone(IDLE), **found['taken']}
        cells = {stage: (np.median(times), min(times)) for stage, times in taken.items()}
        cells[SUM] = tuple(map(sum, zip(*cells.values(), strict=True)))
        whole = alone(found['engine'])
        cells[WHOLE] = np.median(whole), min(whole)
        for stage, (middle, fastest) in cells.items():
            table_row(name, stage, f'{middle:.2f}', f'{fastest:.2f}')
    print(f'\n{args.frames} frames one after the other; {machine()}.')


if __name__ == '__main__':
    main()
