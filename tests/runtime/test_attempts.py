"""Whatever a handler leaves in its task: its job ends, and the next one has none of it."""

from __future__ import annotations

import asyncio
import contextvars
import json
from typing import TYPE_CHECKING

from pandora_db import EventKind, Job, JobDb, Stage
from tests.support.handlers import FAST, kinds, one_stage, run_one

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
