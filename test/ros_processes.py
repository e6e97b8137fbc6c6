"""Real processes and real DDS for tests: start a program, listen to topics, publish frames."""

from contextlib import contextmanager
import os
from pathlib import Path
import subprocess
import sys
import tempfile
from threading import Thread
import time

from diagnostic_msgs.msg import DiagnosticArray
import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image
from std_msgs.msg import Bool, Float32

from grasp_success_detector.ros.tools.child_process import end

HERE = Path(__file__).resolve().parent

NS_PER_S = 1_000_000_000

#: How long to wait for an event whose speed is not tested.
PATIENCE_S = 90.

RELIABLE = QoSProfile(depth=1000, reliability=QoSReliabilityPolicy.RELIABLE)


class Child(subprocess.Popen):
    """
    A module as a process; its output goes to a file.

    Console scripts of the package, unless another package is named ('': of the tests); run by the
    Python of the tests, unless another one is named.
    """

    def __init__(self, module, *arguments, cwd=None, package='grasp_success_detector.cli',
                 python=sys.executable):
        self._folder = tempfile.TemporaryDirectory()
        self.log = Path(self._folder.name) / 'output'
        with open(self.log, 'wb') as output:
            super().__init__(
                [python, '-m', f'{package}.{module}'.lstrip('.'), *map(str, arguments)],
                stdout=output, stderr=subprocess.STDOUT, cwd=cwd,
                env={**os.environ, 'RCUTILS_LOGGING_BUFFERED_STREAM': '0',
                     'PYTHONPATH': os.pathsep.join((str(HERE), os.environ['PYTHONPATH']))})

    @property
    def output(self):
        return self.log.read_text(errors='replace')

    def wait_for(self, text):
        """Wait until it has printed a text."""
        wait_until(lambda: text in self.output or self.poll() is not None)
        assert text in self.output, f'ended with {self.returncode}: {self.output}'

    def stop(self):
        """End it in any state."""
        end(self, patience_s=10.)
        print(f'--- {self.args[2]} ended with {self.returncode}:\n{self.output}')


@contextmanager
def running(module, *arguments, **options):
    """Run a console script for the block."""
    child = Child(module, *arguments, **options)
    try:
        yield child
    finally:
        child.stop()


@contextmanager
def detector(*arguments, namespace='', python=sys.executable, **parameters):
    """Run a detector_node, active, for the block."""
    ros_arguments = ['--ros-args', *arguments, '-r', f'__ns:=/{namespace}']
    for name, value in parameters.items():
        ros_arguments += ['-p', f'{name}:={value}']
    with running('detector_node', *ros_arguments, python=python) as child:
        child.wait_for('active: frames from')
        yield child


def run(module, *arguments, **options):
    """Run a console script to its end and return it."""
    child = Child(module, *arguments, **options)
    try:
        child.wait(timeout=PATIENCE_S)
    finally:
        child.stop()
    return child


def wait_until(condition, timeout_s=PATIENCE_S):
    """Wait until a condition holds, and return what it returned."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f'not within {timeout_s} s')
        time.sleep(0.01)
    return value


class Ears:
    """A node of the test process, spun in a thread, that stores all messages it receives."""

    def __init__(self):
        self.context = rclpy.Context()
        rclpy.init(context=self.context, signal_handler_options=SignalHandlerOptions.NO)
        self.node = Node('test', context=self.context, start_parameter_services=False)
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        self._thread = Thread(target=self._spin, daemon=True)
        self._thread.start()

    def _spin(self):
        try:
            self._executor.spin()
        except ExternalShutdownException:
            pass

    def close(self):
        self._executor.shutdown(timeout_sec=1.)
        self._thread.join(timeout=5.)
        self.node.destroy_node()
        self.context.try_shutdown()

    def listen(self, message_type, topic, qos=RELIABLE):
        """Return a list that grows by every message that comes."""
        heard = []
        self.node.create_subscription(message_type, topic, heard.append, qos)
        self._executor.wake()
        return heard

    def diagnostics(self, prefix):
        """Return a function that returns the newest values of the node whose name begins so."""
        heard = self.listen(DiagnosticArray, '/diagnostics')

        def newest():
            for array in reversed(heard):
                for status in array.status:
                    if status.name.startswith(prefix):
                        return {pair.key: pair.value for pair in status.values}
            return {}
        return newest

    def publisher(self, message_type, topic):
        """Return a publisher that has a subscriber."""
        publisher = self.node.create_publisher(message_type, topic, RELIABLE)
        wait_until(lambda: publisher.get_subscription_count())
        time.sleep(0.2)     # the other side learns of the match a moment later
        return publisher

    def call(self, service_type, name, request):
        """Call a service and return its response."""
        client = self.node.create_client(service_type, name)
        assert client.wait_for_service(timeout_sec=PATIENCE_S), name
        future = client.call_async(request)
        self._executor.wake()
        wait_until(future.done)
        self.node.destroy_client(client)
        return future.result()


class Detector:
    """What a test sees of one running detector: its process, its topics, its camera."""

    def __init__(self, ears, child, namespace, message_type=Image, topic='image'):
        self.ears, self.child, self.namespace = ears, child, namespace
        self.verdicts = ears.listen(Bool, f'/{namespace}/grasp_success')
        self.confidences = ears.listen(Float32, f'/{namespace}/grasp_success/confidence')
        self._diagnostics = ears.listen(DiagnosticArray, '/diagnostics')
        self.camera = ears.publisher(message_type, f'/{namespace}/{topic}')
        # It subscribes once more when it has found that this camera is a reliable one.
        wait_until(lambda: any(
            info.qos_profile.reliability is QoSReliabilityPolicy.RELIABLE
            for info in ears.node.get_subscriptions_info_by_topic(self.camera.topic_name)))
        time.sleep(0.2)
        self._stamp_ns = 1_700_000_000 * NS_PER_S
        wait_until(lambda: self.verdicts and self.confidences)     # the first heartbeat

    def stamp(self, message):
        """Give a message the next stamp, 0.1 s on."""
        self._stamp_ns += NS_PER_S // 10
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(self._stamp_ns, NS_PER_S)
        message.header.frame_id = 'camera_optical_frame'
        return message

    def ask(self, message):
        """Publish a frame and return (verdict, confidence) that come of it."""
        seen = len(self.decided())
        self.camera.publish(message)
        wait_until(lambda: len(self.decided()) > seen)
        wait_until(lambda: len(self.verdicts) >= len(self.confidences))
        return self.verdicts[-1].data, self.decided()[-1]

    def decided(self):
        """Return the confidences of decided answers; UNKNOWN has 0."""
        return [message.data for message in self.confidences if message.data > 0.]

    def diagnostics(self, fits):
        """Return the values of the next status that fits."""
        seen = len(self._diagnostics)

        def newest():
            for array in self._diagnostics[seen:]:
                for status in array.status:
                    values = {pair.key: pair.value for pair in status.values}
                    if status.name.startswith(f'/{self.namespace}/') and fits(values):
                        return {**values, 'message': status.message, 'level': status.level}
            return None
        return wait_until(newest)
