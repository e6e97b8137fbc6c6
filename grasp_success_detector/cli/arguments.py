"""Options shared by several commands: labels, choice of frames, engine, workers, report."""

from argparse import ArgumentParser
from dataclasses import dataclass
from typing import Any

from grasp_success_detector.errors import ConfigError
from grasp_success_detector.inference.engine import ENGINE_HELP, PRECISION_HELP
from grasp_success_detector.recordings.selection import FrameSelection
from grasp_success_detector.settings import add_options, check_settings, setting


def add_engine_arguments(parser: ArgumentParser | Any, engine: str, precision: str) -> None:
    """Add ``--engine`` and ``--precision``, with these defaults, to a parser or its group."""
    for name, text, default in (('engine', ENGINE_HELP, engine),
                                ('precision', PRECISION_HELP, precision)):
        parser.add_argument(f'--{name}', default=default,
                            help=f'{text[0].lower()}{text[1:].rstrip(".")} ({default})')


def add_label_arguments(parser: ArgumentParser) -> None:
    """Add the options for the image topic and for the source of labels and attempts."""
    add_options(parser, FrameSelection, 'topic')
    add_options(
        parser.add_argument_group('labels (default: the topic /ground_truth of simulations)'),
        FrameSelection, 'label', 'labels', 'label_topic', 'label_hold_s', 'attempt_gap_s',
        'attempts_from')


def add_dedupe_argument(parser: ArgumentParser) -> None:
    """Add the option to leave near duplicates out of the sources that are extracted."""
    parser.add_argument('--dedupe', action='store_true', help='of sources that are no data set, '
                        'leave out frames that look like an earlier one with the same label')


def add_choice_arguments(parser: ArgumentParser) -> Any:
    """Add the options that select frames, and return their argument group."""
    choice = parser.add_argument_group('which frames')
    add_options(choice, FrameSelection, 'fps', 'every', 'start_s', 'end_s')
    return choice


def add_worker_arguments(parser: ArgumentParser | Any, default: str = 'one per core') -> None:
    """
    Add ``--jobs`` and ``--dask``, the parameters of ``open_workers``, to a parser or its group.

    :param default: how many processes there are without ``--jobs``.
    """
    parser.add_argument('--jobs', type=int, metavar='N', help=f'processes ({default})')
    parser.add_argument('--dask', metavar='tcp://HOST:PORT', help='scheduler of a Dask cluster '
                        'whose workers do the work, in place of --jobs; they must see the same '
                        'folders')


@dataclass(frozen=True)
class ReportOptions:
    """Options of an evaluation's report and of the comparison with its baseline."""

    timelines: int = setting(
        30, lowest=0, help='attempts shown over time in the report, worst first')
    videos: int = setting(
        0, lowest=0, help='attempts also written as annotated mp4, worst first')
    max_drop: float = setting(
        0., lowest=0, below=1, metavar='SHARE',
        help='of attempts that may be lost against the baseline')

    def __post_init__(self) -> None:
        check_settings(self, ConfigError, 'options:')
