"""A database that fails for a while costs time, and nothing else."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import psycopg
import pytest

from pandora_db import Job, JobDb, Stage
from pandora_db.runtime import JobContext
from tests.support.handlers import FAST, one_stage, row_of
from tests.support.raw import Raw
from tests.support.waiting import wait_until


@contextmanager
def locked(raw: Raw) -> Iterator[None]:
    """Another program holds the table, or the file."""
    if raw.path is None:
        with psycopg.connect(raw.url) as connection:
            connection.execute("LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE")
            yield
            connection.rollback()
        return
    connection = sqlite3.connect(raw.path, isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        connection.close()


@asynccontextmanager
async def impatient(db_url: str) -> AsyncIterator[JobDb]:
    async with JobDb.open(db_url, sweep=None, lock_timeout=0.2) as db:
        yield db


async def test_the_end_of_a_job_is_written_when_the_database_is_back(
    db_url: str, raw: Raw, caplog: pytest.LogCaptureFixture
) -> None:
    at_work, go_on = asyncio.Event(), asyncio.Event()

    async def handler(ctx: JobContext) -> None:
        at_work.set()
        await go_on.wait()

    async with impatient(db_url) as db:
        job_id = await db.insert_job(Job(author="mika"))
        async with one_stage(handler).running(db, **FAST) as crew:
            await asyncio.wait_for(at_work.wait(), 10)
            with locked(raw):
                go_on.set()
                await asyncio.sleep(0.7)
                assert crew.running == [job_id]
            await wait_until(lambda: not crew.running)
        assert (await row_of(db, job_id)).ready == Stage.DOWNLOADED
    assert "could not be written yet" in caplog.text


async def test_workers_look_again_when_the_database_is_back(
    db_url: str, raw: Raw, caplog: pytest.LogCaptureFixture
) -> None:
    done = asyncio.Event()

    async def handler(ctx: JobContext) -> None:
        done.set()

    async with impatient(db_url) as db, one_stage(handler).running(db, **FAST):
        with locked(raw):
            await wait_until(lambda: "no jobs can be claimed for DOWNLOADING" in caplog.text)
        await db.insert_job(Job(author="mika"))
        await asyncio.wait_for(done.wait(), 10)
    assert caplog.text.count("no jobs can be claimed") == 1


async def test_workers_end_with_their_handle(db_url: str) -> None:
    async def handler(ctx: JobContext) -> None: ...

    db = await JobDb.connect(db_url, sweep=None)
    async with one_stage(handler).running(db, **FAST) as crew:
        await crew.wait_idle()
        await db.close()
        await asyncio.sleep(0.2)


async def test_a_crew_works_once(db: JobDb) -> None:
    async def handler(ctx: JobContext) -> None: ...

    crew = one_stage(handler).running(db, **FAST)
    async with crew:
        pass
    with pytest.raises(RuntimeError, match="once"):
        await crew.__aenter__()


def test_the_package_does_not_import_the_runtime() -> None:
    code = "import sys, pandora_db; sys.exit('pandora_db.runtime' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
