"""Whatever a handler leaves in its task: its job ends, and the next one has none of it."""

from __future__ import annotations

import asyncio
import contextvars
import json
from contextlib import suppress
from typing import TYPE_CHECKING

from pandora_db import EventKind, Job, JobDb, LeaseLost, Stage
from tests.support.handlers import FAST, kinds, one_stage, run_one
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import pytest

    from pandora_db.runtime import JobContext


async def test_a_task_that_is_cancelled_after_its_handler_has_ended(
    db: JobDb, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(ctx: JobContext) -> dict[str, int]:
        task = asyncio.current_task()
        assert task is not None
        ctx.progress(0.5)  # which is written before the end
        asyncio.get_running_loop().call_soon(task.cancel)
        return {"size": 5}

    row = await run_one(db, handler)

    assert (row.ready, json.loads(row.output or "")) == (Stage.DOWNLOADED, {"size": 5})
    assert (await kinds(db, row.job_id)).count(EventKind.FINISHED) == 1
    assert "Traceback" not in caplog.text


async def test_a_handler_that_cancels_itself_and_returns(db: JobDb) -> None:
    async def handler(_: JobContext) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()

    row = await run_one(db, handler, retry_in=0)

    assert "nobody had asked" in (row.error or "")


async def test_a_transaction_that_a_handler_has_left_open(db: JobDb) -> None:
    async def rows() -> AsyncIterator[int]:
        async with db.transaction():
            yield 1

    async def handler(_: JobContext) -> None:
        async for _one in rows():
            break  # the generator is closed by a task of its own, a turn of the loop later

    row = await run_one(db, handler)

    assert row.ready == Stage.DOWNLOADED


async def test_what_a_handler_sets_in_its_context_is_its_own(db: JobDb) -> None:
    mark: contextvars.ContextVar[int] = contextvars.ContextVar("mark", default=0)
    found: list[int] = []

    async def handler(ctx: JobContext) -> None:
        found.append(mark.get())
        mark.set(ctx.job_id)

    ids = await db.insert_jobs(Job(author="mika") for _ in range(20))
    async with one_stage(handler, concurrency=2).running(db, **FAST) as crew:
        await crew.wait_idle()

    assert found == [0] * len(ids)


async def test_nor_is_it_found_by_the_next_one_when_the_handler_was_given_up(db: JobDb) -> None:
    mark: contextvars.ContextVar[int] = contextvars.ContextVar("mark", default=0)
    found: list[int] = []
    given_up, over = asyncio.Event(), asyncio.Event()

    async def handler(ctx: JobContext) -> None:
        found.append(mark.get())
        if ctx.job_id == ids[3]:
            await given_up.wait()
        if ctx.job_id != ids[2]:
            return
        mark.set(ctx.job_id)
        await db.requeue_job(ctx.job_id)
        with suppress(LeaseLost):
            await db.save_checkpoint(ctx.claim, {})
        while not over.is_set():
            with suppress(asyncio.CancelledError):
                await over.wait()

    ids = await db.insert_jobs(Job(author="mika") for _ in range(12))
    async with one_stage(handler, concurrency=2).running(db, **FAST):
        await wait_until(lambda: len(found) > 4)  # with the hand of the one that was given up
        given_up.set()
        over.set()

    assert set(found) == {0}
