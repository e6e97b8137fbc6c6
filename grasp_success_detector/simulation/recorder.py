"""Record simulated attempts into a rosbag2, with ground truth, on all cores."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
import json
from multiprocessing import get_context
import os
from pathlib import Path
import shutil
import signal
from typing import Any, Final

import cv2
import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer

from grasp_success_detector.errors import SimulationError
from grasp_success_detector.images.decoding import encode_jpeg
from grasp_success_detector.recordings.bags import (
    ATTEMPT_TOPIC,
    COMPRESSED_TOPIC,
    GROUND_TRUTH_TOPIC,
    IMAGE_TOPIC,
    JOINT_STATES_TOPIC,
    TYPESTORE,
)
from grasp_success_detector.simulation.attempt import DURATION_S
from grasp_success_detector.simulation.camera import Camera
from grasp_success_detector.simulation.episode import Episode, make_episode
from grasp_success_detector.simulation.presets import Recording
from grasp_success_detector.simulation.scene import JOINT_NAMES

#: Stamp of the first attempt's start, in ns: fixed, so that the same seed gives the same bag.
FIRST_STAMP_NS = 1_700_000_000_000_000_000

#: From the start of one attempt to the start of the next, in ns.
ATTEMPT_PERIOD_NS = round((DURATION_S + 1.) * 1e9)

_FRAME_ID = 'camera'
_BAG_VERSION: Final = 8  # of rosbag2's metadata: the oldest that rosbags writes

Message = tuple[str, int, bytes]


@dataclass(frozen=True)
class AttemptSummary:
    """What became of one recorded attempt."""

    attempt: int
    success: bool
    kind: str
    approach: str
    frames: int
    labelled: int


def record(recording: Recording, out: Path, jobs: int | None = None,
           on_attempt: Callable[[AttemptSummary], None] = lambda summary: None,
           ) -> list[AttemptSummary]:
    """
    Simulate all attempts and write them, in order, to a new rosbag2 folder.

    The folder appears under its name only when it is complete.

    :param jobs: worker processes; None for one per usable core. The bag does not depend on it.
    :param on_attempt: called after each attempt is written.
    :raises SimulationError: ``out`` exists, or rendering is impossible here.
    """
    if jobs is not None and jobs < 1:
        raise SimulationError(f'cannot record with {jobs} jobs (expected 1 or more)')
    if out.exists():
        raise SimulationError(f'{out}: exists already and is not overwritten; choose another name')
    partial = out.with_name(f'.{out.name}.partial-{os.getpid()}')
    try:
        partial.parent.mkdir(parents=True, exist_ok=True)
        summaries = []
        storage = StoragePlugin[recording.storage.upper()]
        with Writer(partial, version=_BAG_VERSION, storage_plugin=storage) as writer:
            connections: dict[str, Any] = {}
            for topic, msgtype in _topics(recording).items():
                connections[topic] = writer.add_connection(topic, msgtype, typestore=TYPESTORE)
            for summary, messages in _simulate(recording, jobs or _usable_cores()):
                for topic, stamp_ns, data in messages:
                    writer.write(connections[topic], stamp_ns, data)
                summaries.append(summary)
                on_attempt(summary)
        # rosbag2 finds its files by the names in metadata.yaml, which carry the folder's name.
        _rename_inside(partial, out.name)
        partial.rename(out)
    except OSError as error:
        raise SimulationError(f'{out}: cannot write the bag ({error})') from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return summaries


def _simulate(recording: Recording, jobs: int) -> Iterator[tuple[AttemptSummary, list[Message]]]:
    first = recording.first_attempt
    numbers = iter(range(first, first + recording.attempts))
    # spawn: a forked child would inherit threads and GL state that do not survive a fork
    pool = ProcessPoolExecutor(jobs, get_context('spawn'), _start_worker,
                               (recording.width, recording.height))
    waiting: deque[Future[tuple[AttemptSummary, list[Message]]]] = deque()
    try:
        for number in numbers:
            waiting.append(pool.submit(_record_attempt, recording, number))
            if len(waiting) > 3 * jobs:  # bounded: a slow disk must not fill the memory
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise SimulationError(
            'a simulation process died; MuJoCo may have found no OpenGL (install libegl1 and '
            'libgl1) or the memory ran out (try fewer --jobs)') from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_camera: Camera | None = None  # one per worker process: a GL context belongs to its thread
_camera_size = (0, 0)


def _start_worker(width: int, height: int) -> None:
    global _camera_size
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    cv2.setNumThreads(1)  # the processes share the cores already
    _camera_size = (width, height)


def _record_attempt(recording: Recording, number: int) -> tuple[AttemptSummary, list[Message]]:
    global _camera
    if _camera is None:
        _camera = Camera(*_camera_size)
    episode = make_episode(recording.seed, number, recording.preset, recording.fps,
                           recording.frames, _camera)
    summary = AttemptSummary(number, episode.success, episode.kind, episode.approach,
                             len(episode.frames),
                             sum(frame.label is not None for frame in episode.frames))
    return summary, list(_messages(recording, number, episode))


def _topics(recording: Recording) -> dict[str, str]:
    image = ({COMPRESSED_TOPIC: 'sensor_msgs/msg/CompressedImage'}
             if recording.encoding == 'jpeg' else {IMAGE_TOPIC: 'sensor_msgs/msg/Image'})
    return image | {JOINT_STATES_TOPIC: 'sensor_msgs/msg/JointState',
                    GROUND_TRUTH_TOPIC: 'std_msgs/msg/Bool',
                    ATTEMPT_TOPIC: 'std_msgs/msg/String'}


def _messages(recording: Recording, number: int, episode: Episode) -> Iterator[Message]:
    topics = _topics(recording)

    def message(topic: str, stamp_ns: int, **fields: Any) -> Message:
        msgtype = topics[topic]
        return topic, stamp_ns, bytes(TYPESTORE.serialize_cdr(
            TYPESTORE.types[msgtype](**fields), msgtype))

    def boundary(event: str, stamp_ns: int, **more: Any) -> Message:
        return message(ATTEMPT_TOPIC, stamp_ns, data=json.dumps({
            'attempt': number, 'event': event, 'seed': recording.seed,
            'preset': recording.preset, 'object': episode.kind, 'approach': episode.approach,
            **more}))

    start = FIRST_STAMP_NS + number * ATTEMPT_PERIOD_NS
    yield boundary('begin', start)
    for frame in episode.frames:
        stamp_ns = start + round(frame.time_s * 1e9)
        header = _header(stamp_ns)
        yield message(
            JOINT_STATES_TOPIC, stamp_ns, header=header, name=list(JOINT_NAMES),
            position=frame.joints, velocity=np.zeros(0), effort=np.zeros(0))
        if recording.encoding == 'jpeg':
            yield message(COMPRESSED_TOPIC, stamp_ns, header=header,
                          format='rgb8; jpeg compressed bgr8',
                          data=np.frombuffer(encode_jpeg(frame.image, 90), np.uint8))
        else:
            height, width, _ = frame.image.shape
            yield message(IMAGE_TOPIC, stamp_ns, header=header, height=height, width=width,
                          encoding='rgb8', is_bigendian=0, step=3 * width,
                          data=frame.image.reshape(-1))
        if frame.label is not None:
            yield message(GROUND_TRUTH_TOPIC, stamp_ns, data=bool(frame.label))
    yield boundary('end', start + round(DURATION_S * 1e9), success=episode.success)


def _header(stamp_ns: int) -> Any:
    types = TYPESTORE.types
    sec, nanosec = divmod(stamp_ns, 10 ** 9)
    return types['std_msgs/msg/Header'](
        stamp=types['builtin_interfaces/msg/Time'](sec=sec, nanosec=nanosec), frame_id=_FRAME_ID)


def _rename_inside(folder: Path, name: str) -> None:
    metadata = folder / 'metadata.yaml'
    metadata.write_text(metadata.read_text().replace(folder.name, name))
    for file in folder.iterdir():
        if file.name.startswith(folder.name):
            file.rename(folder / file.name.replace(folder.name, name))


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else (
        os.cpu_count() or 1)
