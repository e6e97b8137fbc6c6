"""
evaluate_replay: play a bag to the detector over DDS, and judge what it publishes.

Verdicts, latency, dropped frames, and what differs from evaluate_classifier are reported.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
import tempfile

from grasp_success_detector.cli.arguments import (
    add_engine_arguments,
    add_label_arguments,
    ReportOptions,
)
from grasp_success_detector.cli.evaluate_classifier import evaluation_lines
from grasp_success_detector.console import (
    command,
    command_parser,
    ExitCode,
    progress_bar,
    stderr_console,
)
from grasp_success_detector.decision import DecisionConfig
from grasp_success_detector.errors import BagError, ConfigError
from grasp_success_detector.files import CHECKPOINT_HELP, checkpoint_path, new_folder
from grasp_success_detector.recordings.selection import FrameSelection, STAMP_NOT_SET
from grasp_success_detector.ros.node.parameters import Parameters
from grasp_success_detector.ros.process import full_arguments, own_arguments, ros_process
from grasp_success_detector.ros.tools.bag_player import Playback
from grasp_success_detector.ros.tools.demo_bag import DemoBag
from grasp_success_detector.ros.tools.verdict_recorder import play_to_detector, VerdictRecorder
from grasp_success_detector.settings import add_options, given_options

EPILOG = """\
examples:
  evaluate_replay samples/rig_attempts --out replay
  evaluate_replay day1/take3 --labels labels.csv --rate 0.5 --out replay

REPLAY gets the files of evaluate_classifier, with the node's verdicts, and verdicts/, a rosbag2 of
all messages of the node. Where vision_msgs is installed, verdicts are matched to frames by their
header, else by time. With ROS 2's own tools: ros2 launch the detector, ros2 bag record
/grasp_success /grasp_success/confidence, ros2 bag play the bag.

exit codes: 0 done, 1 bad input, or the node did not start, 2 unknown option, 3 no verdict came
through, 130 interrupted
"""


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = command_parser(__doc__, EPILOG)
    parser.add_argument('bag', metavar='BAG', help='rosbag2 folder, .mcap, .db3 or .bag file')
    parser.add_argument('--out', type=Path, required=True, metavar='REPLAY',
                        help='folder to write; it must not exist')
    parser.add_argument('--checkpoint', type=Path, help=f'{CHECKPOINT_HELP} (the first)')
    add_engine_arguments(parser, Parameters.engine, Parameters.precision)
    add_options(parser, Playback, 'rate')
    add_options(parser, ReportOptions, 'timelines', 'videos')
    add_label_arguments(parser)
    return parser


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments, play the bag, evaluate verdicts and write the folder."""
    arguments = full_arguments(argv, 'evaluate_replay')
    args = build_parser().parse_args(own_arguments(arguments))
    rate = Playback(**given_options(Playback, args)).rate
    console = stderr_console()
    report = ReportOptions(**given_options(ReportOptions, args))
    selection = FrameSelection(**given_options(FrameSelection, args))
    # Slow to import: only once the arguments are known to be fine.
    from grasp_success_detector.evaluation.attempts import decide_attempts
    from grasp_success_detector.evaluation.evaluation import evaluation_of
    from grasp_success_detector.evaluation.frame_sources import open_recordings, origin_of
    from grasp_success_detector.evaluation.judging import judge
    from grasp_success_detector.evaluation.replay import (
        compare_ways,
        Replay,
        replay_json,
        replayed_attempts,
    )
    from grasp_success_detector.inference.classifier import GraspClassifier
    from grasp_success_detector.networks.checkpoint import Checkpoint
    from grasp_success_detector.reports import evaluation_page

    path = checkpoint_path(args.checkpoint or '')
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
        bag = DemoBag(recording.path, topic.name, topic.msgtype.endswith('/CompressedImage'))
        with ros_process(arguments), progress_bar(console, 'frames') as progress:
            recorder = VerdictRecorder('evaluate_replay')
            task = progress.add_task('playing', total=recording.account['found'])
            play_to_detector(
                recorder, bag, rate, {
                    'checkpoint': str(path.resolve()), 'engine': args.engine,
                    'precision': args.precision},
                lambda _: progress.update(task, completed=len(recorder.frames)))
        replay = Replay(
            rate, recording.account['found'], len(recorder.frames), *recorder.matched(),
            recorder.figures, str(classifier.engine))
        recorder.write_bag(folder / 'verdicts', rate)
        with progress_bar(console, 'frames') as progress:
            task = progress.add_task('judging directly', total=len(recording.frames))
            judged = judge(classifier, recording, lambda count: progress.advance(task, count))
        difference = compare_ways(judged, replay, decision)
        # The node's window includes frames outside of attempts, which are not evaluated.
        direct = [attempt for attempt in decide_attempts([judged], decision, anew=False)
                  if attempt.name]
        inside = replace(judged, recording=replace(recording, frames=tuple(
            frame for frame in recording.frames if frame.attempt)))
        evaluation = evaluation_of(
            path, loaded, str(classifier.engine), decision, [inside],
            origin_of(recordings, selection), replayed_attempts(direct, replay, decision),
            {'replay': replay_json(replay, difference)})
        evaluation_page.write_evaluation(evaluation, folder, report.timelines, report.videos,
                                         evaluation_page.Extras(replay=(replay, difference)))
    latency = ', '.join(f'{value:.0f} ms ({percent} %)'
                        for percent, value in replay.latency_ms.items())
    print(*evaluation_lines(evaluation),
          f'{replay.played} frames played at rate {replay.rate:g}, {len(replay.answers)} '
          f'answered; latency {latency or "unknown"}',
          f'verdicts matched to frames by {evaluation_page.MATCHED_BY[replay.by_header]}',
          f'same verdict as evaluate_classifier on {difference.agree} of {difference.frames} '
          f'frames that both judged; {difference.agree_same}, given only the frames that the node '
          'answered', sep='\n')
    print(f'report: {args.out / "report.html"}')
    if evaluation.judged == 0:
        print('no frame could be judged' if judged.refused else 'no verdict came through')
        return ExitCode.NOTHING_DONE
    return ExitCode.OK


if __name__ == '__main__':
    raise SystemExit(main(None))
