"""
How often attempts are decided right from camera, joint states, both, and two cameras with joints.

    simulate_grasps bags/rig_test --preset rig --attempts 300 --fps 5 --from-s 3.4 --cameras 2 \
        --tactile --seed 1001
    simulate_grasps bags/random_test --preset random --attempts 300 --fps 5 --from-s 3.4 \
        --cameras 2 --tactile --seed 2001
    python benchmarks/fusion.py --data bags/rig_test bags/random_test

The file of the hand that ships was learned on other seeds (docs/hand.md). Everything is simulated.
Each attempt is decided at its last labelled frame as the node decides it, with the file of the
hand that ships or --hand; UNKNOWN counts as wrong. --familiarity 0 judges all frames, as the
figures of the model card do. There is a row for what each driver lets one know: the simulated hand
has the links of V4.

The last lines say how well the hand alone tells an object that was touched and left (not_lifted)
from none (empty): ROC-AUC of the largest closure deficit and of the share of pressed sensors.
"""

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
import json
from pathlib import Path
import tempfile

from grasp_success_detector.decision import DecisionConfig, FUSED_THRESHOLD, NS_PER_S
from grasp_success_detector.evaluation.attempts import Judged
from grasp_success_detector.evaluation.frame_sources import open_recordings
from grasp_success_detector.evaluation.hand_replay import (
    decide_fused,
    FusedAttempt,
    hand_stream,
    HandStream,
    poses_at,
)
from grasp_success_detector.evaluation.judging import judge
from grasp_success_detector.evaluation.metrics import wilson_interval
from grasp_success_detector.evaluation.threshold import roc_auc
from grasp_success_detector.files import checkpoint_path
from grasp_success_detector.hand.closure import closure_deficit
from grasp_success_detector.hand.kinematics import Geometry
from grasp_success_detector.hand.model import read_hand
from grasp_success_detector.inference.classifier import GraspClassifier
from grasp_success_detector.labels import FailureReason, Label, Verdict
from grasp_success_detector.networks.familiarity import FAMILIARITY_QUANTILE
from grasp_success_detector.recordings.bags import ATTEMPT_TOPIC, open_bag
from grasp_success_detector.recordings.hand_messages import read_hand_messages
from grasp_success_detector.recordings.reader import StorageFile
from grasp_success_detector.recordings.selection import FrameSelection
from grasp_success_detector.recordings.sources import find_sources

#: What is known with each driver, beside the angles of joints and commands.
DRIVERS = {'torques and distances (V4)': {'torques', 'distances'}, 'torques (V5)': {'torques'},
           'tactile (V5 Sense)': {'tactile'}, 'torques and tactile (V6)': {'torques', 'tactile'}}

TOPICS = ('/camera/image_raw/compressed', '/camera_2/image_raw/compressed')


def cell(attempts: Sequence[FusedAttempt]) -> str:
    """Return how many are right, with Wilson's interval, and the failures called SUCCESS."""
    right = sum(attempt.decision.verdict.name == attempt.outcome.name for attempt in attempts)
    low, high = (100 * bound for bound in wilson_interval(right, len(attempts)))
    failures = [attempt for attempt in attempts if attempt.outcome is Label.FAILURE]
    wrong = sum(attempt.decision.verdict is Verdict.SUCCESS for attempt in failures)
    unknown = sum(attempt.decision.verdict is Verdict.UNKNOWN for attempt in attempts)
    return (f'{right / len(attempts):.1%} ({right}/{len(attempts)}), {low:.1f} to {high:.1f} %; '
            f'{unknown} unknown; {wrong}/{len(failures)}')


def known_stream(stream: HandStream, known: set[str]) -> HandStream:
    """Return what a driver lets one know of a simulated hand."""
    states = stream.states
    return stream._replace(
        geometry=Geometry.V4_RIGHT if 'distances' in known else None,
        touches=stream.touches if 'tactile' in known else None,
        states=states if 'torques' in known else states._replace(efforts=None))


def reasons_of(bag: Path) -> dict[str, tuple[int, str]]:
    """Return when each failed attempt began (ns), and why it failed, by the attempt's number."""
    begun, found = {}, {}
    with open_bag(bag) as reader:
        chosen = [c for c in reader.connections if c.topic == ATTEMPT_TOPIC]
        for connection, time_ns, data in reader.messages(chosen):
            event = json.loads(reader.deserialize(data, connection.msgtype).data)
            begun.setdefault(str(event['attempt']), time_ns)
            if 'reason' in event:
                number = str(event['attempt'])
                found[number] = begun[number], event['reason']
    return found


def touched_or_empty(stream: HandStream, truth: dict[str, tuple[int, str]]) -> Iterator[str]:
    """Yield how well the hand tells not_lifted from empty, at some times of an attempt."""
    chosen = sorted((begin_ns, Label(reason == 'not_lifted')) for begin_ns, reason in
                    truth.values() if reason in ('not_lifted', 'empty'))
    moments = {1.5: 'as the arm begins to lift', 2.6: 'closed', 3.8: 'last'}
    poses = poses_at(stream, [begin_ns + round(seconds * NS_PER_S)
                              for begin_ns, _ in chosen for seconds in moments])
    for i, (seconds, moment) in enumerate(moments.items()):
        rows = [(closure_deficit(pose.measured, pose.commanded).max(), pose.touch, label)
                for pose, (_, label) in zip(poses[i::len(moments)], chosen, strict=True)
                if pose is not None and pose.commanded is not None]
        deficits, touches, labels = zip(*rows, strict=True)
        felt = all(touch is not None for touch in touches)
        pressed = [touch[0] for touch in touches] if felt else None
        yield (f'{moment} ({seconds} s, {len(rows)} attempts): largest deficit '
               f'{roc_auc(deficits, labels):.2f}'
               + (f', pressed sensors {roc_auc(pressed, labels):.2f}' if pressed else ''))


def confusion(attempts: Sequence[FusedAttempt], truth: dict[str, tuple[int, str]]) -> list[str]:
    """Return a table: rows by truth, columns by the reason that was given."""
    given = [*(reason.value for reason in FailureReason), 'none', 'success', 'unknown']
    counts: dict[str, Counter[str]] = {reason.value: Counter() for reason in FailureReason}
    for attempt in attempts:
        if attempt.outcome is Label.FAILURE:
            decision = attempt.decision
            said = (decision.verdict.value if decision.verdict is not Verdict.FAILURE else
                    'none' if decision.failure is None else decision.failure.value)
            counts[truth[attempt.name.rpartition('/')[2]][1]][said] += 1
    return [f'| truth | {" | ".join(given)} |', '| --- ' * (len(given) + 1) + '|',
            *(f'| {name} | {" | ".join(str(row[column]) for column in given)} |'
              for name, row in counts.items())]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('checkpoint', nargs='?', default='')
    parser.add_argument('--data', type=Path, nargs='+', required=True)
    parser.add_argument('--hand', default='', help='file of calibrate_hand')
    parser.add_argument('--familiarity', type=float, default=FAMILIARITY_QUANTILE,
                        help='familiarity_quantile')
    parser.add_argument('--engine', default='auto')
    parser.add_argument('--precision', default='auto')
    args = parser.parse_args()
    classifier = GraspClassifier.from_checkpoint(
        checkpoint_path(args.checkpoint), engine=args.engine, precision=args.precision)
    model = read_hand(args.hand)
    config = DecisionConfig(classifier.threshold)
    print(f'{classifier.selection}; camera alone at {config.threshold:.3f}, else at '
          f'{FUSED_THRESHOLD}; '
          'right, unknown, failures called SUCCESS')
    print('| attempts | driver publishes | camera alone | joints alone | both '
          '| two cameras and joints |')
    print('| --- ' * 6 + '|', flush=True)
    tables = []
    for bag in args.data:
        source, = find_sources([str(bag)])
        whole = hand_stream(read_hand_messages([StorageFile(path) for path in source.files]))
        cameras: list[Judged] = []
        with tempfile.TemporaryDirectory() as folder:
            for topic in TOPICS:
                recording, = open_recordings([str(bag)], FrameSelection(topic=topic),
                                             Path(folder))
                cameras.append(judge(classifier, recording,
                                     familiarity_quantile=args.familiarity))
        alone = decide_fused(cameras[:1], None, model, config)
        for driver, known in DRIVERS.items():
            stream = known_stream(whole, known)
            decided = [alone, decide_fused(cameras[:1], stream, model, config,
                                           without_cameras=True),
                       *(decide_fused(seen, stream, model, config)
                         for seen in (cameras[:1], cameras))]
            print(f'| {bag.name} | {driver} | {" | ".join(map(cell, decided))} |', flush=True)
        truth = reasons_of(bag)
        tables += [f'\n{bag.name}, why failed attempts failed, one camera, {driver}:',
                   *confusion(decided[2], truth), *touched_or_empty(stream, truth)]
    print('\n'.join(tables))


if __name__ == '__main__':
    main()
