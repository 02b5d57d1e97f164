"""Ascending integers as a bitmap or as differences: 9,000 of 10,000 indices take 1.25 KB."""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Sequence
from itertools import accumulate, compress
from operator import sub
from typing import Final

FEWEST: Final = 64
"""A list that is shorter stays as it is."""

MAX_PACKED: Final = 65_536
"""Integers in one pack; a longer run is cut before it comes here."""

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


def unpack_ints(data: bytes) -> list[int]:
    """The ints of a pack; raises ValueError when it is none."""
    if len(data) < _HEAD.size:
        raise ValueError("integers cut short")
    width, first = _HEAD.unpack_from(data)
    body = data[_HEAD.size :]
    values = _from_bitmap(first, body) if width == _BITMAP else _from_steps(first, width, body)
    if values[-1] > _MOST:
        raise ValueError("integers of more than 64 bits")
    return values


def _from_bitmap(first: int, body: bytes) -> list[int]:
    if not body or not body[0] & 0x80 or not body[-1] or len(body) > MAX_PACKED:
        raise ValueError("no such bitmap")
    bits = int.from_bytes(body, "big")
    if bits.bit_count() > MAX_PACKED:
        raise ValueError("too many integers")
    flags = f"{bits:b}".encode().translate(_TO_FLAGS)
    return list(compress(range(first, first + len(flags)), flags))


def _from_steps(first: int, width: int, body: bytes) -> list[int]:
    if width == _BYTE and len(body) < MAX_PACKED:
        return list(accumulate(body, initial=first))
    if width not in _WIDTHS or len(body) % width or len(body) // width >= MAX_PACKED:
        raise ValueError("no such differences")
    differences = array(_WIDTHS[width], body)
    if sys.byteorder == "little":
        differences.byteswap()
    return list(accumulate(differences, initial=first))
