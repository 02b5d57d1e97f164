"""Row 5: single jobs for many callers, and long lists."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import aiosqlite

from benchmarks.raw_postgres import fresh_database
from benchmarks.raw_sqlite import raw_sqlite
from benchmarks.rounds import Measure, Plan, Result, crowd, duel, in_loop
from benchmarks.work import Ours, new_job
from pandora_db import JobDb

if TYPE_CHECKING:
    from pandora_db.drivers.postgres import PostgresDriver

COUNT = 10_000


def reads(plan: Plan) -> list[Result]:
    """`get_job` from 50 callers, and `get_jobs(limit=10_000)`."""
    results = in_loop(_get(plan)) + in_loop(_list_sqlite(plan))
    return results + (in_loop(_list_postgres(plan, plan.postgres)) if plan.postgres else [])


async def _get(plan: Plan) -> list[Result]:
    fifty = partial(partial, crowd, 50, plan.seconds)
    async with (
        JobDb.open(plan.folder / "reads.db") as db,
        raw_sqlite(plan.folder / "reads-raw.db", plan.seed) as raw,
    ):
        ours = await Ours.filled(db, plan.seed)
        return [await duel("5-get", fifty(ours.read), fifty(raw.read), plan.rounds)]


async def _list_sqlite(plan: Plan) -> list[Result]:
    path = plan.folder / "list.db"
    async with JobDb.open(path) as db, aiosqlite.connect(path) as connection:
        await _half_archived(db)
        text = db._driver.queries.get("get_jobs").text  # noqa: SLF001
        fetch = partial(connection.execute_fetchall, text, (COUNT, 0))
        ours = partial(db.get_jobs, limit=COUNT)
        return [await _in_time("5-list-sqlite", ours, fetch, plan.rounds)]


async def _list_postgres(plan: Plan, dsn: str) -> list[Result]:
    async with fresh_database(dsn) as own, JobDb.open(own) as db:
        await _half_archived(db)
        driver: PostgresDriver = db._driver  # type: ignore[assignment]  # noqa: SLF001
        connection = await driver._connect()  # noqa: SLF001
        try:
            text = driver.queries.get("get_jobs").text
            fetch = partial(connection.fetch, text, COUNT, 0)
            ours = partial(db.get_jobs, limit=COUNT)
            return [await _in_time("5-list-postgres", ours, fetch, plan.rounds)]
        finally:
            await connection.close()


async def _half_archived(db: JobDb) -> None:
    await db.init_schema()
    ids = await db.insert_jobs([new_job(number) for number in range(COUNT)])
    async with db.transaction() as tx:
        for job_id in ids[::2]:
            await tx.archive_job(job_id)


async def _in_time(
    key: str,
    ours: Callable[[], Awaitable[Sequence[object]]],
    theirs: Callable[[], Awaitable[object]],
    rounds: int,
) -> Result:
    return await duel(key, _seconds(ours), _seconds(theirs), rounds)


def _seconds(fetch: Callable[[], Awaitable[object]]) -> Measure:
    async def measure() -> float:
        start = time.perf_counter()
        for _ in range(5):
            await fetch()
        return (time.perf_counter() - start) / 5

    return measure
