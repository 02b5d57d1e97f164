"""Row 4: ten thousand jobs at once."""

from __future__ import annotations

import itertools
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from itertools import islice
from operator import itemgetter

from benchmarks.held import held, held_sqlite
from benchmarks.raw_postgres import COLUMNS, fresh_database, raw_pool
from benchmarks.raw_sqlite import INSERT, raw_sqlite
from benchmarks.rounds import Measure, Plan, Result, duel, in_loop
from benchmarks.work import LIVE, new_job, raw_row
from pandora_db import JobDb
from pandora_db.store.job_bulk import LOADED, load_rows

COUNT = 10_000
_listed = itemgetter(
    *map(LOADED.index, ("job_id", "author", "author_id", "guild_id", "requested_at"))
)


def bulk(plan: Plan) -> list[Result]:
    """`insert_jobs` of ready `Job` objects, against the driver with the same rows, no events."""
    results = in_loop(_postgres(plan, plan.postgres)) if plan.postgres else []
    return results + in_loop(_sqlite(plan))


async def _sqlite(plan: Plan) -> list[Result]:
    async with (
        JobDb.open(plan.folder / "bulk.db") as db,
        held_sqlite(plan.folder / "bulk-held.db", plan.seed) as same,
        raw_sqlite(plan.folder / "bulk-raw.db", plan.seed) as raw,
    ):
        await db.init_schema()

        async def load(rows: list[tuple[object, ...]]) -> None:
            await raw.connection.executemany(INSERT, rows)
            await raw.connection.commit()

        stamp = (0, "2026-11-20 10:00:00.000", "2026-11-20 10:00:00.000")
        equal = _theirs(_same_rows(stamp), same.load)
        least = _theirs(map(raw_row, raw.numbers), load)
        return [await duel("4-sqlite", _ours(db), equal, plan.rounds, least)]


async def _postgres(plan: Plan, dsn: str) -> list[Result]:
    async with (
        fresh_database(dsn) as one,
        fresh_database(dsn) as other,
        fresh_database(dsn) as third,
        JobDb.open(one) as db,
        held(other, plan.seed) as same,
        raw_pool(third, plan.seed) as raw,
    ):
        await db.init_schema()

        async def load_same(rows: list[tuple[object, ...]]) -> None:
            async with same.connection.transaction():
                await same.connection.copy_records_to_table("jobs", records=rows, columns=LOADED)
                await same.connection.copy_records_to_table("job_lists", records=map(_listed, rows))

        async def load(rows: list[tuple[object, ...]]) -> None:
            await raw.pool.copy_records_to_table("jobs", records=rows, columns=COLUMNS)

        # No time of the past: a trigger would list each row by itself, as it does for foreign ones.
        now = datetime(2100, 1, 1)  # noqa: DTZ001 - the column has no zone
        stamp = (0, now, now.replace(tzinfo=UTC))
        equal = _theirs(_same_rows(stamp), load_same)
        least = _theirs(map(raw_row, raw.numbers), load)
        return [await duel("4-postgres", _ours(db), equal, plan.rounds, least)]


def _same_rows(stamp: tuple[object, ...]) -> Iterator[tuple[object, ...]]:
    """What `insert_jobs` brings into `jobs`."""
    for number in itertools.count(LIVE + 1):
        yield from load_rows([new_job(number)], [number], stamp)


def _ours(db: JobDb) -> Measure:
    async def measure() -> float:
        jobs = [new_job(number) for number in range(COUNT)]
        start = time.perf_counter()
        await db.insert_jobs(jobs)
        return COUNT / (time.perf_counter() - start)

    return measure


def _theirs(
    rows: Iterator[tuple[object, ...]],
    load: Callable[[list[tuple[object, ...]]], Awaitable[None]],
) -> Measure:
    async def measure() -> float:
        ready = list(islice(rows, COUNT))
        start = time.perf_counter()
        await load(ready)
        return COUNT / (time.perf_counter() - start)

    return measure
