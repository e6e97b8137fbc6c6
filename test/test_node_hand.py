"""The node looks for the hand, says when it finds none, and shows where it is; over real DDS."""

import cv2
import numpy as np
import pytest

rclpy = pytest.importorskip('rclpy')

from node_pictures import raw_message  # noqa: E402
from ros_processes import Detector, detector, run, wait_until  # noqa: E402
from sensor_msgs.msg import Image  # noqa: E402

from grasp_success_detector.files import share_path  # noqa: E402
from grasp_success_detector.images.decoding import decode_bytes  # noqa: E402
from grasp_success_detector.images.preprocessing import Preprocessing  # noqa: E402
from grasp_success_detector.inference.hand_finder import look  # noqa: E402
from grasp_success_detector.networks.architectures import build  # noqa: E402
from grasp_success_detector.networks.checkpoint import CheckpointMetadata, save  # noqa: E402
from grasp_success_detector.recordings import bags  # noqa: E402

AROUND = Preprocessing(32, 32, hand=1.5)
RAMP = np.broadcast_to(np.linspace(0, 255, 160, dtype=np.uint8)[:, None], (120, 160, 3))


@pytest.fixture(scope='module')
def with_hand():
    """Return a frame of the sample bag in which a hand is found, and where."""
    from rosbags.highlevel import AnyReader

    with AnyReader([share_path('samples/rig_attempts')], default_typestore=bags.TYPESTORE) as bag:
        connections = [c for c in bag.connections if c.topic == bags.COMPRESSED_TOPIC]
        for connection, _, data in bag.messages(connections):
            frame = decode_bytes(bag.deserialize(data, connection.msgtype).data.tobytes())
            if (view := look(frame, AROUND)).box:
                return frame, view.box
    raise AssertionError('no hand in the sample bag')


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp('around') / 'around.safetensors'
    save(path, build('cifar_cnn'), CheckpointMetadata('cifar_cnn', AROUND))
    return path


@pytest.fixture(scope='module')
def looking(ears, settings, checkpoint):
    with detector(namespace='hand', **{**settings, 'checkpoint': checkpoint, 'engine': 'torch',
                                       'threshold': 1e-6}) as child:
        yield Detector(ears, child, 'hand')


def test_a_frame_without_a_hand_makes_the_verdict_unknown(looking, with_hand):
    frame, _ = with_hand
    assert looking.ask(looking.stamp(raw_message(frame)))[0]
    looking.camera.publish(looking.stamp(raw_message(np.ascontiguousarray(RAMP))))
    wait_until(lambda: not looking.verdicts[-1].data)
    looking.camera.publish(looking.stamp(raw_message(np.ascontiguousarray(RAMP))))
    status = looking.diagnostics(lambda values: 'bad.no_hand' in values)
    assert status['reason'] in ('no_hand', 'stale')
    assert looking.ask(looking.stamp(raw_message(frame)))[0]


def test_the_overlay_frames_the_hand(looking, with_hand):
    frame, box = with_hand
    shown = looking.ears.listen(Image, '/hand/grasp_success/overlay')

    def drawn():
        looking.camera.publish(looking.stamp(raw_message(frame)))
        return shown
    wait_until(drawn)
    picture = np.frombuffer(bytes(shown[-1].data), np.uint8).reshape(frame.shape)
    changed = cv2.absdiff(picture, frame).max(2) > 40
    height, width, _ = frame.shape
    left, bottom = round(box.left * width), round(box.bottom * height)
    middle_y = round((box.top + box.bottom) / 2 * height)
    middle_x = round((box.left + box.right) / 2 * width)
    assert changed[middle_y - 3:middle_y + 3, max(left - 2, 0):left + 3].any()
    assert changed[bottom - 3:bottom + 2, middle_x - 3:middle_x + 3].any()
    assert not changed[middle_y - 3:middle_y + 3, middle_x - 3:middle_x + 3].any()


def test_a_fixed_region_needs_no_hand(ears, settings, checkpoint):
    with detector(namespace='fixed', **{
            **settings, 'checkpoint': checkpoint, 'engine': 'torch', 'threshold': 1e-6,
            'roi': '[0.1, 0.1, 0.8, 0.8]'}) as child:
        seen = Detector(ears, child, 'fixed')
        assert seen.ask(seen.stamp(raw_message(np.ascontiguousarray(RAMP))))[0]


def test_a_checkpoint_that_looks_at_whole_pictures_refuses_to_look_for_hands(random_checkpoint):
    child = run('detector_node', '--ros-args', '-p', f'checkpoint:={random_checkpoint}',
                '-p', 'roi_mode:=hand')
    assert child.returncode == 1
    assert 'this checkpoint has not learned from hands that were cut out' in child.output
