"""A lone call on PostgreSQL, in whose task its statement runs, when things go wrong around it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from pandora_db import HandleClosed, JobDb, OutcomeUnknown, PandoraDbError, Stage
from pandora_db.drivers.postgres.lane import Lane
from pandora_db.dsn import PostgresTarget, parse_dsn
from pandora_db.testing import make_job

pytestmark = pytest.mark.postgres


@asynccontextmanager
async def locked(dsn: str, job_id: int) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """Hold the row of a job; yields the connection that does, which may let go earlier."""
    target = parse_dsn(dsn)
    assert isinstance(target, PostgresTarget)
    connection = await asyncpg.connect(**target.connect_arguments())
    try:
        await connection.execute("BEGIN")
        await connection.execute("SELECT FROM jobs WHERE job_id = $1 FOR UPDATE", job_id)
        yield connection
    finally:
        await connection.close()


async def _kill_those_who_wait(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    killed = 0
    while not killed:
        killed = len(
            await connection.fetch(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
        )
        await asyncio.sleep(0.01)


async def test_a_lost_call_stays_before_those_that_came_later(migrated_dsn: str) -> None:
    async with JobDb.open(migrated_dsn, sweep=None) as db:
        job_id = await db.insert_job(make_job())
        async with locked(migrated_dsn, job_id) as lock:
            first = asyncio.create_task(db.update_stage(job_id, Stage.DOWNLOADED))
            await asyncio.sleep(0.05)
            second = asyncio.create_task(db.update_stage(job_id, Stage.ENCODING))
            await asyncio.sleep(0.05)
            await _kill_those_who_wait(lock)
            await lock.execute("ROLLBACK")
            await asyncio.gather(first, second)

        stages = [event.stage for event in await db.history(job_id)]
        assert stages == [Stage.QUEUED, Stage.DOWNLOADED, Stage.ENCODING]


async def test_a_call_behind_a_lone_one_ends_when_closing_is_cancelled(migrated_dsn: str) -> None:
    db = await JobDb.connect(migrated_dsn, sweep=None, lock_timeout=20.0)
    busy, other = [await db.insert_job(make_job()) for _ in range(2)]
    closing: asyncio.Task[None] | None = None

    async def first() -> None:
        await db.update_job(busy, priority=1)
        assert closing is not None
        closing.cancel()

    async with locked(migrated_dsn, busy) as lock:
        lone = asyncio.create_task(first())
        await asyncio.sleep(0.05)
        behind = asyncio.create_task(db.update_job(other, priority=2))
        await asyncio.sleep(0.05)
        closing = asyncio.create_task(db.close())
        await asyncio.sleep(0.05)
        await lock.execute("ROLLBACK")
        _, waiting = await asyncio.wait({lone, behind, closing}, timeout=5.0)

    assert not waiting
    assert lone.exception() is None
    assert behind.exception() is None or isinstance(
        behind.exception(), (HandleClosed, OutcomeUnknown)
    )


async def test_a_call_that_close_cuts_off_is_told_at_once(migrated_dsn: str) -> None:
    db = await JobDb.connect(migrated_dsn, sweep=None, close_timeout=0.2, lock_timeout=20.0)
    job_id = await db.insert_job(make_job())
    async with locked(migrated_dsn, job_id):
        call = asyncio.create_task(db.update_job(job_id, priority=1))
        await asyncio.sleep(0.05)
        await db.close()
        _, waiting = await asyncio.wait({call}, timeout=3.0)

    assert not waiting
    assert isinstance(call.exception(), (HandleClosed, OutcomeUnknown))


async def test_what_nobody_foresaw_ends_one_flight_only(
    migrated_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with JobDb.open(migrated_dsn, sweep=None) as db:
        ids = await db.insert_jobs(make_job() for _ in range(30))
        send = Lane._send
        broken = [True]

        async def odd(self: Lane, connection: Any, batch: Any) -> Any:
            if broken.pop() if broken else False:
                raise RuntimeError("odd")
            return await send(self, connection, batch)

        monkeypatch.setattr(Lane, "_send", odd)
        found = await asyncio.gather(
            *(db.update_job(job_id, priority=1) for job_id in ids * 2), return_exceptions=True
        )
        odds = [error for error in found if error is not None]
        assert 0 < len(odds) < 60
        assert {type(error) for error in odds} == {PandoraDbError}
        await asyncio.gather(*(db.update_job(job_id, priority=2) for job_id in ids))
