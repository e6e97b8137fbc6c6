"""extract_frames: turn bags and videos into a labelled, split data set of frames."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
import time
from typing import Any

from rich.console import Console

from grasp_success_detector.cli.arguments import add_choice_arguments, add_label_arguments
from grasp_success_detector.console import command, counted, ExitCode, progress_bar
from grasp_success_detector.datasets.extraction import extract
from grasp_success_detector.datasets.frame_writer import PictureFormat, PictureOptions
from grasp_success_detector.datasets.splits import SplitBy, SplitOptions
from grasp_success_detector.datasets.workers import open_workers, usable_cores
from grasp_success_detector.labels import CLASS_NAMES
from grasp_success_detector.recordings.selection import FrameSelection
from grasp_success_detector.recordings.sources import find_sources
from grasp_success_detector.settings import given_options

EPILOG = """\
examples:
  extract_frames bags/rig --out dataset
      a simulated bag, which holds its labels and attempts itself
  extract_frames 'day1/*.mcap' day2/take1 --labels labels.csv --topic /camera/image_raw --out set
      labels by hand: a CSV with the columns source,start_s,end_s,label[,attempt]
  extract_frames good.mp4 --label success --fps 5 --out good
      one label for everything; five frames per second
  extract_frames lab.bag --label-topic /holding --attempt-gap 2 --resize 320x240 --out set
      a std_msgs/Bool topic tells the label; two seconds without a frame begin a new attempt

Sources are rosbag2 folders (with or without metadata.yaml), .mcap, .db3 and ROS 1 .bag files,
also with zstd, and videos (.mp4, .webm, .avi, .mkv). Damaged ones give what can be got out of
them; each lost or refused frame is counted. Stopped at any time, the same command goes on.
DATASET gets success/, failure/, manifest.csv and, when complete, dataset.json.

exit codes: 0 frames were written, 1 wrong input, 2 wrong option, 3 no frame came out, 130 Ctrl-C
"""


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments, extract, and account for every frame."""
    args = _parser().parse_args(argv)
    selection = FrameSelection(**given_options(FrameSelection, args))
    pictures = PictureOptions(args.roi, args.resize, args.format, args.quality)
    split = SplitOptions(args.split, args.split_by, args.seed, args.dedupe)
    sources = find_sources(args.sources)
    started = time.perf_counter()
    with open_workers(args.jobs, args.dask) as workers, progress_bar(Console(stderr=True)) as bar:
        task = bar.add_task('extracting', total=None)
        report = extract(sources, selection, pictures, split, args.out, workers,
                         lambda done, total: bar.update(task, completed=done, total=total))
    for name, source in report.description['sources'].items():
        for line in _account(name, source, selection):
            print(line)
    if not report.frames:
        print(f'no frame came out of {counted(len(sources), "source")}; {args.out} was not made')
        return ExitCode.NOTHING_DONE
    if report.already:
        print(f'{args.out}: was complete already, {report.frames} frames')
        return ExitCode.OK
    if dropped := report.description['near_duplicates_dropped']:
        print(f'{dropped} near duplicates left out')
    if dropped := report.description['undecodable_dropped']:
        print(f'{dropped} copied frames left out, as they cannot be decoded')
    for name, counts in report.description['splits'].items():
        print(f'{name:6}{counts["success"]:7} success {counts["failure"]:7} failure '
              f'{counts["attempts"]:5} attempts')
    poor = [f'{name} has no {label}' for (name, counts), share in zip(
        report.description['splits'].items(), split.split, strict=True)
        for label in CLASS_NAMES if share > 0 and not counts[label]]
    if poor:
        print(f'note: {", ".join(poor)}: whole {split.split_by.value}s cannot be divided '
              'better; record more')
    seconds = time.perf_counter() - started
    print(f'{args.out}: {report.frames} frames, {report.frames / seconds:.0f} frames/s')
    return ExitCode.OK


def _account(name: str, source: Mapping[str, Any], selection: FrameSelection) -> list[str]:
    """Return the lines that say what became of a source's frames."""
    if source['unreadable']:
        return [f'{name}: nothing could be read: {source["unreadable"]}']
    lines = [f'{name}: {source["written"]} of {source["found"]} frames of {source["topic"]}']
    for title, counts in (('skipped', source['skipped']), ('refused', source['refused']),
                          ('damage', source['damage'])):
        if counts:
            lines.append(f'  {title}: ' + ', '.join(
                f'{count} {reason}' for reason, count in sorted(counts.items())))
    if source['skipped'].get('no label') == source['found']:
        lines.append(f'  no frame has a label: {_label_advice(selection)}')
    return lines


def _label_advice(selection: FrameSelection) -> str:
    if selection.labels is not None:
        return f'no interval of {selection.labels} covers any'
    if selection.label_topic is not None:
        return f'no std_msgs/Bool of {selection.label_topic} counts for any; name another topic'
    return 'give --label, --labels or --label-topic'


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='extract_frames', description=__doc__.split(': ', 1)[1], epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('sources', nargs='+', metavar='SOURCE', help='bags, videos, or globs')
    parser.add_argument('--out', type=Path, required=True, metavar='DATASET',
                        help='folder of the data set')
    add_label_arguments(parser)
    choice = add_choice_arguments(parser)
    choice.add_argument('--dedupe', action='store_true',
                        help='leave out frames that look like an earlier one')
    pictures, split = PictureOptions(), SplitOptions()
    output = parser.add_argument_group('pictures')
    output.add_argument('--roi', type=_roi, metavar='X,Y,W,H', help='pixels, or fractions of 1')
    output.add_argument('--resize', type=_size, metavar='WxH', help='pixels, after --roi')
    output.add_argument('--format', default=pictures.format.value,
                        choices=[member.value for member in PictureFormat],
                        help='frames that have it already are copied unchanged (%(default)s)')
    output.add_argument('--quality', type=int, default=pictures.quality,
                        help='of jpg, 1 to 100 (%(default)s)')
    division = parser.add_argument_group('split')
    division.add_argument('--split', type=_split, default=split.split, metavar='TRAIN/VAL/TEST',
                          help=f'fractions ({"/".join(map(str, split.split))})')
    division.add_argument('--split-by', default=split.split_by.value,
                          choices=[member.value for member in SplitBy],
                          help='what is never divided (%(default)s)')
    division.add_argument('--seed', type=int, default=split.seed,
                          help='of the split (%(default)s)')
    work = parser.add_argument_group('work')
    work.add_argument('--jobs', type=int, help=f'processes (one per core: {usable_cores()})')
    work.add_argument('--dask', metavar='tcp://HOST:PORT',
                      help='scheduler of a Dask cluster whose workers see the same folders')
    return parser


def _numbers(text: str, separator: str, count: int, number: type[float], expected: str) -> Any:
    try:
        values = tuple(number(part) for part in text.lower().split(separator))
        if len(values) != count:
            raise ValueError
    except ValueError:
        raise argparse.ArgumentTypeError(f'{text!r}: expected {expected}') from None
    return values


def _roi(text: str) -> Any:
    return _numbers(text, ',', 4, float, 'x,y,width,height')


def _size(text: str) -> Any:
    return _numbers(text, 'x', 2, int, 'WIDTHxHEIGHT in whole pixels')


def _split(text: str) -> Any:
    return _numbers(text, '/', 3, float, 'train/val/test, such as 0.7/0.15/0.15')
