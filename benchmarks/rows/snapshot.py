"""Row 9: row 8 on PostgreSQL beside somebody who keeps an old snapshot open.

Whatever was updated since the snapshot stays in the table and in its indexes, dead, and VACUUM
cannot take it away: a claim that starts at the head of the queue walks past all of it. Two
databases are worked in turns, and in one of them a snapshot is held (it holds VACUUM up in its own
database only). Inserting the jobs of a turn is not measured, and does not count as time held.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import asyncpg

from benchmarks.archive import fill_archive
from benchmarks.raw_postgres import connect_arguments, fresh_database
from benchmarks.rounds import Plan, Result, in_loop
from benchmarks.rows.jobs import Worked, jobs_of, worked

_ARCHIVED = 50_000
_TASKS = 100
_VACUUM = 2.0


def snapshot(plan: Plan) -> list[Result]:
    """Jobs per second with a snapshot held, against the same without."""
    return in_loop(_measure(plan, plan.postgres)) if plan.postgres else []


async def _measure(plan: Plan, dsn: str) -> list[Result]:
    # Long enough for a VACUUM or two in each turn.
    count = 4 * jobs_of(plan)
    turns: list[tuple[float, float]] = []
    async with _database(dsn) as free, _database(dsn) as held:
        for side in (free, held):
            await side.turn(count)
        async with _old_snapshot(held.dsn):
            while sum(seconds for seconds, _ in turns) < 120 * plan.seconds:
                turns.append((await held.turn(count), await free.turn(count)))
            notes = {
                "held_seconds": round(sum(seconds for seconds, _ in turns)),
                "turns": [[round(count / seconds) for seconds in turn] for turn in turns],
                "last_fifth": round(_ratio(turns[-max(1, len(turns) // 5) :]), 3),
                "dead_rows": [await held.dead_rows(), await free.dead_rows()],
            }
    rates = [count * len(turns) / sum(side) for side in zip(*turns, strict=True)]
    return [Result("9-snapshot", [(rates[0], rates[1], _ratio(turns))], notes)]


def _ratio(turns: list[tuple[float, float]]) -> float:
    held, free = (sum(side) for side in zip(*turns, strict=True))
    ratio: float = free / held
    return ratio


class _Database:
    """A queue beside an archive, and a connection that plays autovacuum."""

    def __init__(self, dsn: str, work: Worked, door: asyncpg.Connection[Any]) -> None:
        self.dsn = dsn
        self._work = work
        self._door = door

    async def turn(self, count: int) -> float:
        """Insert jobs, then work them off: how long that second part took."""
        await self._work.fill(count)
        over = asyncio.Event()
        vacuums = asyncio.create_task(self._vacuum_until(over))
        start = time.perf_counter()
        await self._work.work(count, _TASKS)
        seconds = time.perf_counter() - start
        over.set()
        await vacuums
        return seconds

    async def _vacuum_until(self, over: asyncio.Event) -> None:
        while not over.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), _VACUUM)
                return
            await self._door.execute("VACUUM jobs")

    async def dead_rows(self) -> int:
        """How many row versions nobody needs, as far as the server has counted."""
        await self._door.execute("VACUUM jobs")
        text = "SELECT n_dead_tup FROM pg_stat_user_tables WHERE relname = 'jobs'"
        dead: int = await self._door.fetchval(text)
        return dead


@asynccontextmanager
async def _database(dsn: str) -> AsyncIterator[_Database]:
    async with AsyncExitStack() as stack:
        own = await stack.enter_async_context(fresh_database(dsn))
        work = await stack.enter_async_context(worked(own))
        await fill_archive(own, 1, _ARCHIVED)
        door = await asyncpg.connect(**connect_arguments(own))
        stack.push_async_callback(door.close)
        await door.execute("VACUUM (ANALYZE) jobs")
        yield _Database(own, work, door)


@asynccontextmanager
async def _old_snapshot(dsn: str) -> AsyncIterator[None]:
    """A REPEATABLE READ transaction that has read and does not end."""
    connection = await asyncpg.connect(**connect_arguments(dsn))
    try:
        async with connection.transaction(isolation="repeatable_read"):
            seen = await connection.fetchval("SELECT count(*) FROM jobs")
            yield
            assert seen == await connection.fetchval("SELECT count(*) FROM jobs")
    finally:
        await connection.close()
