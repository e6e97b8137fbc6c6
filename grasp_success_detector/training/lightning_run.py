"""Run Lightning's trainer as a command should: quiet, errors in one line, Ctrl-C as Ctrl-C."""

from collections.abc import Iterator
from contextlib import contextmanager
import logging
import signal
import warnings

from lightning.fabric.utilities.exceptions import MisconfigurationException

from grasp_success_detector.errors import ConfigError, one_line


@contextmanager
def lightning_run() -> Iterator[None]:
    """
    Make and run a trainer within this.

    :raises ConfigError: what the trainer is asked for cannot be had on this machine, such as a
        GPU.
    :raises KeyboardInterrupt: on Ctrl-C, which Lightning turns into ``sys.exit(1)``.
    """
    handler = signal.getsignal(signal.SIGINT)
    with _quiet_lightning():
        try:
            yield
        except MisconfigurationException as error:
            raise ConfigError(f'training cannot run here: {one_line(error)}') from error
        except SystemExit as error:
            if isinstance(error.__context__, KeyboardInterrupt):
                signal.signal(signal.SIGINT, handler)  # Lightning has it ignored
                raise KeyboardInterrupt from error
            raise


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Silence its hints about hardware, loaders and products: they name no mistake of the user."""
    loggers = [logging.getLogger(name) for name in ('lightning.pytorch', 'lightning.fabric')]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings('ignore', module='lightning')
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
