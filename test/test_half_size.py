"""On the shipped frames, a jpeg decoded at half size gives the verdict of the full size."""

import cv2
import numpy as np
import pytest

from grasp_success_detector.files import SAMPLE_BAG, share_path
from grasp_success_detector.images.decoding import decode_bytes, decode_message
from grasp_success_detector.images.encoding import encode_jpeg
from grasp_success_detector.inference.classifier import GraspClassifier
from grasp_success_detector.inference.engine_selection import MIN_AGREEMENT
from grasp_success_detector.recordings.bags import image_topic, open_bag

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def jpegs():
    """Return every second frame of the sample bag, at 640 x 480 and as recorded."""
    with open_bag(share_path(SAMPLE_BAG)) as reader:
        topic = image_topic(reader)
        messages = [reader.deserialize(data, connection.msgtype)
                    for connection, _, data in reader.messages(
                        [c for c in reader.connections if c.topic == topic])][::2]
    large = [encode_jpeg(np.asarray(cv2.resize(decode_message(message), (640, 480)), np.uint8))
             for message in messages]
    return large, [bytes(message.data) for message in messages]


@pytest.mark.parametrize('name, size', [
    ('efficientnet_lite0_rig', 0), ('cifar_cnn_rig', 0), ('cifar_cnn_rig', 1)])
def test_decisions_stay_the_same(jpegs, name, size):
    classifier = GraspClassifier.from_checkpoint(share_path(f'models/{name}.safetensors'), 'cpu')
    half_suffices = classifier.preprocessing.half_suffices
    in_full = [decode_bytes(jpeg) for jpeg in jpegs[size]]
    at_half = [decode_bytes(jpeg, half_suffices) for jpeg in jpegs[size]]
    assert all(half.shape[0] == full.shape[0] // 2
               for full, half in zip(in_full, at_half, strict=True))
    decisions = [classifier.predict(frames) >= classifier.threshold
                 for frames in (in_full, at_half)]
    assert 0 < decisions[0].mean() < 1
    assert np.mean(decisions[0] == decisions[1]) >= MIN_AGREEMENT
