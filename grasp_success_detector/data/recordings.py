"""Labelled frames from bags whose ground truth lies on a ``std_msgs/Bool`` topic."""

from collections.abc import Iterable
from dataclasses import dataclass
import json
from pathlib import Path
from typing import Any

from rosbags.highlevel import AnyReader

from grasp_success_detector.data.bags import image_topic, open_bag
from grasp_success_detector.data.topics import ATTEMPT_TOPIC, GROUND_TRUTH_TOPIC
from grasp_success_detector.errors import BagError, DatasetError
from grasp_success_detector.labels import Label


@dataclass(frozen=True)
class LabelledFrame:
    """
    One frame with what is known of it; the picture stays encoded until it is needed.

    :ivar message: ``Image`` or ``CompressedImage``, for ``image.decode_message``.
    :ivar label: ground truth.
    :ivar source: name of the bag.
    :ivar attempt: unique over all sources, such as ``'rig_train/17'``; never in two splits.
    :ivar stamp_ns: the frame's header stamp.
    """

    message: Any
    label: Label
    source: str
    attempt: str
    stamp_ns: int


def read_labelled_frames(bags: Iterable[Path], topic: str | None = None) -> list[LabelledFrame]:
    """
    Read every frame that has a label, in order of time within each bag.

    :param topic: image topic; None where each bag has one only.
    :raises BagError: a bag that cannot be read, or lacks frames, labels or attempts.
    :raises DatasetError: two bags of one name, whose attempts could not be told apart.
    """
    frames: list[LabelledFrame] = []
    sources: set[str] = set()
    for bag in bags:
        source = bag.resolve().name
        if source in sources:
            raise DatasetError(f'{bag}: a second bag named {source}; rename one of them')
        sources.add(source)
        with open_bag(bag) as reader:
            frames += _frames_of(reader, source, topic)
    return frames


def _frames_of(reader: AnyReader, source: str, topic: str | None) -> list[LabelledFrame]:
    bag = reader.paths[0]
    topic = image_topic(reader, topic)
    labels: dict[int, Label] = {}
    attempts: list[tuple[int, int]] = []
    frames: list[LabelledFrame] = []
    # Two passes: with equal stamps nothing says whether label or frame is stored first.
    for connection, stamp_ns, data in reader.messages(
            [c for c in reader.connections if c.topic in (GROUND_TRUTH_TOPIC, ATTEMPT_TOPIC)]):
        message: Any = reader.deserialize(data, connection.msgtype)
        if connection.topic == GROUND_TRUTH_TOPIC:
            labels[stamp_ns] = Label(bool(message.data))
        elif (event := json.loads(message.data))['event'] == 'begin':
            attempts.append((stamp_ns, int(event['attempt'])))
    for connection, stamp_ns, data in reader.messages(
            [c for c in reader.connections if c.topic == topic]):
        if stamp_ns not in labels:
            continue
        while len(attempts) > 1 and attempts[1][0] <= stamp_ns:
            attempts.pop(0)
        if not attempts or attempts[0][0] > stamp_ns:
            raise BagError(f'{bag}: a labelled frame lies before the first attempt on '
                           f'{ATTEMPT_TOPIC}; without attempts no honest split can be made')
        message = reader.deserialize(data, connection.msgtype)
        stamp = message.header.stamp
        frames.append(LabelledFrame(message, labels[stamp_ns], source,
                                    f'{source}/{attempts[0][1]}',
                                    stamp.sec * 10 ** 9 + stamp.nanosec))
    if not frames:
        raise BagError(f'{bag}: no frame of {topic} has a label on {GROUND_TRUTH_TOPIC} '
                       '(std_msgs/Bool with the bag time of its frame)')
    return frames
