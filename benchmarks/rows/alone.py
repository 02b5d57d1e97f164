"""Row 3: one caller, whose calls have nobody to share a flush with."""

from __future__ import annotations

from functools import partial

from benchmarks.held import held, held_sqlite
from benchmarks.raw_postgres import fresh_database
from benchmarks.raw_sqlite import raw_sqlite
from benchmarks.rounds import Plan, Result, crowd, duel, in_loop
from benchmarks.work import Ours
from pandora_db import JobDb


def alone(plan: Plan) -> list[Result]:
    """One caller on PostgreSQL (asyncio, uvloop) and SQLite."""
    results: list[Result] = []
    if plan.postgres:
        for loop in ("postgres", "uvloop"):
            results += in_loop(_postgres(plan, plan.postgres, loop), uvloop=loop == "uvloop")
    return results + in_loop(_sqlite(plan))


async def _sqlite(plan: Plan) -> list[Result]:
    one = partial(partial, crowd, 1, plan.seconds)
    async with (
        JobDb.open(plan.folder / "alone.db") as db,
        held_sqlite(plan.folder / "alone-held.db", plan.seed) as same,
        raw_sqlite(plan.folder / "alone-raw.db", plan.seed) as raw,
    ):
        ours = await Ours.filled(db, plan.seed)
        seconds = plan.seconds
        return [
            await duel(
                "3-insert-sqlite",
                one(ours.insert),
                partial(same.inserts, seconds),
                plan.rounds,
                one(raw.insert),
            ),
            await duel(
                "3-update-sqlite",
                partial(ours.updates, 1, seconds),
                partial(same.updates, seconds),
                plan.rounds,
                one(raw.update),
            ),
        ]


async def _postgres(plan: Plan, dsn: str, loop: str) -> list[Result]:
    one = partial(partial, crowd, 1, plan.seconds)
    async with (
        fresh_database(dsn) as first,
        fresh_database(dsn) as second,
        JobDb.open(first) as db,
        held(second, plan.seed) as same,
    ):
        ours = await Ours.filled(db, plan.seed)
        updates = partial(ours.updates, 1, plan.seconds)
        seconds = plan.seconds
        return [
            await duel(
                f"3-insert-{loop}", one(ours.insert), partial(same.inserts, seconds), plan.rounds
            ),
            await duel(f"3-update-{loop}", updates, partial(same.updates, seconds), plan.rounds),
            await duel(f"3-read-{loop}", one(ours.read), one(same.read), plan.rounds),
        ]
