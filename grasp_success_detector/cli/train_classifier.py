"""train_classifier: train a grasp classifier on a data set, or on pictures, bags and videos."""

import argparse
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from grasp_success_detector.cli.arguments import add_dedupe_argument, add_label_arguments
from grasp_success_detector.cli.source_data import dataset_of
from grasp_success_detector.console import command, command_parser, ExitCode, needing
from grasp_success_detector.errors import ConfigError, DatasetError
from grasp_success_detector.recordings.selection import FrameSelection
from grasp_success_detector.settings import add_options, given_options
from grasp_success_detector.training.recipe import TrainingConfig

if TYPE_CHECKING:
    from grasp_success_detector.datasets.dataset import Split

EPILOG = """\
examples:
  simulate_grasps bags/train --attempts 2000 --frames 8 --seed 1
  extract_frames bags/train --out dataset
  train_classifier dataset --out runs/first
      transfer-learn the default architecture by its recipe, config/train_efficientnet_lite0.yaml
  train_classifier dataset --arch resnet34 --samples-per-class 5000 --epochs 8 --out runs/large
      options given here win over those of the recipe
  train_classifier dataset --arch timm:mobilenetv3_small_100 --out runs/mobile
      any model of timm
  train_classifier photos --out runs/photos
      pictures: a folder (or zip) with success/ and failure/, or with labels.csv (file,label)
  train_classifier dataset --out runs/first --resume
      go on with a run that was stopped
  torchrun --nproc-per-node 4 $(which train_classifier) dataset --devices 4 --out runs/first
      several GPUs; --devices alone does it too

Attempts are never divided between splits. A data set of extract_frames has its splits; other
sources are extracted into dataset/ in the run folder first. The run folder gets the
checkpoint classifier.safetensors, report.html, metrics.json, predictions.csv, config.yaml,
metrics.jsonl (a line per epoch), run.json and a TensorBoard log.

exit codes: 0 trained, 1 wrong input, 2 wrong option, 130 Ctrl-C (--resume goes on)
"""

#: Fields of ``TrainingConfig`` by their place in the help.
OPTIONS = {
    'model': ('architecture', 'pretrained', 'weights', 'freeze_conv_layers', 'hand',
              'input_size'),
    'recipe (default, here and below: what config/train_ARCH.yaml says)': (
        'epochs', 'patience', 'batch_size', 'optimizer', 'momentum', 'schedule', 'lr',
        'backbone_lr', 'weight_decay', 'label_smoothing', 'average_weights',
        'seed'),
    'samples': ('samples', 'samples_per_class', 'augment', 'augmentation', 'reuse_features',
                'keep_images', 'without_hand', 'teachers'),
    'judging': ('train_accuracy', 'max_false_positive_rate'),
    'machine': ('precision', 'device', 'devices', 'num_nodes', 'workers'),
}


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments, train, and say where the checkpoint is."""
    args = _parser().parse_args(argv)
    # Slow to import: only once the arguments are known to be fine.
    with needing('train', 'training'):
        from grasp_success_detector.datasets.dataset import read_extracted
        from grasp_success_detector.reports.training_page import write_report
        from grasp_success_detector.training.fit import fit
        from grasp_success_detector.training.recipe import check_processes, load_config
        from grasp_success_detector.training.run_folder import RunFolder
    given = given_options(TrainingConfig, args)
    if given.get('augment') is False and 'augmentation' in given:
        raise ConfigError('--no-augment and --augmentation: expected one of them')
    if given.get('pretrained') is False and 'weights' in given:
        raise ConfigError('--no-pretrained and --weights: expected one of them')
    config = load_config(args.config, given)
    check_processes(config)
    selection = FrameSelection(**given_options(FrameSelection, args))
    run = RunFolder(args.out)
    if args.resume and not run.path.exists():
        print(f'{args.out}: no run is there yet; it begins')
    elif not args.resume and config.processes == 1:
        run.check_new()
    try:
        with run.removed_unless_begun() if config.processes == 1 else nullcontext():
            datasets = [dataset_of(args.data, selection, run.dataset, config.processes,
                                   dedupe=args.dedupe)]
            split = read_extracted(datasets[0])
            if args.test is not None:
                datasets.append(dataset_of([str(args.test)], FrameSelection(), run.test_dataset,
                                           config.processes))
                split = _tested_on(args.test, read_extracted(datasets[1]), split)
            if not split.val:
                print('val: too few attempts for a split of its own; the training frames stand '
                      'in for it, so that threshold and confidence are too optimistic')
                split = replace(split, val=split.train)
            finished = fit(config, split, args.out, datasets, args.resume)
    except KeyboardInterrupt:
        if run.path.exists():
            print(f'{args.out}: the same command with --resume '
                  + ('goes on after the last whole epoch' if run.state.exists() else
                     'begins again, as no epoch was whole'))
        raise
    if finished:    # not in the other processes, which end before the checkpoint is there
        print(f'report: {write_report(args.out)}\ncheckpoint: {run.classifier}')
    return ExitCode.OK


def _tested_on(path: Path, other: 'Split', split: 'Split') -> 'Split':
    """Return a split with all frames of another data set as its test frames."""
    frames = other.train + other.val + other.test
    if shared := {f.attempt for f in frames} & {f.attempt for f in split.train + split.val}:
        raise DatasetError(f'{path}: {len(shared)} of its attempts are also in the training data, '
                           f'{min(shared)} among them')
    return replace(split, test=frames)


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__, EPILOG)
    parser.add_argument('data', nargs='+', metavar='DATA',
                        help='a data set of extract_frames, or pictures, bags and videos; '
                        'also addresses (s3://...)')
    parser.add_argument('--out', type=Path, required=True, help='run folder; it must not exist')
    parser.add_argument('--resume', action='store_true', help='continue an unfinished run')
    parser.add_argument('--test', type=Path, metavar='DATASET',
                        help='test on all frames of other data instead of the test split')
    add_label_arguments(parser)
    add_dedupe_argument(parser)
    parser.add_argument('--config', type=Path, help='YAML file of the options below')
    for group, names in OPTIONS.items():
        add_options(parser.add_argument_group(group), TrainingConfig, *names, defaults=False)
    return parser


if __name__ == '__main__':
    raise SystemExit(main(None))
