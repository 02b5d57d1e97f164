"""Statements of many rows: the row of their VALUES, as often as there are rows to write."""

from __future__ import annotations

import itertools
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from itertools import chain, compress, cycle, islice
from typing import Any, NamedTuple

from pandora_db.sqlfiles import Statement, binder

Bind = Callable[[Mapping[str, Any]], tuple[Any, ...]]

# A crowd of 50 inserts in two statements; with 10 to 50 rows in each, a job costs the same.
_ROWS = 25
_ROW = re.compile(r"\bVALUES\s*(\((?:[^()]|\([^()]*\))*\))")
_PLACE = re.compile(r"\?(\d+)")


def write_rows(cursor: sqlite3.Cursor, text: str, rows: Iterable[Sequence[Any]]) -> int:
    """Run the statement for all rows of its VALUES; how many it changed."""
    return _rows_of(text).write(cursor, rows)


class _Rows:
    """The rows of one statement.

    A column that no row has said anything in so far stands as NULL in the statement: a None costs
    four times as much to bind as a number. Of all connections, of which each looks at its own rows.
    """

    __slots__ = ("_text", "_unsaid")

    def __init__(self, text: str) -> None:
        self._text = text
        self._unsaid = frozenset(range(len(_cut(text).each)))

    def write(self, cursor: sqlite3.Cursor, rows: Iterable[Sequence[Any]]) -> int:
        """Write them, some at once; how many were changed."""
        changed = 0
        left = iter(rows)
        while some := list(islice(left, _ROWS)):
            self._unsaid = unsaid = self._unsaid.intersection(_unsaid(some))
            said = [index not in unsaid for index in range(len(some[0]))]
            values = list(compress(chain.from_iterable(some), cycle(said)))
            cursor.execute(for_rows(self._text, len(some), unsaid), values)
            changed += cursor.rowcount
        return changed


_rows_of = cache(_Rows)


def _unsaid(rows: Sequence[Sequence[Any]]) -> Iterator[int]:
    columns = enumerate(zip(*rows, strict=True))
    return (i for i, column in columns if column[0] is None and column.count(None) == len(column))


class _Cut(NamedTuple):
    """A statement around the row of its VALUES, and the numbers of its parameters."""

    before: str
    row: str
    behind: str
    same: tuple[int, ...]
    each: tuple[int, ...]


@cache
def _cut(text: str) -> _Cut:
    found = _ROW.search(text)
    if found is None:
        raise ValueError(f"there is no VALUES (…) in: {text}")
    before, row, behind = text[: found.start(1)], found[1], text[found.end(1) :]
    each = tuple(map(int, _PLACE.findall(row)))
    same = tuple(sorted(set(map(int, _PLACE.findall(before + behind)))))
    if len({*each, *same}) < len(each) + len(same) or sorted(each) != list(each):
        raise ValueError(f"a parameter of VALUES (…) has to stand there once, and in order: {text}")
    return _Cut(before, row, behind, same, each)


@cache
def for_rows(text: str, count: int, unsaid: frozenset[int] = frozenset()) -> str:
    """The statement with the row of its VALUES `count` times, numbered after what is outside.

    The places of the row that are `unsaid`, counted from 0, are NULL.
    """
    before, row, behind, same, _ = _cut(text)
    places = itertools.count()
    row = _PLACE.sub(lambda place: "NULL" if next(places) in unsaid else place[0], row)
    outside = partial(_PLACE.sub, lambda place: f"?{same.index(int(place[1])) + 1}")
    numbers = itertools.count(len(same) + 1)
    rows = _PLACE.sub(lambda _: f"?{next(numbers)}", ", ".join([row] * count))
    return outside(before) + rows + outside(behind)


@cache
def binders(statement: Statement) -> tuple[Bind, Bind, int]:
    """The values outside VALUES, those of a row, and how many these are."""
    _, _, _, same, each = _cut(statement.text)
    names = statement.parameters
    return binder([names[n - 1] for n in same]), binder([names[n - 1] for n in each]), len(each)
