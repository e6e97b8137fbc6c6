"""The node's checkpoint changes while it runs, as by `ros2 param set`; over real DDS."""

import re
import time

import pytest

rclpy = pytest.importorskip('rclpy')

from node_pictures import failure_frame, success_frame  # noqa: E402
from rcl_interfaces.srv import SetParameters  # noqa: E402
from rclpy.duration import Duration  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from rclpy.qos import QoSProfile  # noqa: E402
from ros_processes import Detector, detector, wait_until  # noqa: E402
from std_msgs.msg import Bool  # noqa: E402
from test_node_company import Filming  # noqa: E402

from grasp_success_detector.files import checkpoint_path  # noqa: E402
from grasp_success_detector.inference.classifier import GraspClassifier  # noqa: E402

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:     # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks

SERVICE = '/{}/grasp_success_detector/set_parameters'


def request(**values):
    return SetParameters.Request(parameters=[
        Parameter(name, value=value).to_parameter_msg() for name, value in values.items()])


def set_parameters(seen, **values):
    """Set parameters one by one, and return what is said of each."""
    return seen.ears.call(
        SetParameters, SERVICE.format(seen.namespace), request(**values)).results


@pytest.fixture
def running_node(ears, random_checkpoint):
    """Return a node that judges frames with the thresholds that its checkpoints hold."""
    with detector(namespace='changing', checkpoint=random_checkpoint, device='cpu', window_s=0.3,
                  min_frames=2, frozen_after_s='0.0') as child:
        yield Detector(ears, child, 'changing')


@pytest.mark.slow
def test_a_checkpoint_changes_between_two_frames(ears, running_node, random_checkpoint,
                                                 classifier, tmp_path):
    seen, missed = running_node, []
    tampered = tmp_path / 'tampered.safetensors'    # one digit of its threshold is another
    tampered.write_bytes(re.sub(rb'(threshold\W+0\.)(\d)', lambda found: found[1] + (
        b'1' if found[2] != b'1' else b'2'), random_checkpoint.read_bytes(), count=1))
    assert tampered.read_bytes() != random_checkpoint.read_bytes()
    # `grasp_success` comes with every frame, also while a checkpoint is loaded.
    subscription = ears.node.create_subscription(
        Bool, '/changing/grasp_success', lambda message: None,
        QoSProfile(depth=1, deadline=Duration(seconds=1.)),
        event_callbacks=SubscriptionEventCallbacks(deadline=missed.append))
    with Filming(seen.camera, success_frame(classifier)):
        former = seen.diagnostics(lambda values: values['window_frames'] not in ('0', '1'))
        missed.clear()

        for wrong, reason in (('/no/such', '/no/such: no such file'), (__file__, __file__),
                              (str(tampered), f'{tampered}: its metadata was damaged')):
            result, = set_parameters(seen, checkpoint=wrong)
            assert not result.successful
            assert result.reason.startswith(reason) and '\n' not in result.reason
        kept = seen.diagnostics(lambda values: True)
        assert kept['checkpoint_sha256'] == former['checkpoint_sha256']
        assert int(kept['judged']) > int(former['judged'])

        name = SERVICE.format('changing')
        client = ears.node.create_client(SetParameters, name)
        assert client.wait_for_service(10.)
        began, judged = time.monotonic(), len(seen.verdicts)
        first = client.call_async(request(checkpoint='efficientnet_lite0_rig'))
        second = client.call_async(request(checkpoint=str(random_checkpoint)))
        wait_until(second.done)
        refused, = second.result().results
        assert not refused.successful
        assert 'efficientnet_lite0_rig is still being loaded' in refused.reason
        assert set_parameters(seen, max_rate=25.)[0].successful     # others change meanwhile
        wait_until(first.done)
        loading_s = time.monotonic() - began
        assert first.result().results[0].successful, first.result()
        assert len(seen.verdicts) - judged > 5 * loading_s     # it went on with the former one
        ears.node.destroy_client(client)

        new = GraspClassifier.from_checkpoint(checkpoint_path('efficientnet_lite0_rig'), 'cpu')
        status = seen.diagnostics(
            lambda values: values['checkpoint_sha256'] != former['checkpoint_sha256'])
        assert status['checkpoint_sha256'] == new.sha256
        assert status['architecture'] == 'efficientnet_lite0'
        seen.child.wait_for(f'threshold {new.threshold:.4f}')
        assert not missed
        probability = float(new.predict([success_frame(classifier)])[0])
        if probability >= new.threshold:
            wait_until(lambda: seen.verdicts[-1].data)
        else:
            wait_until(lambda: not seen.verdicts[-1].data)
    ears.node.destroy_subscription(subscription)
    assert 'Traceback' not in seen.child.output


def test_a_threshold_of_the_users_stays(running_node, random_checkpoint, classifier):
    seen = running_node
    assert set_parameters(seen, threshold=0.0625)[0].successful
    assert set_parameters(seen, checkpoint='cifar_cnn_rig')[0].successful
    seen.child.wait_for('cifar_cnn_rig.safetensors, threshold 0.0625')
    with Filming(seen.camera, failure_frame(classifier)):
        seen.diagnostics(lambda values: values['window_frames'] not in ('0', '1'))
