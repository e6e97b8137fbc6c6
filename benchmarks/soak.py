"""
Let the node work for long and see whether it grows: memory, threads, open files.

The sample bag is played in a loop, much faster than recorded, to a detector_node in a process of
its own, with listeners to everything that it publishes and questions to its verify. An hour of a
30 Hz camera is 108,000 frames; memory is given as growth per such an hour.

    python benchmarks/soak.py                            5 minutes
    python benchmarks/soak.py --minutes 20 --checkpoint my.safetensors

Ends with 1 if memory, threads or files grow.
"""

import argparse
from collections.abc import Callable, Sequence
from contextlib import contextmanager
import os
from pathlib import Path
import subprocess
import sys
import time
from typing import Any, NamedTuple

from diagnostic_msgs.msg import DiagnosticArray
import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image
from std_msgs.msg import Bool, Float32
from std_srvs.srv import Trigger

from grasp_success_detector.files import SAMPLE_BAG, share_path
from grasp_success_detector.ros.tools.child_process import end, START_TIMEOUT_S

MODULES = 'grasp_success_detector.cli'
TOPIC = '/camera/image_raw'
HOUR_FRAMES = 30 * 3600
MB = 1e6

#: What is sampled at first belongs to the start: caches, arenas, the other side's discovery.
WARM_UP = 0.25

#: Number of blocks whose means the slope is fitted to, as neighbouring samples are correlated.
BLOCKS = 10

#: Student's t, 97.5 %, of BLOCKS - 2 degrees of freedom.
T_QUANTILE = 2.306

#: How long the overlay is subscribed to, and then how long it is not, in turn.
OVERLAY_PERIOD_S = 2.

#: Growth in an hour of camera above which it is a leak and no noise.
LIMIT_MB = 10.


class Sample(NamedTuple):
    """One look at the process; ``judged`` are frames with an answer, ``received`` all."""

    seconds: float
    received: int
    judged: int
    rss_bytes: int
    threads: int
    files: int


class Growth(NamedTuple):
    """Growth of memory in MB per hour of a 30 Hz camera, with its 95 % interval."""

    slope_mb: float
    low_mb: float
    high_mb: float


def memory_growth(samples: Sequence[Sample]) -> Growth:
    """
    Fit a line to memory over frames received.

    Ordinary least squares on the means of blocks.
    """
    blocks = np.array_split(np.array(steady(samples), float), BLOCKS)
    frames = np.array([block[:, 1].mean() for block in blocks]) / HOUR_FRAMES
    memory = np.array([block[:, 3].mean() for block in blocks]) / MB
    frames -= frames.mean()
    slope = float(frames @ memory / (frames @ frames))
    rest = memory - memory.mean() - slope * frames
    error = float(np.sqrt(rest @ rest / (BLOCKS - 2) / (frames @ frames)))
    return Growth(slope, slope - T_QUANTILE * error, slope + T_QUANTILE * error)


def complaints(samples: Sequence[Sample], limit_mb: float = LIMIT_MB) -> list[str]:
    """Say what has grown."""
    found = []
    memory = memory_growth(samples)
    if memory.low_mb > 0. and memory.slope_mb > limit_mb:
        found.append(f'memory grows by {memory.slope_mb:.0f} MB in an hour of camera')
    blocks = np.array_split(np.array(steady(samples)), BLOCKS)
    for column, name in ((4, 'threads'), (5, 'files')):
        before, after = int(blocks[0][:, column].max()), int(blocks[-1][:, column].min())
        if after > before:
            found.append(f'{name} grow from {before} to {after}')
    return found


def steady(samples: Sequence[Sample]) -> Sequence[Sample]:
    """Return the samples after the start."""
    return samples[int(len(samples) * WARM_UP):]


@contextmanager
def process(command: Sequence[str]) -> Any:
    """Run a program for the block; its errors are seen."""
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        yield child
    finally:
        end(child)


class Listener(Node):
    """Subscriber to the topics of the detector; counts frames by its diagnostics."""

    def __init__(self) -> None:
        super().__init__('soak', start_parameter_services=False)
        self.received = self.judged = self.verdicts = self.answers = 0
        self.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, 10)
        self.create_subscription(
            Float32, '/grasp_success/confidence', lambda message: None, 1)
        self.create_subscription(Bool, '/grasp_success', self._on_verdict, 1)
        self._overlay: Any = None
        self.create_timer(OVERLAY_PERIOD_S, self._look_or_not)
        self._verify = self.create_client(Trigger, '/grasp_success_detector/verify')
        self.create_timer(0.5, self._ask)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            values = {pair.key: pair.value for pair in status.values}
            if 'judged' in values:
                self.received, self.judged = int(values['received']), int(values['judged'])

    def _look_or_not(self) -> None:
        if self._overlay is None:
            self._overlay = self.create_subscription(
                Image, '/grasp_success/overlay', lambda message: None, 1)
        else:
            self.destroy_subscription(self._overlay)
            self._overlay = None

    def _on_verdict(self, message: Bool) -> None:
        self.verdicts += 1

    def _ask(self) -> None:
        if self._verify.service_is_ready():
            self._verify.call_async(Trigger.Request()).add_done_callback(self._on_answer)

    def _on_answer(self, future: Any) -> None:
        self.answers += 1


def look(number: int, began: float, listener: Listener) -> Sample:
    """Read what the kernel says of a process."""
    status = dict(line.split(':', 1) for line in
                  Path(f'/proc/{number}/status').read_text(encoding='utf-8').splitlines())
    return Sample(
        time.monotonic() - began, listener.received, listener.judged,
        int(status['VmRSS'].split()[0]) * 1024, int(status['Threads']),
        len(os.listdir(f'/proc/{number}/fd')))


def detector_command(
    checkpoint: Path, program: Sequence[str] = ('-m', f'{MODULES}.detector_node'),
) -> list[str]:
    """Return how to start the node, or another program that stands in for it."""
    return [sys.executable, *program, '--ros-args', '-r', f'image:={TOPIC}', '-p',
            'image_transport:=compressed', '-p', f'checkpoint:={checkpoint}']


def soak(
    command: Sequence[str], seconds: float, speed: float, pause_s: float,
    on_sample: Callable[[Sample], None] = lambda sample: None,
) -> tuple[list[Sample], Listener]:
    """
    Play to a detector and look at it.

    :param command: how to start it.
    :param seconds: to look, from the first judged frame on.
    :param speed: of the player; 1 is as recorded.
    :param pause_s: between two looks.
    :raises RuntimeError: a process ended, or no frame came through.
    """
    player_command = [
        sys.executable, '-m', f'{MODULES}.play_bag', str(share_path(SAMPLE_BAG)), '--loop',
        '--rate', str(speed), '--restamp', '--topics', f'{TOPIC}/compressed', '--wait', '120']
    samples: list[Sample] = []
    with process(command) as detector, process(player_command) as player:
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
        executor = SingleThreadedExecutor()
        listener = Listener()
        executor.add_node(listener)
        try:
            began, due = time.monotonic(), 0.
            while not samples or samples[-1].seconds < seconds:
                executor.spin_once(timeout_sec=0.05)
                if detector.poll() is not None or player.poll() is not None:
                    raise RuntimeError('the detector or the player has ended')
                if not samples and listener.judged == 0:
                    if time.monotonic() - began > START_TIMEOUT_S:
                        raise RuntimeError(f'no frame was judged within {START_TIMEOUT_S:.0f} s')
                elif time.monotonic() >= due:
                    if not samples:
                        began = time.monotonic()
                    samples.append(look(detector.pid, began, listener))
                    on_sample(samples[-1])
                    due = time.monotonic() + pause_s
        finally:
            executor.shutdown(timeout_sec=1.)
            listener.destroy_node()
            rclpy.try_shutdown()
    return samples, listener


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--minutes', type=float, default=5.)
    parser.add_argument('--speed', type=float, default=30., help='of the player (default 30)')
    parser.add_argument('--checkpoint', type=Path,
                        default=share_path('models/cifar_cnn_rig.safetensors'))
    options = parser.parse_args()
    print('seconds  received    judged    RSS MB  threads  files')
    every_s, told_s = options.minutes * 60. / 20., -1e9

    def tell(sample: Sample) -> None:
        nonlocal told_s
        if sample.seconds - told_s >= every_s:
            told_s = sample.seconds
            print(f'{sample.seconds:7.0f} {sample.received:9} {sample.judged:9} '
                  f'{sample.rss_bytes / MB:9.1f} {sample.threads:8} {sample.files:6}', flush=True)
    samples, listener = soak(detector_command(options.checkpoint), options.minutes * 60.,
                             options.speed, 1., tell)
    memory = memory_growth(samples)
    last = samples[-1]
    print(f'{last.received} frames received, {last.judged} judged, {listener.verdicts} verdicts '
          f'heard, {listener.answers} answers of verify, in {last.seconds:.0f} s')
    print(f'memory: {memory.slope_mb:+.1f} MB per {HOUR_FRAMES} frames, 95 % interval '
          f'{memory.low_mb:+.1f} to {memory.high_mb:+.1f}')
    found = complaints(samples)
    print('; '.join(found) or 'no growth')
    return 1 if found else 0


if __name__ == '__main__':
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
