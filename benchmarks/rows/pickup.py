"""Row 7: how long a job waits for a worker that has nothing to do, and what the waiting costs.

Time runs from the call that inserts the job until its handler begins, through the library's own
runtime; jobs come one at a time, at random moments. On PostgreSQL the caller has a handle of its
own, as another process would, and pgqueuer is asked in the same way beside it. On SQLite the jobs
come from the handle of the worker, from another handle of the process, and from another process.
"""

from __future__ import annotations

import asyncio
import random
import struct
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from statistics import median, quantiles

from benchmarks.peers.pgqueuer import pgqueuer
from benchmarks.raw_postgres import fresh_database
from benchmarks.rounds import Plan, Result, in_loop
from pandora_db import Job, JobDb, Stage
from pandora_db.runtime import JobContext, Pipeline

_PAUSES = (0.02, 0.06)  # seconds between two jobs
_HANDS = 4
_TIME = struct.Struct("d")
_LATEST = 10.0

Insert = Callable[[bytes], Awaitable[object]]


def pickup(plan: Plan) -> list[Result]:
    """The median wait on both engines, and the share of a core that waiting takes on SQLite."""
    results = in_loop(_sqlite(plan))
    return (in_loop(_postgres(plan, plan.postgres)) if plan.postgres else []) + results


def stamp() -> bytes:
    """The time, the same in all processes of the machine."""
    return _TIME.pack(time.monotonic())


class Waits:
    """How long each job waited, in milliseconds."""

    def __init__(self) -> None:
        self.found: list[float] = []
        self._new = asyncio.Event()

    def begin(self, stamped: bytes | None) -> None:
        """A handler begins its work."""
        assert stamped is not None
        (then,) = _TIME.unpack(stamped)
        self.found.append((time.monotonic() - then) * 1000)
        self._new.set()

    async def reach(self, count: int) -> None:
        """Wait until so many have begun."""
        async with asyncio.timeout(_LATEST):
            while len(self.found) < count:
                self._new.clear()
                await self._new.wait()

    async def after(self, insert: Insert, count: int, chance: random.Random) -> list[float]:
        """Insert so many jobs one by one; how long each waited."""
        self.found.clear()
        for number in range(count):
            await asyncio.sleep(chance.uniform(*_PAUSES))
            await insert(stamp())
            await self.reach(number + 1)
        return list(self.found)


@asynccontextmanager
async def waiting(db: JobDb) -> AsyncIterator[Waits]:
    """A worker of the library's runtime."""
    waits = Waits()
    pipeline = Pipeline()

    @pipeline.stage(Stage.QUEUED, Stage.DOWNLOADING, Stage.UPLOADED, concurrency=_HANDS)
    async def begin(ctx: JobContext) -> None:
        waits.begin(ctx.job.params)

    async with pipeline.running(db) as crew:
        await crew.wait_idle()
        yield waits


def inserts(db: JobDb) -> Insert:
    """Jobs by this handle."""

    async def insert(stamped: bytes) -> None:
        await db.insert_job(Job(author="bench", params=stamped))

    return insert


def _count(plan: Plan) -> int:
    return int(60 * plan.seconds)


async def _postgres(plan: Plan, dsn: str) -> list[Result]:
    chance = random.Random(plan.seed)  # noqa: S311 - pauses, no secrets
    theirs = Waits()
    rounds: list[tuple[list[float], list[float]]] = []
    async with (
        fresh_database(dsn) as one,
        fresh_database(dsn) as other,
        JobDb.open(one) as db,
        JobDb.open(one) as caller,
        pgqueuer(other) as peer,
        peer.waiting(theirs.begin) as enqueue,
    ):
        await db.init_schema()
        async with waiting(db) as ours:
            sides = (partial(ours.after, inserts(caller)), partial(theirs.after, enqueue))
            for number in range(plan.rounds + 1):
                order = sides if number % 2 else sides[::-1]
                waits = {side: await side(_count(plan), chance) for side in order}
                if number:
                    rounds.append((waits[sides[0]], waits[sides[1]]))
    both = [(median(mine), median(other)) for mine, other in rounds]
    notes = {
        "p99_ms": [
            _p99([wait for one in side for wait in one]) for side in zip(*rounds, strict=True)
        ]
    }
    return [Result("7-postgres", [(a, b, a / b) for a, b in both], notes)]


async def _sqlite(plan: Plan) -> list[Result]:
    chance = random.Random(plan.seed)  # noqa: S311 - pauses, no secrets
    path = plan.folder / "pickup.db"
    found: dict[str, list[list[float]]] = {"inside": [], "beside": [], "process": []}
    async with JobDb.open(path) as db, JobDb.open(path) as neighbour:
        await db.init_schema()
        async with waiting(db) as waits:
            for number in range(plan.rounds + 1):
                turn = {
                    "inside": await waits.after(inserts(db), _count(plan), chance),
                    "beside": await waits.after(inserts(neighbour), _count(plan), chance),
                    "process": await _from_process(waits, path, _count(plan), plan.seed + number),
                }
                if number:
                    for name, waited in turn.items():
                        found[name].append(waited)
    results = [
        Result(
            f"7-sqlite-{name}",
            [(median(one), 0.0, median(one)) for one in rounds],
            {"p99_ms": _p99([wait for one in rounds for wait in one])},
        )
        for name, rounds in found.items()
    ]
    shares = [await _idle_share(path, plan.seconds) for _ in range(3)]
    return [*results, Result("7-sqlite-idle", [(share, 0.0, share) for share in shares])]


def _p99(waits: list[float]) -> float:
    return round(quantiles(waits, n=100)[-1], 2)


async def _from_process(waits: Waits, path: Path, count: int, seed: int) -> list[float]:
    waits.found.clear()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.rows.pickup", "insert", str(path), str(count), str(seed)
    )
    assert await process.wait() == 0
    await waits.reach(count)
    return list(waits.found)


async def _idle_share(path: Path, seconds: float) -> float:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.rows.pickup", "idle", str(path), str(10 * seconds),
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    told, _ = await process.communicate()
    assert process.returncode == 0
    return float(told)


async def _insert(path: str, count: int, seed: int) -> None:
    """Part of another process: jobs at random moments."""
    chance = random.Random(seed)  # noqa: S311 - pauses, no secrets
    async with JobDb.open(path) as db:
        await db.get_queue_length()
        for _ in range(count):
            await asyncio.sleep(chance.uniform(*_PAUSES))
            await inserts(db)(stamp())


async def _idle(path: str, seconds: float) -> None:
    """Print the percentage of a core that a process takes whose workers and watcher wait."""
    async with JobDb.open(path) as db, db.watch() as watch, waiting(db):
        listening = asyncio.ensure_future(anext(watch))
        await asyncio.sleep(3.0)  # until the pauses have reached their full length
        used, start = time.process_time(), time.monotonic()
        await asyncio.sleep(seconds)
        used, lasted = time.process_time() - used, time.monotonic() - start
        assert not listening.done()
        listening.cancel()
    print(100 * used / lasted)


if __name__ == "__main__":
    if sys.argv[1] == "insert":
        asyncio.run(_insert(sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
    else:
        asyncio.run(_idle(sys.argv[2], float(sys.argv[3])))
