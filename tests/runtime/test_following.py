"""Waiting until jobs have ended, beside a reader that looks for workers alone."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pandora_db import JobDb, Stage
from pandora_db.db import internals
from pandora_db.runtime.following import wait_ended
from pandora_db.testing import make_job


async def test_an_end_that_is_read_while_somebody_begins_to_wait_is_heard(
    db: JobDb, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = await db.insert_job(make_job())
    looked = asyncio.Event()
    seeker = internals(db).lookout.seek([Stage.QUEUED], looked.set)
    await looked.wait()  # the reader has begun
    await asyncio.sleep(0.1)
    reading, go = asyncio.Event(), asyncio.Event()
    read = db._driver.read

    async def slow_read(name: str, *args: Any) -> Any:
        if name == "watch_window" and not reading.is_set():
            reading.set()
            await go.wait()
        return await read(name, *args)

    monkeypatch.setattr(db._driver, "read", slow_read)
    await db.insert_job(make_job())  # it looks again
    async with asyncio.timeout(10):
        await reading.wait()
        waiting = asyncio.create_task(wait_ended(db, [job_id]))
        await asyncio.sleep(0.1)  # it has seen the job at work
        await db.update_stage(job_id, Stage.UPLOADED)
        go.set()
        assert list(await waiting) == [job_id]
    seeker.end()
