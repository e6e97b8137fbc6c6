"""One camera is told from several by the headers of the frames."""

from itertools import count

import numpy as np
import pytest
from rosbags.typesys import get_typestore, Stores

from grasp_success_detector.decision import NS_PER_S
from grasp_success_detector.ros.node.frame_source import FrameHeader, FrameSource, read_header

STORE = get_typestore(Stores.ROS2_JAZZY)


def frames(begin_s, frame_id=b'camera', begin=None, rate_hz=10.):
    """Yield header and sequence number of frame after frame of one camera."""
    for number in count():
        yield (FrameHeader(int((begin_s + number / rate_hz) * NS_PER_S), frame_id),
               None if begin is None else begin + number)


def taken(count_, *cameras):
    """Return frames of cameras in turn, ``count_`` of each."""
    return [next(camera) for _ in range(count_) for camera in cameras]


def looked(source, received, rate_hz=20.):
    """Return at which frames the source changed, and whether it is ambiguous at the end."""
    changes = [number for number, (header, sequence) in enumerate(received)
               if source.look(header, sequence, int(number / rate_hz * NS_PER_S))]
    return changes, source.is_ambiguous(int(len(received) / rate_hz * NS_PER_S))


@pytest.mark.parametrize(('first', 'second'), [
    ((100., b'left'), (100., b'right')),            # by their frame_ids alone
    ((100., b''), (50., b'')), ((100., b''), (99.98, b'')),     # by their stamps
    ((100., b'', 500), (100.01, b'', 20)), ((100., b'', 5), (100.01, b'', 5))])     # by publisher
def test_two_cameras_are_ambiguous_at_the_fourth_frame(first, second):
    received = taken(10, frames(*first), frames(*second))
    changes, ambiguous = looked(FrameSource(), received)
    assert ambiguous
    assert changes[:3] == [1, 2, 3]


@pytest.mark.parametrize('received', [
    taken(30, frames(100., b'camera', 1)),
    # A driver that was started anew, another camera in its place, a recording from its beginning.
    taken(20, frames(100., b'camera', 500)) + taken(20, frames(102., b'camera', 1)),
    taken(20, frames(100., b'a')) + taken(20, frames(102., b'b')),
    (taken(20, frames(100.)) + taken(20, frames(98.))) * 2,
    [(FrameHeader(0, b''), number) for number in range(20)],        # no stamps
    [(FrameHeader(100 * NS_PER_S, b''), number) for number in range(20)]])  # one for ever
def test_one_camera_is_not(received):
    changes, ambiguous = looked(FrameSource(), received)
    assert not ambiguous
    assert len(changes) <= 3


def test_it_is_over_when_one_camera_has_gone():
    source = FrameSource()
    left, right = frames(100.), frames(50.)
    assert looked(source, taken(10, left, right))[1]
    rest = [source.look(*next(left), (2 + number / 10) * NS_PER_S) for number in range(30)]
    assert not any(rest[1:])
    assert not source.is_ambiguous(5 * NS_PER_S)


def test_stamps_of_an_unsteady_clock_do_not_count():
    received = taken(10, frames(100.), frames(50.))
    assert looked(FrameSource(stamps=False), received) == ([], False)


@pytest.mark.parametrize('little_endian', [True, False])
@pytest.mark.parametrize('kind', ['Image', 'CompressedImage'])
def test_the_header_of_a_serialized_message(kind, little_endian):
    msgtype = f'sensor_msgs/msg/{kind}'
    header = STORE.types['std_msgs/msg/Header'](
        STORE.types['builtin_interfaces/msg/Time'](-3, 7), 'camera')
    data = np.zeros(5, np.uint8)
    fields = (header, 1, 5, 'mono8', 0, 5, data) if kind == 'Image' else (header, 'jpeg', data)
    message = bytes(STORE.serialize_cdr(
        STORE.types[msgtype](*fields), msgtype, little_endian=little_endian))
    assert read_header(message) == (7 - 3 * NS_PER_S, b'camera\0')
    assert read_header(message[:20]) is None        # cut off within the frame_id
    assert read_header(b'') is None
