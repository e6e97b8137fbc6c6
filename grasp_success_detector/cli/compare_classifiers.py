"""compare_classifiers: judge trainings on the same test attempts, side by side."""

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from grasp_success_detector.console import command, command_parser, ExitCode
from grasp_success_detector.errors import ConfigError, ImageDecodeError, RunError
from grasp_success_detector.files import check_new_file, write_whole

if TYPE_CHECKING:
    from grasp_success_detector.evaluation.comparison import Contestant, Duel
    from grasp_success_detector.images.decoding import RgbImage
    from grasp_success_detector.reports.comparison_page import Row

EPILOG = """\
examples:
  train_classifier dataset --arch resnet34 --out runs/resnet34
  train_classifier dataset --arch cifar_cnn --out runs/cifar_cnn
  compare_classifiers runs/resnet34 runs/cifar_cnn --out comparison.html

The runs must have been tested on the same attempts. Accuracies come with Wilson 95 % intervals,
each pair with McNemar's exact test. Latency is measured now, on this machine, one frame at a time.

exit codes: 0 done, 1 runs that cannot be compared, 2 wrong option, 130 Ctrl-C
"""


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments, compare the runs, print the results and write the page."""
    args = _parser().parse_args(argv)
    if args.out is not None:
        check_new_file(args.out, ConfigError)
    # Slow to import: only once the arguments are known to be fine.
    from grasp_success_detector.evaluation import comparison
    from grasp_success_detector.inference.classifier import GraspClassifier
    from grasp_success_detector.reports import comparison_page

    compared = comparison.compare(read_contestants(args.runs))
    contestants = compared.contestants
    classifiers = [GraspClassifier.from_checkpoint(c.checkpoint, args.device, args.threads)
                   for c in contestants]
    frame = _frame_to_time(contestants[0])
    table = comparison_page.rows(contestants, comparison.measure_latency(classifiers, frame))
    timing = comparison.describe_timing(frame, classifiers[0].engine.device)
    print(_text_table(contestants, table))
    print(f'\nlatency: {timing}\n')
    for by_attempt, by_frame in zip(compared.by_attempt, compared.by_frame, strict=True):
        print(_sentence(by_attempt, 'attempts'))
        print(_sentence(by_frame, 'frames'))
    print(f'({comparison_page.FRAMES_DEPEND})')
    if args.out is not None:
        write_whole(args.out, comparison_page.comparison_page(compared, table, timing))
        print(f'report: {args.out}')
    return ExitCode.OK


def read_contestants(folders: Sequence[Path]) -> list['Contestant']:
    """
    Read run folders; each is named after its folder, or by its path if names are not unique.

    :raises RunError: fewer than two folders, one given twice, or one without a finished run.
    """
    from grasp_success_detector.evaluation.comparison import Contestant
    from grasp_success_detector.training.run_folder import read_run

    if len(folders) < 2:
        raise RunError(f'{len(folders)} run folder to compare; expected two or more')
    times = Counter(folder.resolve() for folder in folders)
    if repeated := [str(folder) for folder, count in times.items() if count > 1]:
        raise RunError(f'{", ".join(repeated)}: given more than once; expected different runs')
    names = Counter(folder.resolve().name for folder in folders)
    return [Contestant(
        run.name if names[run.name] == 1 else str(run.folder), run.of('test'), run.metrics,
        run.summary, run.checkpoint, run.test_dataset) for run in map(read_run, folders)]


def _frame_to_time(contestant: 'Contestant') -> 'RgbImage':
    """Return a test frame; a black one of 640 x 480 pixels if the frames cannot be read."""
    import numpy as np

    from grasp_success_detector.reports.pictures import frame_from

    try:
        return frame_from(contestant.test_dataset)(contestant.predictions[0])
    except ImageDecodeError:
        return np.zeros((480, 640, 3), np.uint8)


def _text_table(contestants: Sequence['Contestant'], rows: Sequence['Row']) -> str:
    """Return the rows as aligned text, a column for each contestant."""
    lines = [('', [contestant.name for contestant in contestants])]
    for row in rows:
        lines.append((row.name, [value for value, _ in row.cells]))
        if any(note for _, note in row.cells):
            lines.append(('', [note for _, note in row.cells]))
    first = max(len(name) for name, _ in lines)
    widths = [max(len(values[i]) for _, values in lines) for i in range(len(contestants))]
    return '\n'.join(
        f'{name:{first}}  ' + '  '.join(f'{value:>{width}}' for value, width in zip(
            values, widths, strict=True)) for name, values in lines).replace(
                '\N{NO-BREAK SPACE}', ' ')


def _sentence(duel: 'Duel', what: str) -> str:
    p_value = '< 0.0001' if duel.p_value < .0001 else f'= {duel.p_value:.4f}'
    return (f'{what}: only {duel.first} right {duel.only_first}, only {duel.second} right '
            f"{duel.only_second}, both {duel.both}, neither {duel.neither}; McNemar's exact p "
            f'{p_value}')


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__, EPILOG)
    parser.add_argument('runs', type=Path, nargs='+', metavar='RUN',
                        help='run folders of train_classifier, two or more')
    parser.add_argument('--out', type=Path, metavar='report.html',
                        help='write a page as well; it must not exist')
    parser.add_argument('--device', default='auto',
                        help='where latency is measured: auto, cpu, cuda (%(default)s)')
    parser.add_argument('--threads', type=int, help="CPU threads (torch's choice)")
    return parser


if __name__ == '__main__':
    raise SystemExit(main(None))
