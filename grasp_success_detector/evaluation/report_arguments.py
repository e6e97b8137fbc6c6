"""The command line options that say what an evaluation's folder shows."""

from argparse import ArgumentParser, Namespace
from typing import Any

from grasp_success_detector.errors import ConfigError


def add_report_arguments(parser: ArgumentParser | Any) -> None:
    """Add ``--timelines`` and ``--videos``; the parser may be a group of one."""
    parser.add_argument('--timelines', type=int, default=30, metavar='N',
                        help='attempts shown over time in the report, the worst ones (30)')
    parser.add_argument('--videos', type=int, default=0, metavar='N',
                        help='attempts written as annotated mp4 as well, the worst ones (0)')


def check_report_arguments(args: Namespace) -> None:
    """
    Check the values of these options.

    :raises ConfigError: one is below 0.
    """
    for name in ('timelines', 'videos'):
        if getattr(args, name) < 0:
            raise ConfigError(f'--{name} {getattr(args, name)}: expected 0 or more')
