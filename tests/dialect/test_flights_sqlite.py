"""What flies together on SQLite, and who goes on first when it lands."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from pandora_db import JobDb, Stage
from pandora_db.drivers.sqlite.work import Worker
from pandora_db.testing import make_job

if TYPE_CHECKING:
    from pathlib import Path


async def test_the_next_flight_is_out_before_a_long_answer_is_looked_at(
    sqlite_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with JobDb.open(sqlite_path) as db:
        await db.init_schema()
        await db.insert_jobs(make_job() for _ in range(100))
        held = await db.claim_jobs(Stage.QUEUED, into=Stage.DOWNLOADING, limit=50)
        driver: Any = db._driver
        turns: list[int] = []
        take = driver.take

        async def taking(*args: Any, **more: Any) -> Any:
            before = driver._writer.turns
            rows = await take(*args, **more)
            turns.append(driver._writer.turns - before)
            return rows

        monkeypatch.setattr(driver, "take", taking)

        async def work() -> None:
            while held:
                await db.finish_job(held.pop(), Stage.DOWNLOADED)

        first = asyncio.ensure_future(work())  # flies alone, the others together behind it
        await asyncio.sleep(0)
        async with asyncio.TaskGroup() as group:
            claiming = group.create_task(
                db.claim_jobs(Stage.QUEUED, into=Stage.DOWNLOADING, limit=50)
            )
            for _ in range(20):
                group.create_task(work())
        await first

        assert turns == [2]  # its own, and that of those who flew with it and ask again
        assert len(claiming.result()) == 50
        assert not held


@pytest.mark.parametrize("call", ["finish", "output", "move"])
async def test_a_crowd_that_is_filled_up_is_done_by_one_statement(
    sqlite_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("each call was run by itself")

    monkeypatch.setattr(Worker, "_commit_each", refuse)
    async with JobDb.open(sqlite_path) as db:
        await db.init_schema()
        ids = await db.insert_jobs(make_job() for _ in range(36))
        if call == "move":
            calls = [db.update_stage(job_id, Stage.DOWNLOADING) for job_id in ids]
        else:
            claims = await db.claim_jobs(Stage.QUEUED, into=Stage.DOWNLOADING, limit=36)
            output = {"bytes": 5} if call == "output" else None
            calls = [db.finish_job(claim, Stage.DOWNLOADED, output=output) for claim in claims]

        await asyncio.gather(*calls)  # the first flies alone; 35 become 40 rows

        assert {len(await db.history(job_id)) for job_id in ids} == {2 if call == "move" else 3}
