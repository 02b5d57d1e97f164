"""Claims beside open transactions: SQLite, with its one writer, lets nobody claim meanwhile."""

from __future__ import annotations

import asyncio
from itertools import islice
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from pandora_db import Claim, JobDb, Limits, Stage
from pandora_db.db import internals
from pandora_db.drivers.postgres.lane import Lane
from pandora_db.runtime import JobContext
from pandora_db.testing import make_job
from tests.support.databases import PostgresDatabases
from tests.support.handlers import FAST, one_stage, row_of
from tests.support.waiting import wait_until


async def test_limited_claims_pass_over_a_job_that_somebody_changes(url: str) -> None:
    async with JobDb.open(url, sweep=None) as db, JobDb.open(url, sweep=None) as other:
        first, second = await db.insert_jobs([make_job(), make_job()])
        async with other.transaction() as tx:
            await tx.update_job(first, priority=1)
            claims = await db.claim_jobs(
                Stage.QUEUED, into=Stage.DOWNLOADING, limit=5, limits=Limits(stage=9)
            )

    assert [claim.job_id for claim in claims] == [second]


async def lapsed_job(url: str) -> int:
    """A job whose worker has gone without ending its claim."""
    async with JobDb.open(url, sweep=None, lease=0.3, heartbeat=0.1) as worker:
        job_id = await worker.insert_job(make_job())
        assert await worker.claim_job(job_id, into=Stage.DOWNLOADING) is not None
    return job_id


async def test_recover_takes_what_another_process_had_locked_and_let_go(url: str) -> None:
    job_id = await lapsed_job(url)
    async with JobDb.open(url, sweep=None) as db, JobDb.open(url, sweep=None) as other:
        await wait_until(db.has_lapsed)
        async with other.transaction() as tx:
            await tx.update_job(job_id, priority=1)
            recovering = asyncio.ensure_future(db.recover())
            await asyncio.sleep(0.2)
            assert not recovering.done()

        assert (await recovering).requeued == (job_id,)


async def test_recover_leaves_what_stays_locked(url: str) -> None:
    job_id = await lapsed_job(url)
    async with JobDb.open(url, sweep=None) as db, JobDb.open(url, sweep=None) as other:
        await wait_until(db.has_lapsed)
        async with other.transaction() as tx:
            await tx.update_job(job_id, priority=1)
            async with asyncio.timeout(10):
                assert (await db.recover()).jobs == ()


async def test_whoever_waits_for_leases_leaves_what_stays_locked(url: str) -> None:
    locked_id, other_id = await lapsed_job(url), await lapsed_job(url)
    async with JobDb.open(url, sweep=None) as db:
        await wait_until(db.has_lapsed)
        raw = await asyncio.to_thread(lock_row, url, locked_id)
        try:
            async with asyncio.timeout(20):
                assert (await db.recover(wait=3600)).requeued == (other_id,)
            pipeline = one_stage(done)
            async with asyncio.timeout(20), pipeline.running(db, **FAST) as crew:
                await crew.wait_idle()
        finally:
            raw.close()
        assert (await row_of(db, other_id)).ready == Stage.DOWNLOADED
        assert (await db.recover()).requeued == (locked_id,)


async def done(_ctx: JobContext) -> None:
    """A handler."""


async def test_an_exhausted_pool_costs_no_lease(url: str) -> None:
    async with (
        JobDb.open(url, sweep=None) as db,
        JobDb.open(url, lease=0.6, heartbeat=0.15, pool_max=1, sweep=None) as worker,
    ):
        await worker.insert_job(make_job())
        (claim,) = await worker.claim_jobs(Stage.QUEUED, into=Stage.DOWNLOADING)
        async with worker.transaction() as tx:
            for _ in range(12):  # not idle for as long as a lease, which would end it
                await tx.get_job(claim.job_id)
                await asyncio.sleep(0.1)
            assert not await db.has_lapsed()
        await worker.finish_job(claim, Stage.DOWNLOADED)


def make_strict(url: str) -> None:
    """Transactions of this database begin at REPEATABLE READ, where nobody says otherwise."""
    with psycopg.connect(url, autocommit=True) as raw:
        raw.execute(
            "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_isolation = "
            "''repeatable read''', current_database()); END $$"
        )


async def test_claims_repeated_at_once_meet_each_other_under_a_stricter_default(url: str) -> None:
    make_strict(url)
    async with JobDb.open(url, sweep=None) as db, JobDb.open(url, sweep=None) as other:
        for _ in range(5):
            await db.insert_jobs([make_job() for _ in range(4)])
            call = uuid4()

            async def claim(one: JobDb, call: UUID = call) -> list[Claim]:
                return await one.claim_jobs(
                    Stage.QUEUED, into=Stage.DOWNLOADING, limit=2, operation_id=call
                )

            found = await asyncio.gather(*(claim(one) for one in (db, other) * 3))
            assert len({tuple(one.job_id for one in claims) for claims in found}) == 1


async def test_tables_are_made_at_once_under_a_stricter_default(
    postgres_databases: PostgresDatabases,
) -> None:
    with postgres_databases.fresh() as url:
        make_strict(url)
        async with JobDb.open(url) as db, JobDb.open(url) as other:
            await asyncio.gather(*(one.init_schema() for one in (db, other) * 3))
            assert await db.verify_schema() == []


async def test_limited_claims_are_taken_again_after_a_cut(url: str) -> None:
    limits = Limits(stage=9)
    async with JobDb.open(url, sweep=None) as db, JobDb.open(url, sweep=None) as other:
        await db.insert_jobs([make_job() for _ in range(3)])
        async with other.transaction() as tx:  # has the turn of those who count
            await tx.claim_jobs(Stage.QUEUED, into=Stage.DOWNLOADING, limits=limits)
            claiming = asyncio.ensure_future(
                db.claim_jobs(Stage.QUEUED, into=Stage.DOWNLOADING, limits=limits)
            )
            await wait_until(lambda: end_who_waits(url))

        assert len(await claiming) == 1


def end_who_waits(url: str) -> int:
    with psycopg.connect(url, autocommit=True) as raw:
        return raw.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND wait_event_type = 'Lock'"
        ).rowcount


async def test_a_single_statement_is_read_committed_too(url: str) -> None:
    make_strict(url)
    async with (
        JobDb.open(url, sweep=None) as db,
        internals(db).driver._pool.connection() as connection,  # type: ignore[attr-defined]
    ):
        assert await connection.fetchval("SHOW transaction_isolation") == "read committed"


@pytest.mark.parametrize(("under_way", "few"), [(60, 55), (30, 40)])
async def test_as_many_ends_as_are_under_way_do_not_wait_for_those(
    url: str, under_way: int, few: int
) -> None:
    """(60, 55): fewer than are under way. (30, 40): fewer than are worth it."""
    async with JobDb.open(url, sweep=None) as db:
        await db.insert_jobs(make_job() for _ in range(200))
        claims = iter(await db.claim_jobs(Stage.QUEUED, into=Stage.DOWNLOADING, limit=200))

        def end(count: int, *others: Claim) -> asyncio.Future[list[Stage]]:
            chosen = [*others, *islice(claims, count)]
            return asyncio.gather(*(db.finish_job(one, Stage.DOWNLOADED) for one in chosen))

        await end(10)  # from now on they come as a crowd
        locked = next(claims)
        held = await asyncio.to_thread(lock_row, url, locked.job_id)
        try:
            first = end(under_way - 1, locked)
            await asyncio.sleep(0.2)
            waiting = end(few)
            await asyncio.sleep(0.2)
            assert not waiting.done()

            more = end(60)
            async with asyncio.timeout(10):
                await asyncio.gather(waiting, more)
            assert not first.done()
        finally:
            await asyncio.to_thread(held.close)

        assert set(await first) == {Stage.DOWNLOADED}


async def test_calls_of_one_job_start_no_flight_for_nothing(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    boards: list[int] = []
    board = Lane._board

    def boarding(lane: Lane) -> Any:
        batch = board(lane)
        boards.append(len(batch))
        return batch

    monkeypatch.setattr(Lane, "_board", boarding)
    async with JobDb.open(url, sweep=None) as db:
        job_id = await db.insert_job(make_job())
        async with asyncio.TaskGroup() as group:
            for _ in range(300):
                group.create_task(db.update_stage(job_id, Stage.DOWNLOADING))
                await asyncio.sleep(0)

    assert boards.count(0) <= 10, boards  # once for each flight at most, while 50 came


def lock_row(url: str, job_id: int) -> psycopg.Connection:
    """A connection with an open transaction that has locked the job."""
    raw = psycopg.connect(url)
    raw.execute("SELECT 1 FROM jobs WHERE job_id = %s FOR UPDATE", (job_id,))
    return raw
