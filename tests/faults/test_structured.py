"""Cancellation as programs meet it: time-outs, and a sibling in a task group that fails (T15)."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import pytest

from pandora_db import Stage
from tests.faults.calls import EVERY, Call, make_job
from tests.faults.leaks import Watch
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from pandora_db import JobDb


class SiblingError(Exception):
    pass


async def test_calls_without_time_leave_a_working_handle(db: JobDb, db_url: str) -> None:
    async def hurry(call: Call, author: str, job_id: int) -> None:
        async with asyncio.timeout(0):
            await call.run(db, author, job_id)
            await asyncio.sleep(0)

    async with Watch(db_url) as watch:
        for number, call in enumerate(EVERY):
            job_id = await call.prepare(db, f"a{number}")
            with pytest.raises(TimeoutError):
                await hurry(call, f"a{number}", job_id)
            await watch.nothing_open()
            assert await db.insert_job(make_job("after")) > 0


async def are_whole(db: JobDb, jobs: list[int]) -> bool:
    rows = await db.get_jobs_by_ids(jobs)
    events = [await db.history(row.job_id) for row in rows]
    return all(
        len(found) == 1 + (row.ready == Stage.ENCODED)
        for row, found in zip(rows, events, strict=True)
    )


async def test_a_failing_sibling_takes_a_crowd_along(db: JobDb, db_url: str, seed: int) -> None:
    chance = random.Random(seed)

    async def fail() -> None:
        for _ in range(chance.randrange(6)):
            await asyncio.sleep(0)
        raise SiblingError

    async def move(job_id: int) -> None:
        await db.update_stage(job_id, Stage.ENCODED)

    async def group(jobs: list[int]) -> None:
        async with asyncio.TaskGroup() as group:
            for job_id in jobs:
                group.create_task(move(job_id))
            group.create_task(fail())

    async with Watch(db_url) as watch:
        for _ in range(20):
            jobs = await db.insert_jobs([make_job("a")] * 30)
            with pytest.raises(ExceptionGroup):
                await group(jobs)
            await watch.nothing_open()
            await wait_until(lambda jobs=jobs: are_whole(db, jobs))  # some may be under way still
