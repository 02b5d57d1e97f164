"""P3: the same verdict on both dialects, over inputs that nobody would think of."""

from __future__ import annotations

import itertools
import json
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pandora_db import Duplicate, InvalidInput, Job, JobDb, JobRow, PandoraDbError, Preset, Stage
from pandora_db.store.job_updates import JobChanges

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.databases import PostgresDatabases

EDGES = [2**n + d for n in (7, 15, 31, 53, 62, 63, 64) for d in (-1, 0, 1)]
INTS = st.sampled_from([*EDGES, *(-n for n in EDGES)]) | st.integers(-3, 10) | st.integers()
TEXT = st.text(max_size=20) | st.text(st.characters(), max_size=300) | st.sampled_from(
    ["", "\0", "a\ud800", "\U0010ffff", "\udfff\ud800", "x" * 257, "é" * 256, "x" * 9000, "\x1f"]
)  # fmt: skip
TIMES = (
    st.datetimes()
    | st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=14, minutes=1))]))
    | st.sampled_from([datetime.min, datetime.max.replace(tzinfo=UTC)])  # noqa: DTZ901
)
FLOATS = st.floats() | st.sampled_from([1e16, 1e15, 5e-324, -0.0, 0.1 + 0.2, 1e-7, 123456.789e3])
JSON = st.recursive(
    st.none() | st.booleans() | INTS | FLOATS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=8,
)
WRONG = st.sampled_from([None, True, 1.0, "1", b"1", Decimal(1), object(), [], {}])
CONFIG = st.none() | st.dictionaries(TEXT, JSON, max_size=4)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "author": TEXT | WRONG,
    "link": TEXT | WRONG,
    "preset": st.sampled_from(list(Preset)) | WRONG,
    "job_type": INTS | WRONG,
    "job_id": INTS | WRONG,
    "ready": st.sampled_from(list(Stage)) | INTS | WRONG,
    "message_id": INTS | WRONG,
    "channel_id": INTS | WRONG,
    "directory": TEXT | WRONG,
    "requested_at": INTS | TIMES | WRONG,
    "author_id": INTS | WRONG,
    "guild_id": INTS | WRONG,
    "external_id": TEXT | WRONG,
    "idempotency_key": TEXT | WRONG,
    "priority": INTS | WRONG,
    "config": CONFIG | WRONG,
    "name": TEXT | WRONG,
    "tags": st.lists(TEXT | WRONG, max_size=40) | TEXT | WRONG,
    "concurrency_key": TEXT | WRONG,
    "not_before": FLOATS | INTS | TIMES | WRONG,
    "max_attempts": INTS | WRONG,
    "params": st.none() | st.binary(max_size=300) | WRONG,
}
# One field at a time is where most inputs get through, several at once where they meet.
ONE = st.sampled_from(sorted(FIELDS)).flatmap(
    lambda name: st.fixed_dictionaries({name: FIELDS[name]})
)
JOBS = ONE | st.fixed_dictionaries({}, optional=FIELDS)
CHANGES: dict[str, st.SearchStrategy[Any]] = {
    "progress": FLOATS | st.floats(0, 1) | WRONG,
    "progress_data": JSON,
    "current_step": TEXT | WRONG,
    "output_kind": TEXT | WRONG,
    "output": JSON,
    "output_file": TEXT | WRONG,
    "error": st.text(max_size=40) | TEXT | WRONG,
    **{
        name: FIELDS[name]
        for name in (
            "author_id", "guild_id", "message_id", "channel_id", "priority", "directory", "config",
            "tags", "concurrency_key", "not_before", "max_attempts",
        )
    },
}  # fmt: skip
BOUNDED = settings(
    max_examples=120,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[JobDb]:
    async with JobDb.open(url) as db:
        await db.init_schema()
        yield db


@pytest.fixture
async def both(
    sqlite_path: Path, postgres_databases: PostgresDatabases
) -> AsyncIterator[tuple[JobDb, JobDb]]:
    with postgres_databases.fresh(migrated=True) as dsn:
        async with opened(str(sqlite_path)) as sqlite, opened(dsn) as postgres:
            yield sqlite, postgres


def test_every_field_and_every_free_column_is_tried() -> None:
    assert set(FIELDS) == set(Job.model_fields)
    assert set(CHANGES) == set(JobChanges.__annotations__)


async def verdict(call: Any) -> Any:
    try:
        return await call
    except PandoraDbError as error:
        return type(error), str(error)


JSON_COLUMNS = ("config", "output", "progress_data", "tags")


def comparable(row: JobRow | None) -> dict[str, Any]:
    assert row is not None
    fields = row._asdict()
    for name in ("created_at", "updated_at"):
        assert fields.pop(name) is not None
    for name in JSON_COLUMNS:
        fields[name] = None if fields[name] is None else json.loads(fields[name])
    return fields


NUMBERS = itertools.count(10**7)


@BOUNDED
@given(arguments=JOBS)
async def test_a_job_is_stored_and_read_back_equal_or_refused(
    both: tuple[JobDb, JobDb], arguments: dict[str, Any]
) -> None:
    try:
        job = Job(**{"author": "mika", "requested_at": 5, **arguments})
    except InvalidInput:
        return  # before any database is in play
    if job.requested_at is None:
        job = job.model_copy(update={"requested_at": 7})
    if job.job_id is None:  # which number is generated beside given ones is each engine's own
        job = job.model_copy(update={"job_id": next(NUMBERS)})

    sqlite, postgres = [await verdict(db.insert_job(job)) for db in both]
    assert sqlite == postgres
    if not isinstance(sqlite, int):
        assert sqlite[0] is Duplicate
        return
    mine, theirs = [comparable(await db.get_job(sqlite)) for db in both]
    assert mine == theirs
    if job.idempotency_key is None or mine["author"] == job.author:
        assert mine["author"] == job.author
        assert mine["requested_at"] == job.requested_at
        assert _typed(mine["config"]) == _typed(job.config)
        assert (mine["preset"], mine["preset_concat"]) == job.preset.value


@BOUNDED
@given(changes=st.fixed_dictionaries({}, optional=CHANGES) | st.sampled_from(
    sorted(CHANGES)
).flatmap(lambda name: st.fixed_dictionaries({name: CHANGES[name]})))  # fmt: skip
async def test_a_change_is_stored_and_read_back_equal_or_refused(
    both: tuple[JobDb, JobDb], changes: dict[str, Any]
) -> None:
    ids = [await db.insert_job(Job(author="mika", requested_at=5)) for db in both]
    sqlite, postgres = [
        await verdict(db.update_job(one, **changes)) for db, one in zip(both, ids, strict=True)
    ]

    assert sqlite == postgres
    mine, theirs = [comparable(await db.get_job(one)) for db, one in zip(both, ids, strict=True)]
    assert mine.pop("job_id") + theirs.pop("job_id") == sum(ids)
    assert mine == theirs
    if sqlite is None:
        for name in changes.keys() - {"error", "tags"}:
            assert _typed(mine[name]) == _typed(changes[name]), name
        if "tags" in changes:
            assert (mine["tags"] or []) == sorted(set(changes["tags"]))
    else:
        assert issubclass(sqlite[0], InvalidInput)


def _typed(value: Any) -> Any:
    """Equal also in type where it matters: 1 is not True, and -0.0 is 0.0 only by value."""
    if isinstance(value, dict):
        return {key: _typed(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_typed(item) for item in value]
    return (isinstance(value, bool), value)


@BOUNDED
@given(
    filters=st.fixed_dictionaries(
        {},
        optional={
            "stage": INTS | WRONG,
            "status": st.sampled_from(["queued", "failed", "x", 1]),
            "author": TEXT | WRONG,
            "author_id": INTS | WRONG,
            "guild_id": INTS | WRONG,
            "job_type": INTS | WRONG,
            "since": INTS | TIMES | WRONG,
            "until": INTS | TIMES | WRONG,
            "archived": st.booleans() | WRONG,
            "limit": INTS | WRONG,
            "offset": INTS | WRONG,
            "after": st.tuples(INTS, INTS) | st.tuples(st.none(), INTS) | WRONG,
        },
    )
)
async def test_a_query_finds_the_same_or_is_refused(
    both: tuple[JobDb, JobDb], filters: dict[str, Any]
) -> None:
    sqlite, postgres = [await verdict(db.get_jobs(**filters)) for db in both]

    assert sqlite == postgres
    assert isinstance(sqlite, list) or issubclass(sqlite[0], InvalidInput)
