"""
Compare extract_frames with a plain loop over rosbags and rosbags-image, and with earlier code.

All read the same bag and write the same frames in one run, several times in turn, each as a
process of its own whose start counts; the ratio of the medians is what is claimed. Needs
``pip install rosbags-image`` and 4 GB of disk.

    python benchmarks/extraction.py                     640 x 480, 3 times
    python benchmarks/extraction.py --before d104d46    the version of that commit too
    python benchmarks/extraction.py --memory-gb 5       peak memory over a 5 GB bag instead
"""

import argparse
from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from importlib.util import find_spec
import json
import os
from pathlib import Path
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import cv2
import numpy as np
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import get_typestore, Stores
from versions import earlier_version, ROOT, run

STORE = get_typestore(Stores.ROS2_JAZZY)
START_NS = 1_700_000_000_000_000_000
PLAIN = ('import sys; from pathlib import Path; from extraction import plain_loop; '
         'plain_loop(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])')


def scene(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """Return a picture about as hard to compress as a camera's: shapes, gradients, noise."""
    coarse = rng.integers(0, 256, (12, 16, 3), np.uint8)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(smooth + rng.normal(0, 3, smooth.shape), 0, 255).astype(np.uint8)


def write_bag(path: Path, kind: str, count: int, width: int, height: int) -> None:
    types = STORE.types
    msgtype = 'sensor_msgs/msg/Image' if kind == 'raw' else 'sensor_msgs/msg/CompressedImage'
    rng = np.random.default_rng(0)
    scenes = [scene(rng, width, height) for _ in range(20)]
    jpegs = [cv2.imencode('.jpg', s, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].reshape(-1)
             for s in scenes]
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection('/camera', msgtype, typestore=STORE)
        for i in range(count):
            stamp = START_NS + i * 33_000_000
            header = types['std_msgs/msg/Header'](
                types['builtin_interfaces/msg/Time'](*divmod(stamp, 10 ** 9)), 'camera')
            message = (
                types[msgtype](header, height, width, 'bgr8', 0, 3 * width,
                               scenes[i % 20].reshape(-1)) if kind == 'raw' else
                types[msgtype](header, 'bgr8; jpeg compressed bgr8', jpegs[i % 20]))
            writer.write(connection, stamp, STORE.serialize_cdr(message, msgtype))


def plain_loop(bag: Path, out: Path, suffix: str) -> None:
    """Extract as rosbags' documentation shows it."""
    from rosbags.image import message_to_cvimage
    out.mkdir(parents=True)
    with AnyReader([bag], default_typestore=STORE) as reader:
        for connection, stamp, data in reader.messages():
            image = message_to_cvimage(reader.deserialize(data, connection.msgtype), 'bgr8')
            cv2.imwrite(str(out / f'{stamp}.{suffix}'), image)


def of_version(version: Path, bag: Path, out: Path, suffix: str) -> float:
    return run(version, 'extract_frames', bag, '--label', 'success', '--format', suffix, '--out',
               out)[0]


def of_plain_loop(bag: Path, out: Path, suffix: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, '-c', PLAIN, str(bag), str(out), suffix], check=True,
                   env={**os.environ, 'PYTHONPATH': str(Path(__file__).parent)})
    return time.perf_counter() - started


def compare(folder: Path, counts: dict[str, int], width: int, height: int, repeats: int,
            earlier: Path | None) -> None:
    """Print frames/s of each way, and how many times as fast as the others the last one is."""
    ways = {'plain loop': of_plain_loop, **({'before': partial(of_version, earlier)}
                                            if earlier else {}), 'now': partial(of_version, ROOT)}
    print(f'frames of {width} x {height}, {os.cpu_count()} cores, '
          f'load {os.getloadavg()[0]:.1f}; frames/s, median of {repeats}; ratios of now to each')
    print(f'{"":14}{"frames":>8}' + ''.join(f'{way:>12}' for way in ways))
    for kind, suffix in (('jpeg', 'jpg'), ('raw', 'jpg'), ('raw', 'png')):
        bag, count = folder / kind, counts[kind]
        if not bag.exists():
            write_bag(bag, kind, count, width, height)
        # What was written stays until the end: for seconds after files are deleted, ext4 makes
        # new ones much more slowly.
        taken: dict[str, list[float]] = {way: [] for way in ways}
        for i in range(repeats):
            for way, work in ways.items():
                taken[way].append(work(bag, folder / f'{kind}-{suffix}-{way}-{i}', suffix))
        rates = ''.join(f'{count / statistics.median(column):12.0f}' for column in taken.values())
        ratios = [sorted(a / b for a, b in zip(column, taken['now'], strict=True))
                  for column in [*taken.values()][:-1]]
        print(f'{kind + " to " + suffix:14}{count:8}{rates}   ' + ', '.join(
            f'{statistics.median(each):.2f} ({each[0]:.2f} to {each[-1]:.2f})'
            for each in ratios), flush=True)


def memory_of(process: int) -> Iterator[int]:
    """Yield the private memory of a process and all of its children, in bytes."""
    waiting = [process]
    while waiting:
        number = waiting.pop()
        try:
            rollup = Path(f'/proc/{number}/smaps_rollup').read_text(encoding='utf-8').splitlines()
            yield sum(int(line.split()[1]) * 1024 for line in rollup if line.startswith('Pss:'))
            children = Path(f'/proc/{number}/task/{number}/children')
            waiting += map(int, children.read_text(encoding='utf-8').split())
        except (OSError, ValueError):
            continue


def measure_memory(folder: Path, gigabytes: float, width: int, height: int) -> None:
    bag = folder / 'large'
    count = round(gigabytes * 1e9 / (3 * width * height))
    write_bag(bag, 'raw', count, width, height)
    size = sum(file.stat().st_size for file in bag.iterdir())
    process = subprocess.Popen(
        [Path(sys.executable).parent / 'extract_frames', bag, '--label', 'success', '--out',
         folder / 'set'], stdout=subprocess.DEVNULL)
    peak = 0
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(.1):
            peak = max(peak, sum(memory_of(process.pid)))

    watcher = threading.Thread(target=watch)
    watcher.start()
    started = time.perf_counter()
    process.wait()
    taken = time.perf_counter() - started
    done.set()
    watcher.join()
    frames = json.loads((folder / 'set/dataset.json').read_text(encoding='utf-8'))['frames']
    print(f'bag of {size / 1e9:.2f} GB, {frames} frames in {taken:.0f} s: peak memory of all '
          f'processes {peak / 1e6:.0f} MB')


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--jpeg-frames', type=int, default=20000, help='11 minutes at 30 Hz')
    parser.add_argument('--raw-frames', type=int, default=3000)
    parser.add_argument('--size', default='640x480')
    parser.add_argument('--repeats', type=int, default=3)
    parser.add_argument('--before', metavar='COMMIT')
    parser.add_argument('--memory-gb', type=float)
    parser.add_argument('--folder', type=Path, help='where to work (a temporary folder)')
    args = parser.parse_args()
    if not args.memory_gb and find_spec('rosbags.image') is None:
        sys.exit('the comparison needs rosbags-image; pip install rosbags-image')
    width, height = map(int, args.size.split('x'))
    with (tempfile.TemporaryDirectory(dir=args.folder) as folder,
          earlier_version(args.before) if args.before else nullcontext() as earlier):
        if args.memory_gb:
            measure_memory(Path(folder), args.memory_gb, width, height)
        else:
            counts = {'jpeg': args.jpeg_frames, 'raw': args.raw_frames}
            compare(Path(folder), counts, width, height, args.repeats, earlier)


if __name__ == '__main__':
    main()
