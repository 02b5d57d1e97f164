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


class _Writer:
    """Runs one statement for all rows of its VALUES.

    A column that has been None in every row so far stands as NULL in the statement: a None costs
    four times as much to bind as a number. Shared by all threads: one may put back a column that
    another has just taken out, which costs no more than a statement, since each looks at its rows.
    """

    __slots__ = ("_empty", "_text")

    def __init__(self, text: str) -> None:
        self._text = text
        self._empty = frozenset(range(len(_cut(text).each)))

    def write(self, cursor: sqlite3.Cursor, rows: Iterable[Sequence[Any]]) -> int:
        """Write them, some at once; how many were changed."""
        changed = 0
        left = iter(rows)
        while some := list(islice(left, _ROWS)):
            values: Iterable[Any] = chain.from_iterable(some)
            if empty := self._empty:
                self._empty = empty = empty.intersection(_empty_columns(some))
                kept = [index not in empty for index in range(len(some[0]))]
                values = compress(values, cycle(kept))
            cursor.execute(for_rows(self._text, len(some), empty), list(values))
            changed += cursor.rowcount
        return changed


_writer_of = cache(_Writer)


def write_rows(cursor: sqlite3.Cursor, text: str, rows: Iterable[Sequence[Any]]) -> int:
    """Run the statement for all rows of its VALUES; how many it changed."""
    return _writer_of(text).write(cursor, rows)


def _empty_columns(rows: Sequence[Sequence[Any]]) -> Iterator[int]:
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
def for_rows(text: str, count: int, nulls: frozenset[int] = frozenset()) -> str:
    """The statement with the row of its VALUES `count` times, numbered after what is outside.

    The places of the row in `nulls`, counted from 0, are NULL.
    """
    before, row, behind, same, _ = _cut(text)
    places = itertools.count()
    row = _PLACE.sub(lambda place: "NULL" if next(places) in nulls else place[0], row)
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
