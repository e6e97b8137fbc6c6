"""One answer of several cameras and the hand: fusion_node as a process, over real DDS."""

from contextlib import contextmanager
import json
from threading import Event, Thread

import pytest

rclpy = pytest.importorskip('rclpy')

from ros_processes import Ears, run, running, wait_until  # noqa: E402
from std_msgs.msg import Bool, Float32, String  # noqa: E402
from std_srvs.srv import Trigger  # noqa: E402

pytestmark = pytest.mark.slow


class Camera:
    """A detector's confidence, published at a rate of its own until it is pulled out."""

    def __init__(self, ears, name, hz):
        self.value, self._pulled = 0., Event()
        publisher = ears.publisher(Float32, f'/robot/{name}/grasp_success/confidence')

        def publish():
            while not self._pulled.wait(1 / hz):
                publisher.publish(Float32(data=self.value))
        self._thread = Thread(target=publish, daemon=True)
        self._thread.start()

    def pull_out(self):
        self._pulled.set()
        self._thread.join()


@contextmanager
def fusion(ears, *parameters, namespace='robot'):
    """Run a fusion of left and right, and yield its verdicts and newest diagnostics."""
    words = [word for parameter in ('cameras:=left,right', *parameters)
             for word in ('-p', parameter)]
    verdicts = ears.listen(Bool, f'/{namespace}/grasp_success')
    newest = ears.diagnostics(f'/{namespace}/')
    with running('fusion_node', '--ros-args', '-r', f'__ns:=/{namespace}', *words) as child:
        child.wait_for('active: fuses')

        def wait_for(**expected):
            return wait_until(lambda: (values := newest()) and all(
                values.get(key) == value for key, value in expected.items()) and values)
        yield verdicts, wait_for


@pytest.fixture
def ears():
    listening = Ears()
    yield listening
    listening.close()


def stays_false(verdicts):
    seen = len(verdicts)
    wait_until(lambda: len(verdicts) >= seen + 5)
    return not any(verdict.data for verdict in verdicts[seen:])


def test_names_are_below_the_own_namespace(ears):
    with running('fusion_node', '--ros-args', '-r', '__ns:=/robot', '-p',
                 'cameras:=left,/right/') as child:
        child.wait_for('active: fuses /robot/left/grasp_success/confidence, '
                       '/robot/right/grasp_success/confidence')


def test_a_camera_that_is_pulled_out_leaves_no_true_standing(ears):
    with fusion(ears) as (verdicts, wait_for):
        left, right = Camera(ears, 'left', 20.), Camera(ears, 'right', 4.)
        wait_for(verdict='unknown')
        assert stays_false(verdicts)
        left.value = right.value = .97
        wait_for(verdict='success')
        assert wait_until(lambda: verdicts[-1].data)
        # The one that is left decides alone, with its own confidence.
        left.pull_out()
        wait_for(verdict='success', confidence='0.9700',
                 **{'camera /robot/left/grasp_success/confidence': 'stale'})
        right.value = .02
        wait_for(verdict='failure')
        assert stays_false(verdicts)
        right.value = .97
        wait_for(verdict='success')
        right.pull_out()
        wait_for(verdict='unknown', reason='stale')
        assert stays_false(verdicts)


def test_a_camera_that_cannot_tell_drops_out_and_damage_is_no_confidence(ears):
    with fusion(ears) as (verdicts, wait_for):
        left, right = Camera(ears, 'left', 10.), Camera(ears, 'right', 10.)
        left.value, right.value = 0., .9
        wait_for(verdict='success', confidence='0.9000')
        left.value = float('nan')
        wait_for(verdict='success', confidence='0.9000')
        left.value = .01
        wait_for(verdict='failure')
        left.pull_out()
        right.pull_out()


def test_cameras_and_hand_are_one_answer(ears):
    with running('stand_in_driver', 'v5', package=''), fusion(
            ears, 'driver:=v5') as (verdicts, wait_for):
        left, right = Camera(ears, 'left', 10.), Camera(ears, 'right', 10.)
        tell = ears.publisher(String, '/stand_in')
        left.value = right.value = .97
        wait_for(hand_phase='open', verdict='success')
        tell.publish(String(data='hold'))
        wait_for(hand_phase='closed', verdict='success')
        tell.publish(String(data='drop'))
        wait_for(reason='contradiction')
        assert stays_false(verdicts)
        left.value = right.value = .02
        wait_for(verdict='failure', failure='slipped')
        left.pull_out()
        right.pull_out()


def test_nothing_to_fuse_is_one_line():
    child = run('fusion_node', '--ros-args', '-p', "cameras:=''")
    assert child.returncode == 1
    assert ('configure failed: nothing to fuse; give cameras, such as left,right, or a driver'
            in child.output)


def test_verify_answers_from_what_all_parts_say_after_the_call(ears):
    with running('stand_in_driver', 'v5', package=''), fusion(
            ears, 'driver:=v5', 'verify_timeout_s:=2.0') as (_, wait_for):
        left, right = Camera(ears, 'left', 10.), Camera(ears, 'right', 2.)
        tell = ears.publisher(String, '/stand_in')

        def ask():
            answer = ears.call(Trigger, '/robot/grasp_success_fusion/verify', Trigger.Request())
            return answer.success, json.loads(answer.message)
        wait_for(hand_phase='open')
        tell.publish(String(data='hold'))
        left.value = right.value = .97
        wait_for(hand_phase='closed', verdict='success')
        success, said = ask()
        assert success and said['verdict'] == 'success' and .5 <= said['seconds'] < 2
        assert said['text'].startswith('success: P(success) ')
        assert said['text'].endswith('/right/grasp_success/confidence decided, hand closed')
        # What was said before the call does not answer it.
        left.value = right.value = .01
        tell.publish(String(data='drop'))
        success, said = ask()
        assert not success and said['verdict'] == 'failure'
        left.pull_out()
        right.pull_out()


def test_verify_ends_in_time_where_nothing_is_known(ears):
    with fusion(ears, 'verify_timeout_s:=0.3') as (_, wait_for):
        wait_for(verdict='unknown')
        answer = ears.call(Trigger, '/robot/grasp_success_fusion/verify', Trigger.Request())
        said = json.loads(answer.message)
        assert not answer.success and said['verdict'] == 'unknown' and said['seconds'] < 2
        assert said['text'] == ('not known within 0.3 s: /robot/left/grasp_success/confidence '
                                'no_frames, /robot/right/grasp_success/confidence no_frames')
