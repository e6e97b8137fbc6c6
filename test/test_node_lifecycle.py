"""The node as a managed one: transitions, failures, parameters, signals; over real DDS."""

from contextlib import suppress
from dataclasses import fields
import gc
import os
from pathlib import Path
import signal
import time
import weakref

import pytest

rclpy = pytest.importorskip('rclpy')

from lifecycle_msgs.msg import State, Transition  # noqa: E402
from lifecycle_msgs.srv import ChangeState, GetState  # noqa: E402
from node_pictures import pictures, raw_message, success_frame  # noqa: E402
from rcl_interfaces.srv import SetParameters, SetParametersAtomically  # noqa: E402
from rclpy.context import Context  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from rclpy.signals import SignalHandlerOptions  # noqa: E402
from ros_processes import Detector, detector, run, running, wait_until  # noqa: E402
import yaml  # noqa: E402

from grasp_success_detector.console import ExitCode  # noqa: E402
from grasp_success_detector.ros.node.declared_parameters import default_value  # noqa: E402
from grasp_success_detector.ros.node.lifecycle_node import DetectorNode  # noqa: E402
from grasp_success_detector.ros.node.parameters import Parameters  # noqa: E402
from grasp_success_detector.ros.process import run_managed_node  # noqa: E402

CONFIG = Path(__file__).parent.parent / 'config' / 'detector.yaml'


def test_an_interrupt_that_a_library_swallows_ends_it_all_the_same(random_checkpoint):
    with running('deaf_detector', '--ros-args', '-r', '__ns:=/deaf', '-p',
                 f'checkpoint:={random_checkpoint}', package='') as child:
        child.wait_for('loading')
        child.send_signal(signal.SIGINT)
        assert child.wait(timeout=20.) == 0


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
        assert time.monotonic() - began < 10.   # two seconds, on a machine with nothing else to do
        wait_until(lambda: len(seen.verdicts) > before)
        assert not seen.verdicts[-1].data
        assert 'Traceback' not in child.output


@pytest.mark.parametrize(('arguments', 'line'), [
    (['-p', 'checkpoint:=/no/such.safetensors'],
     'configure failed: /no/such.safetensors: no such file'),
    (['-p', f'checkpoint:={__file__}'], f'configure failed: {__file__}'),
    (['-p', 'window_s:=1', '-p', 'image_transport:=theora'],
     "configure failed: parameter image_transport = 'theora': expected raw or compressed; "
     'parameter window_s = 1: expected a number from 0.0 to 60.0, with a decimal point'),
    (['-p', 'min_frames:=0'],
     'configure failed: parameter min_frames = 0: expected a whole number from 1 to 1000'),
    (['-p', 'window_s'], "Couldn't parse parameter override rule: '-p window_s'"),
])
def test_unusable_parameters_end_the_node_with_one_line(arguments, line):
    child = run('detector_node', '--ros-args', *arguments)
    assert child.returncode == 1
    assert line in child.output
    assert len(child.output.strip().splitlines()) == 1


def test_no_thread_of_dds_outlives_the_node():
    def threads():
        names = []
        for path in Path('/proc/self/task').glob('*/comm'):
            with suppress(OSError):     # another thread that ends meanwhile
                names.append(path.read_text(encoding='utf-8'))
        return sum(name.startswith(('dds.ev', 'dds.udp')) for name in names)

    before = threads()
    context = Context()
    rclpy.init(context=context, signal_handler_options=SignalHandlerOptions.NO)
    gc.disable()    # would mend it, sooner or later
    try:
        node = DetectorNode(context=context, namespace='/ended', parameter_overrides=[
            Parameter('window_s', value=-1.)])
        if threads() == before:
            pytest.skip('this middleware does not name its threads')
        assert run_managed_node(node, autostart=True) == ExitCode.ERROR
        assert threads() == before
    finally:
        gc.enable()
        context.try_shutdown()


@pytest.fixture(scope='module')
def managed(ears, settings):
    """Return a node that waits for a lifecycle manager, with a checkpoint that is not there."""
    parameters = {**settings, 'checkpoint': '/nope', 'threshold': 1e-6, 'autostart': 'false',
                  'stale_after_s': 20.,
                  'qos_overrides./managed/image/compressed.subscription.history': 'bogus'}
    arguments = ['--ros-args', '-r', '__ns:=/managed', '--params-file', CONFIG]
    for name, value in parameters.items():
        arguments += ['-p', f'{name}:={value}']
    with running('detector_node', *arguments) as child:
        node = Managed(ears, '/managed/grasp_success_detector')
        node.child = child
        yield node


class Managed:
    """Clients of the services that a lifecycle manager and `ros2 param` use."""

    def __init__(self, ears, name):
        self.ears, self.name = ears, name

    def change(self, transition):
        request = ChangeState.Request(transition=Transition(id=transition))
        return self.ears.call(ChangeState, f'{self.name}/change_state', request).success

    def state(self):
        return self.ears.call(
            GetState, f'{self.name}/get_state', GetState.Request()).current_state.id

    def set(self, **values):
        """Set parameters one by one and return what is said of each."""
        request = SetParameters.Request(parameters=_messages(values))
        return self.ears.call(SetParameters, f'{self.name}/set_parameters', request).results

    def set_together(self, **values):
        request = SetParametersAtomically.Request(parameters=_messages(values))
        return self.ears.call(
            SetParametersAtomically, f'{self.name}/set_parameters_atomically', request).result


def _messages(values):
    return [Parameter(name, value=value).to_parameter_msg() for name, value in values.items()]


def cpu_seconds(pid):
    fields_of = Path(f'/proc/{pid}/stat').read_text(encoding='utf-8').rpartition(')')[2].split()
    return (int(fields_of[11]) + int(fields_of[12])) / os.sysconf('SC_CLK_TCK')


def test_every_transition_and_what_fails_on_the_way(managed, ears, random_checkpoint):
    """One test, since every state follows from the one before."""
    assert managed.state() == State.PRIMARY_STATE_UNCONFIGURED
    assert not managed.change(Transition.TRANSITION_CONFIGURE)
    assert 'configure failed: /nope: no such file' in managed.child.output
    assert managed.state() == State.PRIMARY_STATE_UNCONFIGURED
    mended, = managed.set(checkpoint=str(random_checkpoint))
    assert mended.successful

    # An error on the way to active leads through on_error back to unconfigured.
    assert managed.set(image_transport='compressed')[0].successful
    assert managed.change(Transition.TRANSITION_CONFIGURE)
    assert managed.state() == State.PRIMARY_STATE_INACTIVE
    assert not managed.change(Transition.TRANSITION_ACTIVATE)
    assert 'activate failed: RuntimeError: ' in managed.child.output
    assert '`bogus`' in managed.child.output
    assert managed.state() == State.PRIMARY_STATE_UNCONFIGURED
    assert managed.set(image_transport='raw')[0].successful

    assert managed.change(Transition.TRANSITION_CONFIGURE)
    assert managed.change(Transition.TRANSITION_ACTIVATE)
    seen = Detector(ears, managed.child, 'managed')
    assert seen.ask(seen.stamp(raw_message(pictures()[0])))[0]
    before = len(seen.verdicts)
    assert managed.change(Transition.TRANSITION_DEACTIVATE)
    wait_until(lambda: len(seen.verdicts) > before)
    assert (seen.verdicts[-1].data, seen.confidences[-1].data) == (False, 0.)
    wait_until(lambda: seen.camera.get_subscription_count() == 0)
    assert seen.diagnostics(lambda values: values['reason'] == 'inactive')

    # Inactive it costs next to nothing, also with a camera that goes on.
    spent = cpu_seconds(managed.child.pid)
    began = time.monotonic()
    while time.monotonic() < began + 3.:
        seen.camera.publish(seen.stamp(raw_message(pictures()[0])))
        time.sleep(1 / 30)
    share = (cpu_seconds(managed.child.pid) - spent) / (time.monotonic() - began)
    assert share < 0.03, f'{share:.1%} of a core'

    assert managed.change(Transition.TRANSITION_ACTIVATE)
    wait_until(lambda: seen.camera.get_subscription_count() == 1)
    time.sleep(0.2)
    assert seen.ask(seen.stamp(raw_message(pictures()[1])))[0]
    assert managed.change(Transition.TRANSITION_DEACTIVATE)
    assert managed.change(Transition.TRANSITION_CLEANUP)
    assert managed.state() == State.PRIMARY_STATE_UNCONFIGURED

    # And once more from the start, to the end.
    assert managed.change(Transition.TRANSITION_CONFIGURE)
    assert managed.change(Transition.TRANSITION_ACTIVATE)
    wait_until(lambda: seen.camera.get_subscription_count() == 1)
    time.sleep(0.2)
    assert seen.ask(seen.stamp(raw_message(pictures()[0])))[0]
    _parameters_while_active(managed, seen)
    before = len(seen.verdicts)
    assert managed.change(Transition.TRANSITION_ACTIVE_SHUTDOWN)
    wait_until(lambda: len(seen.verdicts) > before)
    assert not seen.verdicts[-1].data
    assert managed.state() == State.PRIMARY_STATE_FINALIZED
    assert 'Traceback' not in managed.child.output


def _parameters_while_active(managed, seen):
    """Change each changeable parameter and check its effect; the verdict begins and ends true."""
    frame = raw_message(pictures()[0])
    for values, complaint in (
        ({'device': 'cuda'}, 'device: read in configure; deactivate and clean up'),
        ({'autostart': True}, 'autostart: read at start; give it on the command line'),
        ({'threshold': 1.5}, '1.5'),
        ({'roi': [0.5, 0., 0.6, 1.]}, 'roi (0.5, 0.0, 0.6, 1.0) (expected x, y, width and hei'),
        ({'roi': [0.5]}, 'roi = [0.5]: expected 4 values, each a number from 0.0 to 1.0'),
        ({'max_rate': 0.01}, 'leaves 100.00 s between frames, no less than stale_after_s = 20.0'),
        ({'min_frames': 0}, 'min_frames'),
    ):
        result, = managed.set(**values)
        assert not result.successful
        assert complaint in result.reason
    refused = managed.set_together(window_s=1., max_rate=2., min_frames=4)
    assert 'min_frames = 4 is never reached' in refused.reason
    assert seen.ask(seen.stamp(frame))[0]       # nothing of it has come into effect

    assert managed.set(threshold=1.)[0].successful
    assert not seen.ask(seen.stamp(frame))[0]
    assert managed.set(roi=[0., 0., 0.5, 1.], threshold=1e-6)[0].successful
    assert seen.ask(seen.stamp(frame))[0]
    ramp = raw_message(pictures()[2])
    _, left = seen.ask(seen.stamp(ramp))
    assert managed.set(roi=[0.5, 0., 0.5, 1.])[0].successful
    _, right = seen.ask(seen.stamp(ramp))
    assert left != right
    assert managed.set_together(window_s=1., max_rate=5., min_frames=1).successful


def test_cleanup_frees_the_network(random_checkpoint):
    context = Context()
    rclpy.init(context=context, signal_handler_options=SignalHandlerOptions.NO)
    node = DetectorNode(context=context, namespace='/freed', parameter_overrides=[
        Parameter('checkpoint', value=str(random_checkpoint))])
    try:
        node.trigger_configure()
        network = weakref.ref(node._pipeline.judge._classifier)
        assert network() is not None
        node.trigger_activate()
        node.trigger_deactivate()
        node.trigger_cleanup()
        gc.collect()
        assert network() is None
    finally:
        node.destroy_node()
        context.try_shutdown()


def test_the_configuration_file_holds_the_defaults():
    document = yaml.safe_load(CONFIG.read_text(encoding='utf-8'))
    assert document == {'/**': {'ros__parameters': {
        declared.name: default_value(declared) for declared in fields(Parameters)}}}


def test_help_names_an_example():
    child = run('detector_node', '--help')
    assert (child.returncode, 'examples:' in child.output) == (0, True)


def test_an_unknown_option_is_a_usage_error():
    child = run('detector_node', '--treshold', '1')
    assert child.returncode == 2
    assert 'unrecognized arguments: --treshold 1' in child.output
