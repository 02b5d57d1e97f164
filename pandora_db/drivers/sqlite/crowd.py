"""Many calls by one statement: starting one, and its turn with the interpreter, is half the cost.

Calls of one kind that fly together are asked as one: a crowd of `get_job` is one query for all its
ids; a crowd of stage changes or ends of claims one INSERT into a view, whose trigger does the work
(`make_crowds`); a crowd of inserts is a run of statements for the jobs and one for their events.
That holds only when every call changes its own row; when one does not, the flight is rolled back
and each call is run by itself, which tells whose it was.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, repeat
from operator import itemgetter
from typing import Any, NamedTuple, cast

from pandora_db.drivers.sqlite.many_rows import Bind, binders, for_rows, write_rows
from pandora_db.sqlfiles import Catalogue, Query, binder

Args = Mapping[str, Any]
Call = tuple[Query, Args]

# From so many on it pays.
_CROWD = 4
_MOST_ROWS = 512
"""Of one statement of changes: SQLite binds 32,766 values to one."""


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

    It may have more rows than there are calls, and passes over those: every length is a statement
    to compile, and this leaves four of them between two powers of two.
    """
    (statement,) = queries.get(_CHANGES[query.name](calls)).statements
    same, each, width = binders(statement)
    values = [*same(calls[0]), *chain.from_iterable(map(each, calls))]
    step = 1 << max(0, (len(calls) - 1).bit_length() - 3)
    rows = -(-len(calls) // step) * step
    values += repeat("", (rows - len(calls)) * width)  # column1 <> '' passes over them
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
_ANSWERS: dict[str, Bind] = {
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
    given = cast("Bind", itemgetter(*load.parameters[:-2]))  # the stamps are the last two
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


def wanted_ids(calls: Sequence[Call]) -> list[int]:
    """The ids of the `get_job` calls when they are a crowd, else none."""
    ids = [args["job_id"] for query, args in calls if query.name == "get_job"]
    return ids if len(ids) >= _CROWD else []


def by_ids(queries: Catalogue, ids: list[int]) -> Call:
    """The one query for all of them; its first column is the id."""
    return queries.get("get_jobs_by_ids"), {"job_ids": json.dumps(ids)}
