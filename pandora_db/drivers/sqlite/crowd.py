"""Calls of one kind that fly together: asked as one, since the start of each costs half its time.

A crowd of `get_job` is one query for all its ids; a crowd of inserts or stage changes is two runs
of `executemany`, one for the jobs and one for their events. That holds only when every call changes
its own row; when one does not, the flight is rolled back and each call is run by itself, which
tells whose it was.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from pandora_db.sqlfiles import Catalogue, Query

Call = tuple[Query, Mapping[str, Any]]

# From so many on it pays.
_CROWD = 4
_RECORDED_BY = {"insert_job": "record_inserted", "update_stage": "record_stage"}


class NotAlike(Exception):
    """A call of the crowd did not change just its own row."""


def runs(calls: Sequence[Call]) -> Iterator[tuple[Query, list[Mapping[str, Any]]]]:
    """The calls in order, those that follow each other with the same query together."""
    for _, group in groupby(calls, key=lambda call: id(call[0])):
        alike = list(group)
        yield alike[0][0], [args for _, args in alike]


def is_crowd(query: Query, count: int) -> bool:
    """Whether `count` calls of `query` are written together."""
    return count >= _CROWD and query.name in _RECORDED_BY and not query.flags


def write_crowd(
    cursor: sqlite3.Cursor, queries: Catalogue, query: Query, calls: Sequence[Mapping[str, Any]]
) -> list[list[Any]]:
    """Do all calls, and answer as each alone would be answered; raises `NotAlike`."""
    if query.name == "insert_job":
        calls = _with_ids(cursor, queries, calls)
    ids = [args["job_id"] for args in calls]
    if len(set(ids)) < len(ids):
        raise NotAlike
    change = query.statements[0]
    cursor.executemany(change.text, map(change.bind, calls))
    if cursor.rowcount != len(calls):
        raise NotAlike
    (record,) = queries.get(_RECORDED_BY[query.name]).statements
    cursor.executemany(record.text, map(record.bind, calls))
    return [[(job_id,)] for job_id in ids]


def _with_ids(
    cursor: sqlite3.Cursor, queries: Catalogue, calls: Sequence[Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    (following,) = cursor.execute(queries.get("next_job_id").text).fetchone()
    numbered: list[Mapping[str, Any]] = []
    for args in calls:
        if args["job_id"] is None:
            numbered.append({**args, "job_id": following})
            following += 1
        else:
            numbered.append(args)
    return numbered


def wanted_ids(calls: Sequence[Call]) -> list[int]:
    """The ids of the `get_job` calls when they are a crowd, else none."""
    ids = [args["job_id"] for query, args in calls if query.name == "get_job"]
    return ids if len(ids) >= _CROWD else []


def by_ids(queries: Catalogue, ids: list[int]) -> Call:
    """The one query for all of them; its first column is the id."""
    return queries.get("get_jobs_by_ids"), {"job_ids": json.dumps(ids)}
