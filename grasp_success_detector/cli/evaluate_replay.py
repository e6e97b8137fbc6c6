"""Console script ``evaluate_replay``: play a bag to the running node and judge what it says."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
import tempfile
import time

from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSReliabilityPolicy
from rich.console import Console

from grasp_success_detector.cli.arguments import (
    add_engine_arguments,
    add_label_arguments,
    add_report_arguments,
    report_options,
    source_options,
)
from grasp_success_detector.cli.evaluate_classifier import evaluation_lines
from grasp_success_detector.console import command, ExitCode, progress_bar
from grasp_success_detector.decision import DecisionConfig
from grasp_success_detector.errors import BagError, ConfigError
from grasp_success_detector.files import DEFAULT_CHECKPOINT, new_folder, share_path
from grasp_success_detector.recordings.bags import open_bag
from grasp_success_detector.recordings.selection import FrameSelection, STAMP_NOT_SET
from grasp_success_detector.ros.node.parameters import Parameters
from grasp_success_detector.ros.process import full_arguments, own_arguments, ros_process
from grasp_success_detector.ros.tools.bag_player import Playback, recorded_qos
from grasp_success_detector.ros.tools.child_process import (
    child_process,
    ChildError,
    ChildProcess,
    detector_command,
    player_command,
)
from grasp_success_detector.ros.tools.demo_bag import DemoBag
from grasp_success_detector.ros.tools.verdict_bag import write_verdict_bag
from grasp_success_detector.ros.tools.verdict_recorder import VERDICT_TOPIC, VerdictRecorder

#: How long the detector may take to load its network (a cold disk, a small machine).
START_TIMEOUT_S = 120.

#: How long the detector may take to find the player and to listen as the frames are published.
ADAPT_TIMEOUT_S = 15.

#: How long to listen on after the last frame: for its verdict, and the last diagnostics.
LAST_WORDS_S = 1.5

EPILOG = """\
examples:
  evaluate_replay samples/rig_attempts --out replay
  evaluate_replay day1/take3 --labels labels.csv --rate 0.5 --out replay

Where ROS 2's own tools are at hand, they do the same by hand: ros2 launch the detector,
ros2 bag record /grasp_success /grasp_success/confidence, ros2 bag play the bag. This is for
machines without rosbag2, and for the report. REPLAY gets what evaluate_classifier writes, with the
node's verdicts, and verdicts/, a rosbag2 of all that it said. Where vision_msgs is installed,
verdicts are matched to frames by their header, else by time.

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
    add_engine_arguments(parser, Parameters.engine, Parameters.precision)
    parser.add_argument('--rate', type=float, default=1., metavar='R',
                        help='2 plays twice as fast as recorded (1)')
    add_report_arguments(parser)
    add_label_arguments(parser)
    return parser


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments, play, judge, print, and write the folder."""
    arguments = full_arguments(argv, 'evaluate_replay')
    args = build_parser().parse_args(own_arguments(arguments))
    rate = Playback(rate=args.rate).rate
    report = report_options(args)
    selection = FrameSelection(**source_options(args))
    # Slow to import: only once the arguments are known to be fine.
    from grasp_success_detector.evaluation.attempts import decide_attempts
    from grasp_success_detector.evaluation.evaluation import evaluation_of
    from grasp_success_detector.evaluation.frame_sources import open_recordings, origin_of
    from grasp_success_detector.evaluation.judging import judge
    from grasp_success_detector.evaluation.replay import (
        compare_ways,
        match_by_header,
        match_by_time,
        Matched,
        Replay,
        replay_json,
        replayed_attempts,
    )
    from grasp_success_detector.inference.classifier import GraspClassifier
    from grasp_success_detector.networks.checkpoint import Checkpoint
    from grasp_success_detector.reports.evaluation_page import (
        Extras,
        replay_lines,
        write_evaluation,
    )

    path = args.checkpoint or share_path(DEFAULT_CHECKPOINT)
    loaded = Checkpoint.open(path)
    decision = replace(DecisionConfig(), threshold=loaded.metadata.threshold)
    # By what the node runs: what differs then is not the engine's.
    classifier = GraspClassifier(loaded, engine=args.engine, precision=args.precision)
    with (new_folder(args.out, ConfigError) as folder,
          tempfile.TemporaryDirectory(dir=folder) as unpacked):
        recordings = open_recordings([args.bag], selection, Path(unpacked), outside=True)
        if len(recordings) != 1 or recordings[0].topic is None:
            raise BagError(f'{args.bag}: expected one bag; videos and data sets cannot be played')
        recording, topic = recordings[0], recordings[0].topic
        if unstamped := recording.account['damage'].get(STAMP_NOT_SET):
            raise BagError(f'{args.bag}: {unstamped} frames have no stamp in their header, by '
                           'which verdicts are matched to frames; evaluate_classifier needs none')
        bag = DemoBag(recording.path, topic.name, topic.msgtype.endswith('/CompressedImage'), (),
                      {}, simulated=False)
        with ros_process(arguments):
            run = _Run(bag, recording.account['found'])
            try:
                run.play([*detector_command(bag, str(path)), '-p', f'engine:={args.engine}',
                          '-p', f'precision:={args.precision}'], rate)
            finally:
                run.close()
        recorder = run.recorder
        stamped = recorder.said_stamped()
        replay = Replay(
            rate, recording.account['found'], len(recorder.frames),
            match_by_header(recorder.frames, stamped) if stamped
            else Matched(match_by_time(recorder.frames, recorder.said()), {}),
            bool(stamped), recorder.figures, str(classifier.engine))
        write_verdict_bag(folder / 'verdicts', recorder.published, recorder.frames, rate)
        with progress_bar(Console(stderr=True), 'frames') as progress:
            task = progress.add_task('judging directly', total=len(recording.frames))
            judged = judge(classifier, recording, lambda count: progress.advance(task, count))
        difference = compare_ways(judged, replay, decision)
        # The node's window reaches over frames outside of attempts too; they are not evaluated.
        direct = [attempt for attempt in decide_attempts([judged], decision, anew=False)
                  if attempt.name]
        inside = replace(judged, recording=replace(recording, frames=tuple(
            frame for frame in recording.frames if frame.attempt)))
        evaluation = evaluation_of(
            path, loaded, str(classifier.engine), decision, [inside],
            origin_of(recordings, selection), replayed_attempts(direct, replay, decision),
            {'replay': replay_json(replay, difference)})
        write_evaluation(evaluation, folder, report.timelines, report.videos,
                         Extras(replay=(replay, difference)))
    for line in (*evaluation_lines(evaluation), *replay_lines(replay, difference)):
        print(line)
    print(f'report: {args.out / "report.html"}')
    if evaluation.judged == 0:
        print('no frame could be judged' if judged.refused else 'no verdict came through')
        return ExitCode.NOTHING_DONE
    return ExitCode.OK


class _Run:
    """One playing of a bag to a detector, and what was heard."""

    def __init__(self, bag: DemoBag, frames: int) -> None:
        self._node = Node('evaluate_replay', start_parameter_services=False)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        self._bag, self._frames = bag, frames
        self.recorder = VerdictRecorder(self._node)

    def play(self, detector_arguments: Sequence[str], rate: float) -> None:
        """
        Play the frames once and listen to the end.

        :raises ChildError: the detector or the player ended before its time, or another process
            takes part.
        """
        # The frames only: the bag may hold what a detector said when it was recorded. They wait
        # for the detector and for the recorder, which comes last.
        player_arguments = [*player_command(self._bag, rate), '--topics', self._bag.topic]
        with child_process(detector_arguments) as detector:
            if not self._spin_until(self._listens, START_TIMEOUT_S, detector):
                raise ChildError(f'detector_node is not active after {START_TIMEOUT_S:.0f} s: '
                                 f'{detector.last_line()}')
            self._check_alone()
            reliability = _reliability(self._bag)
            with (child_process(player_arguments) as player,
                  progress_bar(Console(stderr=True), 'frames') as progress):
                self._spin_until(lambda: self._listens(reliability), ADAPT_TIMEOUT_S, detector)
                self.recorder.watch(self._bag.topic, self._bag.compressed, reliability)
                task = progress.add_task('playing', total=self._frames)

                def ended() -> bool:
                    progress.update(task, completed=len(self.recorder.frames))
                    return player.poll() is not None

                while not self._spin_until(ended, START_TIMEOUT_S, detector):
                    pass
                if player.returncode:
                    raise ChildError(
                        f'play_bag ended with {player.returncode}: {player.last_line()}')
                self._spin_until(lambda: ended() and False, LAST_WORDS_S, detector)

    def close(self) -> None:
        """Leave ROS."""
        self._executor.shutdown(timeout_sec=.5)
        self._node.destroy_node()

    def _spin_until(self, happened: Callable[[], bool], timeout_s: float,
                    detector: ChildProcess) -> bool:
        """Listen until something has happened; False if it has not within the time."""
        deadline = time.monotonic() + timeout_s
        while not happened():
            if time.monotonic() > deadline:
                return False
            self._executor.spin_once(timeout_sec=.05)
            detector.check()
        return True

    def _listens(self, reliability: QoSReliabilityPolicy | None = None) -> bool:
        """Say whether somebody listens to the frames, with the reliability that they have."""
        return any(reliability in (None, info.qos_profile.reliability) for info
                   in self._node.get_subscriptions_info_by_topic(self._bag.topic))

    def _check_alone(self) -> None:
        frames, verdicts = (self._node.get_publishers_info_by_topic(topic)
                            for topic in (self._bag.topic, VERDICT_TOPIC))
        if frames or len(verdicts) > 1:
            raise ChildError(
                f'{self._bag.topic if frames else VERDICT_TOPIC}: another process on this '
                'ROS_DOMAIN_ID publishes it, a camera or a detector; end it, or set another '
                'ROS_DOMAIN_ID')


def _reliability(bag: DemoBag) -> QoSReliabilityPolicy:
    """Return how the bag's player publishes its frames."""
    with open_bag(bag.path) as reader:
        connection = next(c for c in reader.connections if c.topic == bag.topic)
        return recorded_qos(connection).reliability


if __name__ == '__main__':
    raise SystemExit(main(None))
