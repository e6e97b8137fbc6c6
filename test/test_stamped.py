"""
``grasp_success/stamped`` over real DDS, from a node as a process of its own.

Runs where vision_msgs can be imported; ``test/interfaces_env.sh`` makes such a place.
"""

import time

import pytest

pytest.importorskip('rclpy')
vision_msgs = pytest.importorskip('vision_msgs.msg', reason=(
    'needs vision_msgs: install ros-$ROS_DISTRO-vision-msgs, or run test/interfaces_env.sh DIR '
    'and then DIR/python -m pytest'))

from ros_processes import Detector, detector, Ears, wait_until  # noqa: E402
from sensor_msgs.msg import CompressedImage  # noqa: E402

from grasp_success_detector.files import SAMPLE_BAG, share_path  # noqa: E402
from grasp_success_detector.ros.tools.demo_bag import read_demo_bag  # noqa: E402

STALE_AFTER_S = 2.


@pytest.fixture(scope='module')
def attempts():
    """Return the sample bag's frames as (stamp in ns, jpeg) by attempt, and the attempts' ends."""
    from rosbags.highlevel import AnyReader

    bag = read_demo_bag(share_path(SAMPLE_BAG))
    frames = {attempt: [] for attempt in bag.attempts}
    with AnyReader([bag.path]) as reader:
        connections = [c for c in reader.connections if c.topic == bag.topic]
        for connection, _, raw in reader.messages(connections):
            message = reader.deserialize(raw, connection.msgtype)
            stamp = message.header.stamp
            attempt = bag.attempt_at(stamp.sec * 10 ** 9 + stamp.nanosec)
            if attempt is not None:
                frames[attempt].append((stamp, message.data))
    return frames


@pytest.fixture(scope='module')
def seen():
    ears = Ears()
    checkpoint = share_path('models/cifar_cnn_rig.safetensors')
    with detector(namespace='stamped', image_transport='compressed', checkpoint=checkpoint,
                  device='cpu', stale_after_s=STALE_AFTER_S) as child:
        yield Detector(ears, child, 'stamped', CompressedImage, 'image/compressed')
    ears.close()


@pytest.fixture(scope='module')
def stamped(seen):
    """Return the list of stamped messages, which grows."""
    heard = seen.ears.listen(vision_msgs.Classification, '/stamped/grasp_success/stamped')
    wait_until(lambda: heard)   # the heartbeat: the two sides know each other
    return heard


def message(stamp, data, frame_id):
    made = CompressedImage(format='jpeg', data=data.tobytes())
    made.header.stamp.sec, made.header.stamp.nanosec = stamp.sec, stamp.nanosec
    made.header.frame_id = frame_id
    return made


def answer(stamped, header):
    """Wait for the verdict on one frame."""
    def found():
        return [m for m in list(stamped) if m.header == header
                and [r.class_id for r in m.results[1:]] != ['stale']]
    return wait_until(found)[-1]


@pytest.mark.parametrize('success', [True, False])
def test_every_frame_is_answered_under_its_own_header(seen, stamped, attempts, success):
    attempt = [attempt for attempt in attempts if attempt.success is success][-1]
    said = []
    for stamp, data in attempts[attempt][-20:]:
        frame = message(stamp, data, 'camera')
        seen.camera.publish(frame)
        classification = answer(stamped, frame.header)
        best = classification.results[0]
        assert type(classification).__module__.startswith('vision_msgs.msg')
        if best.class_id == 'unknown':
            assert best.score == 0. and classification.results[1].class_id
        else:
            assert len(classification.results) == 1
            assert 0. <= best.score <= 1.
            # The same as on the topics without a header.
            wait_until(lambda best=best: seen.confidences[-1].data == pytest.approx(best.score))
            wait_until(lambda best=best: seen.verdicts[-1].data == (best.class_id == 'success'))
        said.append(best.class_id)
    assert said[-1] == ('success' if success else 'failure')
    assert said[0] == 'unknown', 'one frame is too few'


def test_a_camera_that_stops_is_unknown_and_says_why(seen, stamped, attempts):
    attempt = next(attempt for attempt in attempts if attempt.success)
    frames = [message(*frame, 'camera') for frame in attempts[attempt][-8:]]
    for frame in frames:
        shown = time.monotonic()
        seen.camera.publish(frame)
        answer(stamped, frame.header)
    assert answer(stamped, frames[-1].header).results[0].class_id == 'success'
    wait_until(lambda: stamped[-1].results[0].class_id == 'unknown')
    assert time.monotonic() - shown >= STALE_AFTER_S, 'known for as long as it is not stale'
    assert [(r.class_id, r.score) for r in stamped[-1].results] == [
        ('unknown', 0.), ('stale', 0.)]
    assert stamped[-1].header == frames[-1].header
