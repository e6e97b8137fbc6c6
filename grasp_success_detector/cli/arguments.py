"""Options that several commands share: labels and frames of sources, engine, report."""


from argparse import ArgumentParser, Namespace
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from grasp_success_detector.errors import ConfigError
from grasp_success_detector.inference.engine import ENGINE_HELP, PRECISION_HELP
from grasp_success_detector.settings import check_settings, setting


def add_engine_arguments(parser: ArgumentParser | Any, engine: str, precision: str) -> None:
    """
    Add ``--engine`` and ``--precision``.

    :param parser: or a group of one.
    :param engine: taken unless another is given.
    :param precision: likewise.
    """
    for name, text, default in (('engine', ENGINE_HELP, engine),
                                ('precision', PRECISION_HELP, precision)):
        parser.add_argument(f'--{name}', default=default,
                            help=f'{text[0].lower()}{text[1:].rstrip(".")} ({default})')


def add_label_arguments(parser: ArgumentParser) -> None:
    """Add the options that say where labels and attempts come from."""
    parser.add_argument('--topic', help='image topic of bags that have several')
    labels = parser.add_argument_group('labels (default: the topic /ground_truth of simulations)')
    labels.add_argument('--label', help='success or failure, for all frames')
    labels.add_argument('--labels', type=Path, metavar='CSV',
                        help='intervals: source,start_s,end_s,label[,attempt]; seconds from the '
                        "source's first frame; frames outside of all intervals have no label")
    labels.add_argument('--label-topic',
                        help='std_msgs/Bool; a frame has the label of the latest message')
    labels.add_argument('--label-hold', type=float, metavar='S',
                        help='how long a message of --label-topic labels the frames after it '
                        '(no limit)')
    labels.add_argument('--attempt-gap', type=float, metavar='S',
                        help='a longer pause between two frames begins a new attempt, in sources '
                        'without messages about attempts; without it such a source is one')


def add_choice_arguments(parser: ArgumentParser) -> Any:
    """Add the options that say which frames are taken, and return their group."""
    choice = parser.add_argument_group('which frames')
    choice.add_argument('--fps', type=float, help='highest number of frames per second')
    choice.add_argument('--every', type=int, metavar='N', help='take every n-th frame')
    choice.add_argument('--start', type=float, metavar='S', help='seconds from the first frame')
    choice.add_argument('--end', type=float, metavar='S', help='seconds from the first frame')
    return choice


def source_options(args: Namespace) -> dict[str, Any]:
    """Return what was given, by the names that ``FrameSelection`` has for it."""
    names = {'label_hold': 'label_hold_s', 'start': 'start_s', 'end': 'end_s',
             'attempt_gap': 'attempt_gap_s'}
    return {names.get(name, name): value for name in (
        'topic', 'label', 'labels', 'label_topic', 'label_hold', 'attempt_gap', 'fps', 'every',
        'start', 'end') if (value := getattr(args, name, None)) is not None}


@dataclass(frozen=True)
class ReportOptions:
    """
    Numbers that an evaluation's report depends on.

    :ivar timelines: attempts shown over time, the worst ones.
    :ivar videos: attempts written as annotated videos, the worst ones.
    :ivar max_drop: share of the attempts that may be lost against a baseline.
    """

    timelines: int = setting(30, lowest=0)
    videos: int = setting(0, lowest=0)
    max_drop: float = setting(0., lowest=0, below=1)

    def __post_init__(self) -> None:
        check_settings(self, ConfigError, 'options:')


def add_report_arguments(parser: ArgumentParser | Any) -> None:
    """Add ``--timelines`` and ``--videos`` to a parser or a group of one."""
    parser.add_argument('--timelines', type=int, default=ReportOptions.timelines, metavar='N',
                        help='attempts shown over time in the report, worst first (%(default)s)')
    parser.add_argument('--videos', type=int, default=ReportOptions.videos, metavar='N',
                        help='attempts also written as annotated mp4, worst first (%(default)s)')


def report_options(args: Namespace) -> ReportOptions:
    """
    Return the options of a report that were parsed, by their defaults where a command has none.

    :raises ConfigError: a value is outside its limits.
    """
    return ReportOptions(**{field.name: getattr(args, field.name)
                            for field in fields(ReportOptions) if hasattr(args, field.name)})
