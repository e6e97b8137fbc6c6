"""Settings: what their fields accept, what is converted, and the errors of wrong values."""

from argparse import ArgumentParser
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
import math
from typing import Any

import pytest

from grasp_success_detector.errors import ConfigError
from grasp_success_detector.settings import add_options, check_settings, given_options, setting


class Colour(Enum):
    RED = 'red'
    BLUE = 'blue'


@dataclass(frozen=True)
class Paint:
    layers: int = setting(1, lowest=1, help='number of coats')
    thickness: float | None = setting(None, above=0, below=5)
    share: float = setting(.5, lowest=0, highest=1)
    rate: float = setting(1., above=0, highest=10 ** 6)
    patience: float = setting(math.inf, highest=math.inf)
    colour: Colour = Colour.RED
    roi: tuple[float, float] | None = setting(None, lowest=0, highest=1)
    colours: tuple[Colour, ...] = ()
    glossy: bool = True
    name: str = setting('paint', option='brand')
    notes: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        check_settings(self, ConfigError, 'paint:', [
            ('layers', self.layers < 10 or self.glossy, 'below 10 where it is not glossy')])


def test_wrong_values_are_shown_as_users_write_them():
    with pytest.raises(ConfigError, match=r"colours red, 'green' \(expected a list, each red or "):
        Paint(colours=('red', 'green'))


def test_what_files_and_command_lines_give_is_converted():
    paint = Paint(colour='blue', roi=[0, 1], colours=['red', 'blue'], thickness=2)
    assert paint == Paint(2 - 1, 2, colour=Colour.BLUE, roi=(0, 1),
                          colours=(Colour.RED, Colour.BLUE))
    assert paint.roi == (0, 1)
    assert paint.colours == (Colour.RED, Colour.BLUE)


@pytest.mark.parametrize('name, value, expected', [
    ('layers', 0, 'a whole number of 1 or more'),
    ('layers', 1.5, 'a whole number of 1 or more'),
    ('layers', 10 ** 400, 'a whole number of 1 or more'),
    ('thickness', 10 ** 400, 'a number above 0 and below 5'),
    ('patience', -10 ** 400, 'a number of inf or less'),
    ('layers', True, 'a whole number of 1 or more'),
    ('thickness', 0, 'a number above 0 and below 5'),
    ('thickness', 5, 'a number above 0 and below 5'),
    ('thickness', math.nan, 'a number above 0 and below 5'),
    ('thickness', '2', 'a number above 0 and below 5'),
    ('share', 1.01, 'a number from 0 to 1'),
    ('share', None, 'a number from 0 to 1'),
    ('rate', 0, 'a number above 0 and up to 1000000'),
    ('rate', 10 ** 7, 'a number above 0 and up to 1000000'),
    ('patience', -math.inf, 'a number of inf or less'),
    ('patience', math.nan, 'a number of inf or less'),
    ('colour', 'green', 'red or blue'),
    ('roi', (0, 2), '2 values, each a number from 0 to 1'),
    ('roi', (0,), '2 values, each a number from 0 to 1'),
    ('roi', 'ab', '2 values, each a number from 0 to 1'),
    ('colours', ('red', 'green'), 'a list, each red or blue'),
    ('glossy', 1, 'true or false'),
    ('name', 3, 'text'),
    ('notes', 'none', 'names and values'),
])
def test_a_wrong_value_is_named_with_what_is_expected(name, value, expected):
    with pytest.raises(ConfigError) as caught:
        Paint(**{name: value})
    assert str(caught.value).startswith(f'paint: {name} ')
    assert str(caught.value).endswith(f'(expected {expected})')


def test_every_wrong_field_is_named_at_once():
    with pytest.raises(ConfigError, match='paint: layers 0 .*, share 2 .*, name 3 '):
        Paint(layers=0, share=2, name=3)


def test_values_that_do_not_go_together():
    Paint(layers=20)
    with pytest.raises(ConfigError, match='layers 20 .expected below 10 where it is not glossy'):
        Paint(layers=20, glossy=False)


def test_infinity_only_where_the_limit_is_infinite():
    assert Paint().patience == math.inf
    with pytest.raises(ConfigError, match='share inf'):
        Paint(share=math.inf)


def test_options_come_from_the_fields_and_what_is_left_out_is_not_given(capsys):
    parser = ArgumentParser()
    add_options(parser, Paint, 'layers', 'colour', 'colours', 'glossy', 'name', 'share')
    assert given_options(Paint, parser.parse_args([])) == {}
    args = parser.parse_args(['--layers', '3', '--colour', 'blue', '--colours', 'red', 'blue',
                              '--no-glossy', '--brand', 'x', '--share', '.25'])
    assert Paint(**given_options(Paint, args)) == Paint(
        3, share=.25, colour=Colour.BLUE, colours=(Colour.RED, Colour.BLUE), glossy=False,
        name='x')
    with pytest.raises(SystemExit):
        parser.parse_args(['--help'])
    shown = capsys.readouterr().out
    assert 'number of coats (1)' in shown
    assert 'red or blue (red)' in shown
