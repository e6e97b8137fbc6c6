"""Malformed messages: the node continues, and none of them gives a true."""

import time

from hypothesis import (
    given,
    HealthCheck,
    Phase,
    settings as hypothesis_settings,
    strategies as st,
)
import numpy as np
import pytest

rclpy = pytest.importorskip('rclpy')

from node_pictures import raw_message  # noqa: E402
from rclpy.serialization import serialize_message  # noqa: E402
from ros_processes import Detector, detector  # noqa: E402
from sensor_msgs.msg import CompressedImage, Image  # noqa: E402

from grasp_success_detector.images.encoding import encode_jpeg, encode_png  # noqa: E402

MESSAGES = 10_000
HEIGHT, WIDTH = 12, 16
#: Every DDS implementation sends at least the header of CDR; Fast DDS delivers nothing after an
#: empty payload on a reliable topic.
HEADER = 4

KINDS = {'raw': ['cut', 'encoding', 'step', 'short', 'size', 'lengths', 'noise'],
         'compressed': ['cut', 'begin', 'noise', 'message']}
PICTURE = np.random.default_rng(1).integers(20, 240, (HEIGHT, WIDTH, 3), np.uint8)


def image(**changes):
    message = raw_message(PICTURE)
    message.header.frame_id = 'camera'
    for name, value in changes.items():
        setattr(message, name, value)
    return message


@st.composite
def malformed_images(draw, kind):
    """Return a serialized Image that is malformed, as its fields show."""
    if kind == 'cut':       # within what the fields need, padding aside
        whole = serialize_message(image())
        return whole[:draw(st.integers(HEADER, len(whole) - 4))]
    if kind == 'encoding':
        return serialize_message(image(encoding=draw(st.text(
            st.characters(codec='ascii', exclude_characters='\0'), max_size=12).map(
                lambda text: f'{text}?'))))
    if kind == 'step':
        return serialize_message(image(step=draw(st.integers(0, 3 * WIDTH - 1))))
    if kind == 'short':
        return serialize_message(image(
            data=PICTURE.tobytes()[:draw(st.integers(0, PICTURE.size - 1))]))
    if kind == 'size':
        return serialize_message(image(**{draw(st.sampled_from(['height', 'width'])): draw(
            st.sampled_from([0, 10 ** 6, 2 ** 31, 2 ** 32 - 1]))}))
    whole = bytearray(serialize_message(image()))
    if kind == 'lengths':   # of the pixels: more than there are bytes
        whole[-PICTURE.size - 4:-PICTURE.size] = draw(
            st.integers(PICTURE.size + 1, 2 ** 32 - 1)).to_bytes(4, 'little')
        return bytes(whole)
    return bytes(whole[:4]) + draw(st.binary(max_size=40))


@st.composite
def malformed_compressed(draw, kind):
    """Return a serialized CompressedImage without a whole picture in it."""
    encode = draw(st.sampled_from([encode_jpeg, encode_png]))
    whole = encode(PICTURE)
    if kind == 'cut':
        data = whole[:draw(st.integers(0, len(whole) - 20))]
    elif kind == 'begin':
        data = draw(st.binary(min_size=4, max_size=4).filter(
            lambda begin: begin[:2] not in (b'\xff\xd8', b'\x89P'))) + whole[4:]
    else:
        data = draw(st.binary(max_size=60))
    message = serialize_message(CompressedImage(
        format=draw(st.sampled_from(['jpeg', 'png', '', 'rgb8; jpeg compressed bgr8'])),
        data=data))
    return message[:draw(st.integers(HEADER, len(message) // 2))] if kind == 'message' else message


@pytest.mark.parametrize(('transport', 'strategy'), [
    ('raw', malformed_images), ('compressed', malformed_compressed)])
def test_malformed_messages_neither_end_it_nor_are_ever_true(
        settings, ears, transport, strategy):
    kinds = KINDS[transport]
    # So low that each frame which is judged at all is a true.
    parameters = {**settings, 'threshold': 1e-6, 'stale_after_s': 60., 'max_bad_frames': 1000,
                  'max_black': '1.0', 'max_white': '1.0', 'image_transport': transport}
    message_type, topic = {'raw': (Image, 'image'), 'compressed': (
        CompressedImage, 'image/compressed')}[transport]
    with detector(namespace=f'hardened_{transport}', **parameters) as child:
        seen = Detector(ears, child, f'hardened_{transport}', message_type, topic)

        def send(message):
            seen.camera.publish(message)
            time.sleep(0.0003)      # so that most are looked at: the newest one wins
        for kind in kinds:
            hypothesis_settings(
                max_examples=MESSAGES // 2 // len(kinds) + 1, deadline=None, database=None,
                phases=[Phase.generate], suppress_health_check=list(HealthCheck),
            )(given(strategy(kind))(send))()
        assert child.poll() is None
        status = seen.diagnostics(lambda values: True)
        bad = {key: int(value) for key, value in status.items() if key.startswith('bad.')}
        assert sum(bad.values()) >= MESSAGES // 20, bad
        assert len(bad) >= 3 and 'bad.malformed_message' in bad, bad
        assert status['judged'] == '0'
        assert not any(message.data for message in seen.verdicts)
        # And it goes on: one good frame, one true.
        good = image() if transport == 'raw' else CompressedImage(
            format='png', data=encode_png(PICTURE))
        assert seen.ask(seen.stamp(good))[0]
        assert 'Traceback' not in child.output
