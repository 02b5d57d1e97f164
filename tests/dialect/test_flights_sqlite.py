"""What flies together on SQLite, and who goes on first when it lands."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from pandora_db import JobDb, Stage
from pandora_db.testing import make_job

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


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
