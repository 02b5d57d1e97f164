"""Operation ids: by them a mutating call is found again after its answer was lost (P7)."""

from __future__ import annotations

import os
import random
import time
from typing import NamedTuple
from uuid import UUID

from pandora_db.codecs.checks import check_operation_id

# A run of consecutive ids must not overflow into the variant bits: the top bit of the tail is 0.
_TAIL = (1 << 61) - 1
_NODE = (1 << 48) - 1
_VERSION_7 = 0x7 << 76
_VARIANT = 0b10 << 62

# An id has to be unique, not secret: os.urandom() for each would cost a system call.
_random = random.Random()  # noqa: S311
os.register_at_fork(after_in_child=_random.seed)


class Operation(NamedTuple):
    """The id of a call, and whether the caller gave it: such a call may have been done before."""

    id: str
    repeated: bool


def operation(given: UUID | None) -> Operation:
    """The operation of a call; raises `InvalidInput` when `given` is no UUID."""
    if given is None:
        return Operation(_text(_fresh()), repeated=False)
    return Operation(str(check_operation_id(given)), repeated=True)


def operation_run(given: UUID | None, count: int) -> list[str]:
    """`count` consecutive ids, of which `given` is the first: one for each row of a bulk call."""
    first = _fresh() if given is None else check_operation_id(given).int
    head, tail = _text(first)[:24], first & _NODE
    if tail + count > _NODE:
        return [_text((first + index) % (1 << 128)) for index in range(count)]
    return [f"{head}{number:012x}" for number in range(tail, tail + count)]


def _fresh() -> int:
    """A UUID of version 7: ids of one time are neighbours, so their index grows at its edge."""
    milliseconds = time.time_ns() // 1_000_000
    noise = _random.getrandbits(73)
    return milliseconds << 80 | _VERSION_7 | noise >> 61 << 64 | _VARIANT | noise & _TAIL


def _text(value: int) -> str:
    digits = f"{value:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
