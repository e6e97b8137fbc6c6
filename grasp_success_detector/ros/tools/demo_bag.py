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
    """

    path: Path
    topic: str
    compressed: bool
    attempts: tuple[Attempt, ...] = ()
    truth: Mapping[int, bool] = field(default_factory=dict)
    simulated: bool = False

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


def read_demo_bag(path: Path) -> DemoBag:
    """
    Read topics, attempts and ground truth; a bag without attempts counts as one attempt.

    :raises BagError: the bag cannot be read, has no frames, several image topics, or malformed
        attempts.
    """
    with bags.open_bag(path) as reader:
        recorded = {connection.topic: connection for connection in reader.connections}
        topic = (bags.COMPRESSED_TOPIC if bags.COMPRESSED_TOPIC in recorded
                 else bags.image_topic(reader))
        attempts = _attempts(reader)
        truth = {at: bool(message.data)
                 for at, message in _messages(reader, bags.GROUND_TRUTH_TOPIC)}
        return DemoBag(
            path, topic, recorded[topic].msgtype.endswith('/CompressedImage'),
            attempts or (Attempt(0, '', None, 0, 2 ** 63),), truth, simulated=bool(attempts))


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
