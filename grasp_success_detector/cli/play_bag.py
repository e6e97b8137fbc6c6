"""play_bag: publish the messages of a bag with their recorded bytes, times and QoS."""

import argparse
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
import math
import time

from rclpy.node import Node
from rich.console import Console

from grasp_success_detector.console import (
    command,
    command_parser,
    ExitCode,
    progress_bar,
    stderr_console,
)
from grasp_success_detector.recordings.bags import open_bag
from grasp_success_detector.ros.process import full_arguments, own_arguments, ros_process
from grasp_success_detector.ros.tools.bag_player import BagPlayer, Playback
from grasp_success_detector.settings import add_options, given_options

EPILOG = """examples:
  play_bag samples/rig_attempts
  play_bag recording.mcap --rate 2 --topics /camera/image_raw/compressed
  play_bag recording --loop --restamp
  play_bag recording --clock --ros-args -r /cam/image:=/camera/image_raw

exit codes: 0 played, 1 no such bag or topic, 2 usage, 3 no message could be played,
130 interrupted"""


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = command_parser(__doc__, EPILOG)
    parser.add_argument('bag', help='rosbag2 folder, .mcap, .db3 or ROS 1 .bag file')
    add_options(parser, Playback, 'rate')
    add_options(parser, Playback, 'topics', 'restamp', defaults=False)
    parser.add_argument('--clock', type=float, nargs='?', const=40., dest='clock_hz', metavar='HZ',
                        help="publish the bag's time on /clock (default 40 times a second)")
    parser.add_argument('--loop', action='store_true', help='start again at the end, until Ctrl-C')
    parser.add_argument('--wait', type=_seconds, default=3., metavar='S',
                        help='longest time to wait for subscribers of all topics (default 3)')
    parser.add_argument('--wait-for', nargs='+', default=[], metavar='TOPIC',
                        help='wait for subscribers of these topics only')
    parser.add_argument('--subscribers', type=int, default=1, metavar='N',
                        help='number of nodes to wait for on each topic (default 1)')
    parser.add_argument('--delay', type=_seconds, default=0., metavar='S',
                        help='time to wait after that (default 0)')
    return parser


def _seconds(text: str) -> float:
    with suppress(ValueError):
        if 0. <= (seconds := float(text)) < math.inf:
            return seconds
    raise argparse.ArgumentTypeError(f'{text}: expected 0 or more seconds')


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments and play the bag."""
    arguments = full_arguments(argv, 'play_bag')
    options = build_parser().parse_args(own_arguments(arguments))
    playback = Playback(**given_options(Playback, options))
    with open_bag(options.bag) as reader, ros_process(arguments):
        node = Node('play_bag', start_parameter_services=False)
        try:
            count = _play(BagPlayer(node, reader, playback), options, stderr_console())
        finally:
            node.destroy_node()
    return ExitCode.OK if count else ExitCode.NOTHING_DONE


def _play(player: BagPlayer, options: argparse.Namespace, console: Console) -> int:
    for topic, why in player.skipped.items():
        console.print(f'skipped {topic}: {why}', soft_wrap=True, highlight=False)
    if player.message_count == 0:
        console.print(f'{options.bag}: no message to play', soft_wrap=True, highlight=False)
        return 0
    if lonely := player.wait_for_subscribers(options.wait, options.wait_for, options.subscribers):
        few = 'no subscriber' if options.subscribers == 1 else (
            f'fewer than {options.subscribers} subscribers')
        console.print(f'{few} of {", ".join(lonely)}', soft_wrap=True, highlight=False)
    time.sleep(options.delay)
    count = 0
    with progress_bar(console) as progress:
        task = progress.add_task('playing', total=player.message_count)
        while True:
            count += player.play(partial(progress.advance, task))
            if not options.loop:
                break
            progress.reset(task)
    console.print(f'played {count} messages', highlight=False)
    return count


if __name__ == '__main__':
    raise SystemExit(main(None))
