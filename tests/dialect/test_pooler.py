"""Behind a pooler in transaction mode: `pgbouncer=True` watches and works, by polling alone."""

from __future__ import annotations

import asyncio

import pytest

from pandora_db import EventKind, JobDb, Stage
from pandora_db.runtime import JobContext, Pipeline
from pandora_db.testing import make_job
from tests.support.pooler import Pooler


async def test_watching_and_working_behind_a_pooler(url: str) -> None:
    pipeline = Pipeline()

    @pipeline.stage(Stage.QUEUED, Stage.DOWNLOADING, Stage.UPLOADED, concurrency=4)
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
        assert pooler.transactions > 30


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
