"""Damage to the bytes of a file, as a list of edits that can be drawn, applied and shrunk."""

from collections.abc import Sequence
from enum import IntEnum
from random import Random
from typing import NamedTuple

#: Numbers at which lengths and counts overflow or become negative.
NUMBERS = (b'\0', b'\1', b'\x7f', b'\x80', b'\xff', b'\0\0\0\0', b'\xff\xff\xff\x7f',
           b'\xff\xff\xff\xff', b'\0\0\0\x80', b'\0\0\1\0', b'\xff' * 8, b'\0' * 8)


class Kind(IntEnum):
    """What an edit does."""

    FLIP = 0        # one bit
    NUMBER = 1      # overwrite with one of NUMBERS
    DELETE = 2
    INSERT = 3      # noise
    COPY = 4        # overwrite with bytes from elsewhere in the file
    ZERO = 5
    CUT = 6         # the end
    REPEAT = 7


class Edit(NamedTuple):
    """One change: ``at`` and ``other`` are places as fractions of 65536, ``size`` is in bytes."""

    kind: Kind
    at: int
    other: int
    size: int


def apply(data: bytes, edits: Sequence[Edit]) -> bytes:
    """Return a damaged copy of a file."""
    changed = bytearray(data)
    for kind, at, other, size in edits:
        # Most of what can go wrong stands in the first bytes.
        length = min(len(changed), 1024) if other % 3 == 0 else len(changed)
        start = at * length >> 16
        source = other * len(changed) >> 16
        if kind is Kind.FLIP and changed:
            changed[start] ^= 1 << size % 8
        elif kind is Kind.NUMBER:
            number = NUMBERS[size % len(NUMBERS)]
            changed[start:start + len(number)] = number
        elif kind is Kind.DELETE:
            del changed[start:start + size]
        elif kind is Kind.INSERT:
            changed[start:start] = Random(other).randbytes(size % 64)
        elif kind is Kind.COPY:
            changed[start:start + size] = changed[source:source + size]
        elif kind is Kind.ZERO:
            changed[start:start + size] = bytes(min(size, len(changed) - start))
        elif kind is Kind.CUT:
            del changed[at * len(changed) >> 16:]
        elif kind is Kind.REPEAT:
            changed[start:start] = changed[start:start + size % 256] * (other % 8)
    return bytes(changed)


def draw(random: Random) -> list[Edit]:
    """Return one to some ten random edits."""
    return [Edit(Kind(random.choices(range(8), (6, 6, 3, 3, 3, 3, 1, 2))[0]),
                 random.getrandbits(16), random.getrandbits(16),
                 1 + int(1.0007 ** random.getrandbits(13)))
            for _ in range(random.choice((1, 1, 2, 3, 5, 10)))]
