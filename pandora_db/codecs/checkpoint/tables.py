"""Lists of equal records by column: each key is there once, and like values stand together."""

from __future__ import annotations

from itertools import chain
from operator import itemgetter
from typing import Any, Final, NamedTuple

from pydantic import BaseModel

from pandora_db.codecs.checkpoint.classes import model_fields, model_shape

FEWEST_ROWS: Final = 16
MOST_ROWS: Final = 65_536


class Table(NamedTuple):
    """The records of a list.

    Attributes:
        name: of the model's class; None for dicts.
        unset: of each model, the fields that were not set.
        keys: of every record, in their order.
        columns: for each key the values of all records.
    """

    name: str | None
    unset: list[list[str]]
    keys: tuple[str, ...]
    columns: list[list[Any]]


def table_of(records: list[Any]) -> Table | None:
    """The table of a list of records that are of one type; None when they are not alike."""
    if not FEWEST_ROWS <= len(records) <= MOST_ROWS:
        return None
    if type(records[0]) is dict:
        return _of_dicts(records)
    return _of_models(records) if isinstance(records[0], BaseModel) else None


def _of_dicts(records: list[dict[Any, Any]]) -> Table | None:
    shapes = set(map(tuple, records))
    # Not of the shapes, in which a key that only equals a text would pass for it.
    if len(shapes) > 1 or set(map(type, chain.from_iterable(records))) != {str}:
        return None
    (keys,) = shapes
    return Table(None, [], keys, _columns(records, keys))


def _of_models(records: list[BaseModel]) -> Table | None:
    name, keys = model_shape(type(records[0]))
    fields = list(map(model_fields, records))
    if name is None or not keys or set(map(tuple, fields)) != {keys}:
        return None
    given = [record.__pydantic_fields_set__ for record in records]
    known = {names: [key for key in keys if key not in names] for names in map(frozenset, given)}
    return Table(name, [known[frozenset(names)] for names in given], keys, _columns(fields, keys))


def _columns(records: list[dict[Any, Any]], keys: tuple[str, ...]) -> list[list[Any]]:
    return [list(map(itemgetter(key), records)) for key in keys]
