"""How an engine is asked for: in which words, and what is taken unless somebody asks."""

from argparse import ArgumentParser
from typing import Any, Final

ENGINE: Final = (
    'What runs the network: torch, openvino, or auto: the fastest that is installed and proven '
    'for the checkpoint (export_classifier --verify).')
PRECISION: Final = (
    'What it computes in: fp32, bf16, fp16, int8, or auto: the fastest that is proven.')

#: What the node takes.
AUTO: Final = 'auto'

#: What everything else takes: the network exactly as in training.
REFERENCE: Final = ('torch', 'fp32')


def add_engine_arguments(parser: ArgumentParser | Any, engine: str, precision: str) -> None:
    """
    Add ``--engine`` and ``--precision``.

    :param parser: or a group of one.
    :param engine: taken unless another is given.
    :param precision: likewise.
    """
    for name, text, default in (('engine', ENGINE, engine), ('precision', PRECISION, precision)):
        parser.add_argument(f'--{name}', default=default,
                            help=f'{text[0].lower()}{text[1:].rstrip(".")} ({default})')
