"""Behind a pooler in transaction mode: `pgbouncer=True` watches and works, by polling alone."""

from __future__ import annotations

import asyncio

import pytest

from pandora_db import EventKind, JobDb, LockTimeout, Stage
from pandora_db.runtime import JobContext, Pipeline
from pandora_db.testing import make_job
from tests.support.pooler import Pooler
from tests.support.waiting import wait_until


async def test_watching_and_working_behind_a_pooler(url: str) -> None:
    pipeline = Pipeline()

    @pipeline.stage(Stage.QUEUED, Stage.DOWNLOADING, Stage.UPLOADED, concurrency=10)
    async def upload(ctx: JobContext) -> None:
        await ctx.checkpoint({"part": 1}, force=True)

    async with (
        Pooler(url) as pooler,
        JobDb.open(pooler.dsn, pgbouncer=True) as db,
        JobDb.open(pooler.dsn, pgbouncer=True, sweep=None) as other,
        db.watch() as watch,
        pipeline.running(db),
    ):
        ids = [await other.insert_job(make_job()) for _ in range(5)]
        async with other.transaction() as tx:
            ids += [await tx.insert_job(make_job()) for _ in range(5)]
        async with asyncio.timeout(20):
            events = [await anext(watch) for _ in range(30)]

        for job_id in ids:
            assert [one.kind for one in events if one.job_id == job_id] == [
                EventKind.INSERTED, EventKind.CLAIMED, EventKind.FINISHED,
            ]  # fmt: skip
        assert len(pooler.begun) > 30


async def test_array_types_are_looked_up_while_connecting(url: str) -> None:
    async with (
        Pooler(url) as pooler,
        JobDb.open(
            pooler.dsn, pgbouncer=True, sweep=None, pool_max=1, lease=5.0, heartbeat=0.1
        ) as db,
    ):
        begun = len(pooler.begun)
        await db.insert_jobs([make_job(), make_job()])
        claim, other = await db.claim_jobs(Stage.QUEUED, into=Stage.DOWNLOADING, limit=2)
        await db.finish_job(claim, Stage.UPLOADED)
        await wait_until(lambda: any(b"held.seconds" in one for one in pooler.begun[begun:]))
        await db.finish_job(other, Stage.UPLOADED)
        asked = pooler.begun[begun:]
        assert len(asked) > 3
        assert not [one for one in asked if b"typeinfo_tree" in one or b"'jit'" in one]


async def test_a_transaction_has_its_time_outs_behind_a_pooler(url: str) -> None:
    async with (
        Pooler(url) as pooler,
        JobDb.open(url, sweep=None) as other,
        JobDb.open(pooler.dsn, pgbouncer=True, sweep=None, lock_timeout=0.2) as db,
    ):
        job_id = await other.insert_job(make_job())
        async with other.transaction() as holder:
            await holder.update_job(job_id, priority=1)
            with pytest.raises(LockTimeout):
                async with db.transaction() as tx:
                    await tx.update_job(job_id, priority=2)


async def test_those_who_listen_hear_of_commits_behind_a_pooler(url: str) -> None:
    from pandora_db.drivers.postgres import bell

    with pytest.MonkeyPatch.context() as patch:
        for name in ("_BUSY", "_IDLE", "_LISTENING"):
            patch.setattr(bell, name, 10_000.0)
        async with (
            Pooler(url) as pooler,
            JobDb.open(pooler.dsn, pgbouncer=True, sweep=None) as other,
            JobDb.open(url, sweep=None) as db,
            db.watch() as watch,
        ):
            heard = asyncio.ensure_future(anext(watch))
            while not heard.done():  # once it listens, the next one tells
                await other.insert_job(make_job())
                await asyncio.wait([heard], timeout=0.05)
            assert heard.result().kind is EventKind.INSERTED
