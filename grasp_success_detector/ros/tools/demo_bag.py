"""The bag of the demo: its frames, attempts and ground truth."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rosbags.highlevel import AnyReader

from grasp_success_detector.errors import BagError
from grasp_success_detector.images.decoding import decode_message
from grasp_success_detector.images.message_fields import header_stamp_ns
from grasp_success_detector.recordings import bags


@dataclass(frozen=True)
class Attempt:
    """
    One attempt to grasp; ``begin_ns`` and ``end_ns`` are times of the bag.

    :ivar success: whether the hand holds the object at the end; None if the bag does not say.
    """

    number: int
    object_name: str
    success: bool | None
    begin_ns: int
    end_ns: int


@dataclass(frozen=True)
class DemoBag:
    """
    A bag that is played to the detector; ``topic`` is its image topic as recorded.

    :ivar truth: stamp of a frame in ns -> whether the hand holds the object.
    :ivar simulated: whether the bag holds attempts, as the simulation records them.
    :ivar cameras: all image topics, if several cameras and the hand are fused; else empty.
    :ivar driver: topics of the hand's driver, if they are fused; else empty.
    """

    path: Path
    topic: str
    compressed: bool
    attempts: tuple[Attempt, ...] = ()
    truth: Mapping[int, bool] = field(default_factory=dict)
    simulated: bool = False
    cameras: tuple[str, ...] = ()
    driver: tuple[str, ...] = ()

    @property
    def played(self) -> tuple[str, ...]:
        """Topics that are played: the bag may also hold verdicts from when it was recorded."""
        return (*self.cameras, *self.driver) or (self.topic,)

    def attempt_at(self, stamp_ns: int) -> Attempt | None:
        """Return the attempt during which a frame was taken; None if there is none."""
        return next((attempt for attempt in self.attempts
                     if attempt.begin_ns <= stamp_ns <= attempt.end_ns), None)

    def frames(self, stamps: Collection[int]) -> dict[int, NDArray[np.uint8]]:
        """
        Read single frames.

        :param stamps: header stamps in ns.
        :returns: stamp -> RGB uint8 (H, W, 3).
        """
        found = {}
        with bags.open_bag(self.path) as reader:
            connections = [c for c in reader.connections if c.topic == self.topic]
            for connection, _, raw in reader.messages(connections):
                if (stamp_ns := header_stamp_ns(raw, ros1=not reader.is2)) in stamps:
                    found[stamp_ns] = decode_message(reader.deserialize(raw, connection.msgtype))
        return found


def read_demo_bag(path: Path, fused: bool = False) -> DemoBag:
    """
    Read topics, attempts and ground truth; a bag without attempts counts as one attempt.

    :param fused: take all cameras and the hand's driver, as ``simulate_grasps --cameras`` names
        them; else one camera.
    :raises BagError: the bag cannot be read, has no frames, several image topics, malformed
        attempts, or, if ``fused``, no joint states or images of different types.
    """
    with bags.open_bag(path) as reader:
        recorded = {connection.topic: connection for connection in reader.connections}
        topic = (bags.COMPRESSED_TOPIC if bags.COMPRESSED_TOPIC in recorded
                 else bags.image_topic(reader))
        msgtype = recorded[topic].msgtype
        cameras: tuple[str, ...] = ()
        driver: tuple[str, ...] = ()
        if fused:
            cameras = tuple(sorted(name for name in recorded if name.startswith('/camera')
                                   and recorded[name].msgtype == msgtype))
            driver = tuple(name for name in (
                bags.JOINT_STATES_TOPIC, bags.JOINT_COMMANDS_TOPIC, bags.TACTILE_TOPIC)
                if name in recorded)
            if bags.JOINT_STATES_TOPIC not in driver:
                raise BagError(f'{path}: no joint states on {bags.JOINT_STATES_TOPIC}; record it '
                               'with simulate_grasps --cameras 2, or leave out --fused')
        attempts = _attempts(reader)
        truth = {at: bool(message.data)
                 for at, message in _messages(reader, bags.GROUND_TRUTH_TOPIC)}
        return DemoBag(
            path, topic, msgtype.endswith('/CompressedImage'),
            attempts or (Attempt(0, '', None, 0, 2 ** 63),), truth, bool(attempts), cameras,
            driver)


def _attempts(reader: AnyReader) -> tuple[Attempt, ...]:
    attempts: list[Attempt] = []
    begun: dict[int, int] = {}
    for at, message in _messages(reader, bags.ATTEMPT_TOPIC):
        try:
            event = json.loads(message.data)
            number, kind = int(event['attempt']), event['event']
        except (ValueError, KeyError, TypeError) as error:
            raise BagError(
                f'{reader.paths[0]}: {bags.ATTEMPT_TOPIC} holds {message.data[:60]!r}; expected '
                'JSON with "attempt" and "event"') from error
        if kind == 'begin':
            begun[number] = at
        elif kind == 'end' and number in begun:
            success = event.get('success')
            attempts.append(Attempt(number, str(event.get('object', '')),
                                    None if success is None else bool(success),
                                    begun.pop(number), at))
    return tuple(attempts)


def _messages(reader: AnyReader, topic: str) -> list[tuple[int, Any]]:
    connections = [c for c in reader.connections if c.topic == topic]
    # Without connections the reader would return all messages.
    return [(at, reader.deserialize(raw, connection.msgtype))
            for connection, at, raw in reader.messages(connections)] if connections else []
