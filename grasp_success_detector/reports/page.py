"""Render the templates: each page is one HTML file without scripts and links to other files."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from grasp_success_detector.console import counted
from grasp_success_detector.images.decoding import RgbImage
from grasp_success_detector.images.encoding import encode_jpeg
from grasp_success_detector.labels import Label

#: RGB: blue and orange, which colour-blind people can tell apart.
LABEL_COLOURS: Final = {Label.SUCCESS: (31, 119, 180), Label.FAILURE: (230, 126, 34)}

#: An accuracy of metrics.json: value, correct, total and wilson_95.
Accuracy = Mapping[str, Any]


def render(template: str, **values: Any) -> str:
    """
    Return the text of a template in the folder ``templates`` with these values.

    :param values: variables of the template; text is escaped. What no UTF-8 can hold (names of
        files) is shown by its codes.
    """
    text = _environment().get_template(template).render(values)
    return text.encode(errors='surrogateescape').decode(errors='backslashreplace')


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).with_name('templates')), autoescape=True,
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True)
    environment.globals['label_colours'] = LABEL_COLOURS
    environment.filters |= {
        'complement': _complement, 'counted': counted, 'jpeg': _jpeg_url, 'number': number,
        'p_value': _p_value, 'percent': percent, 'scale_start': scale_start,
        'seconds': _seconds}
    return environment


def percent(share: float | None, digits: int = 1) -> str:
    """Return a share of 1 as a percentage; a dash for None."""
    return '–' if share is None else f'{100 * share:.{digits}f}\N{NO-BREAK SPACE}%'


def number(value: float | None, digits: int = 3) -> str:
    """Return a number with some decimal places; 'not measurable' for None."""
    return 'not measurable' if value is None else f'{value:.{digits}f}'


def _p_value(p_value: float) -> str:
    return '<\N{NO-BREAK SPACE}0.0001' if p_value < .0001 else f'{p_value:.4f}'


def scale_start(accuracies: Sequence[Accuracy]) -> float:
    """Return the start of a scale to 1 that covers the intervals of all accuracies: 0 or 0.5."""
    lows = [of['wilson_95'][0] for of in accuracies if of['value'] is not None]
    return .5 if min(lows, default=0.) >= .5 else 0.


def _complement(accuracy: Accuracy) -> Accuracy:
    """Return the share that is wrong, with its interval."""
    value = accuracy['value']
    return {'value': None if value is None else 1 - value,
            'correct': accuracy['total'] - accuracy['correct'], 'total': accuracy['total'],
            'wilson_95': [1 - bound for bound in reversed(accuracy['wilson_95'])]}


def _seconds(value: float | None) -> str:
    return '–' if value is None else f'{value:.2f}'


def _jpeg_url(rgb: RgbImage, quality: int = 85) -> str:
    return f'data:image/jpeg;base64,{b64encode(encode_jpeg(rgb, quality)).decode()}'
