"""Rows 1 and 2: many callers write at once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from benchmarks.raw_postgres import RawPool, fresh_database, raw_pool
from benchmarks.raw_sqlite import RawSqlite, raw_sqlite
from benchmarks.rounds import Plan, Result, crowd, duel, in_loop
from benchmarks.work import Ours
from pandora_db import JobDb


def sqlite_crowd(plan: Plan) -> list[Result]:
    """Row 1: 50 callers on SQLite."""
    return in_loop(_sqlite(plan))


def postgres_crowd(plan: Plan) -> list[Result]:
    """Row 2: 50 and 1,000 callers on PostgreSQL."""
    return in_loop(_postgres(plan, plan.postgres)) if plan.postgres else []


async def _sqlite(plan: Plan) -> list[Result]:
    async with (
        JobDb.open(plan.folder / "crowd.db") as db,
        raw_sqlite(plan.folder / "crowd-raw.db", plan.seed) as raw,
    ):
        ours = await Ours.filled(db, plan.seed)
        crowd_of_50 = Crowd(50, plan.seconds, plan.rounds)
        return await crowd_of_50.writes(ours, raw, "1-insert", "1-update")


async def _postgres(plan: Plan, dsn: str) -> list[Result]:
    results: list[Result] = []
    for callers, seconds in ((50, plan.seconds), (1000, 2 * plan.seconds)):
        async with (
            fresh_database(dsn) as one,
            fresh_database(dsn) as other,
            JobDb.open(one) as db,
            raw_pool(other, plan.seed) as raw,
        ):
            ours = await Ours.filled(db, plan.seed)
            many = Crowd(callers, seconds, plan.rounds)
            results += await many.writes(ours, raw, f"2-insert-{callers}", f"2-update-{callers}")
    return results


@dataclass(frozen=True, slots=True)
class Crowd:
    """So many callers, for so many rounds of so many seconds."""

    callers: int
    seconds: float
    rounds: int

    async def writes(
        self, ours: Ours, raw: RawSqlite | RawPool, insert: str, update: str
    ) -> list[Result]:
        """Updates first: the inserts make the tables longer."""
        updates = await duel(
            update,
            partial(ours.updates, self.callers, self.seconds),
            partial(crowd, self.callers, self.seconds, raw.update),
            self.rounds,
        )
        inserts = await duel(
            insert,
            partial(crowd, self.callers, self.seconds, ours.insert),
            partial(crowd, self.callers, self.seconds, raw.insert),
            self.rounds,
        )
        return [inserts, updates]
