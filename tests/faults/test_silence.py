"""A line that falls silent: no answer, no error, no end (T7, P8)."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from pandora_db import ConnectionFailed, JobDb, OutcomeUnknown, PandoraDbError, Stage
from tests.faults.calls import make_job
from tests.faults.leaks import NAME, Watch, footprint
from tests.faults.proxy import DOWN, UP, Ending, Plan, Proxy
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

STATEMENT = 0.4
OUTCOME = 1.0
SLACK = 1.0
# A statement, its search, one connection that does not come.
BOUND = STATEMENT + 1.0 + OUTCOME + SLACK


@asynccontextmanager
async def silent(dsn: str) -> AsyncIterator[tuple[JobDb, Proxy, Watch]]:
    async with (
        Watch(dsn) as watch,
        Proxy(dsn) as proxy,
        JobDb.open(
            proxy.dsn,
            application_name=NAME,
            statement_timeout=STATEMENT,
            outcome_timeout=OUTCOME,
            connect_timeout=0.5,
            acquire_timeout=0.5,
            close_timeout=1.0,
            sweep=None,
            notify=False,  # it would meet the silence in place of the call
        ) as db,
    ):
        yield db, proxy, watch


@pytest.mark.parametrize("direction", [UP, DOWN])
async def test_a_write_on_a_silent_line_is_found_on_another(
    migrated_dsn: str, direction: str
) -> None:
    async with silent(migrated_dsn) as (db, proxy, watch):
        job_id = await db.insert_job(make_job("a"))
        await db.update_stage(job_id, Stage.DOWNLOADING)
        proxy.arm(Plan(direction, 20, Ending.SILENCE))

        call = asyncio.ensure_future(db.update_stage(job_id, Stage.DOWNLOADED))
        await asyncio.sleep(0.2)
        proxy.release()  # new connections pass, the old one stays silent
        await call

        assert (await footprint(watch, "a"))[0][0] == Stage.DOWNLOADED
        assert [event.seq for event in await db.history(job_id)] == [1, 2, 3]


async def test_a_write_into_silence_ends_with_outcome_unknown_and_can_be_repeated(
    migrated_dsn: str,
) -> None:
    async with silent(migrated_dsn) as (db, proxy, watch):
        await db.insert_job(make_job("b"))
        proxy.arm(Plan(DOWN, 20, Ending.SILENCE, times=1000))

        start = time.monotonic()
        with pytest.raises(OutcomeUnknown) as caught:
            await db.insert_job(make_job("a"))
        assert time.monotonic() - start < BOUND

        proxy.heal()
        again = await db.insert_job(make_job("a"), operation_id=caught.value.operation_id)
        assert again
        assert len(await footprint(watch, "a")) == 2  # one job, one event


async def test_a_read_on_a_silent_line_ends(migrated_dsn: str) -> None:
    async with silent(migrated_dsn) as (db, proxy, _):
        await db.get_queue_length()
        proxy.arm(Plan(UP, 0, Ending.SILENCE, times=1000))

        start = time.monotonic()
        with pytest.raises(PandoraDbError):
            await db.get_queue_length()
        assert time.monotonic() - start < BOUND

        proxy.heal()
        start = time.monotonic()
        assert await db.get_queue_length() == 0
        assert time.monotonic() - start < BOUND


async def test_a_transaction_on_a_silent_line_ends(migrated_dsn: str) -> None:
    async with silent(migrated_dsn) as (db, proxy, watch):

        async def insist() -> None:
            async with db.transaction() as tx:
                await tx.insert_job(make_job("a"))
                proxy.arm(Plan(UP, 0, Ending.SILENCE, times=1000))
                with pytest.raises(ConnectionFailed):
                    await tx.get_queue_length()
                await tx.insert_job(make_job("a"))

        start = time.monotonic()
        with pytest.raises(ConnectionFailed):
            await insist()
        assert time.monotonic() - start < BOUND

        proxy.heal()
        assert await db.get_queue_length() == 0
        await watch.nothing_open()


async def test_a_cancelled_transaction_on_a_silent_line_ends(migrated_dsn: str) -> None:
    async with silent(migrated_dsn) as (db, proxy, watch):

        async def hurry() -> None:
            async with asyncio.timeout(0.2), db.transaction() as tx:
                await tx.insert_job(make_job("a"))
                proxy.arm(Plan(UP, 0, Ending.SILENCE, times=1000))
                await tx.get_queue_length()

        start = time.monotonic()
        with pytest.raises(TimeoutError):
            await hurry()
        assert time.monotonic() - start < 0.2 + 5.0 + SLACK  # the patience with a roll-back

        proxy.heal()
        assert await db.get_queue_length() == 0
        await watch.nothing_open()


async def test_a_commit_whose_answer_is_swallowed_is_found(migrated_dsn: str) -> None:
    async with silent(migrated_dsn) as (db, proxy, watch):
        for _ in range(2):
            async with db.transaction() as tx:
                await tx.insert_jobs([make_job("b")] * 2)
                proxy.arm()  # counts what follows
        exchange = proxy.seen[DOWN]

        async with db.transaction() as tx:
            await tx.insert_jobs([make_job("a")] * 2)
            proxy.arm(Plan(DOWN, exchange - 1, Ending.SILENCE))
            asyncio.get_running_loop().call_later(0.3, proxy.release)

        assert proxy.cuts == 1
        assert len(await footprint(watch, "a")) == 4


async def test_a_dead_pool_heals_at_once(migrated_dsn: str) -> None:
    async with silent(migrated_dsn) as (db, proxy, _):
        await asyncio.gather(*(db.get_queue_length() for _ in range(10)))
        proxy.arm(Plan(UP, 0, Ending.SILENCE, times=1000))
        with pytest.raises(PandoraDbError):
            await db.get_queue_length()
        proxy.release()

        start = time.monotonic()
        await asyncio.gather(*(db.get_queue_length() for _ in range(10)))
        assert time.monotonic() - start < 5.0


async def test_close_does_not_wait_for_a_silent_server(migrated_dsn: str) -> None:
    async with Proxy(migrated_dsn) as proxy:
        db = await JobDb.connect(proxy.dsn, close_timeout=0.5, sweep=None)
        await db.get_queue_length()
        proxy.arm(Plan(UP, 0, Ending.SILENCE, times=1000))
        call = asyncio.ensure_future(db.get_queue_length())
        await asyncio.sleep(0.05)

        start = time.monotonic()
        await db.close()
        assert time.monotonic() - start < 0.5 + SLACK
        with pytest.raises(PandoraDbError):
            await call


async def test_a_silent_heartbeat_costs_a_living_worker_no_lease(migrated_dsn: str) -> None:
    """Its connection is given up for a new one while the lease still lasts."""
    async with (
        Proxy(migrated_dsn) as proxy,
        JobDb.open(proxy.dsn, lease=2.0, heartbeat=0.3, sweep=None) as worker,
        JobDb.open(migrated_dsn, sweep=None) as other,
    ):
        job_id = await worker.insert_job(make_job("a"))
        claim = await worker.claim_job(job_id, into=Stage.DOWNLOADING)
        assert claim is not None
        await asyncio.sleep(0.7)  # it beats
        proxy.arm(Plan(UP, 0, Ending.SILENCE, times=100))
        await wait_until(lambda: proxy.cuts)
        proxy.release()  # new connections pass, the old ones stay silent

        for _ in range(40):
            await asyncio.sleep(0.1)
            assert not await other.has_lapsed()
        await worker.finish_job(claim, Stage.DOWNLOADED)


async def test_one_short_lease_costs_the_others_none_on_a_slow_line(migrated_dsn: str) -> None:
    """How long the heartbeat waits for an answer follows from the leases that it asks about."""
    async with (
        Proxy(migrated_dsn) as proxy,
        JobDb.open(proxy.dsn, lease=3.0, heartbeat=0.5, sweep=None) as worker,
        JobDb.open(migrated_dsn, sweep=None) as other,
    ):
        ids = await worker.insert_jobs([make_job("short"), make_job("long")])
        short = await worker.claim_job(ids[0], into=Stage.DOWNLOADING, lease=0.6)
        long = await worker.claim_job(ids[1], into=Stage.DOWNLOADING)
        assert short
        assert long
        await asyncio.sleep(0.7)  # it beats
        proxy.delay = 0.1  # an answer takes 0.2 s

        for _ in range(40):
            await asyncio.sleep(0.1)
            await other.recover()
        assert not long.lost
        stages = [job.ready for job in await other.get_jobs_by_ids(ids)]
        assert stages == [Stage.QUEUED, Stage.DOWNLOADING]
