"""import_checkpoint: make a checkpoint of a legacy .pth file, once and explicitly."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from grasp_success_detector.console import command, command_parser, ExitCode
from grasp_success_detector.errors import CheckpointError, ConfigError
from grasp_success_detector.files import check_new_file
from grasp_success_detector.labels import CLASS_NAMES

if TYPE_CHECKING:
    from grasp_success_detector.networks.checkpoint import CheckpointMetadata
    from grasp_success_detector.networks.tensors_file import Tensors

#: Architectures that are recognised by the names of their tensors.
RECOGNISED = ('resnet34', 'cifar_cnn')

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
    """Parse the arguments, import the file, and print how it was interpreted."""
    args = _parser().parse_args(argv)
    if args.size is not None and len(args.size) > 2:
        raise ConfigError(f'--size has {len(args.size)} values; expected HEIGHT WIDTH, or one '
                          'for both')
    if sorted(args.classes) != sorted(CLASS_NAMES):
        raise ConfigError(f'classes {" ".join(args.classes)}; expected {" ".join(CLASS_NAMES)}, '
                          f'or {" ".join(reversed(CLASS_NAMES))}, as the outputs of the file mean')
    check_new_file(args.out, CheckpointError)
    metadata = _imported(args)
    size = metadata.preprocessing
    print(f'{args.out}: {metadata.architecture}, outputs of the file: {", ".join(args.classes)}; '
          f'input {size.width} x {size.height}, mean {list(size.mean)}, std {list(size.std)}')
    print('its threshold (0.5) and temperature (1) were not measured: before a planner trusts it, '
          'look at it with evaluate_classifier on your own frames')
    return ExitCode.OK


def _imported(args: argparse.Namespace) -> 'CheckpointMetadata':
    """Write the checkpoint, its outputs in the order of Label, after trying the model."""
    # Slow to import: only once the arguments are known to be right.
    import torch

    from grasp_success_detector.networks import architectures, checkpoint, tensors_file, weights

    tensors = weights.read_pickle(args.file)
    name = args.architecture or _recognised(tensors, args.file)
    given = {key: value for key, value in (
        ('height', args.size and args.size[0]), ('width', args.size and args.size[-1]),
        ('mean', args.mean), ('std', args.std)) if value is not None}
    size = replace(architectures.default_preprocessing(name), **given)
    metadata = checkpoint.CheckpointMetadata(name, size, training={
        'imported_from': args.file.name, 'imported_classes': args.classes,
        'imported_sha256': hashlib.sha256(args.file.read_bytes()).hexdigest()})
    with torch.random.fork_rng(devices=[]):
        model = architectures.build(name)
    expected = model.state_dict()
    tensors = weights.with_counters(tensors, expected)
    with tensors_file.named_errors(args.file):
        tensors_file.check_tensors(tensors, expected, f'{name} with {len(CLASS_NAMES)} outputs')
    order = [args.classes.index(label) for label in CLASS_NAMES]
    for parameter in architectures.head_parameters(model, name):
        tensors[parameter] = tensors[parameter][order]
    model.load_state_dict(tensors)
    try:
        with torch.inference_mode():
            model.eval()(torch.zeros(1, 3, size.height, size.width))
    except (RuntimeError, AssertionError) as error:  # torch's own, or a transformer's check
        raise ConfigError(f'{name} cannot take images of {size.width} x {size.height} pixels '
                          '(width x height); give the size that it was trained on') from error
    checkpoint.save(args.out, model, metadata)
    return metadata


def _recognised(tensors: 'Tensors', legacy: Path) -> str:
    """Return the architecture that shares most names with the tensors."""
    import torch

    from grasp_success_detector.networks.architectures import build

    with torch.device('meta'):  # names without numbers
        shared = {name: len(tensors.keys() & build(name).state_dict().keys())
                  for name in RECOGNISED}
    best = max(shared, key=lambda name: shared[name])
    if not shared[best]:
        raise CheckpointError(
            f'{legacy}: neither {" nor ".join(RECOGNISED)} has tensors named as here '
            f'({", ".join(list(tensors)[:5])}, ...); name the architecture, or its tensors as '
            'the architecture does')
    return best


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__, EPILOG)
    parser.add_argument('file', type=Path, help='file of torch.save')
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
                        help="standard deviation of the channels (the architecture's)")
    return parser


if __name__ == '__main__':
    raise SystemExit(main(None))
