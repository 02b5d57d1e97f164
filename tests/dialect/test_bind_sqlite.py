"""`db.bind` on aiosqlite: factories, isolation levels and savepoints of the caller."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any

import aiosqlite
import pytest

from pandora_db import InvalidInput, JobDb, Stage
from pandora_db.testing import make_job

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def db(sqlite_path: Path) -> AsyncIterator[JobDb]:
    async with JobDb.open(sqlite_path) as db:
        await db.init_schema()
        yield db


@pytest.mark.parametrize("factory", [sqlite3.Row, lambda _, row: {"row": row}])
async def test_factories_of_the_caller_do_not_matter(
    db: JobDb, sqlite_path: Path, factory: Any
) -> None:
    async with aiosqlite.connect(sqlite_path) as theirs:
        theirs.row_factory = factory
        theirs.text_factory = bytes
        await theirs.execute("BEGIN IMMEDIATE")
        store = db.bind(theirs)
        job_id = await store.insert_job(make_job(config={"crf": 18}))
        (loaded,) = await store.insert_jobs([make_job(author="ü")])
        await store.archive_job(loaded)
        inside = await store.get_jobs_by_ids([job_id, loaded])
        events = await store.history(job_id)
        assert theirs.text_factory is bytes
        await theirs.commit()

    assert inside == await db.get_jobs_by_ids([job_id, loaded])
    assert events == await db.history(job_id)


@pytest.mark.parametrize("level", ["", "DEFERRED", "IMMEDIATE", "EXCLUSIVE", None])
async def test_any_isolation_level_commits_with_the_caller_only(
    db: JobDb, sqlite_path: Path, level: Any
) -> None:
    async with aiosqlite.connect(sqlite_path, isolation_level=level) as theirs:
        with pytest.raises(InvalidInput, match="BEGIN IMMEDIATE"):
            db.bind(theirs)
        await theirs.execute("BEGIN IMMEDIATE")
        await db.bind(theirs).insert_job(make_job())
        await db.bind(theirs).insert_jobs([make_job()])
        await theirs.rollback()
        assert await db.count_jobs() == 0

        await theirs.execute("BEGIN")
        kept = await db.bind(theirs).insert_job(make_job())
        await theirs.commit()

    assert [row.job_id for row in await db.get_active_jobs()] == [kept]


async def test_a_transaction_that_sqlite3_began_by_itself_will_do(
    db: JobDb, sqlite_path: Path
) -> None:
    async with aiosqlite.connect(sqlite_path) as theirs:
        await theirs.execute("CREATE TABLE orders (customer TEXT)")
        await theirs.execute("INSERT INTO orders VALUES ('mika')")
        job_id = await db.bind(theirs).insert_job(make_job())
        await theirs.rollback()
        assert await db.get_job(job_id) is None


async def test_savepoints_of_the_caller_hold_for_jobs_too(db: JobDb, sqlite_path: Path) -> None:
    async with aiosqlite.connect(sqlite_path, isolation_level=None) as theirs:
        await theirs.execute("BEGIN IMMEDIATE")
        store = db.bind(theirs)
        kept = await store.insert_job(make_job())
        await theirs.execute("SAVEPOINT unit_1")  # the name that a unit of ours takes as well
        await store.insert_jobs([make_job(), make_job()])
        await theirs.execute("ROLLBACK TO unit_1")
        await store.update_stage(kept, Stage.ENCODING)
        await theirs.commit()

    assert [row.job_id for row in await db.get_active_jobs()] == [kept]


async def test_bind_refuses_an_asyncpg_like_object(db: JobDb) -> None:
    with sqlite3.connect(":memory:") as plain:
        other: Any = plain
        with pytest.raises(
            InvalidInput, match=r"takes an aiosqlite\.Connection, not sqlite3\.Connection$"
        ):
            db.bind(other)
    plain.close()
