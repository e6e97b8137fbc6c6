"""Console script ``grasp_demo``: play the sample bag to the detector over DDS and show it."""

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, ExitStack
import errno
from pathlib import Path
import tempfile
import time

from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rich.console import Console
from rich.live import Live

from grasp_success_detector.console import command, ExitCode
from grasp_success_detector.decision import NS_PER_S
from grasp_success_detector.errors import ConfigError
from grasp_success_detector.files import SAMPLE_BAG, share_path, write_whole
from grasp_success_detector.images.encoding import encode_png
from grasp_success_detector.ros.process import full_arguments, own_arguments, ros_process
from grasp_success_detector.ros.tools.bag_player import Playback
from grasp_success_detector.ros.tools.child_process import (
    child_process,
    detector_command,
    player_command,
)
from grasp_success_detector.ros.tools.demo_bag import read_demo_bag
from grasp_success_detector.ros.tools.demo_monitor import DemoMonitor, DemoResult
from grasp_success_detector.ros.tools.demo_view import (
    attempt_line,
    chosen_answers,
    draw_demo,
    live_view,
    result_table,
)

#: Time to listen on after the last frame, for its verdict.
LAST_VERDICT_S = 1.


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog='grasp_demo', formatter_class=argparse.RawDescriptionHelpFormatter,
        description='Start the detector as a process, play a bag to it in real time, show its '
                    'verdicts, and draw a picture of them.',
        epilog="""examples:
  grasp_demo
  grasp_demo --bag my_recording --checkpoint my.safetensors --output my_demo.png

While it runs, any ROS 2 process with the same ROS_DOMAIN_ID can subscribe to /grasp_success.

exit codes: 0 frames and verdicts came through, 1 bad bag or checkpoint, 2 usage, 3 no verdict
came through, 130 interrupted""")
    parser.add_argument('--bag', type=Path, help='bag to play (default: the sample that ships)')
    parser.add_argument('--checkpoint', help='checkpoint to use (default: the one that ships)')
    parser.add_argument('--rate', type=float, default=Playback.rate, metavar='R',
                        help='2 plays twice as fast as recorded (default 1)')
    parser.add_argument('--output', type=Path, default=Path('demo.png'), metavar='PNG',
                        help='picture to write (default demo.png)')
    return parser


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo."""
    arguments = full_arguments(argv, 'grasp_demo')
    options = build_parser().parse_args(own_arguments(arguments))
    with _writing(options.output):      # before the run: can it be written?
        if options.output.is_dir():
            raise IsADirectoryError(errno.EISDIR, 'it is a folder')
        options.output.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=options.output.parent).close()
    Playback(rate=options.rate)     # refuses a wrong rate
    bag = read_demo_bag(options.bag or share_path(SAMPLE_BAG))
    console = Console()
    with ros_process(arguments):
        node = Node('grasp_demo', start_parameter_services=False)
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        try:
            monitor = DemoMonitor(node, bag)
            results = _Run(node, executor, monitor, console).run(options)
        finally:
            executor.shutdown(timeout_sec=0.5)
            node.destroy_node()
    if monitor.decided == 0:
        console.print(
            f'no verdict came through: {monitor.frames} frames seen, {len(monitor.answers)} '
            'answered; is another process on this ROS_DOMAIN_ID in the way?', soft_wrap=True)
        return ExitCode.NOTHING_DONE
    _report(console, monitor, results, options.output)
    return ExitCode.OK


@contextmanager
def _writing(output: Path) -> Iterator[None]:
    """Turn an OSError in the block, which writes the picture, into a ConfigError."""
    try:
        yield
    except OSError as error:
        raise ConfigError(f'--output {output}: cannot be written ({error.strerror}); expected the '
                          'name of a picture in a folder that can be written to') from error


class _Run:
    """One run of the demo, with its view on the terminal."""

    def __init__(self, node: Node, executor: SingleThreadedExecutor, monitor: DemoMonitor,
                 console: Console) -> None:
        self._node, self._executor = node, executor
        self._monitor, self._console = monitor, console
        self._live = Live(console=console, refresh_per_second=8, transient=True)
        self._printed = 0

    def run(self, options: argparse.Namespace) -> list[DemoResult]:
        """Start detector and player, watch them to the end, and return every attempt's result."""
        bag = self._monitor.bag
        with ExitStack() as stack:
            if self._console.is_terminal:
                stack.enter_context(self._live)
            detector = stack.enter_context(child_process(
                detector_command(bag, options.checkpoint)))
            # Two subscribers: this process, and the detector when its network is loaded.
            detector.wait_until_ready(lambda: self._node.count_subscribers(bag.topic) >= 2,
                                      lambda: self._step('the detector loads its network'))
            player = stack.enter_context(child_process(player_command(bag, options.rate)))

            def playing() -> None:
                self._step('playing')
                detector.check()
            player.wait_until_done(playing)
            end = time.monotonic() + LAST_VERDICT_S
            while time.monotonic() < end:
                self._step('done')
            self._finish_attempts(everything=True)
        return [self._monitor.result(attempt) for attempt in bag.attempts]

    def _step(self, phase: str) -> None:
        self._executor.spin_once(timeout_sec=0.05)
        self._finish_attempts(everything=False)
        if self._console.is_terminal:
            self._live.update(live_view(self._monitor, phase))

    def _finish_attempts(self, everything: bool) -> None:
        """Print a line for each attempt whose frames are over, where there is no live view."""
        attempts = self._monitor.bag.attempts
        newest_ns = self._monitor.newest_ns
        while not self._console.is_terminal and self._printed < len(attempts):
            attempt = attempts[self._printed]
            # A little later, so that the verdict on its last frame is in.
            if not everything and (
                    newest_ns is None or newest_ns <= attempt.end_ns + LAST_VERDICT_S * NS_PER_S):
                return
            print(attempt_line(self._monitor.result(attempt)), flush=True)
            self._printed += 1


def _report(
    console: Console, monitor: DemoMonitor, results: Sequence[DemoResult], output: Path,
) -> None:
    """Print the table and write the picture."""
    bag = monitor.bag
    known = [result.correct for result in results if result.correct is not None]
    latency_ms = (monitor.latency_s or 0.) * 1e3
    summary = (f'{monitor.frames} frames, {len(monitor.answers)} answered, median latency '
               f'{latency_ms:.0f} ms')
    if known:
        summary = f'{sum(known)} of {len(known)} attempts correct; {summary}'
    console.print(result_table(results))
    console.print(summary, highlight=False)
    stamps = {answer.stamp_ns for result in results for answer in chosen_answers(result)}
    kind = 'simulated grasp attempts' if bag.simulated else f'frames of {bag.path.name}'
    picture = draw_demo(results, bag.frames(stamps), bag.truth,
                        f'grasp_success_detector: verdicts on {kind}', summary)
    with _writing(output):
        write_whole(output, encode_png(picture))
    console.print(f'picture: {output}', soft_wrap=True, highlight=False)


if __name__ == '__main__':
    raise SystemExit(main(None))
