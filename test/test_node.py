"""The node as a process of its own, asked over real DDS."""

from dataclasses import fields
from pathlib import Path
import signal
from threading import current_thread, Event
import time

import numpy as np
import pytest

rclpy = pytest.importorskip('rclpy')

from lifecycle_msgs.msg import State, Transition  # noqa: E402
from lifecycle_msgs.srv import ChangeState, GetState  # noqa: E402
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue  # noqa: E402
from rcl_interfaces.srv import SetParameters  # noqa: E402
from rclpy.serialization import deserialize_message, serialize_message  # noqa: E402
from ros_processes import (  # noqa: E402
    Detector,
    detector,
    Ears,
    PATIENCE_S,
    run,
    running,
    wait_until,
)
from sensor_msgs.msg import CompressedImage, Image  # noqa: E402
import yaml  # noqa: E402

from grasp_success_detector.classifier import GraspClassifier  # noqa: E402
from grasp_success_detector.image import (  # noqa: E402
    decode_bytes,
    decode_message,
    encode_jpeg,
    encode_png,  # noqa: E402
)
from grasp_success_detector.ros.inference_worker import LatestItemWorker  # noqa: E402
from grasp_success_detector.ros.parameters import Parameters  # noqa: E402

CONFIG = Path(__file__).parent.parent / 'config' / 'detector.yaml'
STALE_AFTER_S = 1.
MAX_BAD_FRAMES = 3


def pictures():
    """Return RGB frames that differ much."""
    noise = np.random.default_rng(3)
    ramp = np.linspace(0, 255, 160, dtype=np.uint8)
    frames = [np.full((120, 160, 3), 40, np.uint8), np.full((120, 160, 3), 230, np.uint8),
              np.broadcast_to(ramp[:, None], (120, 160, 3)),
              noise.integers(0, 256, (120, 160, 3), np.uint8)]
    for colour in np.eye(3, dtype=np.uint8) * 255:
        frames.append(np.broadcast_to(colour, (120, 160, 3)))
    return [np.ascontiguousarray(frame) for frame in frames]


def raw_message(frame):
    height, width, _ = frame.shape
    return Image(height=height, width=width, encoding='rgb8', step=3 * width,
                 data=frame.tobytes())


@pytest.fixture(scope='module')
def classifier(random_checkpoint):
    return GraspClassifier.from_checkpoint(random_checkpoint, device='cpu')


@pytest.fixture(scope='module')
def threshold(classifier):
    """Return a threshold that parts the pictures, so that both verdicts come up."""
    probabilities = np.sort(classifier.predict(pictures()).astype(float))
    gap = np.diff(probabilities).argmax()
    return float(probabilities[gap:gap + 2].mean())


@pytest.fixture(scope='module')
def settings(random_checkpoint, threshold):
    return {'checkpoint': random_checkpoint, 'threshold': threshold, 'device': 'cpu',
            'window_s': '0.0', 'min_frames': 1, 'stale_after_s': STALE_AFTER_S,
            'max_bad_frames': MAX_BAD_FRAMES,
            # The same few pictures are shown again and again.
            'frozen_after_s': '0.0'}


@pytest.fixture(scope='module')
def ears():
    listening = Ears()
    yield listening
    listening.close()


@pytest.fixture(scope='module')
def raw(ears, settings):
    """Return a detector that takes raw images."""
    with detector(namespace='raw', **settings) as child:
        yield Detector(ears, child, 'raw')


@pytest.fixture(scope='module')
def compressed(ears, settings):
    """Return a detector that takes compressed images."""
    with detector(namespace='compressed', image_transport='compressed', **settings) as child:
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
        expected = classifier.predict([decode_bytes(data)])[0]
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
        from_bag = decode_message(reader.deserialize(serialized, connection.msgtype))
    from_ros = decode_message(deserialize_message(serialized, type(message)))
    np.testing.assert_array_equal(from_bag, from_ros)
    np.testing.assert_array_equal(classifier.logits([from_bag]), classifier.logits([from_ros]))
    _, confidence = seen.ask(serialized)
    assert confidence == pytest.approx(float(classifier.predict([from_bag])[0]), abs=1e-6)


def success_frame(classifier):
    return max(pictures(), key=lambda frame: classifier.predict([frame])[0])


def test_a_camera_that_stops_turns_the_verdict_false(raw, classifier):
    verdict, _ = raw.ask(raw.stamp(raw_message(success_frame(classifier))))
    answered = time.monotonic()
    assert verdict
    wait_until(lambda: not raw.verdicts[-1].data)
    # A promise, not a benchmark; what is added is for a machine that has other things to do.
    assert time.monotonic() - answered < STALE_AFTER_S + 2.
    wait_until(lambda: raw.confidences[-1].data == 0.)
    status = raw.diagnostics(lambda values: values['reason'] == 'stale')
    assert status['verdict'] == 'unknown'
    assert 'no frames any more' in status['message']
    heartbeats = len(raw.verdicts)
    wait_until(lambda: len(raw.verdicts) > heartbeats)
    assert not raw.verdicts[-1].data


def bad_messages():
    """Return what a broken driver may send, by the reason that it shall be counted under."""
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


def test_nothing_but_bad_frames_means_unknown(raw, classifier):
    bad = bad_messages()['unknown_encoding']
    assert raw.ask(raw.stamp(raw_message(success_frame(classifier))))[0]
    for _ in range(2 * MAX_BAD_FRAMES):     # twice, as on a busy machine some are replaced
        raw.camera.publish(raw.stamp(bad))
        time.sleep(0.05)
    status = raw.diagnostics(lambda values: values['reason'] == 'bad_frames')
    assert int(status['bad.unknown_encoding']) >= MAX_BAD_FRAMES
    assert 'cannot be decoded (unknown_encoding)' in status['message']
    assert (raw.verdicts[-1].data, raw.confidences[-1].data) == (False, 0.)
    assert raw.ask(raw.stamp(raw_message(success_frame(classifier))))[0]


def test_the_newest_item_wins():
    begun, go, done = Event(), Event(), []

    def work(item):
        begun.set()
        go.wait(timeout=PATIENCE_S)
        done.append(item)

    worker = LatestItemWorker(work, 'test')
    worker.start()
    assert not worker.offer(1)
    assert begun.wait(timeout=PATIENCE_S)
    assert [worker.offer(item) for item in (2, 3, 4)] == [False, True, True]
    go.set()
    wait_until(lambda: len(done) == 2)
    assert worker.stop(timeout_s=PATIENCE_S)
    worker.offer(5)     # nobody is there to take it
    worker.start()
    worker.offer(6)
    wait_until(lambda: done[-1] == 6)
    assert worker.stop(timeout_s=PATIENCE_S)
    assert done == [1, 4, 6]


def test_a_worker_that_is_late_to_end_does_not_go_on_after_a_new_start():
    begun, go, threads = Event(), Event(), []

    def work(item):
        threads.append(current_thread())
        begun.set()
        go.wait(timeout=PATIENCE_S)

    worker = LatestItemWorker(work, 'test')
    worker.start()
    worker.offer(1)
    assert begun.wait(timeout=PATIENCE_S)
    assert not worker.stop(timeout_s=0.01)
    worker.start()
    go.set()
    threads[0].join(timeout=PATIENCE_S)
    assert not threads[0].is_alive()
    worker.offer(2)
    wait_until(lambda: len(threads) == 2)
    assert threads[1] is not threads[0]
    assert worker.stop(timeout_s=PATIENCE_S)


def test_diagnostics_say_what_runs(raw, classifier, settings):
    raw.ask(raw.stamp(raw_message(pictures()[0])))
    status = raw.diagnostics(lambda values: values['age_s'] != '')
    assert status['checkpoint'] == str(settings['checkpoint'])
    assert status['checkpoint_sha256'] == classifier.sha256
    assert (status['architecture'], status['device']) == ('cifar_cnn', 'cpu')
    assert float(status['latency_p50_ms']) > 0.
    assert int(status['judged']) <= int(status['received'])


def test_the_overlay_carries_the_frames_header(raw):
    overlays = raw.ears.listen(Image, '/raw/grasp_success/overlay')
    wait_until(lambda: raw.ears.node.count_publishers('/raw/grasp_success/overlay'))
    frame = pictures()[2]
    while not overlays:     # until the node knows of the subscriber
        message = raw.stamp(raw_message(frame))
        raw.ask(message)
        time.sleep(0.1)
    assert overlays[-1].header == message.header
    drawn = decode_message(overlays[-1])
    assert drawn.shape == frame.shape
    assert not np.array_equal(drawn, frame)
    np.testing.assert_array_equal(drawn[60, 80], frame[60, 80])     # the middle is left alone


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_signals_end_it_cleanly_with_a_last_false(ears, settings, classifier, number):
    with detector(namespace='ending', **settings) as child:
        seen = Detector(ears, child, 'ending')
        verdict, _ = seen.ask(seen.stamp(raw_message(success_frame(classifier))))
        assert verdict
        before = len(seen.verdicts)
        child.send_signal(number)
        time.sleep(0.05)
        child.send_signal(number)   # as ros2 launch does
        began = time.monotonic()
        assert child.wait(timeout=20.) == 0
        assert time.monotonic() - began < 2.    # a promise, not a benchmark
        wait_until(lambda: len(seen.verdicts) > before)
        assert not seen.verdicts[-1].data
        assert 'Traceback' not in child.output


@pytest.mark.parametrize(('arguments', 'line'), [
    (['-p', 'checkpoint:=/no/such.safetensors'],
     'configure failed: /no/such.safetensors: no such file'),
    (['-p', f'checkpoint:={__file__}'], f'configure failed: {__file__}'),
    (['-p', 'window_s:=1', '-p', 'image_transport:=theora'],
     "configure failed: parameter image_transport = 'theora': expected one of raw, compressed; "
     'parameter window_s = 1: expected a number from 0.0 to 60.0, such as 1.0'),
    (['-p', 'min_frames:=0'],
     'configure failed: parameter min_frames = 0: expected a whole number from 1 to 1000'),
    (['-p', 'window_s'], "Couldn't parse parameter override rule: '-p window_s'"),
])
def test_what_cannot_be_used_ends_it_with_one_line(arguments, line):
    child = run('detector_node', '--ros-args', *arguments)
    assert child.returncode == 1
    assert line in child.output
    assert len(child.output.strip().splitlines()) == 1


def change_state(ears, transition):
    request = ChangeState.Request(transition=Transition(id=transition))
    return ears.call(ChangeState, '/managed/grasp_success_detector/change_state', request).success


def set_parameter(ears, name, **value):
    request = SetParameters.Request(parameters=[
        Parameter(name=name, value=ParameterValue(**value))])
    result, = ears.call(
        SetParameters, '/managed/grasp_success_detector/set_parameters', request).results
    return result


def test_a_lifecycle_manager_can_lead_it(ears, random_checkpoint, classifier):
    with running('detector_node', '--ros-args', '-r', '__ns:=/managed', '--params-file', CONFIG,
                 '-p', 'autostart:=false', '-p', 'checkpoint:=/nope', '-p', 'window_s:=0.0',
                 '-p', 'min_frames:=1', '-p', 'stale_after_s:=20.0') as child:
        assert not change_state(ears, Transition.TRANSITION_CONFIGURE)
        assert 'configure failed: /nope: no such file' in child.output
        assert set_parameter(ears, 'checkpoint', type=ParameterType.PARAMETER_STRING,
                             string_value=str(random_checkpoint)).successful
        # So low that the verdict is true before it must become false.
        assert set_parameter(ears, 'threshold', type=ParameterType.PARAMETER_DOUBLE,
                             double_value=1e-6).successful
        refused = set_parameter(ears, 'threshold', type=ParameterType.PARAMETER_DOUBLE,
                                double_value=1.5)
        assert 'threshold' in refused.reason and '1.5' in refused.reason
        assert change_state(ears, Transition.TRANSITION_CONFIGURE)
        assert change_state(ears, Transition.TRANSITION_ACTIVATE)
        seen = Detector(ears, child, 'managed')
        assert seen.ask(seen.stamp(raw_message(pictures()[0])))[0]
        refused = set_parameter(ears, 'checkpoint', type=ParameterType.PARAMETER_STRING,
                                string_value='other')
        assert 'clean up the node first' in refused.reason

        before = len(seen.verdicts)
        assert change_state(ears, Transition.TRANSITION_DEACTIVATE)
        wait_until(lambda: len(seen.verdicts) > before)
        assert (seen.verdicts[-1].data, seen.confidences[-1].data) == (False, 0.)
        wait_until(lambda: seen.camera.get_subscription_count() == 0)
        assert seen.diagnostics(lambda values: values['reason'] == 'inactive')

        assert change_state(ears, Transition.TRANSITION_ACTIVATE)
        wait_until(lambda: seen.camera.get_subscription_count() == 1)
        time.sleep(0.2)
        assert seen.ask(seen.stamp(raw_message(pictures()[1])))[0]
        assert change_state(ears, Transition.TRANSITION_DEACTIVATE)
        assert change_state(ears, Transition.TRANSITION_CLEANUP)
        state = ears.call(GetState, '/managed/grasp_success_detector/get_state',
                          GetState.Request()).current_state
        assert state.id == State.PRIMARY_STATE_UNCONFIGURED


def test_the_configuration_file_holds_the_defaults():
    document = yaml.safe_load(CONFIG.read_text())
    assert document == {'/**': {'ros__parameters': {
        declared.name: list(declared.default) if isinstance(declared.default, tuple)
        else declared.default for declared in fields(Parameters)}}}


def test_help_names_an_example():
    child = run('detector_node', '--help')
    assert (child.returncode, 'examples:' in child.output) == (0, True)


def test_an_unknown_option_is_a_usage_error():
    child = run('detector_node', '--treshold', '1')
    assert child.returncode == 2
    assert 'unrecognized arguments: --treshold 1' in child.output
