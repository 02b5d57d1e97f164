"""Many rows by one statement, since the start of each costs as much as the row.

Calls of one kind that fly together are asked as one. A crowd of `get_job` is one query for all its
ids; a crowd of inserts or stage changes is a run of statements for the jobs and one for their
events. That holds only when every call changes its own row; when one does not, the flight is rolled
back and each call is run by itself, which tells whose it was.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, groupby, islice
from operator import itemgetter
from typing import TYPE_CHECKING, Any, cast

from pandora_db.sqlfiles import Catalogue, Query, Statement

if TYPE_CHECKING:
    from collections.abc import Callable

Call = tuple[Query, Mapping[str, Any]]

# From so many on it pays.
_CROWD = 4
# More rows in a statement gain nothing: 10 us a job one by one, 7 in tens and in fifties.
_ROWS = 25
_TOGETHER = frozenset({"insert_job", "update_stage"})


class NotAlike(Exception):
    """A call of the crowd did not change just its own row."""


def runs(calls: Sequence[Call]) -> Iterator[tuple[Query, list[Mapping[str, Any]]]]:
    """The calls in order, those that follow each other with the same query together."""
    for _, group in groupby(calls, key=lambda call: id(call[0])):
        alike = list(group)
        yield alike[0][0], [args for _, args in alike]


def is_crowd(query: Query, count: int) -> bool:
    """Whether `count` calls of `query` are written together."""
    return count >= _CROWD and query.name in _TOGETHER and not query.flags


def write_crowd(
    cursor: sqlite3.Cursor, queries: Catalogue, query: Query, calls: Sequence[Mapping[str, Any]]
) -> list[list[Any]]:
    """Do all calls, and answer as each alone would be answered; raises `NotAlike`."""
    write = _insert_jobs if query.name == "insert_job" else _update_stages
    return [[(job_id,)] for job_id in write(cursor, queries, calls)]


def _insert_jobs(
    cursor: sqlite3.Cursor, queries: Catalogue, calls: Sequence[Mapping[str, Any]]
) -> list[int]:
    (following,) = cursor.execute(queries.get("next_job_id").text).fetchone()
    seconds, created_at, now = cursor.execute(queries.get("stamp").text).fetchone()
    (load,) = queries.get("load_jobs").statements
    names = load.parameters[:-2]  # all but created_at and updated_at
    given = cast("Callable[[Mapping[str, Any]], tuple[Any, ...]]", itemgetter(*names))
    jobs: list[tuple[Any, ...]] = []
    events: list[tuple[Any, ...]] = []
    for args in calls:
        job_id, author, requested_at, *others = given(args)
        if job_id is None:
            job_id, following = following, following + 1
        if requested_at is None:
            requested_at = seconds
        jobs.append((job_id, author, requested_at, *others, created_at, now))
        events.append((job_id, 1, now, 1, args["ready"], 0, args["operation_id"]))
    _write_own(cursor, load, jobs)
    _write_own(cursor, queries.get("load_job_events").statements[0], events)
    return [job[0] for job in jobs]


def _update_stages(
    cursor: sqlite3.Cursor, queries: Catalogue, calls: Sequence[Mapping[str, Any]]
) -> list[int]:
    ids = [args["job_id"] for args in calls]
    if len(set(ids)) < len(ids):
        raise NotAlike
    for name in ("update_stages", "record_stages"):
        (statement,) = queries.get(name).statements
        _write_own(cursor, statement, list(map(statement.bind, calls)))
    return ids


def _write_own(cursor: sqlite3.Cursor, statement: Statement, rows: Sequence[Sequence[Any]]) -> None:
    if write_rows(cursor, statement, rows) != len(rows):
        raise NotAlike


def write_rows(cursor: sqlite3.Cursor, statement: Statement, rows: Iterable[Sequence[Any]]) -> int:
    """Run `statement` for all rows; returns how many it changed."""
    changed = 0
    left = iter(rows)
    while some := list(islice(left, _ROWS)):
        cursor.execute(statement.for_rows(len(some)), list(chain.from_iterable(some)))
        changed += cursor.rowcount
    return changed


def wanted_ids(calls: Sequence[Call]) -> list[int]:
    """The ids of the `get_job` calls when they are a crowd, else none."""
    ids = [args["job_id"] for query, args in calls if query.name == "get_job"]
    return ids if len(ids) >= _CROWD else []


def by_ids(queries: Catalogue, ids: list[int]) -> Call:
    """The one query for all of them; its first column is the id."""
    return queries.get("get_jobs_by_ids"), {"job_ids": json.dumps(ids)}
