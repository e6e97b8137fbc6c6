"""train_classifier: train a grasp classifier on a data set of extract_frames."""

import argparse
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from grasp_success_detector.console import command, ExitCode, needing
from grasp_success_detector.errors import DatasetError

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
  train_classifier dataset --out runs/first --resume
      go on with a run that was stopped
  torchrun --nproc-per-node 4 $(which train_classifier) dataset --devices 4 --out runs/first
      several GPUs; --devices alone does it too

Attempts are never divided between splits: extract_frames made them. The run folder gets the
checkpoint classifier.safetensors, report.html, metrics.json, predictions.csv, config.yaml,
metrics.jsonl (a line per epoch), run.json and a TensorBoard log.

exit codes: 0 trained, 1 wrong input, 2 wrong option, 130 Ctrl-C (--resume goes on)
"""


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments, train, and say where the checkpoint is."""
    args = _parser().parse_args(argv)
    # Slow to import: only once the arguments are known to be fine.
    with needing('train', 'training'):
        from grasp_success_detector.datasets.dataset import read_extracted
        from grasp_success_detector.reports.training_page import write_report
        from grasp_success_detector.training.fit import fit
        from grasp_success_detector.training.recipe import load_config, TrainingConfig
        from grasp_success_detector.training.run_folder import RunFolder
    config = load_config(args.config, {
        field.name: getattr(args, field.name, None) for field in fields(TrainingConfig)})
    split, datasets = read_extracted(args.dataset), [args.dataset]
    if args.test is not None:
        other = read_extracted(args.test)
        frames = other.train + other.val + other.test
        if shared := {f.attempt for f in frames} & {f.attempt for f in split.train + split.val}:
            raise DatasetError(f'{args.test}: {len(shared)} of its attempts are also in '
                               f'{args.dataset}, {min(shared)} among them')
        split = replace(split, test=frames)
        datasets.append(args.test)
    run = RunFolder(args.out)
    if args.resume and not run.path.exists():
        print(f'{args.out}: no run is there yet; it begins')
    try:
        finished = fit(config, split, args.out, datasets, args.resume)
    except KeyboardInterrupt:
        if run.path.exists():
            print(f'{args.out}: the same command with --resume '
                  + ('goes on after the last whole epoch' if run.state.exists() else
                     'begins again, as no epoch was whole'))
        raise
    if finished:
        print(f'report: {write_report(args.out)}')
    print(f'checkpoint: {run.classifier}')
    return ExitCode.OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='train_classifier', description=__doc__.split(': ', 1)[1], epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('dataset', type=Path, help='folder that extract_frames made')
    parser.add_argument('--out', type=Path, required=True, help='run folder; it must not exist')
    parser.add_argument('--resume', action='store_true', help='continue an unfinished run')
    parser.add_argument('--test', type=Path, metavar='DATASET',
                        help='test on all frames of another data set instead of the test split')
    parser.add_argument('--config', type=Path, help='YAML file of the options below')
    # Defaults live in TrainingConfig alone: an option left out is not passed on.
    switch: Any = {'action': argparse.BooleanOptionalAction, 'default': None}
    model = parser.add_argument_group('model')
    model.add_argument('--arch', dest='architecture',
                       help='cifar_cnn, resnet34, efficientnet_lite0 (default) or timm:NAME')
    model.add_argument('--pretrained', **switch,
                       help='start from weights that were trained on other images')
    model.add_argument('--weights', metavar='FILE', help='file of these weights '
                       '(.safetensors or .pth), instead of cache and download')
    model.add_argument('--freeze-conv-layers', type=int, metavar='N',
                       help='the first N convolutions keep their weights')
    recipe = parser.add_argument_group(
        'recipe', 'What is left out is as in config/train_ARCH.yaml, here and below.')
    recipe.add_argument('--epochs', type=int, help='passes over the samples; the best is kept')
    recipe.add_argument('--patience', type=int, metavar='N',
                        help='stop after N epochs without a lower validation loss')
    recipe.add_argument('--batch-size', type=int, help='of all devices together')
    recipe.add_argument('--optimizer', help='adamw or sgd')
    recipe.add_argument('--momentum', type=float, help='of sgd')
    recipe.add_argument('--schedule', help='cosine or constant')
    recipe.add_argument('--lr', type=float, help='peak learning rate of the head')
    recipe.add_argument('--backbone-lr', type=float,
                        help='peak learning rate of the unfrozen backbone')
    recipe.add_argument('--weight-decay', type=float, help="adamw's or sgd's")
    recipe.add_argument('--label-smoothing', type=float, metavar='SHARE',
                        help='share of the target that is spread over both classes')
    recipe.add_argument('--seed', type=int, help='the same seed draws the same samples')
    samples = parser.add_argument_group('samples')
    samples.add_argument('--samples', help='each_epoch: draw and augment samples anew in each '
                         'epoch; once: use the same samples in every epoch')
    samples.add_argument('--samples-per-class', type=int, metavar='N',
                         help='number of samples of each class in an epoch')
    samples.add_argument('--augment', **switch, help='augment training frames at random')
    samples.add_argument('--augmentation', nargs='+', metavar='NAME',
                         help='one or more of shift_turn_zoom, light_and_colour, sensor_noise')
    samples.add_argument('--reuse-features', **switch, help='with --samples once: compute the '
                         'features of the frozen part once, and keep them in memory')
    judging = parser.add_argument_group('judging')
    judging.add_argument('--train-accuracy', **switch,
                         help='after each epoch also judge the training images')
    judging.add_argument('--max-false-positive-rate', type=float, metavar='SHARE',
                         help='largest share of failure frames that may count as '
                              'success; chooses the threshold')
    machine = parser.add_argument_group('machine')
    machine.add_argument('--precision', help='32-true, bf16-mixed or 16-mixed')
    machine.add_argument('--device', help='auto, cpu or gpu')
    machine.add_argument('--devices', type=int, help='number of devices on each machine')
    machine.add_argument('--num-nodes', type=int, help='number of machines')
    machine.add_argument('--workers', type=int, help='processes that load frames')
    return parser
