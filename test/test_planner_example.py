"""The planner's example and the leaf of docs/planners.md, against the real node over DDS."""

from contextlib import contextmanager, suppress
import json
import os
from pathlib import Path
import re
import signal
import subprocess
import sys
from threading import Event, Thread
import time

import pytest

rclpy = pytest.importorskip('rclpy')

from ros_processes import detector, Ears, PATIENCE_S, wait_until  # noqa: E402
from sensor_msgs.msg import CompressedImage  # noqa: E402
from std_msgs.msg import Empty, String  # noqa: E402

from grasp_success_detector.files import SAMPLE_BAG, share_path  # noqa: E402
from grasp_success_detector.images.encoding import encode_jpeg  # noqa: E402
from grasp_success_detector.ros.tools.demo_bag import read_demo_bag  # noqa: E402

ROOT = Path(__file__).parent.parent
LAYOUT = json.loads((ROOT / 'examples/foxglove_layout.json').read_text())
TOPIC = '/camera/image_raw'
MAX_RETRIES = 1
RATE_HZ = 20.


class Camera:
    """Publish the last frames of an attempt again and again, stamped as they are sent."""

    def __init__(self, ears):
        self._publisher = ears.publisher(CompressedImage, f'{TOPIC}/compressed')
        self._clock = ears.node.get_clock()
        bag = read_demo_bag(share_path(SAMPLE_BAG))
        self._jpegs = {}
        for success in (True, False):
            attempt = [a for a in bag.attempts if a.success is success][-1]
            stamps = [s for s in bag.truth if attempt.begin_ns <= s <= attempt.end_ns][-6:]
            self._jpegs[success] = [encode_jpeg(f) for f in bag.frames(stamps).values()]

    @contextmanager
    def showing(self, success):
        """Show how an attempt ended for the block."""
        over = Event()

        def publish():
            number = 0
            while not over.wait(1. / RATE_HZ):
                jpegs = self._jpegs[success]
                message = CompressedImage(format='jpeg', data=jpegs[number % len(jpegs)])
                message.header.stamp = self._clock.now().to_msg()
                self._publisher.publish(message)
                number += 1
        thread = Thread(target=publish)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


@pytest.fixture(scope='module')
def ears():
    listening = Ears()
    yield listening
    listening.close()


@pytest.fixture(scope='module')
def child():
    """Return a detector in the root namespace, as the example expects it."""
    with detector('-r', f'image:={TOPIC}', image_transport='compressed', device='cpu',
                  checkpoint=share_path('models/cifar_cnn_rig.safetensors')) as process:
        yield process


@pytest.fixture(scope='module')
def camera(child, ears):
    return Camera(ears)


@contextmanager
def planning(ears, namespace, **parameters):
    """Run the example for the block; yields a function that reports an attempt's end to it."""
    words = [word for name, value in parameters.items() for word in ('-p', f'{name}:={value}')]
    process = subprocess.Popen(
        [sys.executable, ROOT / 'examples/grasp_planner.py', '--ros-args',
         '-r', f'__ns:={namespace}', *words],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, 'RCUTILS_LOGGING_BUFFERED_STREAM': '0'})
    try:
        steps = ears.listen(String, f'{namespace}/next_step')
        done = ears.publisher(Empty, f'{namespace}/attempt_done')
        wait_until(lambda: ears.node.count_publishers(f'{namespace}/next_step') == 1)

        def attempt_done():
            before = len(steps)
            # What it publishes before it has found this listener is lost: ask again until then.
            for patience_s in [PATIENCE_S] if steps else [10.] * 9:
                done.publish(Empty())
                with suppress(AssertionError):
                    wait_until(lambda: len(steps) > before, patience_s)
                    break
            assert len(steps) > before
            return steps[-1].data
        yield attempt_done
    finally:
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=PATIENCE_S)
    attempt_done.output = output
    assert process.returncode == 0 and 'Traceback' not in output, output


@pytest.fixture(scope='module')
def planner(ears, camera):
    with planning(ears, '/arm', detector='/grasp_success_detector',
                  max_retries=MAX_RETRIES, answer_timeout_s=4.) as attempt_done:
        with camera.showing(success=True):      # until everybody has found everybody
            wait_until(lambda: attempt_done() == 'place')
        yield attempt_done


def test_success_is_placed(planner, camera):
    with camera.showing(success=True):
        assert planner() == 'place'


def test_failure_is_tried_again_but_not_for_ever(planner, camera):
    with camera.showing(success=False):
        assert [planner() for _ in range(MAX_RETRIES + 2)] == ['retry', 'stop', 'retry']
    with camera.showing(success=True):
        assert planner() == 'place'


def test_the_answer_is_about_what_comes_after_the_attempt(planner, camera):
    with camera.showing(success=True):
        assert planner() == 'place'
    with camera.showing(success=False):
        assert planner() == 'retry'
    with camera.showing(success=True):
        assert planner() == 'place'


def test_an_unknown_verdict_means_stop(planner, camera):
    with camera.showing(success=True):
        assert planner() == 'place'
    assert planner() == 'stop'


def test_a_detector_that_hangs_means_stop(planner, camera, child):
    with camera.showing(success=True):
        assert planner() == 'place'
    child.send_signal(signal.SIGSTOP)
    try:
        began = time.monotonic()
        assert planner() == 'stop'
        assert time.monotonic() - began < 2.    # its verdicts' deadline, not answer_timeout_s
        assert planner() == 'stop'
    finally:
        child.send_signal(signal.SIGCONT)
    time.sleep(3.)      # it answers the old request, for which no client waits any more
    with camera.showing(success=True):
        assert planner() == 'place'


def test_no_detector_means_stop(ears):
    with planning(ears, '/nowhere') as attempt_done:
        assert attempt_done() == 'stop'
    assert 'stop: no detector serves /nowhere/grasp_success_detector/verify' in attempt_done.output


# The leaf for behaviour trees

@pytest.fixture
def leaf(ears):
    code, = re.findall(r'```python\n(.*?)```', (ROOT / 'docs/planners.md').read_text(), re.DOTALL)
    names = {}
    exec(compile(code, 'planners.md', 'exec'), names)

    def make(**arguments):
        made = names['VerifyGrasp'](ears.node, **arguments)
        if 'service' not in arguments:
            assert made._client.wait_for_service(timeout_sec=PATIENCE_S)
        return made
    make.Status = names['Status']
    return make


def tick(leaf, verify):
    """Tick until it has ended, and return the status and how often it was running."""
    verify.initialise()
    ticks = 0
    while (status := verify.update()) is leaf.Status.RUNNING:
        ticks += 1
        time.sleep(0.02)
    return status, ticks


def test_the_leaf_tells_success_from_failure(leaf, camera):
    verify = leaf()
    for success, reason in ((True, ''), (False, 'failure')):
        with camera.showing(success):
            status, ticks = tick(leaf, verify)
        assert (status, verify.reason) == (
            (leaf.Status.SUCCESS if success else leaf.Status.FAILURE), reason)
        assert ticks > 0, 'it does not block the tree'


def test_the_leaf_fails_as_unknown(leaf, camera):
    verify = leaf()
    assert tick(leaf, verify)[0] is leaf.Status.FAILURE
    assert verify.reason.startswith('unknown: ') and verify.reason != 'unknown: no answer'
    lonely = leaf(service='/nowhere/verify', timeout_s=0.3)
    assert tick(leaf, lonely)[0] is leaf.Status.FAILURE
    assert lonely.reason == 'unknown: no answer'


def test_a_leaf_that_is_interrupted_can_be_ticked_again(leaf, camera):
    verify = leaf()
    verify.initialise()
    assert verify.update() is leaf.Status.RUNNING
    verify.terminate(leaf.Status.FAILURE)
    with camera.showing(success=True):
        assert tick(leaf, verify)[0] is leaf.Status.SUCCESS


# The layout for Foxglove

def panels(node):
    return [node] if isinstance(node, str) else [*panels(node['first']), *panels(node['second'])]


def test_the_layout_places_every_panel_once():
    assert sorted(panels(LAYOUT['layout'])) == sorted(LAYOUT['configById'])


def test_the_layouts_topics_are_the_nodes(child, ears, camera):
    kinds = {'Image': {'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage'},
             'Plot': {'std_msgs/msg/Float32'}, 'StateTransitions': {'std_msgs/msg/Bool'},
             'DiagnosticSummary': {'diagnostic_msgs/msg/DiagnosticArray'},
             'DiagnosticStatusPanel': {'diagnostic_msgs/msg/DiagnosticArray'}}
    shown = []
    for panel, config in LAYOUT['configById'].items():
        paths = [path['value'].removesuffix('.data') for path in config.get('paths', ())]
        topic = config.get('topicToRender') or config.get('imageMode', {}).get('imageTopic')
        shown += [(name, kinds[panel.partition('!')[0]]) for name in paths or [topic]]
    assert len(shown) == len(LAYOUT['configById'])
    known = dict(wait_until(ears.node.get_topic_names_and_types))
    for name, expected in shown:
        assert set(known[name]) <= expected, name
