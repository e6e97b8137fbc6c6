"""What a bag says about the hand's motion: joint states and commands of the driver."""

from collections import defaultdict
from collections.abc import Sequence
import sqlite3
from typing import Any

import numpy as np
from rosbags.typesys import get_typestore, Stores

from grasp_success_detector.errors import BagError
from grasp_success_detector.labelling.cutting import closure, command_times, opening_times
from grasp_success_detector.recordings.bags import TYPESTORE
from grasp_success_detector.recordings.reader import open_storage, StorageFile

_JOINTS, _STRING = 'sensor_msgs/msg/JointState', 'std_msgs/msg/String'
#: Last parts of the topics on which the Allegro hand's drivers take the name of a grasp.
_COMMAND_TOPICS = ('lib_cmd', 'grasp_cmd')
#: Number of joints of the Allegro hand, by which its topic is chosen among several.
_HAND_JOINTS = 16


def attempts_by_motion(files: Sequence[StorageFile]) -> tuple[list[int], str]:
    """
    Return when attempts begin, by the driver's commands, else by the motion of the joints.

    :param files: files of a bag.
    :returns: times of recording in ns, and by what they were found; no times if by nothing.
    """
    commands, joints = _messages(files)
    if times := command_times(sorted(commands)):
        return times, "the driver's commands"
    for samples in sorted(joints.values(), key=_likeliness, reverse=True):
        width = len(samples[0][1])
        usable = sorted((time, values) for time, values in samples if len(values) == width)
        positions = np.array([values for _, values in usable], float)
        if width and np.isfinite(positions).all() and (
                times := opening_times([time for time, _ in usable], closure(positions))):
            return times, "the motion of the hand's joints"
    return [], ''


def _likeliness(samples: Sequence[tuple[int, tuple[float, ...]]]) -> tuple[bool, int]:
    return len(samples[0][1]) == _HAND_JOINTS, len(samples)


def _messages(files: Sequence[StorageFile]) -> tuple[
        list[tuple[int, str]], dict[str, list[tuple[int, tuple[float, ...]]]]]:
    """Return commands with their times, and joint positions with their times by topic."""
    commands: list[tuple[int, str]] = []
    joints: dict[str, list[tuple[int, tuple[float, ...]]]] = defaultdict(list)
    for file in files:
        try:
            with open_storage(file) as storage:
                for message in storage.messages():
                    is_command = (message.msgtype == _STRING and
                                  message.topic.rpartition('/')[2] in _COMMAND_TOPICS)
                    if not is_command and message.msgtype != _JOINTS:
                        continue
                    try:
                        content = _content(
                            bytes(storage.payload(message.location)), message.msgtype,
                            message.ros1)
                    except ValueError:
                        continue    # damaged: the others are enough
                    if is_command:
                        commands.append((message.received_ns, str(content.data)))
                    else:
                        joints[message.topic].append((
                            message.received_ns, tuple(np.asarray(content.position).tolist())))
        except (BagError, sqlite3.DatabaseError):
            continue
    return commands, joints


def _content(payload: bytes, msgtype: str, ros1: bool) -> Any:
    try:
        if ros1:
            return get_typestore(Stores.ROS1_NOETIC).deserialize_ros1(payload, msgtype)
        return TYPESTORE.deserialize_cdr(payload, msgtype)
    except Exception as error:  # generated code: damaged lengths raise errors of any kind
        raise ValueError(f'no {msgtype}') from error
