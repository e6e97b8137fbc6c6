"""A node in a process of its own, with a camera before it and an ear behind it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
import os
from pathlib import Path
import subprocess
import sys
import time
from typing import NamedTuple

from contestants import node_command
from lifecycle_msgs.srv import ChangeState
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Float32

from grasp_success_detector.ros.tools.child_process import end

_TICKS_PER_S = os.sysconf('SC_CLK_TCK')
_RELIABLE = QoSProfile(depth=10, reliability=QoSReliabilityPolicy.RELIABLE)
_PATIENCE_S = 60.


class Memory(NamedTuple):
    """
    Memory of a process in MB.

    :ivar resident: all that it holds.
    :ivar proportional: the same, but of pages that several processes hold only its part.
    :ivar own: what it has written itself: it shares these pages with no other process, and they
        cannot be read from a file again. The rest is pages of libraries.
    :ivar peak: the most that was resident since its start.
    """

    resident: float
    proportional: float
    own: float
    peak: float


class WatchedNode:
    """One contestant, answering one frame after the other."""

    def __init__(self, child: subprocess.Popen[bytes], began: float) -> None:
        self.child, self.pid, self.began = child, child.pid, began
        self._stamp_ns = 1_700_000_000_000_000_000
        self._answers: list[tuple[float, float]] = []
        self._node = rclpy.create_node('benchmark', start_parameter_services=False)
        self._camera = self._node.create_publisher(CompressedImage, 'image/compressed', _RELIABLE)
        self._node.create_subscription(
            Float32, 'grasp_success/confidence',
            lambda message: self._answers.append((time.perf_counter(), message.data)), _RELIABLE)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)

    def close(self) -> None:
        self._executor.shutdown()
        self._node.destroy_node()

    def wait_for_first(self, jpeg: bytes) -> float:
        """Publish 20 frames a second until one is decided; return the seconds since the start."""
        asked = time.perf_counter()
        while not any(confidence > 0 for _, confidence in self._answers):
            if self.child.poll() is not None:
                raise RuntimeError('it ended:')
            if time.perf_counter() - asked > _PATIENCE_S:
                raise RuntimeError(f'no verdict within {_PATIENCE_S:.0f} s')
            self._publish(jpeg)
            until = time.perf_counter() + .05
            while time.perf_counter() < until:
                self._executor.spin_once(timeout_sec=.01)
        seconds = next(at for at, confidence in self._answers if confidence > 0) - self.began
        self.rest(.3)  # what still waits in a queue, but not until the node calls it stale
        return seconds

    def ask(self, jpeg: bytes) -> float:
        """Publish a frame; return the seconds until its verdict is there."""
        self._answers.clear()
        began = self._publish(jpeg)
        # Confidence 0 is UNKNOWN: the node's repeated word that it has no frame.
        while not (decided := [at for at, confidence in self._answers if confidence > 0]):
            if time.perf_counter() - began > _PATIENCE_S:
                raise RuntimeError(f'no verdict within {_PATIENCE_S:.0f} s')
            self._executor.spin_once(timeout_sec=1.)
        return decided[0] - began

    def change_state(self, transition: int) -> None:
        """Ask for a transition, an id of lifecycle_msgs/Transition, and wait until it is done."""
        client = self._node.create_client(ChangeState, 'grasp_success_detector/change_state')
        if not client.wait_for_service(timeout_sec=_PATIENCE_S):
            raise RuntimeError('no service change_state')
        request = ChangeState.Request()
        request.transition.id = transition
        done = client.call_async(request)
        self._executor.spin_until_future_complete(done, timeout_sec=_PATIENCE_S)
        if not (done.done() and done.result().success):
            raise RuntimeError(f'transition {transition} failed')
        self._node.destroy_client(client)

    def film(self, jpegs: list[bytes], rate: float, seconds: float
             ) -> tuple[float, dict[int, float]]:
        """
        Publish at a steady rate.

        Returns the CPU that the node takes meanwhile, in percent of one core, and the seconds from
        publication to verdict, by frame. An answer is known for its frame's by the confidence,
        which a node gives anew to the same picture. Frames that were dropped have none.
        """
        known: dict[float, bytes] = {}
        for jpeg in jpegs:
            self.ask(jpeg)
            known.setdefault(self._answers[0][1], jpeg)
        confidences, pictures = list(known), list(known.values())
        if len(pictures) < 10:
            raise RuntimeError(f'only {len(pictures)} pictures can be told apart by their answer')
        self._rest_until_silent()
        self._answers.clear()
        began, sent, before = time.perf_counter(), [], self.cpu_seconds()
        for i in range(round(rate * seconds)):
            self.rest(began + i / rate - time.perf_counter())
            sent.append(self._publish(pictures[i % len(pictures)]))
        cpu = 100 * (self.cpu_seconds() - before) / (time.perf_counter() - began)
        self._rest_until_silent()
        taken, latest = {}, -1
        for at, confidence in self._answers:
            if confidence not in known:     # 0: the node has received no frame
                continue
            # The next frame with this picture: the node never drops a whole cycle of pictures.
            shown = confidences.index(confidence)
            frame = latest + 1 + (shown - latest - 1) % len(pictures)
            if frame < len(sent) and sent[frame] <= at:     # else it is like another by chance
                latest = frame
                taken[frame] = at - sent[frame]
        return cpu, taken

    def rest(self, seconds: float) -> None:
        until = time.perf_counter() + seconds
        while (left := until - time.perf_counter()) > 0:
            self._executor.spin_once(timeout_sec=left)

    def _rest_until_silent(self) -> None:
        """Wait until a queue, which the baseline has, is worked off."""
        count = -1
        while count != (count := sum(confidence > 0 for _, confidence in self._answers)):
            self.rest(1.)

    def cpu_seconds(self) -> float:
        stat = Path(f'/proc/{self.pid}/stat').read_text(encoding='utf-8')
        fields = stat.rpartition(')')[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S

    def memory_mb(self) -> Memory:
        sizes: dict[str, float] = {}
        for name in ('smaps_rollup', 'status'):
            for line in Path(f'/proc/{self.pid}/{name}').read_text(encoding='utf-8').splitlines():
                if line.endswith(' kB'):
                    key, size = line.removesuffix(' kB').split(':')
                    sizes[key] = int(size) * 1024 / 1e6
        return Memory(sizes['Rss'], sizes['Pss'], sizes['Private_Dirty'], sizes['VmHWM'])

    def _publish(self, jpeg: bytes) -> float:
        self._stamp_ns += 33_000_000
        message = CompressedImage(format='jpeg', data=jpeg)
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(self._stamp_ns, 10 ** 9)
        began = time.perf_counter()
        self._camera.publish(message)
        return began


@contextmanager
def watched(contestant: str, checkpoint: Path, python: str = sys.executable,
            autostart: bool = True, prefix: Sequence[str] = ()) -> Iterator[WatchedNode]:
    """
    Start a contestant's node for the block; parameters as of :func:`.node_command`.

    :param prefix: words before the command, such as ``('nice', '-n', '-20')``.
    """
    rclpy.init()
    began = time.perf_counter()
    child = subprocess.Popen([*prefix, *node_command(contestant, checkpoint, python, autostart)],
                             stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    node = WatchedNode(child, began)
    try:
        yield node
    except RuntimeError as error:
        child.kill()
        said = child.stderr.read().decode().strip().splitlines() if child.stderr else []
        raise RuntimeError(f'{error} {said[-1] if said else ""}') from error
    finally:
        node.close()
        end(child, patience_s=10.)
        rclpy.try_shutdown()
