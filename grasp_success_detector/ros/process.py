"""Run processes with ROS: arguments, signals, rclpy's context, and a managed node."""

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

#: Pause after an error, so that a repeating error does not occupy a core, seconds.
SPIN_PAUSE_S = 0.05

ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def full_arguments(argv: Sequence[str] | None, program: str) -> list[str]:
    """Return the arguments as rclpy expects them, with the program's name in front."""
    return list(sys.argv) if argv is None else [program, *argv]


def own_arguments(arguments: Sequence[str]) -> list[str]:
    """Return arguments for argparse: without program and ROS ones; may raise ConfigError."""
    with _argument_errors():
        return list(remove_ros_args(list(arguments)))[1:]


@contextmanager
def ros_process(arguments: Sequence[str]) -> Iterator[None]:
    """
    Initialise rclpy for the block and shut it down after it.

    SIGINT and SIGTERM raise one KeyboardInterrupt in the main thread; further ones are ignored,
    so that a second Ctrl-C (``ros2 launch`` sends its own) cannot break the clean-up. rclpy's own
    handlers would invalidate the context at once, and a last message could not be published.

    :param arguments: all arguments, with the program's name in front.
    :raises ConfigError: the ROS arguments cannot be parsed.
    """
    interrupt = _OneInterrupt()
    before = {number: signal.signal(number, interrupt) for number in ENDING_SIGNALS}
    try:
        with _argument_errors():
            rclpy.init(args=list(arguments), signal_handler_options=SignalHandlerOptions.NO)
        yield
    finally:
        interrupted, interrupt.spent = interrupt.spent, True
        rclpy.try_shutdown()
        for number, handler in before.items():
            # After an interrupt the process ends; the default would act on a late second signal.
            signal.signal(number, signal.SIG_IGN if interrupted else handler)
        if interrupted:
            gc.freeze()     # saves the last collection, 0.5 s with the objects of torch


@contextmanager
def _argument_errors() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:   # base of rclpy's errors from the C layer
        # Without the place in rcl's sources.
        raise ConfigError(str(error).partition(', at /')[0].splitlines()[0]) from error


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
    Spin a managed node until SIGINT or SIGTERM, then shut it down and destroy it.

    :param autostart: configure and activate the node first.
    :returns: ERROR if the node could not be activated or a callback raised, else OK.
    """
    executor = SingleThreadedExecutor(context=node.context)
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
                    # From rclpy's C layer, about one entity (a client that is gone).
                    if not node.context.ok():
                        raise
                    node.get_logger().error(f'{type(error).__name__}: {one_line(error)}')
                    time.sleep(SPIN_PAUSE_S)
        except ExternalShutdownException:
            pass
        except Exception as error:  # noqa: BLE001 - reported by the main thread
            failures.append(error)
        finally:
            ended.set()

    # In a second thread, since the main one must be free to take signals.
    spinning = Thread(target=spin, name='executor', daemon=True)
    try:
        if autostart:
            success = TransitionCallbackReturn.SUCCESS
            active = node.trigger_configure() == success and node.trigger_activate() == success
            # A library that calls back into Python may have swallowed the KeyboardInterrupt.
            if isinstance(handler := signal.getsignal(signal.SIGINT), _OneInterrupt) and (
                    handler.spent):
                raise KeyboardInterrupt
            if not active:
                return ExitCode.ERROR
        spinning.start()
        ended.wait()
    except KeyboardInterrupt:
        pass
    finally:
        executor.shutdown(timeout_sec=0.5)
        if spinning.is_alive():
            spinning.join(timeout=0.5)
        try:
            node.trigger_shutdown()
        except RuntimeError:    # no such transition: already shut down, or cut off in configure
            pass
        node.destroy_node()
        # rclpy leaves the state machine, which would keep DDS and its threads running into the
        # interpreter's end, where they have crashed; and others would not hear that it is gone.
        node._state_machine.destroy_when_not_in_use()
    for failure in failures:
        print(f'error: {type(failure).__name__}: {failure}', file=sys.stderr)
    return ExitCode.ERROR if failures else ExitCode.OK
