"""original_experiment: train both classifiers as the original experiment did, and compare them."""

import argparse
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
import shutil

from grasp_success_detector.cli.arguments import add_dedupe_argument, add_label_arguments
from grasp_success_detector.cli.source_data import dataset_of
from grasp_success_detector.console import command, command_parser, ExitCode, needing
from grasp_success_detector.errors import ConfigError
from grasp_success_detector.files import SAMPLE_BAG, share_path, write_whole
from grasp_success_detector.recordings.selection import FrameSelection
from grasp_success_detector.settings import add_options, given_options
from grasp_success_detector.training.recipe import ExperimentOptions

EPILOG = """\
examples:
  original_experiment --out experiment
      on the simulated sample bag that ships with the package: 8 attempts
  original_experiment photos --out experiment
      on two folders of pictures: photos/success and photos/failure
  original_experiment photos --per-class 200 --epochs 2 --out quick

1000 images of each class are made by transformation of the training pictures. cifar_cnn and
resnet34 are trained on them in 4 epochs; after each, class accuracy is measured on the training
images and on held-out attempts. At the end both judge up to 32 new pictures of attempts that
neither has seen, and McNemar's exact test compares them. Three attempts of each label are needed.

OUT gets experiment.md, dataset/ and the run folders cifar_cnn/ and resnet34/, which
compare_classifiers reads. Stopped at any time, the same command goes on.

exit codes: 0 done, 1 wrong input, 2 wrong option, 130 Ctrl-C (the same command goes on)
"""

_PAGE, _DATASET = 'experiment.md', 'dataset'


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments, train both classifiers, print the page and write it."""
    args = _parser().parse_args(argv)
    options = ExperimentOptions(**given_options(ExperimentOptions, args))
    # Slow to import: only once the arguments are known to be fine.
    with needing('train', 'training'):
        from grasp_success_detector.datasets.dataset import read_extracted
        from grasp_success_detector.evaluation.comparison import compare
        from grasp_success_detector.reports.experiment_page import experiment_page
        from grasp_success_detector.training import original_experiment as experiment
        from grasp_success_detector.training.run_folder import read_run
    selection = FrameSelection(**given_options(FrameSelection, args))
    out, names = args.out, experiment.CLASSIFIERS
    _check_out(out, {_DATASET, *names})
    try:
        dataset = dataset_of([str(args.folder or share_path(SAMPLE_BAG))], selection,
                             out / _DATASET, dedupe=args.dedupe)
        split = experiment.experiment_split(read_extracted(dataset), options.seed)
        made, reason = experiment.configs(options)
        if reason is not None:
            print(f'note: {reason}; resnet34 starts from random weights')
        experiment.train_both(made, split, out, dataset)
    except KeyboardInterrupt:
        print(f'{out}: the same command goes on')
        raise
    finally:
        if not any((out / name).exists() for name in names):
            shutil.rmtree(out / _DATASET, ignore_errors=True)
            with suppress(OSError):
                out.rmdir()
    runs = [read_run(out / name) for name in names]
    page = experiment_page(runs, compare([experiment.contestant_of(run) for run in runs]))
    print(f'\n{page}')
    write_whole(out / _PAGE, page)
    print(f'page: {out / _PAGE}')
    return ExitCode.OK


def _check_out(out: Path, own: set[str]) -> None:
    """Refuse a folder that holds anything but an unfinished experiment."""
    if not out.exists():
        return
    if not out.is_dir():
        raise ConfigError(f'{out}: exists already and is no folder; choose another --out')
    if (out / _PAGE).exists():
        raise ConfigError(f'{out}: holds a finished experiment; choose another --out')
    if other := sorted(path.name for path in out.iterdir() if path.name not in own):
        raise ConfigError(f'{out}: holds something else than an experiment, such as {other[0]}; '
                          'choose another --out')


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__, EPILOG)
    parser.add_argument('folder', nargs='?', type=Path, metavar='FOLDER',
                        help='folder with success/ and failure/, or any source with labels (the '
                        'sample bag)')
    parser.add_argument('--out', type=Path, required=True, metavar='OUT',
                        help='folder to write')
    add_options(parser, ExperimentOptions, 'per_class', 'epochs', 'seed', 'resnet34_weights')
    add_label_arguments(parser)
    add_dedupe_argument(parser)
    return parser


if __name__ == '__main__':
    raise SystemExit(main(None))
