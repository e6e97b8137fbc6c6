"""train_hand_finder: train the network that finds the hand, on simulated pictures."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from grasp_success_detector.console import (
    command,
    command_parser,
    ExitCode,
    needing,
    progress_bar,
    stderr_console,
)
from grasp_success_detector.errors import ConfigError, DatasetError
from grasp_success_detector.files import check_new_file

EPILOG = """\
examples:
  simulate_grasps bags/world --preset world --attempts 1000 --frames 4 --looks 2 --assets assets
  simulate_grasps bags/other --preset world --attempts 150 --frames 4 --looks 2 --seed 1
  train_hand_finder bags/world --test bags/other --out hand_finder.safetensors
      docs/real_cameras.md has the assets

Below the threshold that is printed a frame counts as having no hand: three in a hundred of the
test pictures with a hand are below it.

exit codes: 0 done, 1 bad input, 2 wrong option, 130 Ctrl-C; nothing is written before the end
"""


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments, train, test, and write the file."""
    args = _parser().parse_args(argv)
    for name in ('epochs', 'seed'):
        if getattr(args, name) < (name == 'epochs'):
            raise ConfigError(f'--{name} {getattr(args, name)} (expected a whole number of '
                              f'{int(name == "epochs")} or more)')
    check_new_file(args.out, ConfigError)
    with needing('train', 'training'):
        from grasp_success_detector.training import hand_finder
    examples, test = ([example for bag in bags for example in hand_finder.read_examples(bag)]
                      for bags in (args.bags, args.test))
    if min(len(examples), len(test)) < hand_finder.BATCH:
        raise DatasetError(f'{len(examples)} pictures to train and {len(test)} to test with '
                           f'(expected {hand_finder.BATCH} or more of each)')
    print(f'{len(examples)} training and {len(test)} test pictures', flush=True)
    model = hand_finder.new_network()
    with progress_bar(stderr_console()) as progress:
        task = progress.add_task('training', total=args.epochs * len(examples))
        hand_finder.fit(model, examples, args.epochs, args.seed,
                        lambda done, _: progress.update(task, completed=done))
    tested = hand_finder.test_finder(model, test)
    hand_finder.save_finder(args.out, model, tested, args.epochs, len(examples))
    print(f'{args.out}: mean overlap {tested.overlap:.2f}, {tested.hits:.1%} of the boxes overlap '
          f'by half or more; threshold {tested.threshold:.2f}, which {tested.false_hands:.1%} of '
          'the pictures without a hand reach')
    return ExitCode.OK


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__, EPILOG)
    parser.add_argument('bags', nargs='+', type=Path, metavar='BAG',
                        help='recorded with simulate_grasps --preset world')
    parser.add_argument('--test', nargs='+', type=Path, metavar='BAG', required=True,
                        help='of another seed and other assets')
    parser.add_argument('--out', type=Path, required=True, metavar='FILE',
                        help='safetensors file to write; it must not exist')
    parser.add_argument('--epochs', type=int, default=4, help='passes over the pictures (4)')
    parser.add_argument('--seed', type=int, default=0, help='of order and changes (0)')
    return parser


if __name__ == '__main__':
    raise SystemExit(main(None))
