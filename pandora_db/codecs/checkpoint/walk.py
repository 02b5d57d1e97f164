"""A walk through packed bytes that makes no values of them."""

from __future__ import annotations

from itertools import chain
from typing import Any

from msgpack import Unpacker, unpackb

_STACK = 1024
_LIST_OF_ONE = b"\x91"
_NIL = b"\xc0"


def check_whole(data: bytes, levels: int) -> None:
    """That `data` is one whole value, in which at most `levels` containers stand in one another.

    Lengths that are only declared take no memory here. Extension types are passed over.

    Raises:
        ValueError: it is not; MessagePack raises others.
    """
    # The unpacker's stack has a fixed size: what stands in front leaves `levels` of it.
    _walk(_LIST_OF_ONE * (_STACK - levels) if _FIXED_STACK else b"", data)
    if not _FIXED_STACK and _levels(unpackb(data)) > levels:
        raise ValueError("too deep")


def _walk(front: bytes, data: bytes) -> None:
    size = len(front) + len(data)
    walk = Unpacker(read_size=size, max_buffer_size=size)
    walk.feed(front)
    walk.feed(data)
    walk.skip()
    if walk.tell() != size:
        raise ValueError("something follows the value")


def _levels(value: object) -> int:
    found = 0
    values: list[Any] = [value]
    while values := [v for v in values if type(v) in {list, dict}]:
        found += 1
        inner: list[list[Any]] = [[*v.values()] if isinstance(v, dict) else v for v in values]
        values = list(chain.from_iterable(inner))
    return found


def _has_fixed_stack() -> bool:
    """Whether this msgpack goes exactly so deep: the C one does, the Python one does not."""
    try:
        _walk(_LIST_OF_ONE * _STACK, _NIL)
    except Exception:  # noqa: BLE001 - RecursionError, or whatever another version raises
        return False
    try:
        _walk(_LIST_OF_ONE * (_STACK + 1), _NIL)
    except Exception:  # noqa: BLE001 - StackError
        return True
    return False


_FIXED_STACK = _has_fixed_stack()
