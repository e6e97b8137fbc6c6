"""Simulate attempts in parallel, and record them with their labels into a rosbag2."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cache, partial
import json
from operator import attrgetter
import os
from pathlib import Path
from threading import get_ident
import time
from typing import Any

import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer

from grasp_success_detector.datasets.workers import open_workers, Task, Workers
from grasp_success_detector.errors import SimulationError, WorkersError
from grasp_success_detector.files import fault_text, new_folder
from grasp_success_detector.images.encoding import encode_jpeg
from grasp_success_detector.recordings import bags
from grasp_success_detector.simulation.attempt import DURATION_S
from grasp_success_detector.simulation.attempt_files import (
    AttemptSummary,
    kept_attempts,
    Message,
    read_attempt,
    write_attempt,
)
from grasp_success_detector.simulation.presets import ImageEncoding, Preset, RecordingSettings
from grasp_success_detector.simulation.rendering import Episode, make_episode, SimulatedCamera
from grasp_success_detector.simulation.scene import JOINT_NAMES

#: Stamp of the first attempt's start, in ns: fixed, so that the same seed gives the same bag.
FIRST_STAMP_NS = 1_700_000_000_000_000_000

_RENDERING = 'grasp_success_detector.simulation.rendering'

#: From the start of one attempt to the start of the next, in ns.
ATTEMPT_PERIOD_NS = round((DURATION_S + 1.) * 1e9)


def record(settings: RecordingSettings, out: Path, jobs: int | None = None,
           on_attempt: Callable[[AttemptSummary], None] = lambda summary: None,
           dask: str | None = None) -> list[AttemptSummary]:
    """
    Simulate attempts and write them in order to a new rosbag2 folder, which appears when complete.

    Stopped or killed at any time, the same call goes on after the attempts that were finished.

    :param jobs: number of worker processes, which does not change the bag; None: one per core.
    :param on_attempt: called with the summary of each attempt after it is kept, in any order.
    :param dask: address of the scheduler of a Dask cluster that simulates instead.
    :returns: summaries of all attempts, in their order.
    :raises SimulationError: ``out`` exists or is not writable, or OpenGL is missing.
    :raises ConfigError: ``jobs`` is below 1, or the cluster is missing.
    """
    summaries = []
    try:
        if out.exists():
            raise SimulationError(
                f'{out}: exists already and is not overwritten; choose another name')
        # A process of its own even for one job: OpenGL contexts last as long as their process.
        with kept_attempts(out, settings) as attempts:
            with open_workers(jobs, dask, helps=False, preload=_RENDERING) as workers:
                for summary in _simulate(settings, workers, attempts.absolute()):
                    summaries.append(summary)
                    on_attempt(summary)
            _write_bag(settings, attempts, out, workers.lag_s)
    except OSError as error:
        raise SimulationError(f'{out}: cannot be written ({fault_text(error, out)}); once it '
                              'can be, the same command goes on') from error
    return sorted(summaries, key=attrgetter('attempt'))


def _write_bag(settings: RecordingSettings, attempts: Path, out: Path, lag_s: float) -> None:
    """
    Write the bag from the files of its attempts, in their order.

    :param lag_s: how long a file that was written may stay invisible here, in seconds.
    """
    deadline = time.monotonic() + lag_s
    with new_folder(out, SimulationError) as folder:
        # rosbag2 names its files after the bag's folder, which has another name until it is whole.
        bag = folder / out.name
        storage = StoragePlugin[settings.storage.name]
        with Writer(bag, version=bags.BAG_VERSION, storage_plugin=storage) as writer:
            connections = {topic: writer.add_connection(topic, msgtype, typestore=bags.TYPESTORE)
                           for topic, msgtype in _topics(settings).items()}
            for number in _numbers(settings):
                while (attempt := read_attempt(attempts, number)) is None and (
                        time.monotonic() < deadline):
                    time.sleep(.5)
                if attempt is None:
                    raise SimulationError(f'{attempts / str(number)}: is gone; the same command '
                                          'simulates this attempt again')
                for topic, stamp_ns, data in attempt[1]:
                    writer.write(connections[topic], stamp_ns, data)
        for file in bag.iterdir():
            file.rename(folder / file.name)
        bag.rmdir()
        os.sync()   # before the bag appears, so that it is whole after a loss of power


def _numbers(settings: RecordingSettings) -> range:
    return range(settings.first_attempt, settings.first_attempt + settings.attempts)


def _simulate(settings: RecordingSettings, workers: Workers, attempts: Path,
              ) -> Iterator[AttemptSummary]:
    """Yield the summaries of all attempts, after simulating those that lack a file."""
    todo = []
    if settings.assets is not None:     # a worker of a cluster runs in another folder
        settings = replace(settings, assets=str(Path(settings.assets).absolute()))
    for number in _numbers(settings):
        if (attempt := read_attempt(attempts, number)) is None:
            todo.append(number)
        else:
            yield attempt[0]
    tasks: deque[Task] = deque(
        partial(_record_attempts, settings, todo[i:i + workers.grain], attempts)
        for i in range(0, len(todo), workers.grain))
    try:
        for _, summaries in workers.run(tasks):
            yield from summaries
    except WorkersError as error:
        raise SimulationError(f'{error}; or MuJoCo found no OpenGL: install libegl1 and '
                              'libgl1') from error


@cache
def _camera(width: int, height: int, thread: int) -> SimulatedCamera:
    return SimulatedCamera(width, height)   # an OpenGL context is of one thread


@cache
def _world(width: int, height: int, assets: str | None, thread: int) -> tuple[Any, Any]:
    from grasp_success_detector.simulation.assets import load_assets
    from grasp_success_detector.simulation.hand_model import HandModel
    from grasp_success_detector.simulation.studio import Studio
    folder = None if assets is None else Path(assets)
    return Studio(width, height, load_assets(folder)), HandModel()


def _record_attempts(settings: RecordingSettings, numbers: Sequence[int], attempts: Path,
                     ) -> list[AttemptSummary]:
    return [_record_attempt(settings, number, attempts) for number in numbers]


def _record_attempt(settings: RecordingSettings, number: int, attempts: Path) -> AttemptSummary:
    if settings.preset is Preset.WORLD:
        from grasp_success_detector.simulation.world import make_world_episode
        assert settings.frames is not None
        episode = make_world_episode(
            settings.seed, number, settings.frames, settings.looks,
            *_world(settings.width, settings.height, settings.assets, get_ident()))
    else:
        episode = make_episode(settings.seed, number, settings.preset, settings.fps,
                               settings.frames,
                               _camera(settings.width, settings.height, get_ident()),
                               settings.cameras, settings.empty, settings.from_s,
                               settings.without_hand)
    labelled = sum(frame.label is not None for frame in episode.frames)
    summary = AttemptSummary(number, episode.success, len(episode.frames), labelled)
    write_attempt(attempts, summary, list(_messages(settings, number, episode)))
    return summary


def _topics(settings: RecordingSettings) -> dict[str, str]:
    """Return the message type of each topic."""
    image = {_image_topic(settings, view): 'sensor_msgs/msg/CompressedImage'
             if settings.encoding is ImageEncoding.JPEG else 'sensor_msgs/msg/Image'
             for view in range(settings.cameras)}
    # The pictures of the preset world are not one movement of the hand.
    if settings.preset is Preset.WORLD or settings.without_hand:
        return image | {bags.HAND_BOX_TOPIC: 'sensor_msgs/msg/RegionOfInterest',
                        bags.GROUND_TRUTH_TOPIC: 'std_msgs/msg/Bool',
                        bags.ATTEMPT_TOPIC: 'std_msgs/msg/String'}
    tactile = {bags.TACTILE_TOPIC: 'std_msgs/msg/Float32MultiArray'} if settings.tactile else {}
    return image | tactile | {
        bags.JOINT_STATES_TOPIC: 'sensor_msgs/msg/JointState',
        bags.JOINT_COMMANDS_TOPIC: 'sensor_msgs/msg/JointState',
        bags.GROUND_TRUTH_TOPIC: 'std_msgs/msg/Bool', bags.ATTEMPT_TOPIC: 'std_msgs/msg/String'}


def _image_topic(settings: RecordingSettings, view: int) -> str:
    topic = (bags.COMPRESSED_TOPIC if settings.encoding is ImageEncoding.JPEG
             else bags.IMAGE_TOPIC)
    return topic.replace('/camera/', f'/camera_{view + 1}/') if view else topic


def _messages(settings: RecordingSettings, number: int, episode: Episode) -> Iterable[Message]:
    """Return the messages of an attempt in the order of time."""
    return sorted(_unsorted(settings, number, episode), key=lambda message: message[1])


def _unsorted(settings: RecordingSettings, number: int, episode: Episode) -> Iterator[Message]:
    store, topics = bags.TYPESTORE, _topics(settings)

    def message(topic: str, stamp_ns: int, **fields: Any) -> Message:
        msgtype = topics[topic]
        return topic, stamp_ns, bytes(
            store.serialize_cdr(store.types[msgtype](**fields), msgtype))

    def boundary(event: str, stamp_ns: int, **more: Any) -> Message:
        return message(bags.ATTEMPT_TOPIC, stamp_ns, data=json.dumps({
            'attempt': number, 'event': event, 'seed': settings.seed,
            'preset': settings.preset.value, 'object': episode.kind,
            'approach': episode.approach, **more}))

    def stamped(time_s: float, frame_id: str) -> tuple[int, Any]:
        stamp_ns = start + round(time_s * 1e9)
        sec, nanosec = divmod(stamp_ns, 10 ** 9)
        return stamp_ns, store.types['std_msgs/msg/Header'](
            stamp=store.types['builtin_interfaces/msg/Time'](sec=sec, nanosec=nanosec),
            frame_id=frame_id)

    start = FIRST_STAMP_NS + number * ATTEMPT_PERIOD_NS
    yield boundary('begin', start)
    commanded = None
    for sample in episode.joints:
        stamp_ns, header = stamped(sample.time_s, '')
        names = {'header': header, 'name': list(JOINT_NAMES)}
        # A command that repeats the last one is not published.
        if commanded is None or not np.array_equal(sample.commanded, commanded):
            commanded = sample.commanded
            yield message(bags.JOINT_COMMANDS_TOPIC, stamp_ns, **names, position=commanded,
                          velocity=np.zeros(0), effort=np.zeros(0))
        yield message(bags.JOINT_STATES_TOPIC, stamp_ns, **names, position=sample.position,
                      velocity=sample.velocity, effort=sample.effort)
        if settings.tactile:
            yield message(bags.TACTILE_TOPIC, stamp_ns, data=sample.tactile.astype(np.float32),
                          layout=store.types['std_msgs/msg/MultiArrayLayout']([], 0))
    for frame in episode.frames:
        for view, image in enumerate((frame.image, *frame.others)):
            topic = _image_topic(settings, view)
            stamp_ns, header = stamped(frame.time_s, topic.split('/')[1])
            if settings.encoding is ImageEncoding.JPEG:
                yield message(topic, stamp_ns, header=header,
                              format='rgb8; jpeg compressed bgr8',
                              data=np.frombuffer(encode_jpeg(image, 90), np.uint8))
            else:
                height, width, _ = image.shape
                yield message(topic, stamp_ns, header=header, height=height, width=width,
                              encoding='rgb8', is_bigendian=0, step=3 * width,
                              data=image.reshape(-1))
        if frame.box is not None:
            left, top, right, bottom = frame.box
            yield message(bags.HAND_BOX_TOPIC, stamp_ns, x_offset=left, y_offset=top,
                          width=right - left, height=bottom - top, do_rectify=False)
        if frame.label is not None:
            yield message(bags.GROUND_TRUTH_TOPIC, stamp_ns, data=bool(frame.label))
    failed = {} if episode.failure is None else {'reason': episode.failure.value}
    yield boundary('end', start + round(DURATION_S * 1e9), success=episode.success, **failed)
