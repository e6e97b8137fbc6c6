"""adapt_classifier: make a checkpoint for a rig from few labelled attempts or joint states."""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
import time
from typing import TYPE_CHECKING

from grasp_success_detector.cli import arguments
from grasp_success_detector.console import (
    command,
    command_parser,
    counted,
    counts_text,
    ExitCode,
    print_damage,
    progress_bar,
    stderr_console,
)
from grasp_success_detector.errors import ConfigError
from grasp_success_detector.files import (
    check_new_file,
    CHECKPOINT_HELP,
    checkpoint_path,
    json_text,
    nearest_checkpoint,
    SAMPLE_BAG,
    share_path,
    SHIPPED_CHECKPOINTS,
    unfinished,
    write_whole,
)
from grasp_success_detector.recordings.pictures import with_reasons
from grasp_success_detector.recordings.remote import local
from grasp_success_detector.recordings.selection import FrameSelection
from grasp_success_detector.settings import add_options, given_options
from grasp_success_detector.training.adaptation.settings import AdaptationConfig, Way

if TYPE_CHECKING:
    from grasp_success_detector.evaluation.frame_sources import Recording
    from grasp_success_detector.images.preprocessing import Preprocessing
    from grasp_success_detector.networks.checkpoint import Checkpoint
    from grasp_success_detector.training.adaptation.adaptation import Adaptation
    from grasp_success_detector.training.adaptation.frames import RigFrames

#: Options that say or use labels that people gave.
_WITH_LABELS = ('label', 'labels', 'label_topic', 'label_hold_s', 'ways', 'roi', 'simulated',
                'max_false_positive_rate')
#: The most frames that are judged to say how sure a checkpoint is.
_MOST_JUDGED = 200

EPILOG = """\
examples:
  adapt_classifier bags/rig --labels labels.csv --out rig.safetensors
      from the shipped checkpoint; labels by hand, as label_attempts and extract_frames take them
  adapt_classifier runs/first/classifier.safetensors dataset --out rig.safetensors
      from a checkpoint of one's own; all frames of a data set of extract_frames
  adapt_classifier bags/rig --labels labels.csv --ways head blocks --out rig.safetensors
      also tries whether fine-tuning the last two blocks is better; slower
  adapt_classifier bags/rig --labels labels.csv --roi 0.3,0.1,0.4,0.5 --out rig.safetensors
      also look at the region of the frame in which the hand grasps
  adapt_classifier efficientnet_lite0_rig --unlabelled bags/* --out rig.safetensors
      hours of frames without labels: learns from those whose label the hand's joint states tell,
      or says that they do not help, and writes nothing

Ways of adapting are compared by cross-validation over whole attempts; the simplest one that is not
clearly worse than the best is kept. Beside rig.safetensors are written rig.adaptation.json and the
page rig.html: accuracies with intervals, what more labels would bring, what to label next.

exit codes: 0 adapted, 1 wrong input, 2 wrong option, 3 frames without labels do not help and
nothing was written, 130 Ctrl-C
"""


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments, adapt the checkpoint, print the comparison and write the files."""
    args = _parsed(argv)
    started = time.perf_counter()
    selection = FrameSelection(**given_options(FrameSelection, args))
    config = AdaptationConfig(**given_options(AdaptationConfig, args))
    checkpoint, sources = _checkpoint_and_sources(args.sources, args.unlabelled)
    files = _new_files(args.out)
    # Slow to import: only once the arguments are known to be fine.
    from grasp_success_detector.datasets.workers import open_workers
    from grasp_success_detector.hand.model import read_hand
    from grasp_success_detector.networks.checkpoint import Checkpoint, save
    from grasp_success_detector.reports.adaptation_page import adaptation_page
    from grasp_success_detector.training.adaptation.adaptation import (
        adapt,
        Adaptation,
        metadata_of,
    )
    from grasp_success_detector.training.adaptation.hand_labels import labelled_by_hand
    from grasp_success_detector.training.adaptation.unlabelled import adapt_unlabelled
    from grasp_success_detector.training.adaptation.views import OWN_VIEW, views

    start = Checkpoint.open(checkpoint)
    own = start.metadata.preprocessing
    with _opened(sources, selection, args.out) as recordings:
        if args.unlabelled:
            recordings, lacking = labelled_by_hand(recordings, read_hand(args.hand_model))
            if lacking:
                return _nothing_changed(f'{lacking}; {_shares(start, recordings)}')
        accounts = {each.name: each.account for each in recordings}
        frames = _read(recordings, config.frames_per_attempt, lambda size: views(
            config, start.metadata.architecture, own, size))
    _print_frames(frames)
    for name, account in sorted(accounts.items()):
        print_damage(name, account['damage'])
        if rule := account.get('attempts_by'):
            print(f'{name}: attempts by {rule}; if several pictures show one attempt, name it in '
                  'the column attempt of --labels, else the accuracies below are too high')
    simulated = None
    if Way.SIMULATED in config.ways:
        with _opened([str(args.simulated or share_path(SAMPLE_BAG))],
                     FrameSelection(), args.out) as recordings:
            simulated = _read(recordings, 2, lambda size: {OWN_VIEW: own})
    # Alone, this process uses all cores.
    alone = args.dask is None and args.jobs in (None, 1)
    with (nullcontext() if alone else open_workers(
            args.jobs, args.dask, preload=adapt.__module__) as workers,
          progress_bar(stderr_console(), 'images') as progress):
        task = progress.add_task('features', total=None)
        adaptation: Adaptation | None

        def on_images(count: int, total: int) -> None:
            progress.update(task, advance=count, total=total)

        if args.unlabelled:
            trial, adaptation = adapt_unlabelled(start, frames, config.seed, on_images, workers)
            if adaptation is None:
                return _nothing_changed(str(trial))
            print(trial)
        else:
            adaptation = adapt(start, frames, config, simulated, print, on_images, workers)
    with unfinished(args.out) as partial:
        partial.mkdir()
        save(partial / files[0].name, adaptation.model,
             metadata_of(adaptation, config, start, sources))
        for file, text in zip(files[1:], (json_text(adaptation.to_json()), adaptation_page(
                files[0].name, adaptation)), strict=True):
            write_whole(partial / file.name, text)
        _put_in_place(partial, _new_files(args.out))    # one of this name may have come meanwhile
    for line in _lines(adaptation):
        print(line)
    print(f'{time.perf_counter() - started:.1f} s\ncheckpoint: {files[0]}')
    return ExitCode.OK


def _parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the arguments; ConfigError if some do not go together."""
    parser = _parser()
    args = parser.parse_args(argv)
    if not args.unlabelled:
        if not args.sources:
            parser.error('the following arguments are required: DATA or --unlabelled')
        if args.hand_model:
            raise ConfigError('--hand-model: tells labels of --unlabelled alone; leave it out')
        return args
    if wrong := [f'--{name.replace("_", "-")}' for name in _WITH_LABELS
                 if getattr(args, name) is not None]:
        raise ConfigError(f'{", ".join(wrong)}: for labelled data; expected none of these with '
                          '--unlabelled, whose labels the joint states tell')
    return args


def _checkpoint_and_sources(given: Sequence[str], unlabelled: Sequence[str],
                            ) -> tuple[Path, list[str]]:
    """Return the checkpoint, the shipped one if the first argument is none, and the data."""
    first, *others = given or ['']
    # A misspelt name of a checkpoint is no bag either.
    named = Path(first).suffix == '.safetensors' or (
        first in SHIPPED_CHECKPOINTS and not Path(first).is_dir()) or (
            nearest_checkpoint(first) is not None and not Path(first).exists())
    data = [name for name in (others if named else given) if name]
    if unlabelled and data:
        raise ConfigError(f'{", ".join(data)}: labelled data beside --unlabelled; adapt to one '
                          'after the other, each from the checkpoint before')
    if named and not data and not unlabelled:
        raise ConfigError(f'{first}: a checkpoint, but no data; expected labelled data behind it')
    return checkpoint_path(local(first) if named else ''), data or list(unlabelled)


def _new_files(out: Path) -> tuple[Path, Path, Path]:
    """Return the files to write, checkpoint, figures and page; ConfigError if one exists."""
    if out.suffix != '.safetensors':
        raise ConfigError(f'--out {out}: expected a name that ends with .safetensors')
    files = out, out.with_suffix('.adaptation.json'), out.with_suffix('.html')
    for file in files:
        check_new_file(file, ConfigError)
    return files


def _put_in_place(partial: Path, files: Sequence[Path]) -> None:
    """Move finished files out of a folder, the checkpoint last: where it is, all are."""
    moved: list[Path] = []
    try:
        for file in reversed(files):
            (partial / file.name).rename(file)
            moved.append(file)
    except BaseException:
        for file in moved:
            file.unlink(missing_ok=True)
        raise


@contextmanager
def _opened(sources: Sequence[str], selection: FrameSelection, out: Path,
            ) -> 'Iterator[Sequence[Recording]]':
    from grasp_success_detector.evaluation.frame_sources import open_recordings

    # Beside the result, where a cluster sees it, and what a killed command left is removed.
    with unfinished(out) as unpacked:
        yield open_recordings(sources, selection, unpacked, 'all')


def _read(recordings: 'Sequence[Recording]', per_attempt: int,
          views_of: 'Callable[[tuple[int, int] | None], Mapping[str, Preprocessing]]',
          ) -> 'RigFrames':
    from grasp_success_detector.training.adaptation.frames import read_frames
    from grasp_success_detector.training.adaptation.views import frame_size

    with progress_bar(stderr_console(), 'frames') as progress:
        task = progress.add_task('reading', total=None)
        return read_frames(recordings, views_of(frame_size(recordings)), per_attempt,
                           lambda total: progress.update(task, advance=1, total=total))


def _nothing_changed(why: str) -> ExitCode:
    print(f'nothing changed: {why}; label some 20 attempts with label_attempts instead')
    return ExitCode.NOTHING_DONE


def _shares(checkpoint: 'Checkpoint', recordings: 'Sequence[Recording]') -> str:
    """Return in words of how many frames, of 200 at most, the checkpoint is sure."""
    import numpy as np

    from grasp_success_detector.evaluation.judging import judge
    from grasp_success_detector.inference.classifier import GraspClassifier

    classifier = GraspClassifier(checkpoint)
    every = 1 + sum(len(recording.frames) for recording in recordings) // _MOST_JUDGED
    said = np.concatenate([judge(classifier, replace(
        recording, frames=recording.frames[::every])).probabilities for recording in recordings])
    said = said[np.isfinite(said)]
    sure = [f'{(said < .2).mean():.0%} below 0.2', f'{(said > .8).mean():.0%} above 0.8']
    return (f'P(success) of {counted(len(said), "frame")} is '
            f'{" and ".join(sure) if len(said) else "unknown"}, and nothing tells where it errs')


def _print_frames(frames: 'RigFrames') -> None:
    labelled, others = frames.labelled(), frames.unlabelled()
    successes = int(labelled.labels.sum())
    print(f'{counted(len(labelled.origins), "frame")} with a label of '
          f'{counted(len(set(labelled.attempts)), "attempt")}: {successes} success, '
          f'{len(labelled.origins) - successes} failure')
    if others.origins:
        print(f'{counted(len(frames.spans), "attempt")} with frames that have no label')
    if frames.refused:
        print(f'not decoded: {counts_text(frames.refused)}')
    if frames.unreadable:
        print(f'not read: {with_reasons(frames.unreadable)}')


def _lines(adaptation: 'Adaptation') -> Iterator[str]:
    """Yield the lines of the result for a terminal."""
    yield f'kept: {adaptation.compared[adaptation.winner].candidate.text}'
    yield (f'right on attempts that were not learnt: {adaptation.accuracy}, at threshold '
           f'{adaptation.point.threshold:.3g}, that of the checkpoint')
    for note in adaptation.point.notes:
        yield f'not calibrated: {note}'
    if adaptation.metadata.familiarity is None:
        yield 'what the frames look like is not stored: the node cannot tell unfamiliar ones'
    if adaptation.curve:
        yield 'learning curve of the head, at threshold 0.5:'
    for step in adaptation.curve:
        yield f'  from {counted(step.attempts, "attempt")}: {step.accuracy}'
    if adaptation.forecast is not None:
        attempts, accuracy = adaptation.forecast
        yield f'  from {attempts} attempts, if it goes on like this: about {accuracy:.0%}'
    if adaptation.label_next:
        yield f'label next: {", ".join(one.attempt for one in adaptation.label_next[:5])}'


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__, EPILOG)
    parser.usage = ('adapt_classifier [-h] [options] [CHECKPOINT] DATA... --out NEW.safetensors\n'
                    '       adapt_classifier [CHECKPOINT] --unlabelled DATA... '
                    '--out NEW.safetensors')
    parser.add_argument(
        'sources', nargs='*', metavar='[CHECKPOINT] DATA', help=f'CHECKPOINT: {CHECKPOINT_HELP} '
        f'({SHIPPED_CHECKPOINTS[0]}); DATA: bags, videos, pictures, data sets, or globs')
    parser.add_argument('--unlabelled', nargs='+', default=(), metavar='DATA', help='instead of '
                        'labelled data: recordings whose joint states tell labels')
    parser.add_argument('--hand-model', default='', metavar='JSON', help='of --unlabelled: file '
                        'of calibrate_hand (what joints say in simulation)')
    parser.add_argument('--out', type=Path, required=True, metavar='NEW.safetensors',
                        help='checkpoint to write; it must not exist')
    arguments.add_label_arguments(parser)
    arguments.add_choice_arguments(parser)
    adapting = parser.add_argument_group('adapting')
    add_options(adapting, AdaptationConfig, 'ways', defaults=False)
    add_options(adapting, AdaptationConfig, 'roi', 'frames_per_attempt',
                'max_false_positive_rate', 'seed')
    arguments.add_worker_arguments(parser.add_argument_group('computing features'),
                                   'one, which uses all cores')
    adapting.add_argument('--simulated', type=Path, metavar='SOURCE',
                          help='simulated bag or data set to mix in (the shipped sample)')
    return parser


if __name__ == '__main__':
    raise SystemExit(main(None))
