"""pretrain_cifar10: train cifar_cnn on CIFAR-10, as a start for grasp classifiers."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from grasp_success_detector.console import command, command_parser, ExitCode, needing
from grasp_success_detector.errors import ConfigError
from grasp_success_detector.files import check_new_file
from grasp_success_detector.settings import add_options, given_options
from grasp_success_detector.training.recipe import PretrainingConfig

if TYPE_CHECKING:
    from grasp_success_detector.training.cifar10 import EpochResult

EPILOG = """\
examples:
  pretrain_cifar10 cifar10 --download --out cifar_cnn_cifar10.safetensors
      fetch CIFAR-10 into the folder cifar10 and train 10 epochs
  pretrain_cifar10 pictures --out mine.safetensors --epochs 20
      train/ and test/ of the folder hold a folder of jpeg or png files for each of 10 classes
  train_classifier dataset --arch cifar_cnn --weights mine.safetensors --out runs/mine
      train a grasp classifier from what came out

After each epoch the accuracy on the test images is printed, for each class as well, with 95 %
intervals (Wilson). The last epoch is kept: the test images choose nothing.

exit codes: 0 done, 1 bad input, 2 wrong option, 130 Ctrl-C; nothing is written before the end
"""


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments, train, and write the weights."""
    args = _parser().parse_args(argv)
    # Slow to import: only once the arguments are known to be fine.
    with needing('train', 'training'):
        from grasp_success_detector.training.cifar10 import pretrain
        from grasp_success_detector.training.cifar10_images import read_images
    from grasp_success_detector.networks.architectures import default_preprocessing

    config = PretrainingConfig(**given_options(PretrainingConfig, args))
    check_new_file(args.out, ConfigError)
    preprocessing = default_preprocessing('cifar_cnn')
    train, test = read_images(args.data, preprocessing, args.download)
    print(f'{len(train.labels)} training and {len(test.labels)} test images of '
          f'{len(train.class_names)} classes', flush=True)
    pretrain(train, test, preprocessing, config, args.out,
             args.data_name or args.data.resolve().name,
             lambda result: _report(result, config.epochs))
    print(f'weights: {args.out}')
    return ExitCode.OK


def _report(result: 'EpochResult', epochs: int) -> None:
    print(f'epoch {result.epoch}/{epochs}: training loss {result.train_loss:.3f}, '
          f'test {result.images}')
    width = max(map(len, result.classes))
    for name, accuracy in result.classes.items():
        print(f'  {name:{width}}  {accuracy}', flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__, EPILOG)
    parser.add_argument('data', type=Path, help="folder with torchvision's CIFAR-10, or with "
                        'train/ and test/')
    parser.add_argument('--out', type=Path, required=True, metavar='FILE',
                        help='safetensors file to write; it must not exist')
    parser.add_argument('--download', action='store_true',
                        help='fetch CIFAR-10 into the folder, unless it is there')
    parser.add_argument('--data-name', metavar='TEXT', help='name of the training data in the '
                        "file's metadata (default: the folder's name)")
    add_options(parser, PretrainingConfig, 'epochs', 'batch_size', 'lr', 'seed', 'device')
    return parser


if __name__ == '__main__':
    raise SystemExit(main(None))
