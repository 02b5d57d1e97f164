"""A process that stands still in the middle of a transaction, and the job that it has locked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from pandora_db import ConnectionFailed, Hold, JobDb, Stage
from tests.faults.calls import make_job

LEASE = {"lease": 1.0, "heartbeat": 0.3}


async def _stand_still(db: JobDb, job_id: int, meanwhile: Callable[[], Awaitable[Any]]) -> None:
    async with db.transaction() as tx:
        await tx.update_job(job_id, priority=1)
        await meanwhile()
        await tx.update_job(job_id, priority=2)


async def test_it_keeps_a_job_for_a_lease_at_most(migrated_dsn: str) -> None:
    loop = asyncio.get_running_loop()
    waited: list[float] = []
    async with (
        JobDb.open(migrated_dsn, **LEASE) as still,
        JobDb.open(migrated_dsn, sweep=None, lock_timeout=5.0) as other,
    ):
        job_id = await other.insert_job(make_job("still"))

        async def pause() -> None:
            began = loop.time()
            await other.pause_job(job_id)
            waited.append(loop.time() - began)

        with pytest.raises(ConnectionFailed):
            await _stand_still(still, job_id, pause)

        row = await still.get_job(job_id)
        assert row is not None
        assert (row.priority, row.hold) == (0, Hold.PAUSE)
        assert 0.8 < waited[0] < 4.0


async def test_its_job_is_recovered_with_its_lease(migrated_dsn: str) -> None:
    async with (
        JobDb.open(migrated_dsn, sweep=None, **LEASE) as still,
        JobDb.open(migrated_dsn, sweep=None) as other,
    ):
        job_id = await other.insert_job(make_job("still"))
        (claim,) = await still.claim_jobs(Stage.QUEUED, into=Stage.DOWNLOADING)
        del claim  # nobody renews its lease

        with pytest.raises(ConnectionFailed):
            await _stand_still(still, job_id, lambda: other.recover(wait=4.0))

        (row,) = await other.get_jobs_by_stage(Stage.QUEUED)
        assert (row.job_id, row.priority) == (job_id, 0)
