"""Many calls by one statement: starting one, and its turn with the interpreter, is half the cost.

Calls of one kind that fly together are asked as one: a crowd of `get_job` is one query for all its
ids; a crowd of stage changes or ends of claims one INSERT into a view, whose trigger does the work
(`make_crowds`); a crowd of inserts is a run of statements for the jobs and one for their events.
That holds only when every call changes its own row; when one does not, the flight is rolled back
and each call is run by itself, which tells whose it was.
"""

from __future__ import annotations

import itertools
import json
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from itertools import chain, compress, cycle, islice, repeat
from operator import itemgetter
from typing import Any, NamedTuple, cast

from pandora_db.sqlfiles import Catalogue, Query, Statement, binder

Args = Mapping[str, Any]
Call = tuple[Query, Args]
_Bind = Callable[[Args], tuple[Any, ...]]

# From so many on it pays.
_CROWD = 4
# A crowd of 50 inserts in two statements; with 10 to 50 rows in each, a job costs the same.
_ROWS = 25
_MOST_ROWS = 512
"""Of one statement of changes: SQLite binds 32,766 values to one."""
_ROW = re.compile(r"\bVALUES\s*(\((?:[^()]|\([^()]*\))*\))")
_PLACE = re.compile(r"\?(\d+)")


class NotAlike(Exception):
    """A call of the crowd did not change just its own row."""


class Change(NamedTuple):
    """A statement that does many calls, and what to bind to it; it fails unless it does all."""

    text: str
    values: list[Any]


def runs(calls: Sequence[Call]) -> Iterator[tuple[Query, list[Args]]]:
    """The calls in order, those that follow each other with the same query together."""
    last: Query | None = None
    alike: list[Args] = []
    for query, args in calls:
        if query is not last:
            if last is not None:
                yield last, alike
            last, alike = query, []
        alike.append(args)
    if last is not None:
        yield last, alike


def is_crowd(query: Query, count: int) -> bool:
    """Whether `count` calls of `query` are written together."""
    known = query.name == "insert_job" or query.name in _CHANGES
    return count >= _CROWD and known and not query.flags


def write_crowd(
    cursor: sqlite3.Cursor, queries: Catalogue, query: Query, calls: Sequence[Args]
) -> list[list[Any]]:
    """Do all calls, and answer as each alone would be answered.

    Raises:
        NotAlike, sqlite3.IntegrityError: one of them cannot be done so.
    """
    if query.name == "insert_job":
        return _insert_jobs(cursor, queries, calls)
    for first in range(0, len(calls), _MOST_ROWS):
        cursor.execute(*change(queries, query, calls[first : first + _MOST_ROWS]))
    return answers(query, calls)


def is_change(query: Query, count: int) -> bool:
    """Whether one statement does `count` calls of `query`."""
    return query.name in _CHANGES and is_crowd(query, count) and count <= _MOST_ROWS


def change(queries: Catalogue, query: Query, calls: Sequence[Args]) -> Change:
    """The statement that does all calls.

    It has some more rows, which it passes over: each length is compiled, so there are only four
    from one power of two to the next.
    """
    (statement,) = queries.get(_CHANGES[query.name](calls)).statements
    same, each, width = _binders(statement)
    values = [*same(calls[0]), *chain.from_iterable(map(each, calls))]
    step = 1 << max(0, (len(calls) - 1).bit_length() - 3)
    rows = -(-len(calls) // step) * step
    values += repeat("", (rows - len(calls)) * width)  # a None costs four times as much to bind
    return Change(for_rows(statement.text, rows), values)


def answers(query: Query, calls: Iterable[Args]) -> list[list[Any]]:
    """What each of these calls is answered when it is done."""
    answer = _ANSWERS[query.name]
    return [[answer(args)] for args in calls]


def make_crowds(cursor: sqlite3.Cursor, queries: Catalogue) -> None:
    """Make the views that changes go through; only this connection sees them."""
    for statement in queries.get("make_crowds").statements:
        cursor.execute(statement.text)


def _end_claims(calls: Sequence[Args]) -> str:
    way = _way(calls[0])
    alike = way[-3:] == (None, None, None) and all(_way(args) == way for args in calls)
    return "end_claims_alike" if alike else "end_claims"


_way = itemgetter(
    "owner", "stage", "archived", "cancelled", "worked", "kind", "drop", "keep_error", "delay",
    "error", "detail", "output_kind", "output", "output_file",
)  # fmt: skip

_CHANGES: dict[str, Callable[[Sequence[Args]], str]] = {
    "update_stage": lambda _: "update_stages",
    "end_claim": _end_claims,
}
_ANSWERS: dict[str, _Bind] = {
    "update_stage": binder(["job_id"]),
    "end_claim": binder(["job_id", "stage"]),
}


def _insert_jobs(
    cursor: sqlite3.Cursor, queries: Catalogue, calls: Sequence[Args]
) -> list[list[Any]]:
    (next_id,) = cursor.execute(queries.get("next_job_id").text).fetchone()
    now, created_at, updated_at = cursor.execute(queries.get("stamp").text).fetchone()
    (load,) = queries.get("load_jobs").statements
    (record,) = queries.get("record_inserted").statements
    given = cast("_Bind", itemgetter(*load.parameters[:-2]))  # the stamps are the last two
    jobs: list[tuple[Any, ...]] = []
    events: list[tuple[Any, ...]] = []
    for args in calls:
        job_id, author, requested_at, *others = given(args)
        if job_id is None:
            job_id, next_id = next_id, next_id + 1
        if requested_at is None:
            requested_at = now
        jobs.append((job_id, author, requested_at, *others, created_at, updated_at))
        events.append((job_id, updated_at, args["ready"], args["operation_id"]))
    for statement, rows in ((load, jobs), (record, events)):
        if write_rows(cursor, statement.text, rows) != len(rows):
            raise NotAlike
    return [[job[:1]] for job in jobs]


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
def _binders(statement: Statement) -> tuple[_Bind, _Bind, int]:
    """The values outside VALUES, those of a row, and how many these are."""
    _, _, _, same, each = _cut(statement.text)
    names = statement.parameters
    return binder([names[n - 1] for n in same]), binder([names[n - 1] for n in each]), len(each)


def wanted_ids(calls: Sequence[Call]) -> list[int]:
    """The ids of the `get_job` calls when they are a crowd, else none."""
    ids = [args["job_id"] for query, args in calls if query.name == "get_job"]
    return ids if len(ids) >= _CROWD else []


def by_ids(queries: Catalogue, ids: list[int]) -> Call:
    """The one query for all of them; its first column is the id."""
    return queries.get("get_jobs_by_ids"), {"job_ids": json.dumps(ids)}
