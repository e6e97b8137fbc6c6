"""evaluate_classifier: judge recordings with a checkpoint, and measure how right it is."""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
import tempfile
import time
from typing import Any, TYPE_CHECKING

from grasp_success_detector.cli import arguments
from grasp_success_detector.console import (
    command,
    command_parser,
    counted,
    counts_text,
    ExitCode,
    progress_bar,
    stderr_console,
)
from grasp_success_detector.errors import ConfigError
from grasp_success_detector.files import CHECKPOINT_HELP, checkpoint_path, new_folder
from grasp_success_detector.inference.engine import REFERENCE
from grasp_success_detector.networks.familiarity import FAMILIARITY_QUANTILE
from grasp_success_detector.recordings.pictures import with_reasons
from grasp_success_detector.recordings.remote import local
from grasp_success_detector.recordings.remote_results import put_in_place
from grasp_success_detector.recordings.selection import FrameSelection
from grasp_success_detector.settings import add_options, given_options

if TYPE_CHECKING:
    from grasp_success_detector.evaluation.attempts import Judged
    from grasp_success_detector.evaluation.evaluation import Evaluation
    from grasp_success_detector.evaluation.frame_sources import Recording
    from grasp_success_detector.networks.checkpoint import Checkpoint

    JudgeAll = Callable[[Sequence[Recording], Callable[[int], None]], tuple[list[Judged], str]]

EPILOG = """\
examples:
  evaluate_classifier runs/first/classifier.safetensors dataset --out evaluation
      the test frames of a data set of extract_frames (--split val, --split all)
  evaluate_classifier my.safetensors bags/rig --out evaluation
      a simulated bag, which holds its labels and attempts itself
  evaluate_classifier my.safetensors 'day1/*.mcap' take.mp4 --labels labels.csv --out evaluation
      labels by hand, as extract_frames takes them; without labels there are predictions and
      timelines only
  evaluate_classifier my.safetensors bags/rig --engine auto --precision auto --out robot
      with the engine that the node takes on this machine, instead of torch in fp32
  evaluate_classifier my.safetensors /shared/month --out /shared/evaluation --dask tcp://head:8786
      on a Dask cluster whose workers see /shared
  evaluate_classifier s3://lab/my.safetensors s3://lab/bags/rig --out s3://lab/evaluation
      from and to addresses of fsspec, also with --dask: docs/scale.md
  evaluate_classifier new.safetensors bags/rig --baseline evaluation/metrics.json --out new
      exits with 4 if significantly more attempts are wrong than in an earlier evaluation of the
      same sources: a drop above --max-drop, and p < 0.05 by McNemar's exact test

EVALUATION gets metrics.json, predictions.csv, report.html and label_errors.csv, with the frames of
suspicious labels. Attempts are decided as the node decides them.

exit codes: 0 done, 1 wrong input, 2 wrong option, 3 no frame could be judged, 4 significantly
worse than the baseline, 130 Ctrl-C
"""


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments, evaluate the checkpoint, print results and write the folder."""
    args = _parser().parse_args(argv)
    selection = FrameSelection(**given_options(FrameSelection, args))
    if not 0 <= args.familiarity_quantile <= 1:
        raise ConfigError(f'--familiarity-quantile {args.familiarity_quantile}: expected a number '
                          'from 0 to 1')
    if args.baseline is None and args.max_drop is not None:
        raise ConfigError(f'--max-drop {args.max_drop}: expected with --baseline, whose attempts '
                          'are compared')
    report = arguments.ReportOptions(**given_options(arguments.ReportOptions, args))
    # Slow to import: only once the arguments are known to be fine.
    from grasp_success_detector.decision import DecisionConfig
    from grasp_success_detector.evaluation.attempts import decide_attempts
    from grasp_success_detector.evaluation.comparison import compare_with_baseline, read_baseline
    from grasp_success_detector.evaluation.evaluation import evaluation_of
    from grasp_success_detector.evaluation.frame_sources import open_recordings, origin_of
    from grasp_success_detector.evaluation.judging import decision_for
    from grasp_success_detector.networks.checkpoint import Checkpoint
    from grasp_success_detector.reports.evaluation_page import Extras, write_evaluation

    if args.baseline is not None:
        read_baseline(args.baseline)
    args.checkpoint = checkpoint_path(local(args.checkpoint))
    loaded = Checkpoint.open(args.checkpoint)
    threshold = loaded.metadata.threshold if args.threshold is None else args.threshold
    decision = replace(DecisionConfig(), threshold=threshold)
    judge_all = _judging(args, loaded)
    with (put_in_place(args.out, 'metrics.json') as out,
          new_folder(out, ConfigError) as folder,
          tempfile.TemporaryDirectory(dir=folder) as unpacked):
        recordings = open_recordings(args.sources, selection, Path(unpacked), args.split)
        of_pictures = decision_for([f.attempt for r in recordings if not r.continuous
                                    for f in r.frames], threshold)
        if not any(recording.continuous for recording in recordings):
            decision = of_pictures
        started = time.perf_counter()
        with progress_bar(stderr_console(), 'frames') as progress:
            task = progress.add_task('judging', total=sum(len(r.frames) for r in recordings))
            judged, engine = judge_all(recordings, lambda count: progress.advance(task, count))
        seconds = time.perf_counter() - started
        evaluation = evaluation_of(args.checkpoint, loaded, engine,
                                   decision, judged, origin_of(recordings, selection),
                                   decide_attempts(judged, decision, pictures=of_pictures))
        gate = None if args.baseline is None else compare_with_baseline(
            args.baseline, evaluation.to_json()['attempts'], report.max_drop)
        write_evaluation(evaluation, folder, report.timelines, report.videos,
                         Extras(gate, args.baseline))
    for line in evaluation_lines(evaluation):
        print(line)
    print(f'{evaluation.frames} frames, {evaluation.frames / seconds:.0f} frames/s')
    print(f'report: {args.out}/report.html')
    if gate is not None:
        print(gate)
        if gate.failed:
            return ExitCode.WORSE
    if evaluation.judged == 0:
        print('no frame could be judged: ' + '; '.join(
            f'{name}: {counts_text(counts)}' for name, counts in evaluation.refused.items()))
        return ExitCode.NOTHING_DONE
    return ExitCode.OK


def _judging(args: argparse.Namespace, loaded: 'Checkpoint') -> 'JudgeAll':
    """
    Return what judges recordings, here or on workers.

    :raises ConfigError: engine, precision or device is unknown or cannot be used here.
    """
    from grasp_success_detector.datasets.workers import open_workers
    from grasp_success_detector.evaluation.judging import judge, judge_all, SharedClassifier
    from grasp_success_detector.inference.classifier import GraspClassifier

    options = {'device': args.device, 'threads': args.threads, 'engine': args.engine,
               'precision': args.precision}
    if args.dask is None and args.jobs in (None, 1):
        classifier = GraspClassifier(loaded, **options)
        return lambda recordings, on_frames: ([
            judge(classifier, recording, on_frames, args.familiarity_quantile)
            for recording in recordings], str(classifier.engine))
    shared = SharedClassifier(args.checkpoint.absolute(), loaded.sha256, tuple(
        (options | {'threads': args.threads or 1}).items()))
    if args.dask is None:
        shared.open()

    def on_workers(recordings: 'Sequence[Recording]', on_frames: Callable[[int], None],
                   ) -> 'tuple[list[Judged], str]':
        with open_workers(args.jobs, args.dask, preload=judge.__module__) as workers:
            return judge_all(shared, loaded.metadata.temperature, recordings, workers, on_frames,
                             args.familiarity_quantile)
    return on_workers


def evaluation_lines(evaluation: 'Evaluation') -> Iterator[str]:
    """Yield the lines of an evaluation's summary for a terminal."""
    from grasp_success_detector.decision import Reason
    from grasp_success_detector.evaluation.metrics import (
        accuracy_text,
        attempts_text,
        few_attempts,
    )

    unfamiliar = Reason.UNFAMILIAR.value
    for recording in evaluation.recordings:
        attempts = sum(attempt.source == recording.name for attempt in evaluation.attempts)
        rule = recording.account.get('attempts_by')
        yield (f'{recording.name}: {len(recording.frames)} {"pictures" if rule else "frames"}, '
               f'{counted(attempts, "attempt")}{f" ({rule})" if rule else ""}')
        refused = evaluation.refused.get(recording.name, {})
        for title, counts in (
                ('left out', recording.account['skipped']),
                ('without P(success)', {reason: count for reason, count in refused.items()
                                        if reason != unfamiliar}),
                ('UNKNOWN', {unfamiliar: refused[unfamiliar]} if unfamiliar in refused else {}),
                ('damage', recording.account['damage'])):
            if counts:
                yield f'  {title}: {counts_text(counts)}'
        if unread := {**recording.account.get('unread_files', {}),
                      **evaluation.unreadable.get(recording.name, {})}:
            yield f'  not read: {with_reasons(unread)}'
        if metrics := evaluation.by_source.get(recording.name):
            yield f'  attempts right: {accuracy_text(metrics["attempts"])}'
    if evaluation.learnt and evaluation.learnt.frames:
        yield f'note: {evaluation.learnt}'
    total = evaluation.metrics
    if total is None:
        yield 'no labels: predictions and timelines only'
        return
    yield f'attempts: {attempts_text(total)}'
    yield f'frames right: {accuracy_text(total["frames"])}'
    few = sum(frame.reason is Reason.TOO_FEW_FRAMES
              for attempt in evaluation.attempts for frame in attempt.frames)
    if 2 * few > evaluation.frames:
        decision = evaluation.decision
        yield (f'note: {few} of {evaluation.frames} frames have fewer than {decision.min_frames} '
               f'in the window of {decision.window_s:g} s before them, with which the node says '
               'UNKNOWN; the attempts of a data set of extract_frames are decided by all their '
               'frames')
    if note := few_attempts(total['attempts']['total']):
        yield note
    if any('attempts_by' not in recording.account for recording in evaluation.recordings):
        yield from _time_lines(total)   # pictures have no time
    if evaluation.suspicions:
        yield (f'{counted(len(evaluation.suspicions), "attempt")} with suspicious labels: '
               'label_errors.csv')


def _time_lines(total: Mapping[str, Any]) -> Iterator[str]:
    decided = total['times']['first_decision_s']['median']
    yield ('no attempt was decided: too few frames, or none of them convincing' if decided is None
           else f'first decision after {decided:.2f} s (median)')
    wrong = total['times']['false_true_s']['mean']
    if wrong is not None:
        yield f'SUCCESS was said wrongly for {wrong:.2f} s per attempt (mean)'


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__, EPILOG)
    parser.add_argument('checkpoint', metavar='CHECKPOINT', help=CHECKPOINT_HELP)
    parser.add_argument('sources', nargs='+', metavar='SOURCE',
                        help='data sets, bags, videos, or globs')
    parser.add_argument('--out', required=True, metavar='EVALUATION',
                        help='folder to write; it must not exist')
    parser.add_argument('--split', choices=('train', 'val', 'test', 'all'),
                        help='of data sets (test)')
    arguments.add_label_arguments(parser)
    arguments.add_choice_arguments(parser)
    judging = parser.add_argument_group('judging')
    judging.add_argument('--threshold', type=float, metavar='P',
                         help="P(success) that counts as success (the checkpoint's)")
    judging.add_argument('--familiarity-quantile', type=float, metavar='Q',
                         default=FAMILIARITY_QUANTILE,
                         help='share of the frames that the checkpoint knows which count as '
                         f'familiar; others are UNKNOWN; 0: all count ({FAMILIARITY_QUANTILE})')
    arguments.add_engine_arguments(judging, *REFERENCE)
    judging.add_argument('--device', default='auto',
                         help='auto, cpu, cuda, cuda:1; with OpenVINO also gpu, npu (auto)')
    judging.add_argument('--threads', type=int, help="CPU threads (torch's choice)")
    arguments.add_worker_arguments(judging, 'one, whose network uses all cores')
    result = parser.add_argument_group('result')
    result.add_argument('--baseline', type=Path, metavar='METRICS.JSON',
                        help='of an earlier evaluation of the same sources')
    add_options(result, arguments.ReportOptions, 'max_drop', 'timelines', 'videos')
    return parser


if __name__ == '__main__':
    raise SystemExit(main(None))
