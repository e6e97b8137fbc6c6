"""
Time the direct evaluation of a bag against a plain loop and earlier code, on the same frames.

The plain loop is what one writes in an afternoon: rosbags reads a message, cv2 decodes it,
torchvision transforms it, torch answers, one by one, nothing beside it. All take turns, each in a
process of its own; loading is not counted, as it is the same for all. Earlier code judges with its
own checkpoint of the same name, by this benchmark as it was then. CPU seconds, of all threads, are
less disturbed by what else runs on the machine; but only the time on the clock tells whether work
is done side by side.

    python benchmarks/evaluation.py                         the default model
    python benchmarks/evaluation.py --checkpoint models/cifar_cnn_rig.safetensors
    python benchmarks/evaluation.py --before 4e78830        that version too
    taskset -c 1 python benchmarks/evaluation.py --repeats 1    where both cores are busy
"""

import argparse
from contextlib import nullcontext
import json
import os
from pathlib import Path
import platform
import statistics
import subprocess
import sys
import tempfile
import time

import cv2
import numpy as np
import torch
from versions import earlier_version, ROOT

from grasp_success_detector.evaluation.frame_sources import open_recordings
from grasp_success_detector.evaluation.judging import judge
from grasp_success_detector.files import DEFAULT_CHECKPOINT, SAMPLE_BAG, share_path
from grasp_success_detector.inference.classifier import GraspClassifier
from grasp_success_detector.inference.engine import AUTO
from grasp_success_detector.labels import Label
from grasp_success_detector.networks import (
    checkpoint,
    torchvision_ops,  # noqa: F401 (before torchvision)
)
from grasp_success_detector.recordings.bags import image_topic, open_bag
from grasp_success_detector.recordings.selection import FrameSelection, VIDEO_TOPIC


def plain(model_file: Path, bag: Path) -> tuple[float, float, list[float]]:
    """Return seconds, CPU seconds and P(success) of the plain loop."""
    from torchvision.transforms import v2 as transforms
    loaded = checkpoint.Checkpoint.open(model_file)
    given, temperature = loaded.metadata.preprocessing, loaded.metadata.temperature
    transform = transforms.Compose([
        transforms.ToImage(), transforms.ToDtype(torch.float32, scale=True),
        transforms.Resize(min(given.height, given.width), antialias=True),
        transforms.CenterCrop((given.height, given.width)),
        transforms.Normalize(given.mean, given.std)])
    answers = []
    started, worked = time.perf_counter(), time.process_time()
    with open_bag(bag) as reader, torch.no_grad():
        topic = image_topic(reader)
        connections = [c for c in reader.connections if c.topic == topic]
        for connection, _, raw in reader.messages(connections):
            message = reader.deserialize(raw, connection.msgtype)
            picture = cv2.imdecode(np.asarray(message.data), cv2.IMREAD_COLOR)
            x = transform(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))[None]  # (1, 3, h, w)
            logits = loaded.model(x)[0] / temperature
            answers.append(float(torch.softmax(logits, 0)[Label.SUCCESS]))
    return time.perf_counter() - started, time.process_time() - worked, answers


def direct(model_file: Path, bag: Path, engine: str) -> tuple[float, float, list[float]]:
    """Return seconds, CPU seconds and P(success) of the package."""
    classifier = GraspClassifier.from_checkpoint(
        model_file, device='cpu', engine=engine, precision=AUTO if engine == AUTO else 'fp32')
    print(classifier.engine, file=sys.stderr)
    started, worked = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        recording, = open_recordings([str(bag)], FrameSelection(), Path(folder))
        assert recording.account['topic'] != VIDEO_TOPIC
        answers = judge(classifier, recording).probabilities
    return time.perf_counter() - started, time.process_time() - worked, answers.tolist()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--checkpoint', type=Path, default=share_path(DEFAULT_CHECKPOINT))
    parser.add_argument('--bag', type=Path, default=share_path(SAMPLE_BAG),
                        help='with jpeg frames')
    parser.add_argument('--before', metavar='COMMIT')
    parser.add_argument('--engine', default=AUTO, help='of direct: auto (default), torch, ...')
    parser.add_argument('--repeats', type=int, default=3)
    parser.add_argument('--way', choices=('plain', 'direct'), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.way:
        print(json.dumps(plain(args.checkpoint, args.bag) if args.way == 'plain' else
                         direct(args.checkpoint, args.bag, args.engine)))
        return
    print(f'{args.checkpoint.name}, {args.bag.name}; {platform.machine()}, '
          f'{len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f}, torch '
          f'{torch.__version__}, {torch.get_num_threads()} threads')
    with earlier_version(args.before) if args.before else nullcontext() as earlier:
        commands = {
            'plain': (ROOT, 'plain', args.checkpoint, ()),
            **({'before': (earlier, 'direct', earlier / 'models' / args.checkpoint.name, ())}
               if earlier else {}),
            'now': (ROOT, 'direct', args.checkpoint, ('--engine', args.engine))}
        taken: dict[str, list[tuple[float, float]]] = {way: [] for way in commands}
        answers = {}
        for _ in range(args.repeats):
            for way, (version, kind, checkpoint_file, options) in commands.items():
                done = subprocess.run(
                    [sys.executable, version / 'benchmarks/evaluation.py', '--way', kind,
                     '--checkpoint', checkpoint_file, '--bag', args.bag, *options],
                    check=True, capture_output=True, text=True,
                    env=os.environ | {'PYTHONPATH': str(version)})
                took, worked, answers[way] = json.loads(done.stdout)
                taken[way].append((took, worked))
                print(f'{way:8} {took:7.2f} s  {len(answers[way]) / took:7.1f} frames/s  '
                      f'{worked:7.2f} CPU s  {done.stderr.strip()}', flush=True)
    for way in [*commands][:-1]:
        clock, cpu = (sorted(a[i] / b[i] for a, b in zip(taken[way], taken['now'], strict=True))
                      for i in range(2))
        apart = np.abs(np.subtract(answers[way], answers['now']))
        print(f'{statistics.median(clock):.2f} times as fast as {way} (from {clock[0]:.2f} to '
              f'{clock[-1]:.2f}), by CPU seconds {statistics.median(cpu):.2f} times (from '
              f'{cpu[0]:.2f} to {cpu[-1]:.2f}); P(success) differs by {apart.max():.3f} at most, '
              f'{np.median(apart):.5f} in the median')


if __name__ == '__main__':
    main()
