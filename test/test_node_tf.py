"""
The node takes the hand's place from TF and CameraInfo; over real DDS, the node as a process.

Runs where tf2_msgs can be imported; ``test/interfaces_env.sh`` makes such a place.
"""

from itertools import cycle
import time

import cv2
import numpy as np
import pytest

rclpy = pytest.importorskip('rclpy')
tf2_msgs = pytest.importorskip('tf2_msgs.msg', reason=(
    'needs tf2_msgs: install ros-$ROS_DISTRO-tf2-msgs, or run test/interfaces_env.sh DIR and then '
    'DIR/python -m pytest'))

from geometry_msgs.msg import TransformStamped  # noqa: E402
from node_pictures import raw_message  # noqa: E402
from rcl_interfaces.srv import SetParameters  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from rclpy.qos import QoSDurabilityPolicy, QoSProfile  # noqa: E402
from rclpy.serialization import serialize_message  # noqa: E402
from ros_processes import Detector, detector, run, wait_until  # noqa: E402
from sensor_msgs.msg import CameraInfo, Image  # noqa: E402

from grasp_success_detector.errors import ConfigError  # noqa: E402
from grasp_success_detector.hand.drivers import DriverKind  # noqa: E402
from grasp_success_detector.hand.projection import CameraCalibration  # noqa: E402
from grasp_success_detector.images.preprocessing import Preprocessing  # noqa: E402
from grasp_success_detector.networks.architectures import build  # noqa: E402
from grasp_success_detector.networks.checkpoint import CheckpointMetadata, save  # noqa: E402
from grasp_success_detector.ros.node.hand_locator import (  # noqa: E402
    camera_info_topic,
    check_locator,
)
from grasp_success_detector.ros.node.parameters import Parameters  # noqa: E402

LATCHED = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
CAMERA = 'camera_optical_frame'
HEIGHT, WIDTH = 120, 160
K = (120., 0., 79.5, 0., 120., 59.5, 0., 0., 1.)
# Grey, and different in its rows: neither blind nor with a hand in it.
PICTURE = np.ascontiguousarray(np.broadcast_to(
    np.linspace(60, 120, HEIGHT, dtype=np.uint8)[:, None, None], (HEIGHT, WIDTH, 3)))


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp('around') / 'around.safetensors'
    save(path, build('cifar_cnn'), CheckpointMetadata(
        'cifar_cnn', Preprocessing(32, 32, hand=1.5)))
    return path


class Rig:
    """A detector that looks for the palm by TF, and what tells it where it is."""

    def __init__(self, ears, child):
        self.seen = Detector(ears, child, 'tf')
        self.ears = ears
        self.info = ears.publisher(CameraInfo, '/tf/camera_info')
        self.moving = ears.publisher(tf2_msgs.TFMessage, '/tf')
        self.static = ears.node.create_publisher(tf2_msgs.TFMessage, '/tf_static', LATCHED)
        # What is latched is a publisher's newest: malformed bytes must not replace the good one.
        self.broken_static = ears.node.create_publisher(tf2_msgs.TFMessage, '/tf_static', LATCHED)
        self.diagnostics = ears.diagnostics('/tf/')
        self.overlays = ears.listen(Image, '/tf/grasp_success/overlay')

        self.calibration = None     # sent with every frame, as cameras do

    def calibrate(self, **values):
        self.calibration = CameraInfo(**{
            'width': WIDTH, 'height': HEIGHT, 'k': K, 'distortion_model': 'plumb_bob',
            'd': [0.] * 5, **values})

    def until(self, fits, palm=None):
        """Send frames, and transforms of the same time, until the diagnostics fit."""
        def fit():
            frame = self.seen.stamp(raw_message(PICTURE))
            if palm is not None:
                self.moving.publish(transform(CAMERA, 'palm', palm, frame.header.stamp))
            if self.calibration is not None:
                self.info.publish(self.calibration)
            self.seen.camera.publish(frame)
            time.sleep(.1)
            values = self.diagnostics()
            return values if values and fits(values) else None
        return wait_until(fit)

    def says(self, reason, palm=None):
        """Return what the diagnostics say of the hand's place once they give a reason."""
        values = self.until(lambda values: values['reason'] == reason, palm)
        assert not self.seen.verdicts[-1].data
        if reason in ('no_calibration', 'no_transform', 'out_of_view'):
            assert int(values[f'bad.{reason}']) > 0
        return values['hand_place']

    def frames(self, palm, moving=False):
        """Assert that the overlay shows the box of a palm that stands there already."""
        self.overlays.clear()
        self.until(lambda values: self.overlays, palm if moving else None)
        picture = np.frombuffer(bytes(self.overlays[-1].data), np.uint8).reshape(PICTURE.shape)
        drawn = cv2.absdiff(picture, PICTURE).max(2) > 40
        box = CameraCalibration(WIDTH, HEIGHT, K).hand_box(np.array(palm), .2, HEIGHT, WIDTH)
        left, top, right, bottom = (np.array(box.edges) * (WIDTH, HEIGHT, WIDTH, HEIGHT)
                                    ).round().astype(int)
        rows, columns = slice(top + 8, bottom - 8), slice(left + 8, right - 8)
        assert drawn[rows, left - 1:left + 2].any(1).all()
        assert drawn[rows, right - 1:right + 2].any(1).all()
        assert drawn[bottom - 1:bottom + 2, columns].any(0).all()
        assert not drawn[rows, columns].any()


def transform(parent, child, place, stamp=None):
    made = TransformStamped(child_frame_id=child)
    made.header.frame_id = parent
    if stamp is not None:
        made.header.stamp = stamp
    moved = made.transform.translation
    moved.x, moved.y, moved.z = place
    return tf2_msgs.TFMessage(transforms=[made])


@pytest.fixture(scope='module')
def rig(ears, settings, checkpoint):
    with detector(namespace='tf', **{
            **settings, 'checkpoint': checkpoint, 'engine': 'torch', 'threshold': 1e-6,
            'roi_mode': 'tf', 'palm_frame': 'palm'}) as child:
        yield Rig(ears, child)


def test_a_camera_that_starts_late_and_a_hand_that_stands(rig):
    assert rig.says('no_calibration') == 'no CameraInfo was received on /tf/camera_info'
    rig.calibrate(k=[0.] * 9)
    rig.until(lambda values: 'a camera that is not calibrated' in values['hand_place'])
    rig.calibrate()
    rig.until(lambda values: values['hand_place'] == (
        f'no transform from {CAMERA} to palm: /tf and /tf_static do not name palm and {CAMERA}'))
    assert 'do not name' in rig.says('no_transform')
    wait_until(rig.static.get_subscription_count)
    rig.static.publish(transform(CAMERA, 'palm', (.1, 0., .8)))
    rig.until(lambda values: values['verdict'] == 'success')
    rig.frames((.1, 0., .8))


def test_the_box_follows_a_hand_that_moves(rig):
    for palm in ((.1, .05, .8), (-.2, .05, .9)):
        rig.until(lambda values, x=palm[0]: values['verdict'] == 'success' and (
            values['hand_place'].startswith(f'x {x:.3f}')), palm)
        rig.frames(palm, moving=True)


def test_a_hand_that_leaves_the_picture(rig):
    assert rig.says('out_of_view', (3., 0., 1.)) == 'the hand is outside the picture'
    behind = 'the hand is behind the camera'
    rig.until(lambda values: values['hand_place'] == behind, (0., 0., -1.))
    rig.until(lambda values: values['verdict'] == 'success', (0., 0., .8))


def test_transforms_that_come_no_more(rig):
    rig.until(lambda values: values['verdict'] == 'success', (0., 0., .8))
    said = rig.says('no_transform')
    assert said.startswith(f'the transform from {CAMERA} to palm is ')
    assert said.endswith(' s older than the frame')


def test_transforms_that_are_none_are_counted(rig):
    rig.moving.publish(transform(CAMERA, '', (0., 0., 1.)))
    rig.until(lambda values: int(values['hand_place_bad']) >= 1 and (
        values['verdict'] == 'success'), (0., 0., .8))


def malformed(message):
    """Yield bytes that are no such message: cut, with impossible lengths, noise."""
    random, whole = np.random.default_rng(3), serialize_message(message)
    header = whole[:4]      # which every DDS implementation sends
    for end in random.integers(4, len(whole) - 8, 20):
        yield whole[:end]
    # The first word is the number of transforms; or a second, which says nothing, and after
    # the time the length of a name.
    at = 4 if isinstance(message, tf2_msgs.TFMessage) else 12
    for length in (2, 200, len(whole), 10 ** 6, 2 ** 31, 2 ** 32 - 1):
        yield whole[:at] + length.to_bytes(4, 'little') + whole[at + 4:]
    for size in random.integers(0, 400, 20):
        yield header + random.bytes(size)
    for encapsulation in (b'\x00\x00', b'\x00\x03', b'\xff\xff'):
        yield encapsulation + whole[2:]


@pytest.mark.parametrize('topic', ['info', 'moving', 'broken_static'])
def test_malformed_bytes_are_counted_and_tell_no_place(rig, topic):
    rig.calibrate()
    before = int(rig.until(lambda values: values['reason'] == 'no_transform')['hand_place_bad'])
    wait_until(rig.broken_static.get_subscription_count)
    rig.seen.verdicts.clear()
    sent = list(malformed(rig.calibration if topic == 'info' else
                          transform(CAMERA, 'palm', (0., 0., .8))))
    waiting = cycle(sent)   # of /camera_info a node that is behind takes the newest only

    def enough():
        for _ in sent:
            getattr(rig, topic).publish(next(waiting))
            rig.seen.camera.publish(rig.seen.stamp(raw_message(PICTURE)))
            time.sleep(.02)
        return int(rig.diagnostics()['hand_place_bad']) > before + len(sent) // 2
    wait_until(enough)
    values = rig.until(lambda values: values['reason'] == 'no_transform')
    assert not any(verdict.data for verdict in rig.seen.verdicts)
    output = rig.seen.child.output
    assert 'Traceback' not in output
    warnings = output.count('a transform or calibration cannot be read')
    assert 1 <= warnings < int(values['hand_place_bad']) / 4
    rig.until(lambda values: values['verdict'] == 'success', (0., 0., .8))
    rig.says('no_transform')


def test_the_mode_changes_while_the_node_runs(rig):
    def mode(name):
        answer = rig.ears.call(
            SetParameters, '/tf/grasp_success_detector/set_parameters', SetParameters.Request(
                parameters=[Parameter('roi_mode', value=name).to_parameter_msg()]))
        assert answer.results[0].successful, answer.results[0].reason
    mode('fixed')
    assert 'hand_place' not in rig.until(lambda values: (
        values['verdict'] == 'success' and 'hand_place' not in values))
    rig.calibration = None
    mode('tf')
    assert 'no CameraInfo' in rig.says('no_calibration')
    rig.calibrate()
    # What was latched on /tf_static comes again.
    rig.until(lambda values: values['hand_place'].startswith('x 0.100 y 0.000 z 0.800'))


def test_a_palm_frame_that_nothing_tells(checkpoint):
    child = run('detector_node', '--ros-args', '-p', f'checkpoint:={checkpoint}',
                '-p', 'roi_mode:=tf')
    assert child.returncode == 1
    assert ('roi_mode = tf needs palm_frame, the frame of the palm in TF, as driver none does not '
            'tell it') in child.output


def test_what_drivers_and_topics_tell():
    assert check_locator(Parameters(driver=DriverKind.V4))[0] == 'ah_palm_link'
    assert check_locator(Parameters(driver=DriverKind.V5_SENSE))[0] == 'palm_link'
    assert check_locator(Parameters(driver=DriverKind.V5, palm_frame='hand'))[0] == 'hand'
    with pytest.raises(ConfigError, match='as driver v6 does not tell it'):
        check_locator(Parameters(driver=DriverKind.V6))
    assert camera_info_topic('/camera/image_raw/compressed') == '/camera/camera_info'
    assert camera_info_topic('/image') == '/camera_info'
