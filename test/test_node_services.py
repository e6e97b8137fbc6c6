"""The node's services, asked over real DDS."""

import json
from threading import Event, Thread
import time

import pytest

rclpy = pytest.importorskip('rclpy')

from node_pictures import failure_frame, raw_message, success_frame  # noqa: E402
from ros_processes import Detector, detector, Ears, wait_until  # noqa: E402
from std_srvs.srv import SetBool, Trigger  # noqa: E402

NAME = '/asked/grasp_success_detector'
VERIFY_TIMEOUT_S = 1.5


@pytest.fixture(scope='module')
def asked(ears, settings):
    """Return a detector that needs three frames and becomes stale late."""
    parameters = {**settings, 'min_frames': 3, 'window_s': 5., 'stale_after_s': 5.,
                  'verify_timeout_s': VERIFY_TIMEOUT_S}
    with detector(namespace='asked', **parameters) as child:
        yield Detector(ears, child, 'asked')


class Filming:
    """A camera that shows one picture at 20 frames/s for the block."""

    def __init__(self, seen, frame, behind_s=0.):
        self._seen, self._message, self._behind_s = seen, raw_message(frame), behind_s
        self._ended = Event()
        self._thread = Thread(target=self._film, daemon=True)

    def _film(self):
        while not self._ended.wait(0.05):
            stamp_ns = time.time_ns() - int(self._behind_s * 1e9)
            stamp = self._message.header.stamp
            stamp.sec, stamp.nanosec = divmod(stamp_ns, 10 ** 9)
            self._seen.camera.publish(self._message)

    def __enter__(self):
        self._thread.start()

    def __exit__(self, *exception):
        self._ended.set()
        self._thread.join()


def answer_of(response):
    return response.success, json.loads(response.message)


def verify(seen):
    return answer_of(seen.ears.call(Trigger, f'{NAME}/verify', Trigger.Request()))


def enable(seen, value):
    return seen.ears.call(SetBool, f'{NAME}/enable', SetBool.Request(data=value))


def test_verify_without_a_camera_times_out_and_says_so(asked):
    success, answer = verify(asked)
    assert not success
    assert (answer['verdict'], answer['probability'], answer['frames']) == ('unknown', None, 0)
    assert answer['reason'] == 'no_frames'
    assert answer['seconds'] >= VERIFY_TIMEOUT_S
    assert 'no frame came on /asked/image' in answer['text']


@pytest.mark.parametrize('holds', [True, False])
def test_verify_answers_from_frames_after_the_request(asked, classifier, holds):
    before, after = success_frame(classifier), failure_frame(classifier)
    if holds:
        before, after = after, before
    with Filming(asked, before):
        wait_until(lambda: asked.verdicts and asked.verdicts[-1].data != holds)
        time.sleep(0.3)     # the window holds nothing else now
    with Filming(asked, after):
        success, answer = verify(asked)
    assert success == holds
    assert answer['verdict'] == ('success' if holds else 'failure')
    # Had it counted frames of before the request, the mean would be another one.
    assert answer['probability'] == pytest.approx(float(classifier.predict([after])[0]), abs=1e-4)
    assert answer['frames'] == 3
    assert answer['reason'] == 'decided'


def test_several_clients_are_answered_at_once(asked, classifier):
    others = [Ears() for _ in range(3)]
    try:
        clients = [ears.node.create_client(Trigger, f'{NAME}/verify') for ears in others]
        for client in clients:
            assert client.wait_for_service(timeout_sec=20.)
        futures = [client.call_async(Trigger.Request()) for client in clients]
        time.sleep(0.3)
        assert not any(future.done() for future in futures)     # all of them wait
        # Meanwhile the executor is free for others.
        assert asked.ears.call(Trigger, f'{NAME}/reset', Trigger.Request()).success
        with Filming(asked, success_frame(classifier)):
            wait_until(lambda: all(future.done() for future in futures))
        for future in futures:
            success, answer = answer_of(future.result())
            assert success and answer['frames'] == 3
    finally:
        for ears in others:
            ears.close()


def test_a_camera_with_another_clock_is_named(asked, classifier):
    asked.ears.call(Trigger, f'{NAME}/reset', Trigger.Request())
    with Filming(asked, success_frame(classifier), behind_s=60.):
        success, answer = verify(asked)
    assert not success
    assert 'stamped ' in answer['text'] and 'use_receive_time' in answer['text']


def test_reset_forgets_all_frames(asked, classifier):
    with Filming(asked, success_frame(classifier)):
        wait_until(lambda: asked.verdicts[-1].data)
    time.sleep(0.2)
    assert asked.verdicts[-1].data
    before = len(asked.verdicts)
    response = asked.ears.call(Trigger, f'{NAME}/reset', Trigger.Request())
    assert response.success
    wait_until(lambda: len(asked.verdicts) > before)
    assert not asked.verdicts[-1].data
    assert asked.diagnostics(lambda values: True)['reason'] == 'no_frames'


def test_disabled_it_says_false_and_takes_no_frames_until_enabled(asked, classifier):
    with Filming(asked, success_frame(classifier)):
        wait_until(lambda: asked.verdicts[-1].data)
        before = len(asked.verdicts)
        assert enable(asked, False).success
        wait_until(lambda: len(asked.verdicts) > before and not asked.verdicts[-1].data)
        wait_until(lambda: asked.camera.get_subscription_count() == 0)
        success, answer = verify(asked)     # at once: nothing will come
        assert not success and answer['reason'] == 'disabled'
        assert answer['seconds'] < VERIFY_TIMEOUT_S
        assert asked.diagnostics(lambda values: values['reason'] == 'disabled')
        assert enable(asked, False).success     # twice is no harm
        assert not asked.verdicts[-1].data
        assert enable(asked, True).success
        assert enable(asked, True).success
        wait_until(lambda: asked.verdicts[-1].data)


def test_verify_and_enable_of_a_node_that_is_not_active(ears, asked):
    from lifecycle_msgs.msg import Transition
    from lifecycle_msgs.srv import ChangeState

    def change(transition):
        return ears.call(ChangeState, f'{NAME}/change_state', ChangeState.Request(
            transition=Transition(id=transition))).success
    # Who waits when it is deactivated gets an answer, too.
    client = ears.node.create_client(Trigger, f'{NAME}/verify')
    assert client.wait_for_service(timeout_sec=20.)
    waiting = client.call_async(Trigger.Request())
    time.sleep(0.2)
    assert change(Transition.TRANSITION_DEACTIVATE)
    wait_until(waiting.done)
    for success, answer in (answer_of(waiting.result()), verify(asked)):
        assert not success
        assert (answer['verdict'], answer['reason']) == ('unknown', 'inactive')
        assert answer['seconds'] < VERIFY_TIMEOUT_S
        assert 'configure and activate it' in answer['text']
    refused = enable(asked, True)
    assert not refused.success and 'not active' in refused.message
    assert change(Transition.TRANSITION_CLEANUP)
    assert not verify(asked)[0]
