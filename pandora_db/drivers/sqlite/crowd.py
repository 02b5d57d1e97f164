"""Many rows by one statement: starting one, and its turn with the interpreter, is half the cost.

Calls of one kind that fly together are asked as one. A crowd of `get_job` is one query for all its
ids; a crowd of inserts or stage changes is a run of statements for the jobs and one for their
events. That holds only when every call changes its own row; when one does not, the flight is rolled
back and each call is run by itself, which tells whose it was.
"""

from __future__ import annotations

import itertools
import json
import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from itertools import chain, groupby, islice
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from pandora_db.sqlfiles import Catalogue, Query, Statement, binder

if TYPE_CHECKING:
    from collections.abc import Callable

    _Bind = Callable[[Mapping[str, Any]], tuple[Any, ...]]

Call = tuple[Query, Mapping[str, Any]]

# From so many on it pays.
_CROWD = 4
# A crowd of 50 in two statements; with 10 to 50 rows in each, a job costs the same.
_ROWS = 25
_ROW = re.compile(r"\bVALUES\s*(\((?:[^()]|\([^()]*\))*\))")
_PLACE = re.compile(r"\?(\d+)")


class NotAlike(Exception):
    """A call of the crowd did not change just its own row."""


def runs(calls: Sequence[Call]) -> Iterator[tuple[Query, list[Mapping[str, Any]]]]:
    """The calls in order, those that follow each other with the same query together."""
    for _, group in groupby(calls, key=lambda call: id(call[0])):
        alike = list(group)
        yield alike[0][0], [args for _, args in alike]


def is_crowd(query: Query, count: int) -> bool:
    """Whether `count` calls of `query` are written together."""
    return count >= _CROWD and query.name in _WRITERS and not query.flags


def write_crowd(
    cursor: sqlite3.Cursor, queries: Catalogue, query: Query, calls: Sequence[Mapping[str, Any]]
) -> list[list[Any]]:
    """Do all calls, and answer as each alone would be answered; raises `NotAlike`."""
    return [[row] for row in _WRITERS[query.name](cursor, queries, calls)]


def _insert_jobs(
    cursor: sqlite3.Cursor, queries: Catalogue, calls: Sequence[Mapping[str, Any]]
) -> list[tuple[Any, ...]]:
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
    _write_each(cursor, load, jobs)
    _write_each(cursor, record, events)
    return [job[:1] for job in jobs]


def _update_stages(
    cursor: sqlite3.Cursor, queries: Catalogue, calls: Sequence[Mapping[str, Any]]
) -> list[tuple[Any, ...]]:
    _write_alike(cursor, queries, ("update_stages", "record_stages"), calls)
    return [(args["job_id"],) for args in calls]


def _end_claims(
    cursor: sqlite3.Cursor, queries: Catalogue, calls: Sequence[Mapping[str, Any]]
) -> list[tuple[Any, ...]]:
    # Where all end in one way without an output, as most do, it takes three fifths of the time.
    way = _way(calls[0])
    alike = way[-3:] == (None, None, None) and all(_way(args) == way for args in calls)
    _write_alike(
        cursor, queries, ("end_claims_alike" if alike else "end_claims", "record_ends"), calls
    )
    (statement,) = queries.get("drop_ended").statements
    write_rows(cursor, statement, [statement.bind(args) for args in calls if args["drop"]])
    return [(args["job_id"], args["stage"]) for args in calls]


_way = itemgetter(
    "stage", "archived", "cancelled", "delay", "keep_error", "error",
    "output_kind", "output", "output_file",
)  # fmt: skip


def _write_alike(
    cursor: sqlite3.Cursor,
    queries: Catalogue,
    names: Iterable[str],
    calls: Sequence[Mapping[str, Any]],
) -> None:
    """Run these queries for all calls, each on a job of its own."""
    if len({args["job_id"] for args in calls}) < len(calls):
        raise NotAlike
    for name in names:
        (statement,) = queries.get(name).statements
        same, each = _binders(statement)
        _write_each(cursor, statement, list(map(each, calls)), same(calls[0]))


_WRITERS = {
    "insert_job": _insert_jobs,
    "update_stage": _update_stages,
    "end_claim": _end_claims,
}


def _write_each(
    cursor: sqlite3.Cursor,
    statement: Statement,
    rows: Sequence[Sequence[Any]],
    same: Sequence[Any] = (),
) -> None:
    """Raises `NotAlike` unless each of the rows changed one of the table."""
    if write_rows(cursor, statement, rows, same) != len(rows):
        raise NotAlike


def write_rows(
    cursor: sqlite3.Cursor,
    statement: Statement,
    rows: Iterable[Sequence[Any]],
    same: Sequence[Any] = (),
) -> int:
    """Run `statement` for all rows of its VALUES; how many it changed.

    `same` are the values of the parameters outside VALUES, one for all rows.
    """
    changed = 0
    left = iter(rows)
    while some := list(islice(left, _ROWS)):
        text = for_rows(statement.text, len(some))
        cursor.execute(text, [*same, *chain.from_iterable(some)])
        changed += cursor.rowcount
    return changed


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
def for_rows(text: str, count: int) -> str:
    """The statement with the row of its VALUES `count` times, numbered after what is outside."""
    before, row, behind, same, _ = _cut(text)
    outside = partial(_PLACE.sub, lambda place: f"?{same.index(int(place[1])) + 1}")
    numbers = itertools.count(len(same) + 1)
    rows = _PLACE.sub(lambda _: f"?{next(numbers)}", ", ".join([row] * count))
    return outside(before) + rows + outside(behind)


@cache
def _binders(statement: Statement) -> tuple[_Bind, _Bind]:
    """The values outside VALUES, and those of a row."""
    _, _, _, same, each = _cut(statement.text)
    names = statement.parameters
    return binder([names[n - 1] for n in same]), binder([names[n - 1] for n in each])


def wanted_ids(calls: Sequence[Call]) -> list[int]:
    """The ids of the `get_job` calls when they are a crowd, else none."""
    ids = [args["job_id"] for query, args in calls if query.name == "get_job"]
    return ids if len(ids) >= _CROWD else []


def by_ids(queries: Catalogue, ids: list[int]) -> Call:
    """The one query for all of them; its first column is the id."""
    return queries.get("get_jobs_by_ids"), {"job_ids": json.dumps(ids)}
