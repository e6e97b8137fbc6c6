"""import_checkpoint: make a checkpoint of a legacy .pth file, once and explicitly."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from grasp_success_detector.console import command, ExitCode
from grasp_success_detector.errors import ConfigError
from grasp_success_detector.labels import CLASS_NAMES

EPILOG = """\
examples:
  import_checkpoint resnet34.pth --classes failure success --out resnet34.safetensors
      output 0 of the network says failure, output 1 success
  import_checkpoint old.pth --classes success failure --arch cifar_cnn --out old.safetensors \\
      --mean 0.5 0.5 0.5 --std 0.5 0.5 0.5
      the outputs are swapped; images were normalised with this mean and standard deviation

The file holds the state dict of torchvision's ResNet34 or of the CNN of PyTorch's CIFAR-10
tutorial with 2 outputs, or a dict with it as 'state_dict' or 'model_state_dict'. It is read
without running code (weights_only=True); a whole pickled model is refused. Neither the meaning of
the outputs nor the preprocessing is in such a file: take them from the script that trained it (an
ImageFolder counts classes in alphabetical order). The input is RGB.

exit codes: 0 written, 1 bad input, 2 wrong option, 130 Ctrl-C; a file is never overwritten
"""


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments, import, and say what was taken for what."""
    args = _parser().parse_args(argv)
    # Slow to import: only once the arguments are known to be fine.
    from grasp_success_detector.networks.architectures import default_preprocessing
    from grasp_success_detector.networks.legacy_checkpoint import import_legacy

    if args.size is not None and len(args.size) > 2:
        raise ConfigError(f'--size has {len(args.size)} values; expected HEIGHT WIDTH, or one '
                          'for both')
    given = {name: value for name, value in (
        ('height', args.size and args.size[0]), ('width', args.size and args.size[-1]),
        ('mean', args.mean), ('std', args.std)) if value is not None}
    metadata = import_legacy(
        args.file, args.out, args.classes, args.architecture,
        lambda name: replace(default_preprocessing(name), **given))
    size = metadata.preprocessing
    print(f'{args.out}: {metadata.architecture}, outputs of the file: {", ".join(args.classes)}; '
          f'input {size.width} x {size.height}, mean {list(size.mean)}, std {list(size.std)}')
    print('its threshold (0.5) and temperature (1) were not measured: before a planner trusts it, '
          'look at it with evaluate_classifier on your own frames')
    return ExitCode.OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='import_checkpoint', description=__doc__.split(': ', 1)[1], epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('file', type=Path, help='what torch.save wrote')
    parser.add_argument('--out', type=Path, required=True, metavar='FILE',
                        help='safetensors file to write; it must not exist')
    parser.add_argument('--classes', nargs=2, required=True, metavar='CLASS', choices=CLASS_NAMES,
                        help="what the network's outputs mean, in order: failure success, or "
                        'success failure')
    parser.add_argument('--arch', dest='architecture',
                        help='resnet34, cifar_cnn, or another that train_classifier knows (told '
                        "by the tensors' names)")
    parser.add_argument('--size', type=int, nargs='+', metavar='PIXELS',
                        help="height and width of the input, or one for both (the architecture's)")
    parser.add_argument('--mean', type=float, nargs=3, metavar=('R', 'G', 'B'),
                        help="mean of the channels, of values from 0 to 1 (the architecture's)")
    parser.add_argument('--std', type=float, nargs=3, metavar=('R', 'G', 'B'),
                        help="standard deviation of the same (the architecture's)")
    return parser
