"""inspect_dataset: count a data set's frames, check it for leaks, and draw what is in it."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from grasp_success_detector.cli.arguments import (
    add_dedupe_argument,
    add_label_arguments,
    add_worker_arguments,
)
from grasp_success_detector.cli.source_data import dataset_of
from grasp_success_detector.console import (
    command,
    command_parser,
    counted,
    ExitCode,
    is_address,
    progress_bar,
    stderr_console,
)
from grasp_success_detector.datasets import inspection
from grasp_success_detector.datasets.workers import open_workers
from grasp_success_detector.errors import ConfigError
from grasp_success_detector.files import fault_text, unfinished, write_whole
from grasp_success_detector.images.encoding import encode_png
from grasp_success_detector.images.fingerprints import SAME_BITS
from grasp_success_detector.recordings.selection import FrameSelection
from grasp_success_detector.reports.dataset_page import contact_sheet, inspection_page
from grasp_success_detector.settings import given_options

EPILOG = """\
examples:
  inspect_dataset dataset
      counts, leaks, and dataset-inspection/ with index.html and contact_sheet.png
  inspect_dataset dataset --near-bits 0 --out report
      only pictures whose fingerprints are equal count as nearly the same
  inspect_dataset s3://lab/dataset
      at an address of fsspec: fetched into the cache first, docs/scale.md
  inspect_dataset photos
      pictures: a folder with success/ and failure/, or with labels.csv

Exact leaks are files with the same bytes in two splits. Near leaks are frames of two splits whose
perceptual fingerprints (256 bits) differ in a few bits only.

exit codes: 0 sound, 1 something is wrong with the data set, 2 wrong option, 130 Ctrl-C
"""


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments, inspect the data set, and print what was found."""
    args = _parser().parse_args(argv)
    if args.most < 1:
        raise ConfigError(f'--most {args.most}: expected 1 or more lines')
    name = Path(args.dataset).resolve().name
    beside = Path(name if is_address(args.dataset) else args.dataset)
    out = args.out or beside.with_name(f'{name}-inspection')
    sheet_file, page_file = out / 'contact_sheet.png', out / 'index.html'
    if not args.overwrite and (there := [str(file) for file in (page_file, sheet_file)
                                         if file.exists()]):
        raise ConfigError(f'{", ".join(there)}: exists already; replace it with --overwrite, or '
                          'choose another --out')
    if page_file.exists() and not sheet_file.exists():
        raise ConfigError(f'{page_file}: is not of an earlier inspection, which has a '
                          f'{sheet_file.name} beside it; choose another --out')
    selection = FrameSelection(**given_options(FrameSelection, args))
    try:
        # Beside the result: a cluster sees it as well, and what a killed one left is removed.
        with (unfinished(out) as temporary,
              open_workers(args.jobs, args.dask) as workers):
            dataset = dataset_of([args.dataset], selection, temporary,
                                 splits=False, dedupe=args.dedupe, workers=workers)
            with progress_bar(stderr_console(), 'pictures') as bar:
                task = bar.add_task('measuring', total=None)
                found = inspection.inspect_dataset(
                    dataset, args.near_bits, workers,
                    lambda done, total: bar.update(task, completed=done, total=total))
            sheet = contact_sheet(dataset, found.rows)
            page = inspection_page(found, name)
        out.mkdir(parents=True, exist_ok=True)
        write_whole(sheet_file, encode_png(sheet))
        write_whole(page_file, page)
    except OSError as error:
        raise ConfigError(f'{out}: cannot be written ({fault_text(error, out)}); choose another '
                          '--out') from error
    for by in ('split', 'source', 'attempt'):
        entries = inspection.table(found.rows, by)
        width = max(len(by), *(len(entry[0]) for entry in entries[:args.most])) + 2
        print(f'{by:{width}}{"success":>9}{"failure":>9}{"attempts":>10}')
        for value, success, failure, attempts in entries[:args.most]:
            print(f'{value:{width}}{success:9}{failure:9}{attempts:10}')
        if len(entries) > args.most:
            print(f'and {len(entries) - args.most} more')
        print()
    print(f'{counted(len(found.rows), "frame")}; pictures and distributions: {page_file}')
    for problem in found.problems:
        print(f'WRONG: {problem}')
    return ExitCode.ERROR if found.problems else ExitCode.OK


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__, EPILOG)
    parser.add_argument('dataset', metavar='DATA',
                        help='data set of extract_frames, or pictures, a bag or a video; also '
                        'an address (s3://...)')
    parser.add_argument('--out', type=Path, help='folder for page and sheet (DATASET-inspection)')
    parser.add_argument('--overwrite', action='store_true', help='replace page and sheet of an '
                        'earlier inspection')
    parser.add_argument('--near-bits', type=int, default=SAME_BITS, choices=range(33),
                        metavar='N', help='largest number of differing bits, of 256, at which two '
                        'pictures count as nearly the same (%(default)s; 0 to 32)')
    parser.add_argument('--most', type=int, default=20, help='lines per table (20)')
    add_label_arguments(parser)
    add_dedupe_argument(parser)
    add_worker_arguments(parser.add_argument_group('work'))
    return parser


if __name__ == '__main__':
    raise SystemExit(main(None))
