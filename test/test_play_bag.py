"""The bag player as a process of its own, received over real DDS."""

import signal
import struct
import time

import pytest

rclpy = pytest.importorskip('rclpy')

from rclpy.qos import (  # noqa: E402
    QoSDurabilityPolicy,
    QoSHistoryPolicy,
    QoSProfile,
    QoSReliabilityPolicy,
)
from rclpy.serialization import serialize_message  # noqa: E402
from rig_bag import BEGIN_NS, NS_PER_S, write_rig_bag  # noqa: E402
from ros_processes import Ears, run, running, wait_until  # noqa: E402
from rosgraph_msgs.msg import Clock  # noqa: E402
from sensor_msgs.msg import CompressedImage, Image  # noqa: E402
from std_msgs.msg import Bool, String  # noqa: E402

from grasp_success_detector.errors import ConfigError  # noqa: E402
from grasp_success_detector.recordings.bags import (  # noqa: E402
    ATTEMPT_TOPIC,
    COMPRESSED_TOPIC,
    GROUND_TRUTH_TOPIC,
    open_bag,
)
from grasp_success_detector.ros.tools.bag_player import (  # noqa: E402
    message_class,
    Playback,
    recorded_qos,
    restamped,
)

RAW_IMAGE = Image(height=1, width=2, encoding='rgb8', step=6, data=bytes(range(6)))


@pytest.fixture(scope='module')
def bag(tmp_path_factory):
    path = tmp_path_factory.mktemp('bag') / 'rig'
    return path, write_rig_bag(path, unknown_type=True)


@pytest.fixture
def ears():
    listening = Ears()
    yield listening
    listening.close()


def stamps_ns(messages):
    return [m.header.stamp.sec * NS_PER_S + m.header.stamp.nanosec for m in messages]


def test_every_message_reaches_a_reliable_subscriber(bag, ears):
    path, frames = bag
    images = ears.listen(CompressedImage, COMPRESSED_TOPIC)
    truth = ears.listen(Bool, GROUND_TRUTH_TOPIC)
    events = ears.listen(String, ATTEMPT_TOPIC)
    began = time.monotonic()
    child = run('play_bag', path, '--wait', 30)
    assert child.returncode == 0, child.output
    assert time.monotonic() - began >= (frames[-1][0] - frames[0][0]) / NS_PER_S
    assert f'played {2 * len(frames) + 4} messages' in child.output
    assert 'skipped /odd: no_such_msgs/msg/Odd is not installed here' in child.output
    wait_until(lambda: len(images) == len(frames) and len(truth) == len(frames))
    assert [(stamp, bytes(image.data)) for stamp, image in zip(
        stamps_ns(images), images, strict=True)] == frames
    assert len(events) == 4


def test_rate_topics_remap_and_restamp(bag, ears):
    path, frames = bag
    images = ears.listen(CompressedImage, '/elsewhere')
    others = ears.listen(Bool, GROUND_TRUTH_TOPIC)
    before = time.time_ns()
    child = run('play_bag', path, '--wait', 30, '--rate', 4, '--topics', COMPRESSED_TOPIC,
                '--restamp', '--ros-args', '-r', f'{COMPRESSED_TOPIC}:=/elsewhere')
    assert child.returncode == 0, child.output
    wait_until(lambda: len(images) == len(frames))
    stamps = stamps_ns(images)
    assert before < stamps[0] and stamps == sorted(stamps) and stamps[-1] < time.time_ns()
    recorded_s = (frames[-1][0] - frames[0][0]) / NS_PER_S
    assert (stamps[-1] - stamps[0]) / NS_PER_S >= recorded_s / 4 - 0.05
    assert [bytes(image.data) for image in images] == [jpeg for _, jpeg in frames]
    assert others == []


def test_loop_and_clock_until_ctrl_c(bag, ears):
    path, frames = bag
    clocks = ears.listen(Clock, '/clock')
    images = ears.listen(CompressedImage, COMPRESSED_TOPIC)
    with running('play_bag', path, '--rate', 20, '--loop', '--clock', 200, '--wait', 30,
                 '--wait-for', COMPRESSED_TOPIC) as child:
        wait_until(lambda: len(images) > 2 * len(frames))
        child.send_signal(signal.SIGINT)
        assert child.wait(timeout=20.) == 130
    assert 'Traceback' not in child.output
    times = [message.clock.sec * NS_PER_S + message.clock.nanosec for message in clocks]
    assert BEGIN_NS <= min(times) and max(times) <= frames[-1][0] + NS_PER_S
    assert any(later < earlier for earlier, later in zip(times, times[1:], strict=False))


def test_the_recorded_qos_is_offered(bag):
    with open_bag(bag[0]) as reader:
        profiles = {c.topic: recorded_qos(c) for c in reader.connections}
    truth = profiles[GROUND_TRUTH_TOPIC]
    assert (truth.depth, truth.durability, truth.reliability) == (
        7, QoSDurabilityPolicy.TRANSIENT_LOCAL, QoSReliabilityPolicy.RELIABLE)
    silent = profiles[COMPRESSED_TOPIC]
    assert (silent.depth, silent.durability, silent.reliability, silent.history) == (
        10, QoSDurabilityPolicy.VOLATILE, QoSReliabilityPolicy.RELIABLE,
        QoSHistoryPolicy.KEEP_LAST)


def test_a_late_subscriber_gets_what_was_latched(bag, ears):
    path, _ = bag
    with running('play_bag', path, '--wait', 0, '--topics', GROUND_TRUTH_TOPIC, '--rate', 1000,
                 '--loop') as child:
        child.wait_for('no subscriber of')
        latched = ears.listen(Bool, GROUND_TRUTH_TOPIC, QoSProfile(
            depth=10, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL))
        wait_until(lambda: latched)


@pytest.mark.parametrize('order', ['<', '>'])
def test_restamped_changes_the_stamp_and_nothing_else(order):
    # CDR of a header and what follows: encoding, sec, nanosec, the rest.
    encoding = b'\x00\x01\x00\x00' if order == '<' else b'\x00\x00\x00\x00'
    raw = encoding + struct.pack(f'{order}iI', 12, 34) + b'the rest'
    changed = restamped(raw, 56 * NS_PER_S + 78)
    assert changed == encoding + struct.pack(f'{order}iI', 56, 78) + b'the rest'


def test_restamped_is_what_rclpy_reads():
    from rclpy.serialization import deserialize_message

    changed = deserialize_message(restamped(serialize_message(RAW_IMAGE), 5 * NS_PER_S + 6), Image)
    assert (changed.header.stamp.sec, changed.header.stamp.nanosec) == (5, 6)
    assert changed.data == RAW_IMAGE.data


def test_message_class_of_a_missing_type():
    assert message_class('sensor_msgs/msg/Image') is Image
    with pytest.raises(ImportError):
        message_class('no_such_msgs/msg/Odd')
    with pytest.raises(AttributeError):
        message_class('std_msgs/msg/Odd')


@pytest.mark.parametrize('rate', [0., -1., float('nan'), float('inf')])
def test_a_rate_that_is_none_is_refused(rate):
    with pytest.raises(ConfigError, match=r'rate .* \(expected a number above 0\)'):
        Playback(rate=rate)


@pytest.mark.parametrize(('arguments', 'code', 'line'), [
    (['/no/such'], 1, 'error: /no/such: no such bag'),
    ([__file__], 1, f'error: {__file__}: not a readable bag'),
    (['BAG', '--topics', '/nope'], 1, f'no topic /nope; topics here: {ATTEMPT_TOPIC}, '),
    (['BAG', '--wait-for', '/nope'], 1, 'cannot wait for /nope: not among the topics played'),
    (['BAG', '--rate', '0'], 1, 'rate 0.0 (expected a number above 0)'),
    (['BAG', '--wait', '-1'], 2, 'argument --wait: -1: expected 0 or more seconds'),
    (['BAG', '--delay', 'soon'], 2, 'argument --delay: soon: expected 0 or more seconds'),
    (['BAG', '--topics', '/odd'], 3, 'no message to play'),
])
def test_reasons_why_a_bag_cannot_be_played(bag, arguments, code, line):
    child = run('play_bag', *(str(bag[0]) if a == 'BAG' else a for a in arguments))
    assert line in child.output
    assert child.returncode == code
    assert 'Traceback' not in child.output


def test_help_names_an_example():
    child = run('play_bag', '--help')
    assert (child.returncode, 'examples:' in child.output) == (0, True)
