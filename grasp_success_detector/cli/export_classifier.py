"""export_classifier: export a checkpoint to ONNX, OpenVINO or int8, and verify its engines."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from grasp_success_detector.console import command, command_parser, ExitCode
from grasp_success_detector.files import CHECKPOINT_HELP, checkpoint_path, SAMPLE_BAG, share_path

EPILOG = """\
examples:
  export_classifier classifier.safetensors --verify dataset
      compare every engine and precision of this machine with torch in fp32 on the validation
      frames; the figures go to classifier.engines.json, and engine:=auto takes the fastest that
      decides alike on 99.5 % of them
  export_classifier classifier.safetensors --calibrate dataset --verify dataset
      first make classifier.int8.safetensors for OpenVINO, calibrated on training frames
  export_classifier old.safetensors --familiarity dataset
      let an older checkpoint tell frames that look like none of its training
  export_classifier classifier.safetensors --onnx classifier.onnx --openvino classifier.xml
      for other programs: RGB uint8 in, logits out, and how to use it as JSON in the file; written
      only if its logits on real frames are those of torch

exit codes: 0 done, 1 bad input, 2 wrong option, 130 Ctrl-C
"""

_FRAMES_TO_COMPARE = 48


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments, then export, calibrate or verify as they say."""
    parser = _parser()
    args = parser.parse_args(argv)
    if not (args.onnx or args.openvino or args.calibrate or args.verify or args.familiarity):
        parser.error('nothing to do: give --onnx, --openvino, --calibrate, --verify or '
                     '--familiarity')
    args.checkpoint = checkpoint_path(args.checkpoint)
    if args.onnx or args.openvino:
        _export(args)
    if args.calibrate:
        from grasp_success_detector.export.formats import calibrate

        print(f'{calibrate(args.checkpoint, args.calibrate, args.overwrite)}: written')
    if args.familiarity:
        from grasp_success_detector.training.known_frames import add_familiarity

        add_familiarity(args.checkpoint, args.familiarity)
        print(f'{args.checkpoint}: its familiarity was fitted and written')
    if args.verify:
        _verify(args)
    return ExitCode.OK


def _export(args: argparse.Namespace) -> None:
    # Slow to import: only once the arguments are known to be fine.
    from grasp_success_detector.export.agreement import bag_images
    from grasp_success_detector.export.formats import export
    from grasp_success_detector.networks.checkpoint import Checkpoint

    checkpoint = Checkpoint.open(args.checkpoint)
    images = bag_images(args.bag or share_path(SAMPLE_BAG), checkpoint.metadata.preprocessing,
                        _FRAMES_TO_COMPARE, args.topic if args.bag else None)
    for out, suffix in ((args.onnx, '.onnx'), (args.openvino, '.xml')):
        if out:
            difference = export(checkpoint, out, suffix, images, args.overwrite)
            print(f'{out}: written; its logits differ from those of torch by {difference:.2g} at '
                  f'most, on {len(images)} frames')


def _verify(args: argparse.Namespace) -> None:
    from grasp_success_detector.export.agreement import verify
    from grasp_success_detector.inference.engine_selection import MIN_AGREEMENT, proof_path

    proof, missing = verify(args.checkpoint, args.verify, args.device)
    print('| engine | precision | device | version | decided as torch fp32 | largest difference '
          'of P(success) |\n' + '| --- ' * 6 + '|')
    for figure in proof.figures:
        print(f'| {figure.engine} | {figure.precision} | {figure.device} | {figure.version} | '
              f'{figure.agreement:.2%} ({figure.agreeing}/{figure.frames})'
              f'{"" if figure.agreement >= MIN_AGREEMENT else ", not enough"} | '
              f'{figure.largest_difference:.3g} |')
    for name, reason in missing.items():
        print(f'not measured: {name}: {reason}')
    print(f'{proof_path(args.checkpoint)}: written')


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__, EPILOG)
    parser.add_argument('checkpoint', type=Path, help=CHECKPOINT_HELP)
    parser.add_argument('--onnx', type=Path, metavar='FILE', help='ONNX file to write')
    parser.add_argument('--openvino', type=Path, metavar='FILE',
                        help='OpenVINO IR to write: a name that ends in .xml; .bin is beside it')
    parser.add_argument('--bag', type=Path,
                        help='whose frames these two are compared on (the sample bag that ships)')
    parser.add_argument('--topic', help='image topic of a --bag that has several')
    parser.add_argument('--calibrate', type=Path, metavar='DATASET',
                        help='write an int8 model beside the checkpoint, calibrated on training '
                        'frames of this folder of extract_frames')
    parser.add_argument('--verify', type=Path, metavar='DATASET',
                        help='measure engines on the validation frames of this folder of '
                        'extract_frames')
    parser.add_argument('--familiarity', type=Path, metavar='DATASET',
                        help='fit anew what frames the checkpoint knows, to the training and '
                        'validation frames of this folder of extract_frames, and write it into '
                        'the checkpoint; its weights and decisions stay')
    parser.add_argument('--device', default='cpu',
                        help='on which --verify measures: cpu, cuda, gpu or npu (cpu)')
    parser.add_argument('--overwrite', action='store_true',
                        help='replace files of --onnx, --openvino and --calibrate')
    return parser


if __name__ == '__main__':
    raise SystemExit(main(None))
