"""The node as a process of its own, asked over real DDS."""

import time

import numpy as np
import pytest

rclpy = pytest.importorskip('rclpy')

from node_pictures import pictures, raw_message, success_frame  # noqa: E402
from rclpy.serialization import deserialize_message, serialize_message  # noqa: E402
from ros_processes import Detector, detector, PATIENCE_S, wait_until  # noqa: E402
from sensor_msgs.msg import CompressedImage, Image  # noqa: E402

from grasp_success_detector.images.decoding import decode_bytes, decode_message  # noqa: E402
from grasp_success_detector.images.encoding import encode_jpeg, encode_png  # noqa: E402


@pytest.fixture(scope='module')
def raw(ears, settings):
    """Return a detector that takes raw images."""
    with detector(namespace='raw', **settings) as child:
        yield Detector(ears, child, 'raw')


@pytest.fixture(scope='module')
def compressed(ears, settings):
    """Return a detector that takes compressed images."""
    with detector('--log-level', 'compressed.grasp_success_detector:=debug',
                  namespace='compressed', image_transport='compressed', **settings) as child:
        yield Detector(ears, child, 'compressed', CompressedImage, 'image/compressed')


def test_raw_frames_get_the_classifiers_answer(raw, classifier, threshold):
    said = set()
    for frame in pictures():
        verdict, confidence = raw.ask(raw.stamp(raw_message(frame)))
        expected = classifier.predict([frame])[0]
        assert np.float32(confidence) == pytest.approx(expected, abs=1e-6)
        assert verdict == (expected >= threshold)
        said.add(verdict)
    assert said == {True, False}


@pytest.mark.parametrize('encode', [encode_jpeg, encode_png])
def test_compressed_frames_get_the_classifiers_answer(compressed, classifier, threshold, encode):
    for frame in pictures()[2:5]:
        data = encode(frame)
        verdict, confidence = compressed.ask(compressed.stamp(CompressedImage(
            format=encode.__name__.removeprefix('encode_'), data=data)))
        half = decode_bytes(data, classifier.preprocessing.half_suffices)
        assert half.shape == ((60, 80, 3) if encode is encode_jpeg else frame.shape)
        expected = classifier.predict([half])[0]
        assert np.float32(confidence) == pytest.approx(expected, abs=1e-6)
        assert verdict == (expected >= threshold)


def test_two_namespaces_do_not_mix(raw, compressed):
    before = len(compressed.decided())
    raw.ask(raw.stamp(raw_message(pictures()[0])))
    compressed.diagnostics(lambda values: True)
    assert len(compressed.decided()) == before


@pytest.mark.parametrize('kind', ['raw', 'compressed'])
def test_bag_and_message_give_identical_logits(tmp_path, classifier, request, kind):
    from rosbags.highlevel import AnyReader
    from rosbags.rosbag2 import Writer
    from rosbags.typesys import get_typestore, Stores

    seen = request.getfixturevalue(kind)
    frame = pictures()[3]
    message = seen.stamp(raw_message(frame) if kind == 'raw' else CompressedImage(
        format='jpeg', data=encode_jpeg(frame)))
    typestore = get_typestore(Stores.ROS2_JAZZY)
    msgtype = f'sensor_msgs/msg/{type(message).__name__}'
    with Writer(tmp_path / 'bag', version=9) as writer:
        connection = writer.add_connection('/camera', msgtype, typestore=typestore)
        writer.write(connection, 1, serialize_message(message))
    with AnyReader([tmp_path / 'bag']) as reader:
        (connection, _, serialized), = reader.messages()
        half_suffices = classifier.preprocessing.half_suffices
        from_bag = decode_message(
            reader.deserialize(serialized, connection.msgtype), half_suffices)
    from_ros = decode_message(deserialize_message(serialized, type(message)), half_suffices)
    np.testing.assert_array_equal(from_bag, from_ros)
    np.testing.assert_array_equal(classifier.logits([from_bag]), classifier.logits([from_ros]))
    _, confidence = seen.ask(serialized)
    assert confidence == pytest.approx(float(classifier.predict([from_bag])[0]), abs=1e-6)


def test_a_camera_that_stops_turns_the_verdict_false(raw, classifier, settings):
    shown = time.monotonic()
    verdict, _ = raw.ask(raw.stamp(raw_message(success_frame(classifier))))
    assert verdict
    wait_until(lambda: not raw.verdicts[-1].data)
    withdrawn_s = time.monotonic() - shown
    # Never before; what is added is for a machine that has other things to do.
    assert settings['stale_after_s'] <= withdrawn_s < settings['stale_after_s'] + 10.
    wait_until(lambda: raw.confidences[-1].data == 0.)
    status = raw.diagnostics(lambda values: values['reason'] == 'stale')
    assert status['verdict'] == 'unknown'
    assert 'no frames any more' in status['message']
    heartbeats = len(raw.verdicts)
    wait_until(lambda: len(raw.verdicts) > heartbeats)
    assert not raw.verdicts[-1].data


def bad_messages():
    """Return messages that a broken driver may send, by the reason under which each is counted."""
    encoding, step, empty, short, good = (raw_message(pictures()[3]) for _ in range(5))
    encoding.encoding = 'rgb9'
    step.step = 3
    empty.height = empty.width = empty.step = 0
    empty.data = b''
    short.data = short.data[:100]
    return {'unknown_encoding': encoding, 'bad_step': step, 'bad_size': empty,
            'short_data': short, 'malformed_message': serialize_message(good)[:60]}


def test_bad_frames_are_counted_and_the_stream_goes_on(raw, classifier):
    frame = pictures()[4]
    expected = pytest.approx(float(classifier.predict([frame])[0]), abs=1e-6)
    uncounted = bad_messages()
    deadline = time.monotonic() + PATIENCE_S
    while uncounted and time.monotonic() < deadline:
        # Again those that a newer frame replaced: on a busy machine the newest one wins.
        for bad in uncounted.values():
            raw.camera.publish(bad if isinstance(bad, bytes) else raw.stamp(bad))
            time.sleep(0.03)
            _, confidence = raw.ask(raw.stamp(raw_message(frame)))
            assert confidence == expected
        status = raw.diagnostics(lambda values: True)
        uncounted = {reason: bad for reason, bad in uncounted.items()
                     if f'bad.{reason}' not in status}
    assert not uncounted
    assert raw.child.poll() is None
    assert 'Traceback' not in raw.child.output
    assert 'frame dropped: ' in raw.child.output


def test_nothing_but_bad_frames_means_unknown(raw, classifier, settings):
    max_bad_frames = settings['max_bad_frames']
    bad = bad_messages()['unknown_encoding']
    assert raw.ask(raw.stamp(raw_message(success_frame(classifier))))[0]
    for _ in range(2 * max_bad_frames):     # twice, as on a busy machine some are replaced
        raw.camera.publish(raw.stamp(bad))
        time.sleep(0.05)
    status = raw.diagnostics(lambda values: values['reason'] == 'bad_frames')
    assert int(status['bad.unknown_encoding']) >= max_bad_frames
    assert 'cannot be decoded (unknown_encoding)' in status['message']
    assert (raw.verdicts[-1].data, raw.confidences[-1].data) == (False, 0.)
    assert raw.ask(raw.stamp(raw_message(success_frame(classifier))))[0]


def test_diagnostics_say_what_runs(raw, classifier, settings):
    raw.ask(raw.stamp(raw_message(pictures()[0])))
    status = raw.diagnostics(lambda values: values['age_s'] != '')
    assert status['checkpoint'] == str(settings['checkpoint'])
    assert status['checkpoint_sha256'] == classifier.sha256
    assert (status['architecture'], status['device']) == ('cifar_cnn', 'cpu')
    assert status['engine'].startswith('torch fp32 on cpu (skipped: ')
    p50, p95, p99 = (float(status[f'latency_p{percent}_ms']) for percent in (50, 95, 99))
    assert 0. < p50 <= p95 <= p99
    assert (status['publishers'], status['reliability']) == ('1', 'reliable')
    assert int(status['judged']) <= int(status['received'])


def test_at_debug_level_diagnostics_take_the_latency_apart(raw, compressed):
    for frame in pictures():
        raw.ask(raw.stamp(raw_message(frame)))
        compressed.ask(compressed.stamp(CompressedImage(
            format='jpeg', data=encode_jpeg(frame))))
    stages = ('receive', 'decode', 'preprocess', 'infer', 'publish')
    usual = raw.diagnostics(lambda values: int(values['judged']) >= len(pictures()))
    assert not {f'{stage}_p50_ms' for stage in stages} & usual.keys()
    status = compressed.diagnostics(lambda values: int(values['judged']) >= len(pictures()))
    times = {stage: [float(status[f'{stage}_p{percent}_ms']) for percent in (50, 95, 99)]
             for stage in stages}
    assert all(0. <= p50 <= p95 <= p99 for p50, p95, p99 in times.values()), times
    # Each is a part of the whole; nearest ranks of few frames add up only roughly.
    assert max(p99 for _, _, p99 in times.values()) <= float(status['latency_p99_ms'])
    assert times['infer'][0] > 0 and times['decode'][0] > 0


@pytest.mark.parametrize('kind', ['raw', 'compressed'])
def test_the_overlays_carry_the_frames_header_and_size(request, kind):
    seen = request.getfixturevalue(kind)
    topic = f'/{kind}/grasp_success/overlay'
    overlays = seen.ears.listen(Image, topic)
    wait_until(lambda: seen.ears.node.count_publishers(topic))
    frame = pictures()[2]
    jpegs = seen.ears.listen(CompressedImage, f'{topic}/compressed')
    while not (overlays and jpegs):     # until the node knows of the subscribers
        message = seen.stamp(raw_message(frame) if kind == 'raw' else CompressedImage(
            format='jpeg', data=encode_jpeg(frame)))    # which is judged at half size
        seen.ask(message)
        time.sleep(0.1)
    assert jpegs[-1].format == 'rgb8; jpeg compressed bgr8'
    for overlay in (overlays[-1], jpegs[-1]):
        assert overlay.header == message.header
        drawn = decode_message(overlay)
        assert drawn.shape == frame.shape
        assert not np.array_equal(drawn, frame)
        # The middle is left alone, up to what jpeg does.
        assert np.abs(drawn[60, 80].astype(int) - frame[60, 80]).max() < 9
