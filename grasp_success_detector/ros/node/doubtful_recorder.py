"""Keep the seconds around doubtful verdicts as small bags, for people to label."""

from collections import deque
from datetime import datetime, timezone
from pathlib import Path
from threading import Condition, Thread
import time
from typing import Any, NamedTuple

from rclpy.serialization import serialize_message
from std_msgs.msg import Bool, Float32

from grasp_success_detector.console import needing
from grasp_success_detector.decision import Decision, NS_PER_S, Reason
from grasp_success_detector.errors import ConfigError, one_line
from grasp_success_detector.files import expanded, new_folder

#: Span that is kept before the first and after the last doubtful verdict, seconds.
AROUND_S = 1.

#: From the first doubtful verdict to the end of its bag at the latest, seconds.
LONGEST_S = 5.

#: Most bytes of messages in memory; one more such amount may just be written.
MOST_BYTES = 64 * 2 ** 20

#: Difference of mean P(success) to the threshold below which a decided verdict is doubtful.
NEAR_THRESHOLD = 0.1

#: Reasons of UNKNOWN that tell nothing about the frames.
_EXPECTED = (Reason.NO_FRAMES, Reason.TOO_FEW_FRAMES, Reason.INACTIVE, Reason.DISABLED,
             Reason.NO_CLOCK)

_LOOK_S = 0.2
_WARNING_PERIOD_S = 60.
_BYTES_PER_MB = 10 ** 6


class _Message(NamedTuple):
    topic: str
    monotonic_ns: int
    wall_ns: int
    data: bytes


def doubt(decision: Decision, threshold: float, probability: float | None) -> str:
    """
    Return in one word why a verdict is doubtful; '' if it is not.

    :param threshold: mean P(success) from which the verdict is SUCCESS.
    :param probability: P(success) of the newest frame alone; None if it was not judged.
    """
    if decision.reason is not Reason.DECIDED:
        return '' if decision.reason in _EXPECTED else decision.reason.value
    mean = decision.probability
    if mean is not None and abs(mean - threshold) < NEAR_THRESHOLD:
        return 'near_threshold'
    if probability is not None and (probability >= threshold) is not decision.holds_object:
        return 'overruled'
    return ''


class DoubtfulRecorder:
    """
    Write the received messages and the verdicts around doubtful verdicts as bags (mcap).

    A thread of its own writes; the callers only append to a bounded list. One bag holds what
    came from AROUND_S before the first doubtful verdict to AROUND_S after the last one, LONGEST_S
    at most; doubt that lasts longer is not recorded again before verdicts are sure for AROUND_S.
    """

    def __init__(self, folder: str, max_mb: int, topics: dict[str, str], logger: Any) -> None:
        """
        Prepare the folder; raises a ConfigError if it cannot be used or rosbags is missing.

        :param max_mb: size of the folder in 10^6 bytes from which nothing more is written.
        :param topics: topic -> type of camera, verdict and confidence, in this order.
        """
        with needing('bags', 'record_doubtful'):
            import rosbags.rosbag2  # noqa: F401
        self._folder, self._max_mb = expanded(folder), max_mb
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f'record_doubtful: {self._folder}: expected a folder that can be '
                              f'written ({error.strerror})') from error
        self._topics, self._logger = topics, logger
        self._camera, self._verdict, self._confidence = topics
        self._changed = Condition()
        self._messages: deque[_Message] = deque()
        self._bytes = 0
        self._why, self._began_ns = '', 0   # of the bag that is being collected
        self._doubted_ns = -2 * NS_PER_S    # when the last doubtful verdict was published
        self._lasting = False               # the last bag has ended, its doubt has not
        self._is_full = False
        self._thread: Thread | None = None

    def start(self) -> None:
        """Take messages from now on, with nothing collected."""
        with self._changed:
            self._messages.clear()
            self._bytes, self._why, self._lasting = 0, '', False
            self._thread = Thread(target=self._run, name='doubtful', daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Write what is being collected, and take no more messages."""
        with self._changed:
            thread, self._thread = self._thread, None
            self._changed.notify()
        if thread is not None:
            thread.join(timeout_s)

    def frame(self, data: bytes) -> None:
        """Take a frame's message as it was received, serialized."""
        with self._changed:
            self._append(self._camera, data)

    def said(self, decision: Decision, threshold: float, probability: float | None) -> None:
        """Take a verdict that was published; arguments as for :func:`doubt`."""
        with self._changed:
            self._append(self._confidence, serialize_message(Float32(data=decision.confidence)))
            self._append(self._verdict, serialize_message(Bool(data=decision.holds_object)))
            now_ns = time.monotonic_ns()
            if not (why := doubt(decision, threshold, probability)):
                return
            calm = now_ns - self._doubted_ns >= AROUND_S * NS_PER_S
            self._doubted_ns = now_ns
            if not self._why and (calm or not self._lasting):
                self._why, self._began_ns, self._lasting = why, now_ns, False

    def _append(self, topic: str, data: bytes) -> None:
        now_ns = time.monotonic_ns()
        if self._thread is None or (self._why and self._bytes >= MOST_BYTES):
            return
        self._messages.append(_Message(topic, now_ns, time.time_ns(), data))
        self._bytes += len(data)
        while not self._why and self._messages and (
                self._bytes > MOST_BYTES // 2
                or now_ns - self._messages[0].monotonic_ns > AROUND_S * NS_PER_S):
            self._bytes -= len(self._messages.popleft().data)

    def _run(self) -> None:
        me = self._thread
        goes_on = True
        while goes_on:
            with self._changed:
                self._changed.wait(_LOOK_S)
                goes_on = self._thread is me
                if not self._why or (goes_on and not self._is_due(time.monotonic_ns())):
                    continue
                why, messages, self._messages = self._why, self._messages, deque()
                self._why, self._bytes = '', 0
                self._lasting = (
                    time.monotonic_ns() - self._doubted_ns < AROUND_S * NS_PER_S)
            try:
                self._write(why, messages)
            except Exception as error:  # noqa: BLE001 - a full disk, say, must not end the node
                self._logger.warning(f'record_doubtful: not kept: {one_line(error)}',
                                     throttle_duration_sec=_WARNING_PERIOD_S)

    def _is_due(self, now_ns: int) -> bool:
        return (now_ns - self._doubted_ns >= AROUND_S * NS_PER_S
                or now_ns - self._began_ns >= LONGEST_S * NS_PER_S or self._bytes >= MOST_BYTES)

    def _write(self, why: str, messages: deque[_Message]) -> None:
        # Imported here because nodes that do not record need none of it.
        from rosbags.rosbag2 import StoragePlugin, Writer

        from grasp_success_detector.recordings.bags import BAG_VERSION, TYPESTORE

        if not any(message.topic == self._camera for message in messages):
            return
        size = sum(len(message.data) for message in messages) + _size(self._folder)
        if size > self._max_mb * _BYTES_PER_MB:
            if not self._is_full:
                self._logger.warning(
                    f'record_doubtful: {self._folder} has reached record_doubtful_max_mb = '
                    f'{self._max_mb}; nothing more is recorded until bags are moved away')
            self._is_full = True
            return
        self._is_full = False
        at = datetime.fromtimestamp(messages[0].wall_ns / NS_PER_S, timezone.utc)
        out = self._folder / f'{at:%Y%m%dT%H%M%S}_{at.microsecond // 1000:03d}_{why}'
        with new_folder(out, ConfigError) as partial:
            bag = partial / out.name    # its file is named after it
            with Writer(bag, version=BAG_VERSION, storage_plugin=StoragePlugin.MCAP) as writer:
                connections = {topic: writer.add_connection(topic, kind, typestore=TYPESTORE)
                               for topic, kind in self._topics.items()}
                for message in messages:
                    writer.write(connections[message.topic], message.wall_ns, message.data)
            for file in bag.iterdir():
                file.rename(partial / file.name)
            bag.rmdir()
        self._logger.info(f'record_doubtful: {out}')


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob('*') if file.is_file())
