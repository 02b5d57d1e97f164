"""Values ↔ MessagePack with the extension types of a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum
from itertools import chain
from typing import Any, Final, cast
from uuid import UUID

from msgpack import ExtType, Packer
from pydantic import BaseModel

from pandora_db.codecs.checkpoint import types
from pandora_db.codecs.checkpoint.classes import model_fields, model_shape
from pandora_db.codecs.checkpoint.ints import may_ascend, pack_ints
from pandora_db.codecs.checkpoint.survey import NATIVE_KEYS, Survey
from pandora_db.codecs.checkpoint.tables import Table
from pandora_db.codecs.checkpoint.types import ENCODERS, Odd, encode_enum

_REWRITTEN = frozenset({list, dict})
_FEW_COLLISIONS: Final = 64
_SHORT = 16
_new: Callable[[type[ExtType], tuple[int, bytes]], ExtType] = cast("Any", tuple).__new__
NOTHING: Final = Survey([], 0, 0)


def collide(values: Iterable[Any], count: int) -> bool:
    """Whether keys or members share so many hashes that a set of them takes for ever."""
    return count > _FEW_COLLISIONS and len(set(map(hash, values))) < count - _FEW_COLLISIONS


def list_header(count: int) -> bytes:
    """What stands before the values of a list."""
    if count < _SHORT:
        return bytes((0x90 | count,))
    return b"\xdd" + count.to_bytes(4, "big") if count >> 16 else b"\xdc" + count.to_bytes(2, "big")


def map_header(count: int) -> bytes:
    """What stands before the keys and values of a dict."""
    if count < _SHORT:
        return bytes((0x80 | count,))
    return b"\xdf" + count.to_bytes(4, "big") if count >> 16 else b"\xde" + count.to_bytes(2, "big")


def extension(code: int, data: bytes) -> ExtType:
    """As `ExtType(code, data)`, whose own checks take longer than the rest of packing a value."""
    return _new(ExtType, (code, data))


class Packing:
    """Packs values; whatever it raises `Odd` or ValueError for is refused with its path later.

    Attributes:
        survey: what is in the values; only those that were surveyed may be packed.
        extensions: how many values were packed as an extension type, which takes its time.
        texts: whether there were members of an enum that are text too, perhaps as keys.
    """

    def __init__(self) -> None:
        self.survey = NOTHING
        self.extensions = 0
        self.texts = False
        self._packers: list[Packer] = []
        self._nest = 0
        self._containers: dict[type, Callable[[Any], ExtType]] = {
            tuple: self._tuple,
            set: self._set,
            frozenset: self._set,
        }

    def pack(self, value: Any) -> bytes:  # noqa: ANN401
        """The bytes of one value."""
        if self.survey.special and type(value) in _REWRITTEN:
            value = self._rewrite(value)
        return self.pack_plain(value)

    def pack_plain(self, value: object) -> bytes:
        """The bytes of a value that is no special list or dict, and holds none."""
        nest = self._nest
        if nest == len(self._packers):
            # A packer cannot be used while it packs: what stands inside an extension needs another.
            self._packers.append(Packer(default=self._extend, strict_types=True))
        self._nest = nest + 1
        try:
            return self._packers[nest].pack(value)
        finally:
            self._nest = nest

    def _extend(self, value: Any) -> ExtType:  # noqa: ANN401 - whatever MessagePack does not know
        self.extensions += 1
        kind: type = type(value)  # pyright: ignore[reportUnknownVariableType]
        if single := ENCODERS.get(kind):
            code, encode = single
            return _new(ExtType, (code, encode(value)))
        if container := self._containers.get(kind):
            return container(value)
        if isinstance(value, Enum):
            self.texts |= isinstance(value, str | bytes)
            return extension(types.ENUM, encode_enum(value))
        if isinstance(value, BaseModel):
            return self._model(value)
        raise Odd

    def _tuple(self, value: tuple[Any, ...]) -> ExtType:
        return extension(types.TUPLE, self.pack(list(value)))

    def _set(self, value: set[Any] | frozenset[Any]) -> ExtType:
        frozen = isinstance(value, frozenset)
        alike = id(value) in self.survey.alike and isinstance(next(iter(value)), int)
        if alike or set(map(type, value)) == {int}:
            packed = pack_ints(sorted(value))
            if packed is not None:
                return extension(types.INT_FROZENSET if frozen else types.INT_SET, packed)
        if collide(value, len(value)):
            raise Odd("a set of values that share one hash; expected a list")
        members = sorted(map(self.pack, value))
        data = list_header(len(members)) + b"".join(members)
        return extension(types.FROZENSET if frozen else types.SET, data)

    def _model(self, value: BaseModel) -> ExtType:
        data = self.pack([*model_head(value), model_fields(value)])
        return extension(types.MODEL, data)

    def _rewrite(self, value: list[Any] | dict[Any, Any]) -> object:
        """A copy in which extension types stand for what is special."""
        if isinstance(value, list):
            return self._rewrite_list(value)
        if set(map(type, value)) <= NATIVE_KEYS:
            if _REWRITTEN.isdisjoint(map(type, value.values())):
                return value
            return {k: self._rewrite(v) if type(v) in _REWRITTEN else v for k, v in value.items()}
        if collide(value, len(value)):
            raise Odd("a dict whose keys share one hash; expected a list of pairs")
        return extension(types.PAIRS, self.pack(list(chain.from_iterable(value.items()))))

    def _rewrite_list(self, value: list[Any]) -> object:
        if table := self.survey.tables.get(id(value)):
            return self._table(table)
        if id(value) in self.survey.alike:
            return _pack_alike(value)
        if _REWRITTEN.isdisjoint(map(type, value)):
            return value
        return [self._rewrite(v) if type(v) in _REWRITTEN else v for v in value]

    def _table(self, table: Table) -> ExtType:
        head = None if table.name is None else [table.name, table.unset]
        columns = map(self._rewrite_list, table.columns)
        return extension(types.TABLE, self.pack_plain([head, list(table.keys), *columns]))


def _pack_alike(values: list[Any]) -> list[Any] | ExtType:
    if isinstance(values[0], UUID):
        return extension(types.UUID_LIST, b"".join([value.bytes for value in values]))
    packed = pack_ints(values) if may_ascend(values) else None
    return values if packed is None else extension(types.INT_LIST, packed)


def model_head(value: BaseModel) -> tuple[str, list[str]]:
    """The name of a model's class, and the fields that were not set."""
    kind = type(value)
    name, fields = model_shape(kind)
    if name is None:
        raise Odd(
            f"a {kind.__qualname__}, a class that cannot be found by its name; "
            "expected one that stands at the top of its module or in such a class"
        )
    given = value.__pydantic_fields_set__
    return name, [field for field in fields if field not in given]
