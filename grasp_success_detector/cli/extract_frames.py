"""extract_frames: turn bags, videos and pictures into a labelled, split data set of frames."""

import argparse
from collections.abc import Sequence
import os
import time

from grasp_success_detector.cli.arguments import (
    add_choice_arguments,
    add_label_arguments,
    add_worker_arguments,
)
from grasp_success_detector.cli.source_data import source_lines, split_lines
from grasp_success_detector.console import (
    command,
    command_parser,
    counted,
    ExitCode,
    progress_bar,
    stderr_console,
)
from grasp_success_detector.datasets.dataset import MARKER
from grasp_success_detector.datasets.extraction import extract
from grasp_success_detector.datasets.frame_writer import PictureOptions
from grasp_success_detector.datasets.splits import SplitOptions
from grasp_success_detector.datasets.workers import open_workers
from grasp_success_detector.labels import CLASS_NAMES
from grasp_success_detector.recordings.remote_results import put_in_place
from grasp_success_detector.recordings.selection import FrameSelection
from grasp_success_detector.recordings.sources import find_sources
from grasp_success_detector.settings import add_options, given_options

EPILOG = """\
examples:
  extract_frames bags/rig --out dataset
      a simulated bag, which holds its labels and attempts itself
  extract_frames 'day1/*.mcap' day2/take1 --labels labels.csv --topic /camera/image_raw --out set
      labels by hand: a CSV with the columns source,start_s,end_s,label[,attempt]
  extract_frames good.mp4 --label success --fps 5 --out good
      one label for everything; five frames per second
  extract_frames lab.bag --label-topic /holding --attempt-gap 2 --resize 320x240 --out set
      labels from a std_msgs/Bool topic; two seconds without a frame begin a new attempt
  extract_frames photos --resize 640x480 --out set
      pictures: a folder (or zip) with success/ and failure/, or with labels.csv (file,label)
  extract_frames s3://lab/bags/monday --out s3://lab/sets/monday
      from an address of fsspec to another one: docs/scale.md

Sources are rosbag2 folders (with or without metadata.yaml), .mcap, .db3 and ROS 1 .bag files,
also with zstd, videos (.mp4, .webm, .avi, .mkv), and pictures (.jpg, .png, .webp, .bmp, .tiff):
folders, zip files, single ones. All that is readable of damaged ones is
extracted, and each lost frame is counted. Stopped at any time, the same command goes on.
DATASET gets success/, failure/, manifest.csv and, when complete, dataset.json.

exit codes: 0 frames were written, 1 wrong input, 2 wrong option, 3 no frame came out, 130 Ctrl-C
"""


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments, extract frames, and print counts of written and skipped frames."""
    args = _parser().parse_args(argv)
    selection = FrameSelection(**given_options(FrameSelection, args))
    pictures = PictureOptions(**given_options(PictureOptions, args))
    split = SplitOptions(**given_options(SplitOptions, args))
    sources = find_sources(args.sources)
    started = time.perf_counter()
    with (put_in_place(args.out, MARKER, resumes=True, dask=args.dask) as out,
          open_workers(args.jobs, args.dask) as workers,
          progress_bar(stderr_console(), 'frames') as bar):
        already = os.path.exists(out / MARKER)
        task = bar.add_task('extracting', total=None)
        try:
            made = extract(sources, selection, pictures, split, out, workers,
                           lambda done, total: bar.update(task, completed=done, total=total))
        except KeyboardInterrupt:
            if out.exists():
                print(f'{args.out}: the same command goes on after the frames that are written')
            raise
    frames = counted(made['frames'], 'frame')
    for line in source_lines(made, selection):
        print(line)
    if not made['frames']:
        print(f'no frame came out of {counted(len(sources), "source")}; {args.out} was not made')
        return ExitCode.NOTHING_DONE
    if already:
        print(f'{args.out}: was complete already, {frames}')
        return ExitCode.OK
    for line in split_lines(made):
        print(line)
    poor = [f'{name} has no {label}' for (name, counts), share in zip(
        made['splits'].items(), split.split, strict=True)
        for label in CLASS_NAMES if share > 0 and not counts[label]]
    if poor:
        print(f'note: {", ".join(poor)}: whole {split.split_by.value}s cannot be divided '
              'better; record more')
    seconds = time.perf_counter() - started
    print(f'{args.out}: {frames}, {made["frames"] / seconds:.0f} frames/s')
    return ExitCode.OK


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__, EPILOG)
    parser.add_argument('sources', nargs='+', metavar='SOURCE',
                        help='bags, videos, folders or zips of pictures, or globs; also '
                        'addresses (s3://...)')
    parser.add_argument('--out', required=True, metavar='DATASET',
                        help='folder of the data set, or its address (s3://...)')
    add_label_arguments(parser)
    add_choice_arguments(parser)
    add_options(parser.add_argument_group('pictures'), PictureOptions,
                'roi', 'resize', 'format', 'quality')
    add_options(parser.add_argument_group('split'), SplitOptions,
                'split', 'split_by', 'seed', 'dedupe')
    add_worker_arguments(parser.add_argument_group('work'))
    return parser


if __name__ == '__main__':
    raise SystemExit(main(None))
