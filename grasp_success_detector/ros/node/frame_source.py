"""Notice that several cameras publish on one topic, from the frames' headers; needs no ROS."""

from collections import deque
import struct
from typing import NamedTuple

from grasp_success_detector.decision import NS_PER_S

#: Number of changes between sources within SPAN_NS from which there are several.
CHANGES = 3
SPAN_NS = 2 * NS_PER_S

#: Sequence number of a middleware that counts none (RMW_MESSAGE_INFO_SEQUENCE_NUMBER_UNSUPPORTED).
_UNCOUNTED = 2 ** 64 - 1
_LONGEST_FRAME_ID = 4096


class FrameHeader(NamedTuple):
    """The ``std_msgs/Header`` at the beginning of a serialized message."""

    stamp_ns: int
    frame_id: bytes


def read_header(data: bytes) -> FrameHeader | None:
    """Return the header of a serialized Image or CompressedImage; None if it is malformed."""
    # CDR (OMG DDSI-RTPS 10.2): 2 bytes of encoding, odd for little-endian, 2 of options, the data.
    if len(data) < 16:
        return None
    order = '<' if data[1] & 1 else '>'
    seconds, nanoseconds, size = struct.unpack_from(f'{order}iII', data, 4)
    if size > min(len(data) - 16, _LONGEST_FRAME_ID):
        return None
    return FrameHeader(seconds * NS_PER_S + nanoseconds, bytes(data[16:16 + size]))


class _Rising:
    """A number that rises from message to message of one source."""

    def __init__(self, repeats: bool) -> None:
        """``repeats``: whether one source may send a number twice."""
        self._repeats = repeats
        self._last: int | None = None
        self._before: int | None = None    # the highest number before the last fall

    def changes(self, number: int) -> bool:
        """Return whether the number falls, or has risen again above those before the fall."""
        last, self._last = self._last, number
        if last is None or (self._repeats and number == last):
            return False
        if number <= last:
            self._before = last if self._before is None else max(last, self._before)
            return True
        if self._before is not None and number > self._before:
            self._before = None
            return True
        return False


class FrameSource:
    """
    Tell one camera from several that publish on its topic.

    Frames change from one source to another where the frame_id changes, or where stamps or
    the publisher's sequence numbers fall, or rise again above those before the fall. A camera
    that is started anew, a recording that begins again and a clock that is set change once;
    several cameras change again and again.
    """

    def __init__(self, stamps: bool = True) -> None:
        """``stamps``: whether the stamps count; not those of a camera with an unsteady clock."""
        self._frame_id: bytes | None = None
        self._stamps = _Rising(repeats=True) if stamps else None
        self._sequence = _Rising(repeats=False)
        self._changed_ns: deque[int] = deque(maxlen=CHANGES)

    def look(self, header: FrameHeader, sequence: int | None, now_ns: int) -> bool:
        """
        Take note of one frame; return whether its source is not that of the frame before.

        :param sequence: the message's publication sequence number; None if unknown.
        :param now_ns: monotonic time of reception.
        """
        known, self._frame_id = self._frame_id, header.frame_id
        changed = known is not None and known != header.frame_id
        if self._stamps is not None and header.stamp_ns:
            changed |= self._stamps.changes(header.stamp_ns)
        if sequence is not None and sequence != _UNCOUNTED:
            changed |= self._sequence.changes(sequence)
        if changed:
            self._changed_ns.append(now_ns)
        return changed

    def is_ambiguous(self, now_ns: int) -> bool:
        """Return whether frames have changed between sources often enough within SPAN_NS."""
        return len(self._changed_ns) == CHANGES and now_ns - self._changed_ns[0] < SPAN_NS
