"""Row 4: ten thousand jobs at once."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator
from itertools import islice

from benchmarks.raw_postgres import COLUMNS, fresh_database, raw_pool
from benchmarks.raw_sqlite import INSERT, raw_sqlite
from benchmarks.rounds import Measure, Plan, Result, duel, in_loop
from benchmarks.work import new_job, raw_row
from pandora_db import JobDb

COUNT = 10_000


def bulk(plan: Plan) -> list[Result]:
    """`insert_jobs` of ready `Job` objects, against the driver's own bulk call."""
    results = in_loop(_postgres(plan, plan.postgres)) if plan.postgres else []
    return results + in_loop(_sqlite(plan))


async def _sqlite(plan: Plan) -> list[Result]:
    async with (
        JobDb.open(plan.folder / "bulk.db") as db,
        raw_sqlite(plan.folder / "bulk-raw.db", plan.seed) as raw,
    ):
        await db.init_schema()

        async def load(rows: list[tuple[object, ...]]) -> None:
            await raw.connection.executemany(INSERT, rows)
            await raw.connection.commit()

        return [await duel("4-sqlite", _ours(db), _theirs(raw.numbers, load), plan.rounds)]


async def _postgres(plan: Plan, dsn: str) -> list[Result]:
    async with (
        fresh_database(dsn) as one,
        fresh_database(dsn) as other,
        JobDb.open(one) as db,
        raw_pool(other, plan.seed) as raw,
    ):
        await db.init_schema()

        async def load(rows: list[tuple[object, ...]]) -> None:
            await raw.pool.copy_records_to_table("jobs", records=rows, columns=COLUMNS)

        return [await duel("4-postgres", _ours(db), _theirs(raw.numbers, load), plan.rounds)]


def _ours(db: JobDb) -> Measure:
    async def measure() -> float:
        jobs = [new_job(number) for number in range(COUNT)]
        start = time.perf_counter()
        await db.insert_jobs(jobs)
        return COUNT / (time.perf_counter() - start)

    return measure


def _theirs(
    numbers: Iterator[int], load: Callable[[list[tuple[object, ...]]], Awaitable[None]]
) -> Measure:
    async def measure() -> float:
        rows = [raw_row(number) for number in islice(numbers, COUNT)]
        start = time.perf_counter()
        await load(rows)
        return COUNT / (time.perf_counter() - start)

    return measure
