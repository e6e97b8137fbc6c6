"""train_classifier: train a grasp classifier on labelled bags and write its checkpoint."""

import argparse
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from grasp_success_detector.console import command, ExitCode
from grasp_success_detector.errors import ConfigError

EPILOG = """\
examples:
  simulate_grasps bags/train --attempts 2000 --frames 8 --seed 1
  train_classifier bags/train --out runs/first
      transfer-learn the default architecture, 70/15/15 % of the attempts to train/val/test
  train_classifier bags/train --test bags/other_day --config config/train_cifar_cnn.yaml \\
      --epochs 20 --out runs/small
      options given here win over those of the file

A bag's labels come from its topic /ground_truth (std_msgs/Bool, one for each labelled frame), its
attempts from /attempt. Attempts are never divided between splits. The run folder gets
classifier.safetensors, config.yaml, splits.csv, metrics.jsonl and a TensorBoard log.
"""


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments, train, and say where the checkpoint is."""
    args = _parser().parse_args(argv)
    # Slow to import: only once the arguments are known to be fine.
    try:
        from grasp_success_detector.data.recordings import read_labelled_frames
        from grasp_success_detector.training.config import load_config, TrainingConfig
        from grasp_success_detector.training.fit import CHECKPOINT_NAME, fit, make_split
    except ImportError as error:
        raise ConfigError(f'training needs more packages ({error}); '
                          'pip install grasp_success_detector[train]') from error
    config = load_config(args.config, {
        field.name: getattr(args, field.name, None) for field in fields(TrainingConfig)})
    frames = read_labelled_frames(args.bags, args.topic)
    test = read_labelled_frames(args.test, args.topic) if args.test else []
    fit(config, make_split(frames, config, test), args.out)
    print(f'checkpoint: {args.out / CHECKPOINT_NAME}')
    return ExitCode.OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='train_classifier', description=__doc__.split(': ', 1)[1], epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('bags', type=Path, nargs='+', help='bags with labelled frames')
    parser.add_argument('--out', type=Path, required=True, help='run folder; it must not exist')
    parser.add_argument('--test', type=Path, nargs='+',
                        help='bags to test on; without them, a share of the attempts')
    parser.add_argument('--topic', help='image topic, where a bag has several')
    parser.add_argument('--config', type=Path, help='YAML file of the options below')
    # Defaults live in TrainingConfig alone: an option left out is not passed on.
    parser.add_argument('--arch', dest='architecture',
                        help='cifar_cnn, resnet34 or efficientnet_lite0')
    parser.add_argument('--pretrained', action=argparse.BooleanOptionalAction, default=None,
                        help='start from ImageNet weights')
    parser.add_argument('--freeze-depth', type=int, help='how much of the backbone stays as it is')
    parser.add_argument('--epochs', type=int)
    parser.add_argument('--batch-size', type=int)
    parser.add_argument('--lr', type=float, help='peak learning rate of the head')
    parser.add_argument('--backbone-lr', type=float)
    parser.add_argument('--weight-decay', type=float)
    parser.add_argument('--label-smoothing', type=float)
    parser.add_argument('--augment', action=argparse.BooleanOptionalAction, default=None,
                        help='change training frames at random')
    parser.add_argument('--samples', help='each_epoch: change frames anew in each; once: fixed '
                        'changes, and features of the frozen part computed once (faster)')
    parser.add_argument('--samples-per-class', type=int, metavar='N',
                        help='an epoch is N samples of each class, however many frames there are; '
                        'drawn as --samples says')
    parser.add_argument('--split', type=float, nargs=3, metavar=('TRAIN', 'VAL', 'TEST'),
                        help='fractions of the attempts')
    parser.add_argument('--seed', type=int)
    parser.add_argument('--precision', help='32-true, bf16-mixed or 16-mixed')
    parser.add_argument('--device', help='auto, cpu, gpu')
    parser.add_argument('--workers', type=int, help='processes that load frames')
    return parser
