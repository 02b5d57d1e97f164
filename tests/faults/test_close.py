"""Closing: forgotten, in the middle of calls, behind what does not end (P8)."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pandora_db import HandleClosed, JobDb, PandoraDbError
from tests.faults.calls import make_job

if TYPE_CHECKING:
    from tests.support.raw import Raw

ROOT = Path(__file__).parents[2]
FORGETFUL = """
import asyncio, sys
from pandora_db import JobDb
from tests.faults.calls import make_job

async def main():
    db = await JobDb.connect(sys.argv[1])
    await asyncio.gather(*(db.insert_job(make_job("a")) for _ in range(10)))
    if sys.argv[2] == "transaction":
        await db.transaction().__aenter__()
    if sys.argv[2] == "error":
        raise SystemExit(3)

asyncio.run(main())
"""


@pytest.mark.parametrize(("how", "status"), [("plainly", 0), ("transaction", 0), ("error", 3)])
def test_a_process_that_forgets_to_close_ends(db_url: str, how: str, status: int, raw: Raw) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORGETFUL, db_url, how],
        cwd=ROOT, check=False, timeout=20, capture_output=True, text=True,
    )  # fmt: skip

    assert done.returncode == status, done.stderr
    assert raw("SELECT count(*) FROM jobs") == [(10,)]


async def test_calls_in_flight_are_finished_by_close(db_url: str) -> None:
    db = await JobDb.connect(db_url, pool_max=2)
    calls = [asyncio.ensure_future(db.insert_job(make_job("a"))) for _ in range(200)]
    await asyncio.sleep(0)
    await db.close()
    outcomes = await asyncio.gather(*calls, return_exceptions=True)

    assert all(isinstance(outcome, int | HandleClosed) for outcome in outcomes), outcomes
    stored = [outcome for outcome in outcomes if isinstance(outcome, int)]
    assert stored
    async with JobDb.open(db_url) as again:
        assert len(await again.get_jobs_by_ids(stored)) == len(stored)
        assert await again.count_jobs() == len(stored)
    with pytest.raises(HandleClosed):
        await db.get_queue_length()


async def test_close_cuts_off_a_transaction_that_does_not_end(db_url: str) -> None:
    db = await JobDb.connect(db_url, close_timeout=0.3)
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def linger() -> None:
        async with db.transaction() as tx:
            await tx.insert_job(make_job("undone"))
            begun.set()
            await go_on.wait()
            await tx.insert_job(make_job("undone"))

    lingering = asyncio.ensure_future(linger())
    await begun.wait()
    waiting = asyncio.ensure_future(db.insert_job(make_job("waits")))
    await asyncio.sleep(0.05)
    start = time.monotonic()
    await db.close()
    assert time.monotonic() - start < 0.3 + 1.5
    go_on.set()
    with pytest.raises(PandoraDbError):
        async with asyncio.timeout(5):
            await lingering
    async with asyncio.timeout(5):
        (outcome,) = await asyncio.gather(waiting, return_exceptions=True)

    async with JobDb.open(db_url) as again:
        assert await again.count_jobs(author="undone") == 0
        assert await again.count_jobs(author="waits") == isinstance(outcome, int)


async def test_two_tasks_may_close_at_once(db_url: str) -> None:
    db = await JobDb.connect(db_url)
    await asyncio.gather(db.close(), db.close(), db.close())
    with pytest.raises(HandleClosed):
        await db.ping()
