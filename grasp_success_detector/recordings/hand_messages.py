"""What a recording holds of the hand: joint states and commands of its driver, and attempts."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
import sqlite3
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rosbags.typesys import get_typestore, Stores

from grasp_success_detector.errors import BagError
from grasp_success_detector.hand.attempts import command_times, first_component, opening_times
from grasp_success_detector.hand.drivers import COMMAND_NAMES, JOINT_COUNTS, TACTILE_NAMES
from grasp_success_detector.recordings.bags import TYPESTORE
from grasp_success_detector.recordings.ground_truth import AttemptEvent
from grasp_success_detector.recordings.reader import open_storage, StorageFile

_JOINTS, _STRING = 'sensor_msgs/msg/JointState', 'std_msgs/msg/String'
_ARRAYS = ('std_msgs/msg/Float32MultiArray', 'std_msgs/msg/Float64MultiArray')


class Samples(NamedTuple):
    """
    Messages of one topic of joint states or of a tactile sensor, in order of recording.

    :ivar times_ns: times of recording, int64 (N,).
    :ivar values: angles in radians, or values of the sensor, float64 (N, joints or sensors).
    :ivar efforts: torques of the joints, as ``values``; None where they are not published.
    """

    names: tuple[str, ...]
    times_ns: NDArray[np.int64]
    values: NDArray[np.float64]
    efforts: NDArray[np.float64] | None = None


@dataclass
class HandMessages:
    """
    Messages of a driver by topic.

    :ivar joints: joint states and joint commands.
    :ivar tactile: values of tactile sensors.
    :ivar texts: time of recording in ns and text of commands such as ``grasp_3``, in order.
    """

    joints: dict[str, Samples] = field(default_factory=dict)
    tactile: dict[str, Samples] = field(default_factory=dict)
    texts: list[tuple[int, str]] = field(default_factory=list)


def read_hand_messages(files: Sequence[StorageFile]) -> HandMessages:
    """
    Read what the files of a bag hold of the hand; damaged messages and files are left out.

    Of a topic whose messages differ in their names or number of values, those that come most
    often are kept.
    """
    found = HandMessages()
    rows: dict[str, list[tuple[int, tuple[str, ...], tuple[float, ...], tuple[float, ...]]]] = (
        defaultdict(list))
    for file in files:
        try:
            with open_storage(file) as storage:
                for message in storage.messages():
                    name = message.topic.rpartition('/')[2]
                    text = message.msgtype == _STRING and name in COMMAND_NAMES
                    array = message.msgtype in _ARRAYS and name in TACTILE_NAMES
                    if not (text or array or message.msgtype == _JOINTS):
                        continue
                    try:
                        content = _content(bytes(storage.payload(message.location)),
                                           message.msgtype, message.ros1)
                    except ValueError:
                        continue    # damaged: the others are enough
                    if text:
                        found.texts.append((message.received_ns, str(content.data)))
                    else:
                        values = content.data if array else content.position
                        rows[message.topic].append((
                            message.received_ns, () if array else tuple(content.name),
                            tuple(np.asarray(values, float).tolist()),
                            () if array else tuple(np.asarray(content.effort, float).tolist())))
        except (BagError, sqlite3.DatabaseError):
            continue
    found.texts.sort()
    for topic, messages in rows.items():
        (names, width), _ = Counter(
            (names, len(values)) for _, names, values, _ in messages).most_common(1)[0]
        usable = sorted((time, values, efforts) for time, held, values, efforts in messages
                        if (held, len(values)) == (names, width))
        torques = [efforts for _, _, efforts in usable]
        place = found.tactile if topic.rpartition('/')[2] in TACTILE_NAMES else found.joints
        place[topic] = Samples(
            names, np.array([time for time, _, _ in usable], np.int64),
            np.array([values for _, values, _ in usable], np.float64),
            np.array(torques, np.float64) if all(
                len(efforts) == width for efforts in torques) and width else None)
    return found


def attempts_by_motion(files: Sequence[StorageFile]) -> tuple[list[int], str]:
    """
    Return when attempts begin, by the driver's commands, else by the motion of the joints.

    :param files: files of a bag.
    :returns: times of recording in ns, and by what they were found; no times if by nothing.
    """
    found = read_hand_messages(files)
    if times := command_times(found.texts):
        return times, "the driver's commands"
    for samples in sorted(found.joints.values(), reverse=True, key=lambda samples: (
            samples.values.shape[1] in JOINT_COUNTS, len(samples.times_ns))):
        if samples.values.shape[1] and np.isfinite(samples.values).all() and (
                times := opening_times(samples.times_ns.tolist(),
                                       first_component(samples.values))):
            return times, "the motion of the hand's joints"
    return [], ''


def driver_events(path: Path, files: Sequence[StorageFile]) -> list[AttemptEvent]:
    """
    Return an event for each attempt that commands or motion of the hand tell; the first is at 0.

    :param path: of the recording, for the error.
    :raises BagError: neither commands nor joint states tell an attempt.
    """
    times, _ = attempts_by_motion(files)
    if not times:
        raise BagError(f'{path}: no commands of a driver of the hand and no joint states in which '
                       'it closes and opens; leave out --attempts-from driver')
    return [AttemptEvent(time_ns, True, str(number)) for number, time_ns in enumerate((0, *times))]


def _content(payload: bytes, msgtype: str, ros1: bool) -> Any:
    try:
        if ros1:
            return get_typestore(Stores.ROS1_NOETIC).deserialize_ros1(payload, msgtype)
        return TYPESTORE.deserialize_cdr(payload, msgtype)
    except Exception as error:  # generated code: damaged lengths raise errors of any kind
        raise ValueError(f'no {msgtype}') from error
