"""Operation ids: by them a mutating call is found again after its answer was lost (P7)."""

from __future__ import annotations

import os
import random
import time
from typing import NamedTuple
from uuid import UUID

from pandora_db.codecs.checks import check_operation_id
from pandora_db.models.light import light

_NODE = (1 << 48) - 1
_VERSION_7 = 0x7 << 76
_VARIANT = 0b10 << 62
_FREE = (1 << 62) - 1 ^ 1 << 47

# An id has to be unique, not secret: os.urandom() for each would cost a system call.
_random = random.Random()  # noqa: S311
# Few enough that the time in them stays true.
_SUPPLY = 64
_supply: list[str] = []


class Operation(NamedTuple):
    """The id of a call, and whether the caller gave it: such a call may have been done before."""

    id: str
    repeated: bool


def operation(given: UUID | None) -> Operation:
    """The operation of a call; raises `InvalidInput` when `given` is no UUID."""
    if given is None:
        return _operation_of((_take(), False))
    return Operation(str(check_operation_id(given)), repeated=True)


_operation_of = light(Operation)


class OperationRun(NamedTuple):
    """Consecutive ids, one for each row of a bulk call.

    Attributes:
        head: the text before the last 48 bits.
        tail: those 48 bits of the first id, as a number.
    """

    head: str
    tail: int

    @property
    def first(self) -> str:
        """The id that stands for the whole call."""
        return f"{self.head}{self.tail:012x}"

    def ids(self, count: int) -> list[str]:
        """The first `count` of them; a run that a caller chose starts again at 0 after the last."""
        return [f"{self.head}{(self.tail + index) & _NODE:012x}" for index in range(count)]


def operation_run(given: UUID | None) -> OperationRun:
    """The run that begins with `given`; without one, a fresh one with room for any bulk call."""
    first = _fresh() if given is None else check_operation_id(given).int
    return OperationRun(_text(first)[:24], first & _NODE)


def _fresh() -> int:
    """A UUID of version 7: ids of one time are neighbours, so their index grows at its edge.

    The top one of the last 48 bits is 0: the run that follows stays within them.
    """
    milliseconds = time.time_ns() // 1_000_000
    noise = _random.getrandbits(74)
    return milliseconds << 80 | _VERSION_7 | noise >> 62 << 64 | _VARIANT | noise & _FREE


def _text(value: int) -> str:
    digits = f"{value:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def _take() -> str:
    """An id of the supply: most calls pay for no more than that, in any thread."""
    while True:
        try:
            return _supply.pop()
        except IndexError:
            _supply.extend(reversed(operation_run(None).ids(_SUPPLY)))


def _start_again() -> None:
    """A child process must not go on with its parent's ids."""
    _random.seed()
    _supply.clear()


os.register_at_fork(after_in_child=_start_again)
