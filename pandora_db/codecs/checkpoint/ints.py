"""Ascending integers as a bitmap or as differences: 9,000 of 10,000 indices take 1.25 KB."""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate, compress
from operator import sub
from typing import Final, TypeVar

FEWEST: Final = 64
"""A list that is shorter stays as it is."""

MAX_PACKED: Final = 65_536
"""Integers in one pack; a longer run is cut before it comes here."""

_Made = TypeVar("_Made")
_BITMAP = 0
_BYTE = 1
_WIDTHS = {2: "H", 4: "I", 8: "Q"}
_HEAD = struct.Struct(">Bq")  # the bytes of a difference, 0 for a bitmap; then the first integer
_LEAST, _MOST = -(2**63), 2**63 - 1
_SAMPLE = 8
_DENSE = 8  # from this average difference on, a byte each is shorter than a bitmap
_TO_DIGITS = bytes.maketrans(b"\0\1", b"01")
_TO_FLAGS = bytes.maketrans(b"01", b"\0\1")


def may_ascend(values: Sequence[object]) -> bool:
    """Whether the beginning of a list looks as if `pack_ints` would take it."""
    head = values[:_SAMPLE]
    return set(map(type, head)) == {int} and head == sorted(head)  # type: ignore[type-var]


def pack_ints(values: Sequence[int]) -> bytes | None:
    """The shorter form of ascending ints of 64 bits; None when that is not what they are."""
    if not _LEAST <= values[0] <= values[-1] <= _MOST or len(values) > MAX_PACKED:
        return None
    pairs = map(sub, values[1:], values)
    try:
        steps = bytes(pairs)
    except ValueError:  # a step down, or one of 256 and more
        return _pack_wide(values)
    span = values[-1] - values[0] + 1
    if span < _DENSE * len(steps) and 0 not in steps:
        return _HEAD.pack(_BITMAP, values[0]) + _bitmap(steps)
    return _HEAD.pack(_BYTE, values[0]) + steps


def _pack_wide(values: Sequence[int]) -> bytes | None:
    steps = list(map(sub, values[1:], values))
    if min(steps) < 0:
        return None
    widest = max(steps)
    width = next(width for width in _WIDTHS if widest < 1 << 8 * width)
    differences = array(_WIDTHS[width], steps)
    if sys.byteorder == "little":
        differences.byteswap()
    return _HEAD.pack(width, values[0]) + differences.tobytes()


def _bitmap(steps: bytes) -> bytes:
    # One bytes.replace per kind of step, and text in base 2: several times as fast as bit by bit.
    flags = b"\1" + steps
    for step in sorted(set(steps) - {1}):
        flags = flags.replace(bytes((step,)), b"\1".rjust(step, b"\0"))
    size = (len(flags) + 7) // 8
    return int(flags.ljust(size * 8, b"\0").translate(_TO_DIGITS), 2).to_bytes(size, "big")


def unpack_ints(data: bytes, make: Callable[[Iterable[int]], _Made]) -> tuple[_Made, int]:
    """What `make`, such as `list`, makes of the ints of a pack, and how many there are.

    Raises:
        ValueError: it is no pack.
    """
    if len(data) < _HEAD.size:
        raise ValueError("integers cut short")
    width, first = _HEAD.unpack_from(data)
    body = data[_HEAD.size :]
    if width == _BITMAP:
        flags = _flags(body)
        # The last byte is filled up with zeros, which may stand for ints beyond the greatest.
        last, count = first + flags.rindex(1), flags.count(1)
        values: Iterable[int] = compress(range(first, last + 1), flags)
    else:
        steps = _steps(width, body)
        last, count = first + sum(steps), len(steps) + 1
        values = accumulate(steps, initial=first)
    if last > _MOST or count > MAX_PACKED:
        raise ValueError("integers too many or too large")
    return make(values), count


def _flags(body: bytes) -> bytes:
    if not body or not body[0] & 0x80 or not body[-1] or len(body) > MAX_PACKED:
        raise ValueError("no such bitmap")
    return f"{int.from_bytes(body, 'big'):b}".encode().translate(_TO_FLAGS)


def _steps(width: int, body: bytes) -> Sequence[int]:
    if width == _BYTE:
        return body
    if width not in _WIDTHS or len(body) % width:
        raise ValueError("no such differences")
    differences = array(_WIDTHS[width], body)
    if sys.byteorder == "little":
        differences.byteswap()
    return differences
