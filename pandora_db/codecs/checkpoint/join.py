"""The segments of a checkpoint → its state, or `CheckpointCorrupt`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

from msgpack import ExtType, Packer, unpackb
from pydantic import BaseModel

from pandora_db.codecs.checkpoint import types
from pandora_db.codecs.checkpoint.classes import NoSuchClass, build_model, find_class
from pandora_db.codecs.checkpoint.envelope import DIGEST, SEGMENT, Opened, Place, corrupt, open_blob
from pandora_db.codecs.checkpoint.ints import unpack_ints
from pandora_db.codecs.checkpoint.pack import collide
from pandora_db.codecs.checkpoint.survey import CONTAINER_ITEMS, FLAT, KEYS, NATIVE_KEYS, measure
from pandora_db.codecs.checkpoint.tables import MOST_ROWS
from pandora_db.codecs.checkpoint.walk import check_whole
from pandora_db.models.limits import (
    MAX_CHECKPOINT,
    MAX_CHECKPOINT_DEPTH,
    MAX_CHECKPOINT_ITEMS,
    MAX_SEGMENTS,
)

# Here each segment counts as a list, there it does not: nothing that was let in is refused.
_MOST_ITEMS = MAX_CHECKPOINT_ITEMS + 16 * MAX_SEGMENTS
_SHORT = 256
_SAMPLE = 1_024
_FEW_MAPS = 4
_MAPS = bytes((*range(0x80, 0x90), 0xDE, 0xDF))  # what a dict may begin with
# What stands before the 0xff of a timestamp, as MessagePack has it.
_STAMPED = (
    b"\xd6", b"\xd7", b"\xc7\x04", b"\xc7\x08", b"\xc7\x0c", b"\0\x04", b"\0\x08", b"\0\x0c",
)  # fmt: skip
_MISSING = "segments are missing, doubled or of another checkpoint"
_TOO_DEEP = f"it is deeper than it says, or than {MAX_CHECKPOINT_DEPTH} levels"
_TOO_MANY = "it has too many values"
_packer = Packer()  # without hooks, it is done before another thread gets at it
_SLICE = 0.001
_Ints = TypeVar("_Ints", list[int], set[int], frozenset[int])


class _BadPayloadError(ValueError):
    """A payload that no encoder of ours makes; the text tells nothing of it."""


class _Extension(Exception):
    """An extension type was met."""


class _Part(NamedTuple):
    digest: bytes
    value: Any
    depth: int


async def join_state(blobs: Sequence[bytes], *, place: Place) -> tuple[object, int]:
    """The state and its version; lets others run every millisecond or so.

    Args:
        blobs: all segments of one checkpoint in the order in which they were made.
        place: the job and stage whose checkpoint it is.

    Raises:
        CheckpointCorrupt: anything at all is not as it was stored.
    """
    if not 0 < len(blobs) <= MAX_SEGMENTS:
        corrupt(f"it has {len(blobs)} segments; expected 1 to {MAX_SEGMENTS}", place)
    joining = _Joining()
    since = time.perf_counter()
    version = size = 0
    for number, blob in enumerate(blobs):
        opened = open_blob(blob, kind=SEGMENT, place=place)
        size += len(opened.payload)
        if number and opened.version != version:
            corrupt("its segments are of different versions", place)
        version = opened.version
        if opened.last != (number == len(blobs) - 1):
            corrupt(_MISSING, place)
        reason = "it is too large" if size > MAX_CHECKPOINT else joining.add(opened)
        if reason is not None:
            # Outside every handler: the error in there may hold what was stored.
            # What its checksum vouches for is as it was written: it is this program that cannot.
            corrupt(reason, place, damaged=reason == _MISSING)
        if time.perf_counter() - since > _SLICE:
            await asyncio.sleep(0)
            since = time.perf_counter()
    if len(joining.parts) != 1:
        corrupt(_MISSING, place)
    return joining.parts[0].value, version


class _Joining:
    """The parts so far that no segment has taken up yet."""

    def __init__(self) -> None:
        self.parts: list[_Part] = []
        self._next = 0
        self._nest = 0
        self._items = 0
        self._size = 0
        self._depths: dict[int, int] = {}
        self._known: list[object] = []
        self._models: dict[str, type[BaseModel]] = {}

    def add(self, opened: Opened) -> str | None:
        """Unpack a segment and put its parts together; what is wrong with it, if anything."""
        first = len(self.parts) - opened.children
        if first < 0:
            return _MISSING
        self._next = first
        try:
            value = self._segment(opened)
        except (NoSuchClass, _BadPayloadError) as error:
            return str(error)
        except Exception as error:  # noqa: BLE001 - MessagePack, pydantic and hooks raise anything
            return f"its content is no checkpoint ({type(error).__name__})"
        if self._next != len(self.parts):
            return _MISSING
        self.parts[first:] = [_Part(opened.digest, value, opened.depth)]
        return None

    def _segment(self, opened: Opened) -> Any:  # noqa: ANN401
        payload = opened.payload
        if opened.depth > MAX_CHECKPOINT_DEPTH:
            raise _BadPayloadError(_TOO_DEEP)
        check_whole(payload, opened.depth)
        self._size += len(payload)
        # A key may not be there twice: where there seem to be few dicts a hook for each finds that,
        # where there are many it is faster to pack the value once more.
        sample = payload[:_SAMPLE]
        many = len(sample) - len(sample.translate(None, _MAPS)) > _FEW_MAPS
        hook = None if many else _dict
        try:
            value = unpackb(payload, ext_hook=_stop, object_pairs_hook=hook)
        except _Extension:
            self._depths, self._known = {}, []
            value = self._unpack(payload)
            depth, items = measure(value, self._depths)
            if depth > opened.depth:
                raise _BadPayloadError(_TOO_DEEP) from None
        else:
            if many and _packer.pack(value) != payload:
                raise _BadPayloadError("its content is out of form")
            # A byte is one value at most: as long as few were read there is nothing to count.
            # MessagePack makes timestamps itself, without asking a hook: `measure` refuses them.
            few = self._size * CONTAINER_ITEMS <= _MOST_ITEMS
            pieces = payload.split(b"\xff") if b"\xff" in payload else []
            stamps = any(piece.endswith(_STAMPED) for piece in pieces)
            items = 0 if few and not stamps else measure(value, {})[1]
        self._items += items
        if self._items > _MOST_ITEMS:
            raise _BadPayloadError(_TOO_MANY)
        return value

    def _unpack(self, data: bytes) -> Any:  # noqa: ANN401
        return unpackb(data, ext_hook=self._extension, object_pairs_hook=_dict)

    def _extension(self, code: int, data: bytes) -> object:
        if decode := types.DECODERS.get(code):
            return decode(data)
        if not (container := _CONTAINERS.get(code)):
            raise _BadPayloadError(f"it holds a value of the unknown kind {code}")
        self._nest += 1
        if self._nest > MAX_CHECKPOINT_DEPTH + 1:
            raise _BadPayloadError(_TOO_DEEP)
        try:
            return container(self, data)
        finally:
            self._nest -= 1

    def sequence(self, data: bytes) -> list[Any]:
        if len(data) > _SHORT:
            check_whole(data, MAX_CHECKPOINT_DEPTH)
        value: object = self._unpack(data)
        if not isinstance(value, list):
            raise _BadPayloadError("a part of it is no list")
        return value  # pyright: ignore[reportUnknownVariableType]

    def ints(self, data: bytes, kind: type[_Ints]) -> _Ints:
        values, count = unpack_ints(data, kind)
        if len(values) != count:
            raise _BadPayloadError("it has a member twice")
        self._items += count
        if self._items > _MOST_ITEMS:
            raise _BadPayloadError(_TOO_MANY)
        self._know(values, 1)
        return values

    def uuids(self, data: bytes) -> list[UUID]:
        values = types.decode_uuids(data)
        self._know(values, 1)
        return values

    def _know(self, value: object, depth: int) -> None:
        self._depths[id(value)] = depth
        self._known.append(value)  # while it is there, no other value has its id

    def model(self, data: bytes) -> BaseModel:
        name, unset, fields = self.sequence(data)
        return self._build(name, unset, fields)

    def table(self, data: bytes) -> list[Any]:
        head, keys, *columns = self.sequence(data)
        if (
            not columns
            or {list} != {type(keys), *map(type, columns)}
            or {str} != {*map(type, keys)}
        ):
            raise _BadPayloadError("a table is out of form")
        if len(set(keys)) != len(columns) or len(keys) != len(columns):
            raise _BadPayloadError("a table has a key twice")
        if len(columns[0]) > MOST_ROWS:
            raise _BadPayloadError(_TOO_MANY)
        # Each row has as many values as there are columns, and so keys: to check that takes time.
        rows = [dict(zip(keys, row)) for row in zip(*columns, strict=True)]  # noqa: B905
        if head is not None:
            name, unset = head
            return [self._build(name, *pair) for pair in zip(unset, rows, strict=True)]
        if all(set(map(type, column)) <= FLAT for column in columns):
            self._items += len(rows) * (CONTAINER_ITEMS + len(keys))
            self._know(rows, 2)
        return rows

    def cut(self, data: bytes) -> object:
        kind, meta, digests = self.sequence(data)
        count, rest = divmod(len(digests), DIGEST)
        taken = self.parts[self._next : self._next + count]
        if rest or b"".join(part.digest for part in taken) != digests:
            raise _BadPayloadError(_MISSING)
        self._next += count
        parts = [part.value for part in taken]
        if kind == types.CUT_MODEL:
            name, unset = meta
            value: Any = self._build(name, unset, _merge(parts))
        else:
            value = _assemble(kind, parts)
        self._know(value, max((part.depth for part in taken), default=1))
        return value

    def _build(self, name: str, unset: Any, fields: Any) -> BaseModel:  # noqa: ANN401
        kind = self._models.get(name)
        if kind is None:
            kind = self._models[name] = find_class(name, BaseModel)
        try:
            return build_model(kind, fields, unset)
        except Exception as error:  # noqa: BLE001 - validators are anybody's code
            problem = type(error).__name__
        # Outside the handler: the error of a validator holds the values.
        raise _BadPayloadError(f"{name!a} does not take its fields ({problem})")


# By functions, not by methods of an object: those would be a cycle, and keep what was read until
# the next garbage collection.
_CONTAINERS: dict[int, Callable[[_Joining, bytes], object]] = {
    types.TUPLE: lambda to, data: tuple(to.sequence(data)),
    types.SET: lambda to, data: _set(to.sequence(data)),
    types.FROZENSET: lambda to, data: frozenset(_set(to.sequence(data))),
    types.PAIRS: lambda to, data: _pairs(to.sequence(data)),
    types.MODEL: _Joining.model,
    types.UUID_LIST: _Joining.uuids,
    types.INT_LIST: lambda to, data: to.ints(data, list),
    types.INT_SET: lambda to, data: to.ints(data, set),
    types.INT_FROZENSET: lambda to, data: to.ints(data, frozenset),
    types.TABLE: _Joining.table,
    types.CUT: _Joining.cut,
}


def _assemble(kind: int, parts: list[Any]) -> Any:  # noqa: ANN401, PLR0911
    match kind:
        case types.CUT_LIST:
            return list(_chain(parts))
        case types.CUT_TUPLE:
            return tuple(_chain(parts))
        case types.CUT_SET:
            return _set(list(_chain(parts)))
        case types.CUT_FROZENSET:
            return frozenset(_set(list(_chain(parts))))
        case types.CUT_PAIRS:
            return _pairs(list(_chain(parts)))
        case types.CUT_DICT:
            return _merge(parts)
        case types.CUT_TEXT:
            return b"".join(parts).decode()
        case types.CUT_BYTES:
            return b"".join(parts)
        case _:
            raise _BadPayloadError("it is cut in an unknown way")


def _chain(parts: list[Any]) -> Iterable[Any]:
    if set(map(type, parts)) - {list}:
        raise _BadPayloadError("a part of it is no list")
    return chain.from_iterable(parts)


def _merge(parts: list[Any]) -> dict[Any, Any]:
    whole: dict[Any, Any] = {}
    for part in parts:
        whole.update(part)
    if len(whole) != sum(map(len, parts)):
        raise _BadPayloadError("it has a key twice")
    return whole


def _dict(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    whole = dict(pairs)
    if len(whole) != len(pairs):
        raise _BadPayloadError("it has a key twice")
    return whole


def _pairs(flat: list[Any]) -> dict[Any, Any]:
    keys = flat[::2]
    found = set(map(type, keys))
    if len(flat) % 2 or not found <= KEYS or found <= NATIVE_KEYS or collide(keys, len(keys)):
        raise _BadPayloadError("its keys are out of form")
    return _dict(list(zip(keys, flat[1::2], strict=True)))


def _set(members: list[Any]) -> set[Any]:
    if collide(members, len(members)):
        raise _BadPayloadError("its members collide")
    whole = set(members)
    if len(whole) != len(members):
        raise _BadPayloadError("it has a member twice")
    return whole


def _stop(_code: int, _data: bytes) -> ExtType:
    raise _Extension
