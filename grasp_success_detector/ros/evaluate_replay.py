"""Console script ``evaluate_replay``: play a bag to the running node and judge what it says."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
import tempfile
import time
from typing import TYPE_CHECKING

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rich.console import Console

from grasp_success_detector.console import command, ExitCode, progress_bar
from grasp_success_detector.data.extraction_options import ExtractionOptions
from grasp_success_detector.data.source_arguments import add_label_arguments, source_options
from grasp_success_detector.decision import DecisionConfig, NS_PER_S
from grasp_success_detector.errors import BagError
from grasp_success_detector.resources import DEFAULT_CHECKPOINT, share_path
from grasp_success_detector.ros.bag_player import Playback
from grasp_success_detector.ros.child_process import (
    child_process,
    ChildError,
    ChildProcess,
    detector_command,
    player_command,
)
from grasp_success_detector.ros.demo_bag import DemoBag
from grasp_success_detector.ros.demo_monitor import DemoMonitor
from grasp_success_detector.ros.process import full_arguments, own_arguments, ros_process
from grasp_success_detector.ros.verdict_bag import (
    CONFIDENCE_TOPIC,
    SaidMessage,
    VERDICT_TOPIC,
    write_verdict_bag,
)

if TYPE_CHECKING:
    from grasp_success_detector.evaluation.replay import NodeAnswer

#: How long the detector may take to load its network (a cold disk, a small machine).
START_TIMEOUT_S = 120.

#: How long to listen on after the last frame: for its verdict, and the last diagnostics.
LAST_WORDS_S = 1.5

EPILOG = """\
examples:
  evaluate_replay samples/rig_attempts --out replay
  evaluate_replay day1/take3 --labels labels.csv --rate 0.5 --out replay

Where ROS 2's own tools are at hand, they do the same by hand: ros2 launch the detector,
ros2 bag record /grasp_success /grasp_success/confidence, ros2 bag play the bag. This is for
machines without rosbag2, and for the report. REPLAY gets what evaluate_classifier writes, with the
node's verdicts, and verdicts/, a rosbag2 of them.

exit codes: 0 done, 1 wrong input, or the node did not start, 2 wrong option, 3 no verdict came
through, 130 Ctrl-C
"""


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog='evaluate_replay', formatter_class=argparse.RawDescriptionHelpFormatter,
        description='Start the detector as a process, play a bag to it over DDS, and judge what '
                    'it publishes: verdicts, latency, dropped frames, and what differs from '
                    'evaluate_classifier.', epilog=EPILOG)
    parser.add_argument('bag', metavar='BAG', help='rosbag2 folder, .mcap, .db3 or .bag file')
    parser.add_argument('--out', type=Path, required=True, metavar='REPLAY',
                        help='folder to write; it must not exist')
    parser.add_argument('--checkpoint', type=Path, help='(default: the one that ships)')
    parser.add_argument('--rate', type=float, default=1., metavar='R',
                        help='2 plays twice as fast as recorded (1)')
    parser.add_argument('--timelines', type=int, default=30, metavar='N',
                        help='attempts shown over time in the report, the worst ones (30)')
    parser.add_argument('--videos', type=int, default=0, metavar='N',
                        help='attempts written as annotated mp4 as well, the worst ones (0)')
    add_label_arguments(parser)
    return parser


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments, play, judge, print, and write the folder."""
    arguments = full_arguments(argv, 'evaluate_replay')
    args = build_parser().parse_args(own_arguments(arguments))
    rate = Playback(rate=args.rate).rate
    options = ExtractionOptions(**source_options(args))
    # Slow to import: only once the arguments are known to be fine.
    from grasp_success_detector import checkpoint
    from grasp_success_detector.classifier import GraspClassifier
    from grasp_success_detector.evaluation.attempts import decide_attempts
    from grasp_success_detector.evaluation.evaluation import evaluation_of, origin_of
    from grasp_success_detector.evaluation.evaluation_folder import new_folder, write_evaluation
    from grasp_success_detector.evaluation.evaluation_text import evaluation_lines
    from grasp_success_detector.evaluation.judging import Judge
    from grasp_success_detector.evaluation.recordings import open_recordings
    from grasp_success_detector.evaluation.replay import (
        compare_ways,
        NodeAnswer,
        Replay,
        replay_json,
        replay_lines,
        replay_section,
        replayed_attempts,
    )

    path = args.checkpoint or share_path(DEFAULT_CHECKPOINT)
    loaded = checkpoint.load(path)
    decision = replace(DecisionConfig(), threshold=loaded.metadata.threshold)
    with new_folder(args.out) as folder, tempfile.TemporaryDirectory(dir=folder) as unpacked:
        recordings = open_recordings([args.bag], options, Path(unpacked))
        if len(recordings) != 1 or recordings[0].topic is None:
            raise BagError(f'{args.bag}: expected one bag; videos and data sets cannot be played')
        recording, topic = recordings[0], recordings[0].topic
        bag = DemoBag(recording.path, topic.name, topic.msgtype.endswith('/CompressedImage'), (),
                      {}, simulated=False)
        with ros_process(arguments):
            listener = _Listener(bag, recording.account['found'])
            try:
                listener.run(path, rate)
            finally:
                listener.close()
        monitor = listener.monitor
        replay = Replay(rate, recording.account['found'], monitor.frames, {
            stamp_ns: NodeAnswer(answer.verdict, answer.probability, answer.latency_s)
            for stamp_ns, answer in monitor.answers.items()}, listener.figures)
        write_verdict_bag(folder / 'verdicts', _said(replay.answers, rate))
        classifier = GraspClassifier(loaded)
        judge = Judge(classifier)
        with progress_bar(Console(stderr=True), 'frames') as progress:
            task = progress.add_task('judging directly', total=len(recording.frames))
            judged = [judge.judge(recording, lambda count: progress.advance(task, count))]
        direct = decide_attempts(judged, decision, anew=False)
        difference = compare_ways(judged[0], replay, decision)
        evaluation = evaluation_of(
            path, loaded, str(classifier.device), decision, judged,
            origin_of(recordings, options), replayed_attempts(direct, replay, decision),
            {'replay': replay_json(replay, difference)})
        write_evaluation(evaluation, folder, args.timelines, args.videos,
                         (replay_section(replay, difference),))
    for line in (*evaluation_lines(evaluation), *replay_lines(replay, difference)):
        print(line)
    print(f'report: {args.out / "report.html"}')
    if not replay.answers:
        print('no verdict came through; is another process on this ROS_DOMAIN_ID in the way?')
        return ExitCode.NOTHING_DONE
    return ExitCode.OK


def _said(answers: Mapping[int, NodeAnswer], rate: float) -> Iterator[SaidMessage]:
    """Yield what was published, on the bag's time: a frame's stamp and the time that it took."""
    for stamp_ns, answer in answers.items():
        at_ns = stamp_ns + round(answer.latency_s * rate * NS_PER_S)
        yield SaidMessage(CONFIDENCE_TOPIC, at_ns, answer.confidence)
        yield SaidMessage(VERDICT_TOPIC, at_ns, answer.verdict.value == 'success')


class _Listener:
    """Starts detector and player and hears what they say."""

    def __init__(self, bag: DemoBag, frames: int) -> None:
        self._node = Node('evaluate_replay', start_parameter_services=False)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        self._bag, self._frames = bag, frames
        self.monitor = DemoMonitor(self._node, bag)
        #: The node's own last figures.
        self.figures: dict[str, str] = {}
        self._node.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, 10)

    def run(self, checkpoint: Path, rate: float) -> None:
        """
        Play the bag once and listen to the end.

        :raises ChildError: the detector or the player ended before its time.
        """
        with child_process(detector_command(self._bag, str(checkpoint))) as detector:
            self._wait_for(detector)
            with (child_process(player_command(self._bag, rate)) as player,
                  progress_bar(Console(stderr=True), 'frames') as progress):
                task = progress.add_task('playing', total=self._frames)
                while player.poll() is None:
                    self._executor.spin_once(timeout_sec=.05)
                    detector.check()
                    progress.update(task, completed=self.monitor.frames)
                if player.returncode:
                    raise ChildError(
                        f'play_bag ended with {player.returncode}: {player.last_line()}')
                end = time.monotonic() + LAST_WORDS_S
                while time.monotonic() < end:
                    self._executor.spin_once(timeout_sec=.05)
                    progress.update(task, completed=self.monitor.frames)

    def close(self) -> None:
        """Leave ROS."""
        self._executor.shutdown(timeout_sec=.5)
        self._node.destroy_node()

    def _wait_for(self, detector: ChildProcess) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        # Itself and the detector: that one subscribes when its network is loaded.
        while self._node.count_subscribers(self._bag.topic) < 2:
            self._executor.spin_once(timeout_sec=.05)
            detector.check()
            if time.monotonic() > deadline:
                raise ChildError(f'detector_node is not active after {START_TIMEOUT_S:.0f} s: '
                                 f'{detector.last_line()}')

    def _on_diagnostics(self, array: DiagnosticArray) -> None:
        for status in array.status:
            if status.name.endswith(': detector'):
                self.figures = {pair.key: pair.value for pair in status.values}


if __name__ == '__main__':
    raise SystemExit(main(None))
