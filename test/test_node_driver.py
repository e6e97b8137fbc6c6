"""The node beside the hand's driver: stand-ins for all drivers, player and node as processes."""

from dataclasses import replace
import json

import numpy as np
import pytest

rclpy = pytest.importorskip('rclpy')
torch = pytest.importorskip('torch')
pytest.importorskip('rosbags')

from node_pictures import failure_frame, raw_message, success_frame  # noqa: E402
from rclpy.qos import QoSDurabilityPolicy, QoSProfile  # noqa: E402
from rclpy.serialization import serialize_message  # noqa: E402
from ros_processes import detector, Ears, running, wait_until  # noqa: E402
from rosbags.rosbag2 import Writer  # noqa: E402
from rosbags.typesys import get_typestore, Stores  # noqa: E402
from stand_in_driver import CLOSED, fingers, KINDS, OPENED  # noqa: E402
from std_msgs.msg import Bool, String  # noqa: E402

from grasp_success_detector.hand.closure import HandReference  # noqa: E402
from grasp_success_detector.hand.model import read_hand  # noqa: E402
from grasp_success_detector.networks.architectures import build, default_preprocessing  # noqa: E402
from grasp_success_detector.networks.checkpoint import CheckpointMetadata, save  # noqa: E402

pytestmark = pytest.mark.slow

NS_PER_S = 1_000_000_000
TACTILE = ('v5_sense', 'v6')
LATCHED = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)


def write_bag(path, frame):
    """Write a minute of one picture at 15 frames/s; noise keeps it from being frozen."""
    typestore, noise = get_typestore(Stores.ROS2_JAZZY), np.random.default_rng(0)
    with Writer(path, version=9) as writer:
        connection = writer.add_connection('/camera/image_raw', 'sensor_msgs/msg/Image',
                                           typestore=typestore)
        for number in range(15 * 60):
            stamp_ns = 1_700_000_000 * NS_PER_S + number * NS_PER_S // 15
            picture = frame.copy()
            picture[0, 0] = noise.integers(0, 256, 3)
            message = raw_message(picture)
            message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, NS_PER_S)
            writer.write(connection, stamp_ns, serialize_message(message))
    return path


@pytest.fixture(scope='module')
def bags(tmp_path_factory, classifier):
    """Return bags in which the camera sees a held object, and in which it sees none."""
    folder = tmp_path_factory.mktemp('bags')
    return {name: write_bag(folder / name, frame(classifier)) for name, frame in (
        ('held', success_frame), ('empty', failure_frame))}


@pytest.fixture(scope='module')
def sure_checkpoint(tmp_path_factory):
    """Return a checkpoint with random weights that is sure of what it says."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = build('cifar_cnn')
    path = tmp_path_factory.mktemp('sure') / 'sure.safetensors'
    save(path, model, CheckpointMetadata(
        'cifar_cnn', default_preprocessing('cifar_cnn'), temperature=.02))
    return path


@pytest.fixture(scope='module')
def hand_model(tmp_path_factory):
    """Return by the number of joints a file with the references of the stand-ins."""
    folder, made = tmp_path_factory.mktemp('hands'), {}
    for names in ([''] * 16, [''] * 20):
        path = folder / f'{len(names)}.json'
        reference = HandReference(tuple(fingers(OPENED, names)), tuple(fingers(CLOSED, names)),
                                  (.01,) * len(names), 5)
        replace(read_hand(), reference=reference).write(path)
        made[len(names)] = path
    return made


class Rig:
    """Node, player and driver that run, and what the node says."""

    def __init__(self, ears, node, player, driver, namespace):
        self.ears, self.node, self.player, self.driver = ears, node, player, driver
        self.verdicts = ears.listen(Bool, f'/{namespace}/grasp_success')
        self.attempts = ears.listen(String, f'/{namespace}/grasp_success/attempt', LATCHED)
        self._diagnostics = ears.diagnostics(f'/{namespace}/')
        self._teller = None if driver is None else ears.publisher(String, '/stand_in')

    def tell(self, word):
        self._teller.publish(String(data=word))

    @property
    def says(self):
        return self.verdicts[-1].data if self.verdicts else None

    def wait_for(self, **expected):
        """Wait until the diagnostics say so."""
        try:
            return wait_until(lambda: (values := self._diagnostics()) and all(
                values.get(key) == value for key, value in expected.items()) and values)
        except AssertionError as error:
            raise AssertionError(f'{error}: {expected}, but {self._diagnostics()}') from error

    def stays_false(self, verdicts=8):
        """Return whether all of some verdicts to come are false."""
        seen = len(self.verdicts)
        wait_until(lambda: len(self.verdicts) >= seen + verdicts)
        return not any(verdict.data for verdict in self.verdicts[seen:])

    def kill(self, child):
        child.kill()
        child.wait()


@pytest.fixture
def rig(settings, bags, hand_model, sure_checkpoint):
    """Return a function that starts a driver's stand-in, a player and a node beside them."""
    from contextlib import ExitStack
    with ExitStack() as stack:
        ears = Ears()
        stack.callback(ears.close)

        def start(kind, bag='held', **more):
            namespace = f'{kind}_{bag}_{len(more)}'
            names = KINDS[kind][1]
            driver = stack.enter_context(running('stand_in_driver', kind, package=''))
            node = stack.enter_context(detector(
                '-r', 'image:=/camera/image_raw', namespace=namespace, driver=kind,
                **{**settings, 'min_frames': 3, 'window_s': .5, 'threshold': .5,
                   'checkpoint': sure_checkpoint, 'hand_model': hand_model[len(names)], **more}))
            player = stack.enter_context(running('play_bag', bags[bag], '--restamp'))
            return Rig(ears, node, player, driver, namespace)
        yield start


@pytest.mark.parametrize('kind', KINDS)
def test_a_rig_with_driver_and_camera(rig, kind):
    made = rig(kind)
    made.wait_for(hand_phase='open', verdict='success')
    made.tell('hold')
    assert float(made.wait_for(hand_phase='closed', verdict='success')['hand_log_odds']) > 1
    assert made.says is True
    # The object goes, and the camera does not see it.
    made.tell('drop')
    made.wait_for(reason='contradiction', hand_pressed='0.00' if kind in TACTILE else '')
    assert made.stays_false()
    made.tell('open')
    made.wait_for(hand_phase='open')
    made.tell('hold')
    felt = made.wait_for(hand_phase='closed', hand_attempt='2', verdict='success',
                         hand_pressed='1.00' if kind in TACTILE else '')
    if kind in TACTILE:
        # Tactile sensors that fall silent count for nothing; the joints decide without them.
        made.tell('numb')
        alone = made.wait_for(hand_phase='closed', verdict='success', hand_pressed='')
        assert float(felt['hand_log_odds']) > float(alone['hand_log_odds']) + .1
    # The camera is pulled out: what the hand says now decides, and not what the camera said.
    made.kill(made.player)
    made.wait_for(window_frames='0', verdict='success')
    made.tell('drop')
    made.wait_for(hand_phase='closed', verdict='failure', failure='slipped')
    assert made.stays_false()
    made.tell('open')
    wait_until(lambda: len(made.attempts) >= 2)
    first, second = (json.loads(message.data) for message in made.attempts[:2])
    assert (first['attempt'], first['verdict'], first['reason']) == (
        1, 'unknown', 'contradiction')
    assert (second['attempt'], second['verdict'], second['reason']) == (2, 'failure', 'slipped')
    # The driver is pulled out as well: nothing is left.
    made.tell('hold')
    made.wait_for(hand_phase='closed', verdict='success')
    made.kill(made.driver)
    made.wait_for(verdict='unknown', hand_phase='')
    assert made.stays_false()
