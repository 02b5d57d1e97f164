"""Several programs on one SQLite file, and one that holds its lock (T9, P8)."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import time
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pandora_db import JobDb, LockTimeout, PoolTimeout, Stage, StatementTimeout
from tests.faults.calls import make_job

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
CONTENDER = """
import asyncio, sys
from pandora_db import JobDb, Stage
from tests.faults.calls import make_job

async def work(db, name, count):
    for _ in range(count):
        job_id = await db.insert_job(make_job(name))
        await db.update_stage(job_id, Stage.DOWNLOADING)
        async with db.transaction() as tx:
            await tx.get_queue_length()
            await tx.archive_job(job_id)

async def main(url, name):
    async with JobDb.open(url) as db:
        await asyncio.gather(*(work(db, name, 25) for _ in range(8)))

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture
def dialect() -> str:
    return "sqlite"


@contextmanager
def foreign_lock(url: str) -> Iterator[None]:
    """Another program's open write transaction."""
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


async def test_writers_of_two_processes_never_meet_a_busy_file(db_url: str) -> None:
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", CONTENDER, db_url, f"process {n}", cwd=ROOT,
            stderr=asyncio.subprocess.PIPE,
        )
        for n in range(2)
    ]  # fmt: skip
    ends = await asyncio.gather(*(process.communicate() for process in processes))

    for process, (_, complaint) in zip(processes, ends, strict=True):
        assert process.returncode == 0, complaint.decode()
    async with JobDb.open(db_url) as db:
        assert await db.count_jobs(archived=True) == 2 * 8 * 25
        assert (await db.health(deep=True)).integrity == []


async def test_a_file_that_another_program_holds_is_a_lock_timeout(db_url: str) -> None:
    async with JobDb.open(db_url, lock_timeout=0.3) as db:
        job_id = await db.insert_job(make_job("a"))
        with foreign_lock(db_url):
            start = time.monotonic()
            calls = [db.insert_job(make_job("b")), db.update_stage(job_id, Stage.ENCODED)]
            errors = await asyncio.gather(*calls, return_exceptions=True)
            assert [type(error) for error in errors] == [LockTimeout] * 2
            with pytest.raises(LockTimeout):
                async with db.transaction():
                    pass
            assert time.monotonic() - start < 3 * 0.3 + 1.0
            assert (await db.get_job(job_id)).ready == Stage.QUEUED  # type: ignore[union-attr]

        await db.update_stage(job_id, Stage.ENCODED)
        assert await db.get_queue_length() == 1


async def test_writers_behind_a_long_transaction_time_out_and_readers_do_not(db_url: str) -> None:
    async with JobDb.open(db_url, acquire_timeout=0.3) as db:
        begun, end = asyncio.Event(), asyncio.Event()

        async def hold() -> None:
            async with db.transaction() as tx:
                await tx.insert_job(make_job("held"))
                begun.set()
                await end.wait()

        holder = asyncio.ensure_future(hold())
        await begun.wait()
        start = time.monotonic()
        waiting = [asyncio.ensure_future(db.insert_job(make_job("late"))) for _ in range(5)]
        assert await db.get_queue_length() == 0
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [PoolTimeout] * 5
        with pytest.raises(PoolTimeout):
            async with db.transaction():
                pass
        assert time.monotonic() - start < 2 * 0.3 + 1.0
        end.set()
        await holder

        await db.insert_job(make_job("after"))
        assert await db.get_queue_length() == 2


SLOW = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"


async def test_a_statement_is_stopped_after_statement_timeout(
    db_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with JobDb.open(db_url, statement_timeout=0.3) as db:
        await db.insert_job(make_job("a"))
        with monkeypatch.context() as patch:
            _slow_down(patch, db)
            start = time.monotonic()
            with pytest.raises(StatementTimeout):
                await db.get_queue_length()
            assert time.monotonic() - start < 0.3 + 1.0

        assert await db.get_queue_length() == 1


async def test_a_statement_of_a_transaction_is_stopped_too(
    db_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with JobDb.open(db_url, statement_timeout=0.3) as db:
        with monkeypatch.context() as patch:
            async with db.transaction() as tx:
                await tx.insert_job(make_job("a"))
                _slow_down(patch, db)
                start = time.monotonic()
                with pytest.raises(StatementTimeout):
                    await tx.get_queue_length()
                assert time.monotonic() - start < 0.3 + 1.0

        assert await db.get_queue_length() == 1


def _slow_down(patch: pytest.MonkeyPatch, db: JobDb) -> None:
    queries = db._driver.queries  # type: ignore[attr-defined]
    query = queries.get("get_queue_length")
    (statement,) = query.statements
    slow = replace(query, statements=(replace(statement, text=SLOW),))
    patch.setitem(queries._variants, ("get_queue_length", frozenset()), slow)
