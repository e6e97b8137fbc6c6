"""Inputs of the node: blind cameras, QoS, clocks, rates; over real DDS."""

import re
import time

import numpy as np
import pytest

rclpy = pytest.importorskip('rclpy')

from node_pictures import pictures, raw_message, success_frame  # noqa: E402
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy  # noqa: E402
from ros_processes import Detector, detector, wait_until  # noqa: E402
from rosgraph_msgs.msg import Clock  # noqa: E402
from sensor_msgs.msg import Image  # noqa: E402
from std_msgs.msg import Bool  # noqa: E402

BEST_EFFORT = QoSProfile(depth=5, reliability=QoSReliabilityPolicy.BEST_EFFORT)
LATCHED = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)


def stamped(message, seconds):
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(round(seconds * 1e9), 10 ** 9)
    return message


@pytest.fixture(scope='module')
def looking(ears, settings):
    """Return a detector that checks for blind cameras and answers true on every other frame."""
    parameters = {**settings, 'threshold': 1e-6, 'frozen_after_s': 1.}
    with detector(namespace='looking', **parameters) as child:
        yield Detector(ears, child, 'looking')


def ever_new(number):
    """Return noise that differs from one number to the next."""
    return np.random.default_rng(number).integers(20, 240, (48, 64, 3), np.uint8)


@pytest.mark.parametrize(('reason', 'value'), [('too_dark', 3), ('saturated', 254)])
def test_a_blind_camera_is_unknown_and_false(looking, reason, value):
    assert looking.ask(looking.stamp(raw_message(ever_new(value))))[0]
    blind = raw_message(np.full((48, 64, 3), value, np.uint8))
    looking.camera.publish(looking.stamp(blind))
    wait_until(lambda: not looking.verdicts[-1].data)
    looking.camera.publish(looking.stamp(blind))
    status = looking.diagnostics(lambda values: values['reason'] in (reason, 'stale'))
    assert int(status[f'bad.{reason}']) >= 1
    assert looking.confidences[-1].data == 0.
    assert looking.ask(looking.stamp(raw_message(ever_new(value + 1))))[0]


def test_a_frozen_camera_is_unknown_although_its_stamps_go_on(looking):
    same = raw_message(ever_new(5))
    assert looking.ask(looking.stamp(same))[0]
    frames = 0
    while looking.verdicts[-1].data:    # the stamps go on by 0.1 s
        looking.camera.publish(looking.stamp(same))
        frames += 1
        time.sleep(0.05)
        assert frames < 100
    assert frames >= 9
    looking.camera.publish(looking.stamp(same))
    assert looking.diagnostics(lambda values: 'bad.frozen' in values)
    assert looking.ask(looking.stamp(raw_message(ever_new(6))))[0]


def test_a_stamp_that_jumps_back_resets_the_window(ears, settings):
    """Like a bag that is played again; three frames are needed for a verdict."""
    parameters = {**settings, 'threshold': 1e-6, 'min_frames': 3, 'window_s': 1.,
                  'use_sim_time': 'true', 'stale_after_s': 20.}
    with detector(namespace='replay', **parameters) as child:
        seen = Detector(ears, child, 'replay')
        clock = ears.publisher(Clock, '/clock')

        def show(begin_s, frames):
            for number in range(frames):
                seen.camera.publish(stamped(raw_message(ever_new(number)), begin_s + number / 10))
                time.sleep(0.05)

        def tick(seconds):
            message = Clock()
            message.clock.sec = seconds
            clock.publish(message)
        tick(1000)
        seen.diagnostics(lambda values: values['reason'] == 'no_frames')    # no more no_clock
        show(1000., 4)
        wait_until(lambda: seen.verdicts[-1].data)
        show(500., 2)
        wait_until(lambda: not seen.verdicts[-1].data)
        assert seen.diagnostics(lambda values: values['reason'] == 'too_few_frames')
        show(500.2, 2)
        wait_until(lambda: seen.verdicts[-1].data)
        tick(400)       # and so does the clock itself
        wait_until(lambda: not seen.verdicts[-1].data)
        assert seen.diagnostics(lambda values: values['reason'] == 'no_frames')


def test_with_receive_time_stamps_do_not_matter(ears, settings):
    parameters = {**settings, 'threshold': 1e-6, 'min_frames': 3, 'window_s': 20.,
                  'use_receive_time': 'true', 'stale_after_s': 20., 'max_rate': 10.}
    with detector(namespace='received', **parameters) as child:
        seen = Detector(ears, child, 'received')
        # By then the node has subscribed anew, as this camera is reliable.
        seen.diagnostics(lambda values: values['reliability'] == 'reliable')
        sent, status = 0, {'received': '0'}
        # Again where a busy machine let newer frames replace too many of them.
        while int(status['received']) < 30:
            for _ in range(40):     # in 0.8 s or more, of which ten a second are let through
                seen.camera.publish(stamped(raw_message(ever_new(sent)), 5000. - sent))
                sent += 1
                time.sleep(0.02)
            status = seen.diagnostics(lambda values: True)
        wait_until(lambda: seen.verdicts[-1].data)
        assert int(status['limited']) > 0
        assert int(status['limited']) + int(status['judged']) + int(status['dropped']) <= sent


def test_a_camera_may_be_reliable_or_not_without_a_word_about_it(looking, ears):
    """Best effort loses large raw images, but frames of a best-effort camera must arrive too."""
    looking.diagnostics(lambda values: values['reliability'] == 'reliable')
    worse = ears.node.create_publisher(Image, '/looking/image', BEST_EFFORT)
    looking.diagnostics(lambda values: values['reliability'] == 'best_effort')
    wait_until(lambda: worse.get_subscription_count())
    before = len(looking.decided())
    number = 100
    while len(looking.decided()) == before:
        worse.publish(looking.stamp(raw_message(ever_new(number))))
        number += 1
        time.sleep(0.1)
    ears.node.destroy_publisher(worse)
    # While the node notices, every frame is answered, and once.
    before = len(looking.decided())
    for number in range(30):
        looking.ask(looking.stamp(raw_message(ever_new(number))))
        time.sleep(0.05)
    status = looking.diagnostics(lambda values: values['reliability'] == 'reliable')
    assert len(looking.decided()) == before + 30
    assert status['publishers'] == '1'
    assert 'not heard' not in looking.child.output


def test_an_incompatible_qos_is_logged_with_the_parameter_that_mends_it(ears, settings):
    parameters = {**settings, 'threshold': 1e-6}
    camera = ears.node.create_publisher(Image, '/unfit/image', BEST_EFFORT)
    heard = ears.listen(Bool, '/unfit/grasp_success', LATCHED)
    with detector(namespace='unfit', **parameters, reliability='reliable') as child:
        wait_until(lambda: child.output.count('start the node with -p ') >= 2)
        assert 'a publisher of /unfit/image offers less reliability than is requested' in (
            child.output)
        assert 'a subscriber of /unfit/grasp_success asks for a durability' in child.output
        mends = dict(re.findall(r'start the node with -p (\S+):=(\S+)', child.output))
    assert not heard
    assert mends == {'qos_overrides./unfit/image.subscription.reliability': 'best_effort',
                     'qos_overrides./unfit/grasp_success.publisher.durability': 'transient_local'}
    with detector(namespace='unfit', **parameters, reliability='reliable', **mends) as child:
        wait_until(lambda: camera.get_subscription_count())
        number = 0
        while not any(message.data for message in heard):
            camera.publish(stamped(raw_message(ever_new(number)), 10. + number / 10))
            number += 1
            time.sleep(0.1)
            assert child.poll() is None and number < 300
        assert 'start the node with' not in child.output
    ears.node.destroy_publisher(camera)


def test_a_message_without_a_stamp_is_taken_by_when_it_came(looking, classifier):
    message = raw_message(success_frame(classifier))
    assert looking.ask(stamped(message, 0.))[0]
    assert looking.ask(looking.stamp(raw_message(pictures()[3])))[0]
