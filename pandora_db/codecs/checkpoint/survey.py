"""Looks through a state before it is packed: what is in it, how deep, and how much.

It goes level by level, with C loops over all values of a level: five times as fast as value by
value. Counting comes before going down, so that parts which are shared, or contain themselves,
cannot blow it up.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from enum import Enum, auto
from functools import lru_cache
from itertools import chain, islice
from typing import Any, Final, cast
from uuid import UUID

from pydantic import BaseModel

from pandora_db.codecs.checkpoint.classes import model_fields
from pandora_db.codecs.checkpoint.ints import FEWEST, may_ascend
from pandora_db.codecs.checkpoint.tables import FEWEST_ROWS, Table, table_of
from pandora_db.codecs.checkpoint.types import ENCODERS, LEAST_SIZES, Odd
from pandora_db.models.limits import MAX_CHECKPOINT_DEPTH, MAX_CHECKPOINT_KEY

PLAIN: Final = frozenset({type(None), bool, int, float})
KEYS: Final = frozenset({str, int, bytes})
NATIVE_KEYS: Final = frozenset({str, bytes})
CONTAINER_ITEMS: Final = 4
"""A container counts for so many values."""

_TEXTUAL = frozenset({str, bytes})
_SEQUENCES = frozenset({list, tuple, set, frozenset})
FLAT = PLAIN | _TEXTUAL
_INTS: set[type] = {int}
_UUIDS: set[type] = {UUID}
_LEAST_SIZE = 4
_SLICE = 512
_MUCH = 2**22
_values: Callable[[Any], Iterable[Any]] = cast("Any", dict).values


class Family(Enum):
    """How values of a type are treated."""

    PLAIN = auto()
    TEXT = auto()
    SINGLE = auto()
    SEQUENCE = auto()
    MAP = auto()
    MODEL = auto()
    TABLE = auto()


_FAMILIES: dict[type, Family] = {
    **dict.fromkeys(PLAIN, Family.PLAIN),
    **dict.fromkeys(_TEXTUAL, Family.TEXT),
    **dict.fromkeys(ENCODERS.keys() - PLAIN, Family.SINGLE),
    **dict.fromkeys(_SEQUENCES, Family.SEQUENCE),
    dict: Family.MAP,
    Table: Family.TABLE,
}


@lru_cache(maxsize=1024)
def family_of(kind: type) -> Family:
    """The family of a type; raises `Odd` for one that a checkpoint cannot hold."""
    if family := _FAMILIES.get(kind):
        return family
    if issubclass(kind, Enum):
        return Family.SINGLE
    if issubclass(kind, BaseModel):
        return Family.MODEL
    raise Odd


class Survey:
    """What is in some values that stand `depth` containers deep.

    It is given up once they weigh more than `room`; the figures are lower bounds then.

    Attributes:
        weight: bytes that the values take at least when packed.
        items: how many values there are; a container counts for four.
        levels: how many containers stand in one another in them.
        special: some lists or dicts need more than MessagePack.
        alike: ids of the lists and sets, long enough to matter, of ints only or of UUIDs only.
        tables: by their id, the lists of records that are alike.
    """

    __slots__ = ("_exact", "_room", "alike", "items", "levels", "special", "tables", "weight")

    def __init__(self, values: list[Any], depth: int, room: int, *, exact: bool = False) -> None:
        """Look through `values`; raises `Odd` when there is something that cannot be stored.

        Keys that are equal are taken for one and the same, unless it is to be `exact`: then a key
        that only equals a text, such as the member of a `StrEnum`, is found too.
        """
        self.weight = self.items = len(values)
        self.levels = 0
        self.special = False
        self.alike: set[int] = set()
        self.tables: dict[int, Table] = {}
        self._room = room
        self._exact = exact
        values = [v for v in values if type(v) not in PLAIN]
        while values:
            below: list[Any] = []
            kinds = set(map(type, values))
            for kind in kinds:
                chosen = values if len(kinds) == 1 else [v for v in values if type(v) is kind]
                self._look(kind, chosen, below, depth + self.levels)
                if self.weight > room:
                    return
            self.levels += not kinds.isdisjoint(_CONTAINERS) or _models(kinds)
            values = below

    def _look(self, kind: type, chosen: list[Any], below: list[Any], depth: int) -> None:
        family = family_of(kind)
        if family is Family.SINGLE:
            self.weight += (LEAST_SIZES.get(kind, _LEAST_SIZE) - 1) * len(chosen)
            return
        if family is Family.TABLE:
            self._look_into_tables(chosen, below, depth)
            return
        if family is Family.MODEL:
            chosen = list(map(model_fields, chosen))
        size = sum(map(len, chosen))
        self.weight += size
        if family is Family.TEXT:
            return
        if depth >= MAX_CHECKPOINT_DEPTH:
            raise Odd
        self.items += (CONTAINER_ITEMS - 1) * len(chosen)
        if self.weight > self._room:
            return
        self.items += size
        if kind is list:
            chosen = self._without_tables(chosen, below)
        if family is Family.SEQUENCE:
            inner = chain.from_iterable(self._without_flat(kind, chosen))
        else:
            self._keys(chosen, size)
            inner = chain.from_iterable(map(_values, chosen))
        below += [v for v in inner if type(v) not in PLAIN]

    def _without_tables(self, chosen: list[list[Any]], below: list[Any]) -> list[list[Any]]:
        """The lists that hold no records which are alike."""
        if max(map(len, chosen)) < FEWEST_ROWS:
            return chosen
        left: list[list[Any]] = []
        for values in chosen:
            table = None
            if len(values) >= FEWEST_ROWS and isinstance(values[0], dict | BaseModel):
                table = table_of(values) if len(set(map(type, values))) == 1 else None
            if table is None:
                left.append(values)
            else:
                self.tables[id(values)] = table
                below.append(table)
        return left

    def _look_into_tables(self, tables: list[Table], below: list[Any], depth: int) -> None:
        self.special = True
        if depth >= MAX_CHECKPOINT_DEPTH:
            raise Odd
        for _, _, keys, columns in tables:
            rows = len(columns[0])
            size = rows * len(columns)
            lengths = list(map(len, keys))
            if max(lengths) > MAX_CHECKPOINT_KEY:
                raise Odd
            # The rows were counted as values of a list; they have no bytes of their own.
            self.weight += size - rows + sum(lengths)
            if self.weight > self._room:
                return
            self.items += (CONTAINER_ITEMS - 1) * rows + size
            inner = chain.from_iterable(self._without_flat(list, columns))
            below += [v for v in inner if type(v) not in PLAIN]

    def _without_flat(self, kind: type, chosen: list[Any]) -> Iterable[Sequence[Any]]:
        """The sequences that are short, or hold more than plain values or more than text."""
        if max(map(len, chosen), default=0) < FEWEST:
            return chosen
        left: list[Sequence[Any]] = []
        for sequence in chosen:
            found = set(map(type, sequence)) if len(sequence) >= FEWEST else None
            if found is None or not (found <= PLAIN or found <= _TEXTUAL or found == _UUIDS):
                left.append(sequence)
                continue
            if found <= _TEXTUAL:
                self._add_text(iter(sequence))
            elif found == _INTS:
                self.alike.add(id(sequence))
                self.special |= kind is list and may_ascend(sequence)
            elif found == _UUIDS:
                self.weight += 15 * len(sequence)
                self.alike.add(id(sequence))
                self.special |= kind is list
        return left

    def _add_text(self, texts: Iterator[str | bytes]) -> None:
        while self.weight <= self._room and (some := list(islice(texts, _SLICE))):
            self.weight += sum(map(len, some))

    def _keys(self, chosen: list[dict[Any, Any]], count: int) -> None:
        # Of many records with the same few keys this makes one small set, from the stored hashes.
        keys: Collection[Any] = set[Any]().union(*chosen)
        if self._exact or not set(map(type, keys)) <= NATIVE_KEYS:
            keys = list(chain.from_iterable(chosen))
            kinds = set(map(type, keys))
            if not kinds <= KEYS:
                raise Odd
            self.special |= int in kinds
            keys = [key for key in keys if type(key) is not int]
            count = len(keys)
        if not keys:
            return
        lengths = list(map(len, keys))
        if max(lengths) > MAX_CHECKPOINT_KEY:
            raise Odd
        again = count - len(keys)
        if again * max(lengths) > _MUCH:
            self.weight += sum(map(len, chain.from_iterable(chosen)))
        else:
            self.weight += sum(lengths) + again * min(lengths)


_CONTAINERS = _SEQUENCES | {dict, Table}
_HOLDING = frozenset({Family.SEQUENCE, Family.MAP, Family.MODEL})


def _models(kinds: set[type]) -> bool:
    return any(family_of(kind) is Family.MODEL for kind in kinds)


def measure(value: object, known: dict[int, int]) -> tuple[int, int]:
    """How deep a decoded value is, in containers, and its items.

    `known` has the depth of parts that were measured before, by their id.
    """
    items = 1
    values: list[Any] = [value]
    depth = deepest = 0
    while values:
        if known:
            for part in [v for v in values if id(v) in known]:
                deepest = max(deepest, depth + known[id(part)])
            values = [v for v in values if id(v) not in known]
        below: list[Any] = []
        kinds = set(map(type, values))
        for kind in kinds:
            family = family_of(kind)
            if family not in _HOLDING:
                continue
            chosen: list[Any] = (
                values if len(kinds) == 1 else [v for v in values if type(v) is kind]
            )
            deepest = max(deepest, depth + 1)
            if family is Family.MODEL:
                chosen = list(map(model_fields, chosen))
            items += (CONTAINER_ITEMS - 1) * len(chosen) + sum(map(len, chosen))
            if family is Family.SEQUENCE:
                chosen = [v for v in chosen if len(v) < FEWEST or not set(map(type, v)) <= FLAT]
                inner = chain.from_iterable(chosen)
            else:
                inner = chain.from_iterable(map(_values, chosen))
            below += [v for v in inner if type(v) not in PLAIN]
        values = below
        depth += 1
    return deepest, items
