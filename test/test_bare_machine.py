"""
The node on a robot's computer: OpenCV, NumPy and PyYAML of the distribution, ROS 2, nothing else.

``make test-bare`` makes such a place by ``test/bare_env.sh`` and names its Python here.
"""

import os
from pathlib import Path
import subprocess

import numpy as np
import pytest

rclpy = pytest.importorskip('rclpy')

from ros_processes import Detector, detector, wait_until  # noqa: E402
from sensor_msgs.msg import CompressedImage  # noqa: E402

from grasp_success_detector.files import DEFAULT_CHECKPOINT, SAMPLE_BAG, share_path  # noqa: E402
from grasp_success_detector.images.decoding import decode_bytes  # noqa: E402
from grasp_success_detector.inference.classifier import GraspClassifier  # noqa: E402
from grasp_success_detector.recordings.bags import image_topic, open_bag  # noqa: E402

ROOT = Path(__file__).parent.parent
BARE_PYTHON = os.environ.get('BARE_PYTHON', '')
pytestmark = pytest.mark.skipif(not BARE_PYTHON, reason='make test-bare runs it')

FRAMES = 40
ABSENT = ('torch', 'torchvision', 'timm', 'safetensors', 'rosbags', 'rich', 'PIL', 'onnx',
          'onnxruntime', 'openvino', 'lightning', 'setuptools', 'pip')


@pytest.fixture(scope='module')
def jpegs():
    """Return compressed frames spread over the sample recording."""
    with open_bag(share_path(SAMPLE_BAG)) as reader:
        topic = image_topic(reader)
        connections = [c for c in reader.connections if c.topic == topic]
        found = [bytes(reader.deserialize(data, c.msgtype).data)
                 for c, _, data in reader.messages(connections)]
    return found[::max(1, len(found) // FRAMES)]


def in_bare_python(*arguments):
    return subprocess.run([BARE_PYTHON, *arguments], capture_output=True, text=True)


@pytest.mark.parametrize('name', ABSENT)
def test_the_place_has_no_package_of_pip(name):
    done = in_bare_python('-c', f'import {name}')
    assert done.returncode and 'ModuleNotFoundError' in done.stderr


@pytest.mark.parametrize('name', ['cv2', 'numpy', 'yaml'])
def test_the_place_has_the_packages_of_the_distribution(name):
    place = in_bare_python('-c', f'import {name}; print({name}.__file__)').stdout
    assert '/usr/lib/python3/dist-packages/' in place


def test_the_node_judges_the_sample_as_torch_does(ears, jpegs):
    classifier = GraspClassifier.from_checkpoint(
        share_path(DEFAULT_CHECKPOINT), 'cpu', engine='torch', precision='fp32')
    half = classifier.preprocessing.half_suffices
    expected = classifier.predict([decode_bytes(jpeg, half) for jpeg in jpegs])
    decided, confidences = expected >= classifier.threshold, []
    # The libjpeg of the distribution is another one: pixels and P(success) differ a little.
    clear = np.abs(expected - classifier.threshold) > .1
    assert set(decided[clear].tolist()) == {True, False}
    with detector(namespace='bare', python=BARE_PYTHON, image_transport='compressed',
                  hysteresis='0.0', undecided='0.0', window_s='0.0', min_frames=1,
                  frozen_after_s='0.0') as child:
        assert 'opencv fp32 on cpu' in child.output
        node = Detector(ears, child, 'bare', CompressedImage, 'image/compressed')
        for jpeg, verdict in zip(jpegs, decided, strict=True):
            message = node.stamp(CompressedImage(format='jpeg', data=jpeg))
            confidences.append(node.ask(message)[1])
            if abs(confidences[-1] - classifier.threshold) > .1:
                wait_until(lambda verdict=verdict: node.verdicts[-1].data == verdict, 5.)
    assert np.abs(np.array(confidences) - expected).max() < .1


@pytest.mark.parametrize('command, extra', [
    ('inspect_dataset', 'bags'), ('export_classifier', 'train'), ('grasp_demo', 'bags')])
def test_a_command_that_needs_more_names_the_extra_in_one_line(command, extra, tmp_path):
    done = in_bare_python(ROOT / 'libexec' / command, *{
        'inspect_dataset': [str(share_path(SAMPLE_BAG))],
        'export_classifier': ['efficientnet_lite0_rig', '--onnx', str(tmp_path / 'new.onnx')],
        'grasp_demo': []}[command])
    assert done.returncode == 1
    line, = done.stderr.splitlines()
    assert line.startswith('error: ') and f'[{extra}]' in line
