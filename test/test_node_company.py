"""The node in bad company: no clock, two cameras, killed, stopped, misnamed; over real DDS."""

from dataclasses import replace
import json
import signal
from threading import Event, Thread
import time

import pytest

rclpy = pytest.importorskip('rclpy')

from node_pictures import raw_message, success_frame  # noqa: E402
import numpy as np  # noqa: E402
from rclpy.duration import Duration  # noqa: E402
from rclpy.qos import QoSLivelinessPolicy, QoSProfile, QoSReliabilityPolicy  # noqa: E402
from ros_processes import Detector, detector, NS_PER_S, run, wait_until  # noqa: E402
from rosgraph_msgs.msg import Clock  # noqa: E402
from sensor_msgs.msg import CompressedImage, Image  # noqa: E402
from std_msgs.msg import Bool  # noqa: E402
from std_srvs.srv import Trigger  # noqa: E402

from grasp_success_detector.files import DEFAULT_CHECKPOINT, share_path  # noqa: E402
from grasp_success_detector.networks.checkpoint import Checkpoint, save  # noqa: E402

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:     # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks

#: By which a planner must have heard of a detector that is silent.
HEARD_WITHIN_S = 1.5


class Filming:
    """A camera that sends one picture at 20 frames/s for the block."""

    def __init__(self, publisher, frame, ahead_s=0., frame_id='camera'):
        self._publisher, self._message = publisher, raw_message(frame)
        self._ahead_ns = int(ahead_s * NS_PER_S)
        self._message.header.frame_id = frame_id
        self._ended = Event()
        self._thread = Thread(target=self._film, daemon=True)

    def _film(self):
        while not self._ended.wait(0.05):
            stamp = self._message.header.stamp
            stamp.sec, stamp.nanosec = divmod(time.time_ns() + self._ahead_ns, NS_PER_S)
            self._publisher.publish(self._message)

    def __enter__(self):
        self._thread.start()

    def __exit__(self, *exception):
        self._ended.set()
        self._thread.join()


@pytest.fixture(scope='module')
def parameters(settings):
    return {**settings, 'min_frames': 3, 'window_s': 1., 'stale_after_s': 1.,
            'verify_timeout_s': 1.}


def verify(seen):
    response = seen.ears.call(
        Trigger, f'/{seen.namespace}/grasp_success_detector/verify', Trigger.Request())
    return response.success, json.loads(response.message)


def test_simulated_time_without_a_clock_is_unknown(ears, parameters, classifier):
    with detector(namespace='clockless', use_sim_time='true', **parameters) as child:
        seen = Detector(ears, child, 'clockless')
        with Filming(seen.camera, success_frame(classifier)):
            for _ in range(3):
                success, answer = verify(seen)
                assert (success, answer['reason']) == (False, 'no_clock')
                assert 'nothing publishes /clock' in answer['text']
            status = seen.diagnostics(lambda values: values['reason'] == 'no_clock')
            assert status['level'] == b'\2' and 'use_sim_time' in status['message']
            assert not any(verdict.data for verdict in seen.verdicts)
            child.wait_for('use_sim_time is true, but nothing publishes /clock')
            # With a clock, but stamps of another one, no frame is known to be newer.
            clock = ears.publisher(Clock, '/clock')
            message = Clock()
            message.clock.sec = 1000
            clock.publish(message)
            wait_until(lambda: seen.verdicts[-1].data)
            success, answer = verify(seen)
            assert not success and "ahead of this node's clock" in answer['text']
            ears.node.destroy_publisher(clock)
            wait_until(lambda: not seen.verdicts[-1].data)
            assert verify(seen)[1]['reason'] == 'no_clock'


@pytest.mark.parametrize(('ahead_s', 'frame_id'), [(0., 'palm'), (-40., 'camera'),
                                                   (0., 'camera')])
def test_two_cameras_on_one_topic_are_unknown(ears, parameters, classifier, ahead_s, frame_id):
    """By their frame_ids, by their stamps, or by nothing but being two publishers."""
    name = f'shared_{frame_id}_{abs(ahead_s):.0f}'
    with detector(namespace=name, **parameters) as child:
        seen = Detector(ears, child, name)
        with Filming(seen.camera, success_frame(classifier)):
            wait_until(lambda: seen.verdicts[-1].data)
            other = ears.node.create_publisher(Image, f'/{name}/image', QoSProfile(
                depth=1, reliability=QoSReliabilityPolicy.RELIABLE))
            wait_until(other.get_subscription_count)
            with Filming(other, success_frame(classifier), ahead_s, frame_id):
                status = seen.diagnostics(lambda values: values['reason'] == 'ambiguous_source')
                assert f'several cameras publish on /{name}/image' in status['message']
                assert int(status['bad.ambiguous_source']) > 0
                before = len(seen.verdicts)
                success, answer = verify(seen)
                assert (success, answer['reason']) == (False, 'ambiguous_source')
                wait_until(lambda: len(seen.verdicts) > before + 2)
                assert not any(verdict.data for verdict in seen.verdicts[before:])
                child.wait_for(f'several cameras publish on /{name}/image')
            ears.node.destroy_publisher(other)
            wait_until(lambda: seen.verdicts[-1].data)


@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.parametrize('filmed', [True, False])
def test_a_planner_hears_of_a_silent_detector(ears, parameters, classifier, number, filmed):
    name = f'silent_{number.name}_{filmed}'
    with detector(namespace=name, **parameters) as child:
        seen = Detector(ears, child, name)
        missed, lost = [], []
        late = Duration(seconds=1.)
        subscription = ears.node.create_subscription(
            Bool, f'/{name}/grasp_success', lambda message: None, QoSProfile(
                depth=1, deadline=late, liveliness=QoSLivelinessPolicy.MANUAL_BY_TOPIC,
                liveliness_lease_duration=late),
            event_callbacks=SubscriptionEventCallbacks(
                deadline=lambda event: missed.append(time.monotonic()),
                liveliness=lambda event: event.alive_count or lost.append(time.monotonic())))
        camera = Filming(seen.camera, success_frame(classifier))
        if filmed:
            camera.__enter__()
            wait_until(lambda: seen.verdicts[-1].data)
        missed.clear()
        lost.clear()
        time.sleep(2.5)     # neither a verdict nor UNKNOWN leaves it silent
        assert not missed and not lost
        began = time.monotonic()
        child.send_signal(number)
        wait_until(lambda: missed and lost, timeout_s=10.)
        assert missed[0] - began < HEARD_WITHIN_S
        assert lost[0] - began < HEARD_WITHIN_S
        if filmed:
            camera.__exit__()
        child.kill()
        ears.node.destroy_subscription(subscription)


def test_the_topic_of_the_other_transport_is_named(ears, parameters):
    others = [ears.node.create_publisher(CompressedImage, '/raw/image/compressed', 1),
              ears.node.create_publisher(Image, '/jpeg/image', 1)]
    for namespace, transport, named in (
            ('raw', 'raw', '/raw/image has no publisher, /raw/image/compressed has: set '
                           'image_transport to compressed, or remap the topic'),
            ('jpeg', 'compressed', '/jpeg/image/compressed has no publisher, /jpeg/image has: set '
                                   'image_transport to raw')):
        with detector(namespace=namespace, image_transport=transport, **parameters) as child:
            child.wait_for(named)
    for other in others:
        ears.node.destroy_publisher(other)


@pytest.fixture(scope='module')
def stranger(tmp_path_factory):
    """Return a checkpoint to which every picture is strange, and one that it calls a success."""
    known = Checkpoint.open(share_path(DEFAULT_CHECKPOINT))
    familiarity = known.metadata.familiarity
    path = tmp_path_factory.mktemp('stranger') / 'stranger.safetensors'
    save(path, known.model, replace(
        known.metadata, threshold=1e-9, temperature=1., familiarity=replace(
            familiarity, prototypes=((1e3,) * len(familiarity.prototypes[0]),)),
        preprocessing=replace(known.metadata.preprocessing, hand=0.)))
    return path, np.random.default_rng(3).integers(0, 256, (120, 160, 3), np.uint8)


@pytest.mark.parametrize('quantile', ['0.99', '0.0'])
def test_unfamiliar_pictures_are_never_true(ears, parameters, stranger, quantile):
    checkpoint, frame = stranger
    name = 'stranger' if quantile == '0.99' else 'told_to_trust'
    with detector(namespace=name, familiarity_quantile=quantile,
                  **{**parameters, 'checkpoint': checkpoint, 'threshold': '0.0'}) as child:
        seen = Detector(ears, child, name)
        with Filming(seen.camera, frame):
            if quantile == '0.0':   # turned off: what P(success) says counts
                wait_until(lambda: seen.verdicts[-1].data)
                return
            child.wait_for('has not seen this kind of picture')
            assert seen.diagnostics(lambda values: values['reason'] == 'unfamiliar')
            success, answer = verify(seen)
            assert (success, answer['reason']) == (False, 'unfamiliar')
        assert not any(verdict.data for verdict in seen.verdicts)


def test_misspelt_parameters_end_it_with_one_line(random_checkpoint):
    child = run('detector_node', '--ros-args', '-p', f'checkpoint:={random_checkpoint}',
                '-p', 'tresholt:=0.7', '-p', 'quality:=9', '-p', 'use_sim_time:=false',
                '-p', 'qos_overrides./image.subscription.depth:=1')
    assert child.returncode == 1
    line, = [line for line in child.output.splitlines() if 'configure failed' in line]
    assert line.endswith('there is no parameter tresholt; did you mean threshold?; there is no '
                         'parameter quality; `ros2 param list` names them all')
    assert 'Traceback' not in child.output
