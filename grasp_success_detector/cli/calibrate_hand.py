"""calibrate_hand: learn where a rig's hand closes on nothing, and what its joints say."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
import tempfile
from typing import Any

from grasp_success_detector import __version__
from grasp_success_detector.console import (
    command,
    command_parser,
    counted,
    ExitCode,
    print_damage,
    progress_bar,
    stderr_console,
)
from grasp_success_detector.errors import HandStateError
from grasp_success_detector.evaluation.frame_sources import open_recordings
from grasp_success_detector.evaluation.hand_replay import (
    hand_stream,
    HandStream,
    labelled_poses,
    poses_at,
)
from grasp_success_detector.files import check_new_file, checkpoint_path
from grasp_success_detector.hand.calibration import (
    command_spread,
    LabelledPose,
    learn_fusion,
    learn_joints,
    learn_reference,
    learn_tactile,
    out_of_fold,
)
from grasp_success_detector.hand.closure import flexion, HandReference
from grasp_success_detector.hand.drivers import DriverKind, read_names, Side
from grasp_success_detector.hand.kinematics import Geometry
from grasp_success_detector.hand.model import HandModel, read_hand
from grasp_success_detector.hand.monitor import Pose
from grasp_success_detector.recordings.hand_messages import read_hand_messages
from grasp_success_detector.recordings.index import index_recording
from grasp_success_detector.recordings.labels_file import read_labels
from grasp_success_detector.recordings.reader import StorageFile
from grasp_success_detector.recordings.selection import FrameSelection
from grasp_success_detector.recordings.sources import find_sources, Source, SourceKind

#: Closes on nothing repeat within this standard deviation of each joint (rad), or something is
#: wrong: encoders err by some hundredths.
_REPEATED = .2

#: Commands within this standard deviation (rad) are alike; what one command gives is equal.
_TOLD_ALIKE = .02

#: Options that only labelled attempts use.
_OF_ATTEMPTS = ('joints_from', 'labels', 'topic', 'checkpoint', 'geometry')

EPILOG = """\
examples:
  calibrate_hand bags/empty --out hand.json
      five closes on nothing, a second each: the references of this rig
  calibrate_hand bags/empty --attempts bags/monday --labels labels.csv \\
      --checkpoint rig.safetensors --out hand.json
      also learns from labelled attempts what the joints say, and how far to trust each part
  detector_node --ros-args -p driver:=v4 -p hand_model:=hand.json
      the node with this file

A bag of closes on nothing holds the joint states of the driver, and its commands where it takes
any: open the hand, close it on nothing, wait a second, and again, at least three times.

The attempts must not be those that the checkpoint was trained on; else the camera is trusted too
much. Without --attempts, what joints say is taken from --base, by default from simulated attempts.

exit codes: 0 the file was written, 1 wrong input, 2 wrong option, 130 Ctrl-C
"""


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments, learn from the bags, write the file and say what was found."""
    args = _parser().parse_args(argv)
    _check_together(args)
    if not args.empty and not args.attempts:
        raise HandStateError('nothing to learn from; give a bag of closes on nothing, or labelled '
                             'attempts with --attempts')
    check_new_file(args.out, HandStateError)
    whole = args.attempts and args.checkpoint is not None     # nothing of another file is needed
    model = None if whole and not args.base else read_hand(args.base)
    reference = None if model is None else model.reference
    nothing = _closes_on_nothing(args)
    if nothing:
        reference = learn_reference(nothing)
        print(f'{counted(reference.closes, "close")} on nothing; the fingers bend by '
              f'{", ".join(f"{bent:.2f}" for bent in _travel(reference))} rad')
        if max(reference.spread) > _REPEATED:
            print(f'they differ by up to {max(reference.spread):.2f} rad (standard deviation of a '
                  f'joint): {_why_they_differ(command_spread(nothing))}')
    joints, fusion, tactile = (None, None, None) if model is None else (
        model.joints, model.fusion, model.tactile)
    about: dict[str, Any] = {'version': __version__, 'closes_on_nothing': args.empty}
    if args.attempts:
        poses = _labelled(args, reference)
        joints, tactile = learn_joints(poses), learn_tactile(poses) or tactile
        log_odds = out_of_fold(poses)
        right = [(odds > 0) == pose.success for odds, pose in zip(
            log_odds.tolist(), poses, strict=True) if not pose.opening]
        print(f'{counted(joints.attempts, "attempt")}, {counted(len(right), "moment")} with a '
              f'closed hand; joints alone are right at {sum(right) / len(right):.1%} of them '
              '(by cross-validation)')
        about |= {'attempts': args.attempts, 'joints_from': args.joints_from,
                  'moments': len(right), 'joints_right': sum(right) / len(right)}
        if args.checkpoint is not None:
            fusion = learn_fusion(poses, log_odds)
            camera, hand = (weight / scale for weight, scale in zip(
                fusion.logistic.weights, fusion.logistic.scale, strict=True))
            print(f'fusion of {counted(fusion.attempts, "attempt")}: weight {camera:.2f} of '
                  f'the camera, {hand:.2f} of the joints')
            about['checkpoint'] = str(args.checkpoint)
    elif model is not None:
        about['base'] = model.about
    assert joints is not None and fusion is not None
    try:
        HandModel(joints, fusion, None if args.without_reference else reference, tactile,
                  about).write(args.out)
    except OSError as error:
        raise HandStateError(f'{args.out}: cannot be written ({error.strerror})') from error
    print(f'{args.out}: written; give it to the node with hand_model:={args.out}')
    return ExitCode.OK


def _check_together(args: argparse.Namespace) -> None:
    """Raise HandStateError for options that would change nothing beside the others."""
    if not args.attempts and (unused := [f'--{name.replace("_", "-")}' for name in _OF_ATTEMPTS
                                         if getattr(args, name)]):
        raise HandStateError(f'{", ".join(unused)}: for labelled attempts; expected --attempts '
                             'too, or none of these')
    if args.empty and args.without_reference:
        raise HandStateError(f'{", ".join(args.empty)}: closes on nothing beside '
                             '--without-reference, which keeps nothing of them; expected one of '
                             'both')


def _bags(given: Sequence[str]) -> list[Source]:
    sources = find_sources(given) if given else []
    if others := [str(source.path) for source in sources if source.kind is not SourceKind.BAG]:
        raise HandStateError(f'{", ".join(others)}: no bag; expected bags with joint states')
    return sources


def _closes_on_nothing(args: argparse.Namespace) -> list[Pose]:
    poses: list[Pose] = []
    with tempfile.TemporaryDirectory() as folder:
        for source in _bags(args.empty):
            index = index_recording(source, None, Path(folder))
            index.check_chunks()
            print_damage(source.name, +index.damage)
            stream = _stream(source.path, index.files, args)
            poses += [pose for pose in poses_at(stream, stream.states.times_ns.tolist())
                      if pose is not None]
    return poses


def _why_they_differ(told: float) -> str:
    """Return in words why closes on nothing differ; ``told``: of :func:`command_spread`."""
    if told > _REPEATED:
        return (f'so do the angles that it was told to reach (by up to {told:.2f} rad); record '
                'closes on nothing by one command')
    held = 'in some of them something was in the hand'
    if told <= _TOLD_ALIKE:
        return f'{held}, as it was told to close alike; record closes on nothing alone'
    return (f'{held}, or it was told to close otherwise; record closes on nothing alone, by one '
            'command')


def _stream(path: Path, files: Sequence[StorageFile], args: argparse.Namespace) -> HandStream:
    try:
        stream = hand_stream(
            read_hand_messages(files), None if args.driver is None else DriverKind(args.driver),
            Side(args.hand), read_names(args.joint_names))
    except HandStateError as error:
        raise HandStateError(f'{path}: {error}') from error
    return stream if args.geometry is None else stream._replace(geometry=Geometry(args.geometry))


def _labelled(args: argparse.Namespace, reference: HandReference | None) -> list[LabelledPose]:
    """Return the poses of all attempts with what the checkpoint sees at them, if one is given."""
    from grasp_success_detector.evaluation.judging import judge, unjudged
    from grasp_success_detector.inference.classifier import GraspClassifier

    classifier = None if args.checkpoint is None else GraspClassifier.from_checkpoint(
        checkpoint_path(args.checkpoint))
    poses: list[LabelledPose] = []
    damage: dict[str, Mapping[str, int]] = {}
    with tempfile.TemporaryDirectory() as folder, progress_bar(stderr_console()) as progress:
        seen = {source.path for source in _bags(args.attempts)}
        sources = _bags([*args.attempts, *args.joints_from])
        labels = read_labels(sources, args.labels)
        for source in sources:
            cameras, judged = [], classifier if source.path in seen else None
            for topic in (args.topic if source.path in seen else None) or [None]:
                recording, = open_recordings(
                    [str(source.path)], FrameSelection(topic=topic, labels=args.labels),
                    Path(folder), labels=labels[source.name])
                task = progress.add_task(recording.name, total=len(recording.frames))
                cameras.append(unjudged(recording) if judged is None else judge(
                    judged, recording,
                    lambda count, task=task: progress.advance(task, count)))  # type: ignore[misc]
            damage[source.name] = recording.account['damage']
            # Opened alone it has a name that others may have, and so have its attempts.
            poses += [replace(pose, attempt=source.name + pose.attempt.removeprefix(
                recording.name)) for pose in labelled_poses(
                    cameras, _stream(source.path, recording.files or (), args), reference)]
    for name, counts in damage.items():
        print_damage(name, counts)
    return poses


def _travel(reference: HandReference) -> list[float]:
    import numpy as np
    return list(flexion(np.array(reference.closed)) - flexion(np.array(reference.opened)))


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__, EPILOG)
    parser.add_argument('empty', nargs='*', metavar='BAG',
                        help='recordings in which the empty hand closes')
    parser.add_argument('--out', type=Path, required=True, metavar='JSON',
                        help='file to write; it must not exist')
    parser.add_argument('--attempts', nargs='+', default=[], metavar='BAG',
                        help='labelled attempts to learn from')
    parser.add_argument('--joints-from', nargs='+', default=[], metavar='BAG',
                        help='further labelled attempts, whose pictures are not judged: joints '
                        'and tactile sensors alone are learned from them')
    parser.add_argument('--labels', type=Path, metavar='CSV',
                        help='labels of these attempts (default: the topic /ground_truth)')
    parser.add_argument('--topic', nargs='+', metavar='TOPIC',
                        help='image topics of --attempts, one for each camera')
    parser.add_argument('--checkpoint', metavar='CHECKPOINT',
                        help='learn also how to fuse its P(success) with the joints')
    parser.add_argument('--base', default='', metavar='JSON',
                        help='where the rest is taken from (the file that ships)')
    parser.add_argument('--without-reference', action='store_true',
                        help='keep no reference of closes on nothing: a file for many rigs')
    hand = parser.add_argument_group('hand (default: told by the names of the joints)')
    hand.add_argument('--driver', choices=[kind.value for kind in DriverKind
                                           if kind is not DriverKind.NONE], help='its driver')
    hand.add_argument('--hand', choices=[side.value for side in Side], default='right',
                      help='its side (right); only V4 names joints by it')
    hand.add_argument('--geometry', choices=[geometry.value for geometry in Geometry],
                      help='its links, for the distances of the fingers (those of --driver v4; '
                      'else not known)')
    hand.add_argument('--joint-names', default='', metavar='A,B,...',
                      help='names of the joints: index, middle, ring, thumb (, little), each from '
                      'its base to its tip')
    return parser


if __name__ == '__main__':
    raise SystemExit(main(None))
