"""Settings as frozen dataclasses: types and limits stated once per field, checked in one place."""

from argparse import ArgumentParser, ArgumentTypeError, BooleanOptionalAction, Namespace
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import Field, field, fields, MISSING
from enum import Enum
from functools import cache, partial
from pathlib import Path
import sys
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints, Union

from grasp_success_detector.errors import GraspSuccessDetectorError


def setting(default: Any = MISSING, *, lowest: float | None = None, highest: float | None = None,
            above: float | None = None, below: float | None = None, **more: Any) -> Any:
    """
    Return a dataclass field whose values have limits; :func:`check_settings` enforces them.

    The limits of a tuple hold for each of its numbers.

    :param lowest: smallest value allowed (``highest``: largest).
    :param above: value that must be exceeded (``below``: not reached).
    :param more: further metadata of the field. :func:`add_options` uses ``help``, ``metavar``,
        ``option`` (name of the option, where it is not the field's), and ``separator`` (between
        the numbers of a tuple that is given as one text, such as 320x240).
    """
    limits = {'lowest': lowest, 'highest': highest, 'above': above, 'below': below}
    return field(default=default, metadata=limits | more)


def check_settings(owner: Any, error: type[GraspSuccessDetectorError], subject: str,
                   more: Iterable[tuple[str, bool, str]] = (), options: bool = False) -> None:
    """
    Refuse a dataclass instance that has a field of the wrong type or outside its limits.

    Types are those of the annotations (bool, int, float, str, Enum, tuple, or None); numbers must
    be finite unless their limits are. Text given for an Enum field is replaced by its member and a
    list given for a tuple by a tuple, as files and command lines know neither.

    :param owner: the instance, whose ``__post_init__`` calls this function.
    :param error: class of the error that is raised.
    :param subject: beginning of the error's text, such as ``'training:'``.
    :param more: further checks: name of the field, whether its value is right, what is expected.
    :param options: whether fields are given as command line options alone, and named so.
    :raises GraspSuccessDetectorError: an ``error`` that names every wrong field.
    """
    wrong = {}
    for declared in fields(owner):
        hint = _hints(owner.__class__)[declared.name]
        value = _converted(getattr(owner, declared.name), hint)
        object.__setattr__(owner, declared.name, value)
        if not _fits(value, hint, declared):
            wrong[declared.name] = _expected(hint, declared)
    if not wrong:   # only values of the right type can be compared with each other
        wrong = {name: expected for name, good, expected in more if not good}
    if wrong:
        names = {each.name: _option(each) if options else each.name for each in fields(owner)}
        raise error(f'{subject} ' + ', '.join(
            f'{names[name]} {_shown(getattr(owner, name))} (expected {expected})'
            for name, expected in wrong.items()))


def _shown(value: Any) -> str:
    """Return a value as a user writes it."""
    if isinstance(value, tuple) and any(isinstance(part, Enum | str) for part in value):
        return ', '.join(map(_shown, value))
    return str(value.value) if isinstance(value, Enum) else repr(
        str(value) if isinstance(value, Path) else value)


def _option(declared: Field[Any]) -> str:
    """Return the command line option that :func:`add_options` adds for a field."""
    return '--' + str(declared.metadata.get('option', declared.name)).replace('_', '-')


def fits(owner: type, declared: Field[Any], value: Any) -> bool:
    """Return whether a value has the type of a dataclass' field and lies within its limits."""
    hint = _hints(owner)[declared.name]
    return _fits(_converted(value, hint), hint, declared)


def expected_values(owner: type, declared: Field[Any]) -> str:
    """Return in words which values a field of a dataclass takes, such as 'a number above 0'."""
    return _expected(_hints(owner)[declared.name], declared)


def add_options(parser: ArgumentParser | Any, owner: type, *names: str,
                defaults: bool = True) -> None:
    """
    Add a command line option for each of these fields of a dataclass, with the field's help.

    :param parser: parser or argument group that gets the options.
    :param names: names of the fields. An option that is left out has the value None.
    :param defaults: whether the help shows the field's default.
    """
    known = {declared.name: declared for declared in fields(owner)}
    for declared in (known[name] for name in names):
        kind, more = _alternatives(_hints(owner)[declared.name])[0], declared.metadata
        inner = get_args(kind)[0] if get_origin(kind) is tuple else kind
        how: dict[str, Any] = {
            'type': inner if inner in (int, float, Path) else str,
            'metavar': more.get('metavar', _METAVARS.get(inner, 'NAME'))}
        if kind is bool:
            how = {'action': BooleanOptionalAction}
        elif separator := more.get('separator'):
            how['type'] = partial(
                _numbers, inner, len(get_args(kind)), separator, more['metavar'])
        elif inner is not kind:
            how['nargs'] = '+'
        parser.add_argument(
            _option(declared), dest=declared.name, default=None,
            help=_help(declared, inner, defaults), **how)


def _help(declared: Field[Any], kind: Any, with_default: bool) -> str:
    words, default = [declared.metadata.get('help', '')], declared.default
    if _is_enum(kind) and not all(member.value in words[0] for member in kind):
        words.append(_expected_of(kind, declared))
    if with_default and default not in (None, MISSING):
        separator = declared.metadata.get('separator')
        words.append(f'({separator.join(map(str, default))})' if separator else
                     f'({default.value if isinstance(default, Enum) else default})')
    return ' '.join(filter(None, words))


def _numbers(kind: type, count: int, separator: str, expected: str, text: str) -> tuple[Any, ...]:
    with suppress(ValueError):
        if len(parts := text.lower().split(separator)) == count:
            return tuple(map(kind, parts))
    raise ArgumentTypeError(f'{text!r}: expected {expected}, each {_TYPE_NAMES[kind]}')


def given_options(owner: type, args: Namespace) -> dict[str, Any]:
    """Return the values of those options of :func:`add_options` that the user gave, by field."""
    return {declared.name: value for declared in fields(owner)
            if (value := getattr(args, declared.name, None)) is not None}


@cache
def _hints(owner: type) -> dict[str, Any]:
    return get_type_hints(owner)


_TYPE_NAMES = {str: 'text', int: 'a whole number', float: 'a number', bool: 'true or false',
               Mapping: 'names and values', Path: 'a path'}
_METAVARS = {int: 'N', float: 'X', Path: 'FILE', str: 'TEXT'}


def _alternatives(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _converted(value: Any, hint: Any) -> Any:
    for kind in _alternatives(hint):
        if get_origin(kind) is tuple and isinstance(value, list | tuple):
            return tuple(_converted(part, get_args(kind)[0]) for part in value)
        if _is_enum(kind) and isinstance(value, str):
            return next((member for member in kind if member.value == value), value)
    return value


def _is_enum(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Enum)


def _fits(value: Any, hint: Any, declared: Field[Any]) -> bool:
    return any(_fits_one(value, kind, declared) for kind in _alternatives(hint))


def _fits_one(value: Any, kind: Any, declared: Field[Any]) -> bool:
    if kind is Any:
        return True
    if kind in (int, float):
        return (isinstance(value, int | kind) and not isinstance(value, bool)
                and _within(value, declared))
    if get_origin(kind) is tuple:
        inner = get_args(kind)
        return (isinstance(value, tuple) and (inner[-1] is Ellipsis or len(inner) == len(value))
                and all(_fits(part, inner[0], declared) for part in value))
    return isinstance(value, get_origin(kind) or kind)


def _limits(declared: Field[Any]) -> tuple[float | None, ...]:
    return tuple(declared.metadata.get(name) for name in ('lowest', 'highest', 'above', 'below'))


def _within(value: float, declared: Field[Any]) -> bool:
    lowest, highest, above, below = _limits(declared)
    # Compared, not math.isfinite(), which raises OverflowError for huge whole numbers.
    return (abs(value) <= sys.float_info.max or value == highest) and (
        (lowest is None or value >= lowest) and (highest is None or value <= highest)
        and (above is None or value > above) and (below is None or value < below))


def _expected(hint: Any, declared: Field[Any]) -> str:
    return ' or '.join(_expected_of(kind, declared) for kind in _alternatives(hint)
                       if kind is not NoneType)


def _expected_of(kind: Any, declared: Field[Any]) -> str:
    if kind in (int, float):
        return _range(kind, declared)
    if get_origin(kind) is tuple:
        inner = get_args(kind)
        count = 'a list' if inner[-1] is Ellipsis else f'{len(inner)} values'
        return f'{count}, each {_expected(inner[0], declared)}'
    if _is_enum(kind):
        return ' or '.join(str(member.value) for member in kind)
    return _TYPE_NAMES.get(get_origin(kind) or kind, str(kind))


def _range(kind: type, declared: Field[Any]) -> str:
    lowest, highest, above, below = _limits(declared)
    ends = []
    if lowest is not None:
        ends.append(f'of {lowest} or more' if highest is None else f'from {lowest} to {highest}')
    if above is not None:
        ends.append(f'above {above}')
    if highest is not None and lowest is None:
        ends.append(f'up to {highest}' if ends else f'of {highest} or less')
    if below is not None:
        ends.append(f'below {below}')
    return ' '.join([_TYPE_NAMES[kind], *[' and '.join(ends)][:len(ends)]])
