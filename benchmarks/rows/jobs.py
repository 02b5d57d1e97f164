"""Row 8: jobs that do nothing, from the first claim to the last finish, beside other queues.

Ours is what an application writes: jobs are claimed in batches of 100, and so many tasks work them
off one by one, each inside its claim, with heartbeats, history and fencing as they come; and the
same by the library's own runtime, with a handler that does nothing. The peers do less for a job,
and keep smaller rows. All jobs are there before the clock starts.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from statistics import median

import asyncpg

from benchmarks.peers.huey import HueyQueue
from benchmarks.peers.litequeue import Litequeue
from benchmarks.peers.persist_queue import PersistQueue
from benchmarks.peers.pgqueuer import BATCH, SET_UPS, pgqueuer
from benchmarks.peers.sqlite_queue import SqliteQueue, rate
from benchmarks.raw_postgres import connect_arguments, fresh_database
from benchmarks.rounds import Measure, Plan, Result, in_loop
from benchmarks.work import new_job
from pandora_db import Claim, JobDb, Stage
from pandora_db.runtime import JobContext, Pipeline

TASKS = (50, 100)
_PEERS = ("huey", "litequeue", "persist-queue", "pgqueuer")
# The fewer there are, the better for the peers: two of them look at every job to find the next.
_PEER_JOBS = 2_000
_AT_ONCE = 10_000
_CLAIMERS = 2

Tidy = Callable[[], Awaitable[object]]


def jobs(plan: Plan) -> list[Result]:
    """The rate against the best of the peers, from 50 and from 100 tasks."""
    results = in_loop(_sqlite(plan))
    return results + (in_loop(_postgres(plan, plan.postgres)) if plan.postgres else [])


async def _sqlite(plan: Plan) -> list[Result]:
    async with worked(str(plan.folder / "jobs.db")) as ours:
        queues: dict[str, SqliteQueue] = {
            "huey": HueyQueue(plan.folder),
            "litequeue": Litequeue(plan.folder),
            "persist-queue": PersistQueue(plan.folder),
        }

        def peer(name: str) -> Measure:
            async def measure() -> float:
                # They are synchronous: nothing else in this loop has anything to do meanwhile.
                return rate(queues[name], _PEER_JOBS)

            return measure

        try:
            peers = {name: peer(name) for name in queues}
            return await _contest("8-sqlite", ours, peers, plan)
        finally:
            for queue in queues.values():
                queue.close()


async def _postgres(plan: Plan, dsn: str) -> list[Result]:
    async with (
        fresh_database(dsn) as one,
        fresh_database(dsn) as other,
        worked(one, vacuum(one)) as ours,
        pgqueuer(other) as peer,
    ):
        peers = {name: partial(peer.rate, name, jobs_of(plan)) for name in SET_UPS}
        return await _contest("8-postgres", ours, peers, plan)


def jobs_of(plan: Plan) -> int:
    """How many jobs of ours a round has."""
    return int(40_000 * plan.seconds)


async def _contest(
    key: str, ours: Worked, peers: Mapping[str, Measure], plan: Plan
) -> list[Result]:
    """Everybody in turns, after one round to warm up; the peer with the best median counts."""
    count = jobs_of(plan)
    lines = {f"{key}-{tasks}": partial(ours.rate, count, tasks) for tasks in TASKS}
    lines |= {f"{key}-{tasks}-run": partial(ours.run_rate, count, tasks) for tasks in TASKS}
    sides: dict[str, Measure] = {**lines, **peers}
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(plan.rounds + 1):
        for name in sides if number % 2 else reversed(sides):
            gc.collect()
            gc.freeze()  # this process has imported every queue there is: no program would
            found = await sides[name]()
            gc.unfreeze()
            if number:
                rates[name].append(found)
    medians = {name: round(median(rates[name])) for name in peers}
    best = max(medians, key=medians.__getitem__)
    notes = {"best": best, "peers": medians, "versions": {name: version(name) for name in _PEERS}}
    return [
        Result(line, [(a, b, a / b) for a, b in zip(rates[line], rates[best], strict=True)], notes)
        for line in lines
    ]


class Worked:
    """A `JobDb`, and the whole life of many jobs on it."""

    def __init__(self, db: JobDb, tidy: Tidy | None = None) -> None:
        self.db = db
        self._tidy = tidy

    async def fill(self, count: int) -> None:
        """Insert that many jobs."""
        for first in range(0, count, _AT_ONCE):
            await self.db.insert_jobs(
                [new_job(number) for number in range(first, min(first + _AT_ONCE, count))]
            )

    async def rate(self, count: int, tasks: int) -> float:
        """Jobs per second from the first claim to the last finish."""
        await self.fill(count)
        if self._tidy:
            await self._tidy()
        start = time.perf_counter()
        await self.work(count, tasks)
        seconds = time.perf_counter() - start
        assert await self.db.get_queue_length() == 0
        return count / seconds

    async def run_rate(self, count: int, hands: int) -> float:
        """The same by the library's own runtime, which works on so many jobs at once."""
        await self.fill(count)
        if self._tidy:
            await self._tidy()
        pipeline = Pipeline()

        @pipeline.stage(Stage.QUEUED, Stage.DOWNLOADING, Stage.UPLOADED, concurrency=hands)
        async def work(_: JobContext) -> None:
            """Do nothing."""

        start = time.perf_counter()
        async with pipeline.running(self.db) as crew:
            await crew.wait_idle()
            seconds = time.perf_counter() - start
        assert await self.db.get_queue_length() == 0
        return count / seconds

    async def work(self, count: int, tasks: int) -> None:
        """Claim `count` jobs in batches and finish them one by one from so many tasks.

        One batch is asked for while another is handed out.
        """
        claims: asyncio.Queue[Claim | None] = asyncio.Queue(BATCH)
        batches = (min(BATCH, count - first) for first in range(0, count, BATCH))

        async def claimer() -> None:
            for wanted in batches:
                found = await self.db.claim_jobs(Stage.QUEUED, into=Stage.DOWNLOADING, limit=wanted)
                assert len(found) == wanted, f"{wanted - len(found)} jobs are nowhere to be found"
                for claim in found:
                    await claims.put(claim)

        async def worker() -> None:
            while claim := await claims.get():
                async with claim:
                    await self.db.finish_job(claim, Stage.UPLOADED)

        async with asyncio.TaskGroup() as group:
            for _ in range(tasks):
                group.create_task(worker())
            async with asyncio.TaskGroup() as claimers:
                for _ in range(_CLAIMERS):
                    claimers.create_task(claimer())
            for _ in range(tasks):
                await claims.put(None)


def vacuum(dsn: str) -> Tidy:
    """What autovacuum does for the queue's table, on a connection of its own."""

    async def tidy() -> None:
        connection = await asyncpg.connect(**connect_arguments(dsn))
        try:
            await connection.execute("VACUUM (ANALYZE) jobs")
        finally:
            await connection.close()

    return tidy


@asynccontextmanager
async def worked(url: str, tidy: Tidy | None = None) -> AsyncIterator[Worked]:
    """Open and migrate an empty database at full durability."""
    async with JobDb.open(url) as db:
        await db.init_schema()
        health = await db.health()
        assert health.durable, health
        yield Worked(db, tidy)
