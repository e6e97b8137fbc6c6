"""How a process of ours enters and leaves ROS: signals, arguments, context."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
import gc
import signal
import sys
from threading import Event, Thread
import time
from types import FrameType

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn
from rclpy.signals import SignalHandlerOptions
from rclpy.utilities import remove_ros_args

from grasp_success_detector.console import ExitCode
from grasp_success_detector.errors import ConfigError, one_line

#: Before going on after an error, so that one which comes again at once does not take a core.
SPIN_PAUSE_S = 0.05

ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def full_arguments(argv: Sequence[str] | None, program: str) -> list[str]:
    """Return the arguments with the program's name in front, as rclpy wants them."""
    return list(sys.argv) if argv is None else [program, *argv]


def own_arguments(arguments: Sequence[str]) -> list[str]:
    """
    Return what argparse shall see: without the program's name and ``--ros-args ...``.

    :raises ConfigError: the ROS arguments cannot be parsed.
    """
    try:
        return list(remove_ros_args(list(arguments)))[1:]
    except RuntimeError as error:   # rclpy's errors of the C layer derive from it
        raise _argument_error(error) from error


@contextmanager
def ros_process(arguments: Sequence[str]) -> Iterator[None]:
    """
    Initialise rclpy for the block and shut it down after, whatever happens.

    SIGINT and SIGTERM raise one KeyboardInterrupt in the main thread; further ones are ignored,
    so that a second Ctrl-C (``ros2 launch`` sends one of its own) cannot break the clean-up.
    rclpy's own handlers would invalidate the context at once, and a last message could no longer
    be published.

    :param arguments: with the program's name, ROS arguments included.
    :raises ConfigError: the ROS arguments cannot be parsed.
    """
    interrupt = _OneInterrupt()
    before = {number: signal.signal(number, interrupt) for number in ENDING_SIGNALS}
    try:
        try:
            rclpy.init(args=list(arguments), signal_handler_options=SignalHandlerOptions.NO)
        except RuntimeError as error:
            raise _argument_error(error) from error
        yield
    finally:
        interrupted, interrupt.spent = interrupt.spent, True
        rclpy.try_shutdown()
        for number, handler in before.items():
            # After an interrupt the process is about to end: a late second signal must not
            # meet the default handlers.
            signal.signal(number, signal.SIG_IGN if interrupted else handler)
        if interrupted:
            # The interpreter's last collection would look at every object of torch, for half a
            # second that somebody waits.
            gc.freeze()


def _argument_error(error: RuntimeError) -> ConfigError:
    # What follows is where in rcl's sources it was found.
    return ConfigError(str(error).partition(', at /')[0].splitlines()[0])


class _OneInterrupt:
    """A signal handler that raises once."""

    def __init__(self) -> None:
        self.spent = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if not self.spent:
            self.spent = True
            raise KeyboardInterrupt


def run_managed_node(node: LifecycleNode, autostart: bool) -> ExitCode:
    """
    Spin a managed node until SIGINT or SIGTERM, then take it down.

    :param autostart: bring it to active first.
    :return: ERROR if it could not be brought to active or a callback raised.
    """
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    ended = Event()
    failures: list[Exception] = []

    def spin() -> None:
        try:
            while not ended.is_set():
                try:
                    executor.spin()
                    break
                except RuntimeError as error:
                    # Of rclpy's C layer, about one entity: an event of a subscription that is
                    # gone, an answer to a client that is gone. The others shall go on.
                    if not node.context.ok():
                        raise
                    node.get_logger().error(f'{type(error).__name__}: {one_line(error)}')
                    time.sleep(SPIN_PAUSE_S)
        except ExternalShutdownException:
            pass
        except Exception as error:  # noqa: BLE001 - told by the main thread
            failures.append(error)
        finally:
            ended.set()

    # Spun in a second thread, since the main one must be free to take signals.
    spinning = Thread(target=spin, name='executor', daemon=True)
    try:
        if autostart:
            brought_up = _bring_up(node)
            # A library that calls back into Python may have taken it for an error of its own.
            if isinstance(handler := signal.getsignal(signal.SIGINT), _OneInterrupt) and (
                    handler.spent):
                raise KeyboardInterrupt
            if not brought_up:
                return ExitCode.ERROR
        spinning.start()
        ended.wait()
    except KeyboardInterrupt:
        pass
    finally:
        executor.shutdown(timeout_sec=0.5)
        if spinning.is_alive():
            spinning.join(timeout=0.5)
        _take_down(node)
    for failure in failures:
        print(f'error: {type(failure).__name__}: {failure}', file=sys.stderr)
    return ExitCode.ERROR if failures else ExitCode.OK


def _bring_up(node: LifecycleNode) -> bool:
    success = TransitionCallbackReturn.SUCCESS
    return node.trigger_configure() == success and node.trigger_activate() == success


def _take_down(node: LifecycleNode) -> None:
    try:
        node.trigger_shutdown()
    except RuntimeError:    # no transition leads there: already shut down, or cut off in configure
        pass
    node.destroy_node()
