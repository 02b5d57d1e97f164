"""Row 6: what a thousand times the archive costs the queries that a bot makes all the time.

Three handles ask in turns: one on a small archive, one on a large one, and one on a large one that
had made every call already when the table was still empty, and keeps its connections.
"""

from __future__ import annotations

import gc
import itertools
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from statistics import median

from benchmarks.archive import FIRST_REQUEST, fill_archive
from benchmarks.raw_postgres import fresh_database
from benchmarks.rounds import Plan, Result, in_loop, repeat
from pandora_db import Job, JobDb, JobStatus, Limits, NotFound, Stage

LIVE = 120
_SMALL = 1_000
_CALLS = 120
FIRST_LIVE = 2_000_000_001
_REQUESTED = 1_900_000_000
_WARM = 8  # PostgreSQL may settle on a generic plan from the sixth run on

Call = Callable[[], Awaitable[object]]


def growth(plan: Plan) -> list[Result]:
    """The slowest growth of each dialect, and that of every query in the notes."""
    with _on_one_core():
        results = in_loop(_sqlite(plan))
        return results + (in_loop(_postgres(plan, plan.postgres)) if plan.postgres else [])


@contextmanager
def _on_one_core() -> Iterator[None]:
    """Keep this process, and the threads it starts, on one core.

    Else one handle's thread may sit beside the event loop and another's on a core that has to be
    woken for every call: twice the time, whatever the archive.
    """
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


async def _beside_us(db: JobDb) -> None:
    """Keep the server's process behind a handle on our core too, where it is on this machine."""
    if db.dialect != "postgres" or not hasattr(os, "sched_setaffinity"):
        return
    pool = db._driver._pool  # type: ignore[attr-defined]  # noqa: SLF001
    async with pool.connection() as connection:
        _keep_on_our_core(connection.get_server_pid())


def _keep_on_our_core(pid: int) -> None:
    with suppress(OSError):
        if Path(f"/proc/{pid}/comm").read_text().startswith("postgres"):
            os.sched_setaffinity(pid, os.sched_getaffinity(0))


async def _sqlite(plan: Plan) -> list[Result]:
    names = ("small", "large", "kept")
    return await _measure(plan, "6-sqlite", *(f"{plan.folder}/{name}.db" for name in names))


async def _postgres(plan: Plan, dsn: str) -> list[Result]:
    async with (
        fresh_database(dsn) as small,
        fresh_database(dsn) as large,
        fresh_database(dsn) as kept,
    ):
        return await _measure(plan, "6-postgres", small, large, kept)


async def _measure(plan: Plan, key: str, small: str, large: str, kept: str) -> list[Result]:
    async with AsyncExitStack() as handles:
        bots = [
            await handles.enter_async_context(_bot(small, _SMALL)),
            await handles.enter_async_context(_bot(large, plan.archived)),
            await handles.enter_async_context(_bot(kept, plan.archived, keep=True)),
        ]
        rates: dict[str, list[list[float]]] = {}
        for number in range(plan.rounds + 1):
            for calls in zip(*(bot.calls().items() for bot in bots), strict=True):
                gc.collect(0)
                row = [await repeat(_CALLS, call) for _, call in calls]
                if number:
                    rates.setdefault(calls[0][0], []).append(row)
    return [_worst(key, rates, 1), _worst(f"{key}-kept", rates, 2)]


def _worst(key: str, rates: dict[str, list[list[float]]], side: int) -> Result:
    found = {
        name: [(row[side], row[0], row[0] / row[side]) for row in rounds]
        for name, rounds in rates.items()
    }
    growths = {name: median(growth for _, _, growth in rounds) for name, rounds in found.items()}
    worst = max(growths, key=growths.__getitem__)
    notes = {"worst": worst, "growth": {name: round(value, 2) for name, value in growths.items()}}
    return Result(key, found[worst], notes)


@asynccontextmanager
async def _bot(url: str, archived: int, *, keep: bool = False) -> AsyncIterator[Bot]:
    """A handle on `archived` jobs in the archive and `LIVE` live ones, every call warm."""
    async with AsyncExitStack() as stack:
        early = await stack.enter_async_context(JobDb.open(url, pool_max=1, connection_life=86400))
        await early.init_schema()
        bot = Bot(early)
        if keep:
            await bot.warm()
        await fill_archive(url, 1, archived)
        await bot.fill()
        if not keep:
            bot.db = await stack.enter_async_context(
                JobDb.open(url, pool_max=1, connection_life=86400)
            )
        await _beside_us(bot.db)
        await bot.warm()
        yield bot


class Bot:
    """The calls that a bot makes, on live jobs that are the same beside every archive."""

    def __init__(self, db: JobDb) -> None:
        self.db = db
        self._reads = itertools.count(7, 13)

    async def fill(self) -> None:
        """Insert the live jobs."""
        await self.db.insert_jobs([_job(offset, FIRST_LIVE + offset) for offset in range(LIVE)])

    async def warm(self) -> None:
        """Make every call a few times; what it inserted is deleted again."""
        for call in self.calls().values():
            for _ in range(_WARM):
                with suppress(NotFound):  # the table may be empty still
                    await call()

    def _live(self) -> int:
        return FIRST_LIVE + next(self._reads) % LIVE

    def calls(self) -> dict[str, Call]:
        """Every hot call by its name, to be made equally often in this order."""
        return self._reading() | self._writing() | self._working()

    def _reading(self) -> dict[str, Call]:
        db = self.db
        middle = (FIRST_REQUEST + _SMALL // 2, _SMALL // 2)
        return {
            "get_job": lambda: db.get_job(self._live()),
            "get_jobs_by_ids": lambda: db.get_jobs_by_ids([self._live() for _ in range(10)]),
            "get_jobs_by_stage": lambda: db.get_jobs_by_stage(Stage.DOWNLOADED),
            "get_active_jobs": db.get_active_jobs,
            "get_queue_length": db.get_queue_length,
            "get_user_history by name": lambda: db.get_user_history("mika-1"),
            "get_user_history by id": lambda: db.get_user_history(10_001),
            "get_completed_jobs": lambda: db.get_completed_jobs(50),
            "get_recent_jobs": lambda: db.get_recent_jobs(50),
            "get_jobs": lambda: db.get_jobs(limit=50),
            "get_jobs active": lambda: db.get_jobs(archived=False, limit=50),
            "get_jobs stage": lambda: db.get_jobs(stage=Stage.ENCODING, archived=False, limit=50),
            "get_jobs status": lambda: db.get_jobs(
                status=JobStatus.QUEUED, archived=False, limit=50
            ),
            "get_jobs author": lambda: db.get_jobs(author="mika-2", limit=50),
            "get_jobs author archived": lambda: db.get_jobs(
                author="author-5", archived=True, limit=1
            ),
            "count_jobs author": lambda: db.count_jobs(author="mika-2"),
            "count_jobs author active": lambda: db.count_jobs(author_id=5, archived=False),
            "get_jobs guild": lambda: db.get_jobs(guild_id=901, limit=50),
            "get_jobs since": lambda: db.get_jobs(
                since=_REQUESTED, until=_REQUESTED + 40, limit=50
            ),
            "get_jobs archived": lambda: db.get_jobs(archived=True, limit=50),
            "get_jobs after": lambda: db.get_jobs(archived=True, after=middle, limit=50),
            "queue_position": lambda: db.queue_position(self._live()),
            "stage_counts": db.stage_counts,
            "history": lambda: db.history(self._live()),
        }

    def _writing(self) -> dict[str, Call]:
        db = self.db
        ids: list[int] = []
        offsets = itertools.count()

        async def insert() -> None:
            ids.append(await db.insert_job(_job(next(offsets))))

        async def insert_within() -> None:
            ids.append(await db.insert_job(_job(next(offsets)), max_active=10_000))

        left = iter(ids)

        def each(call: Callable[[int], Awaitable[object]]) -> Call:
            turn = iter(ids)
            return lambda: call(next(turn))

        return {
            "insert_job": insert,
            "insert_job max_active": insert_within,
            "update_stage": each(lambda job_id: db.update_stage(job_id, Stage.UPLOADING)),
            "update_job": each(lambda job_id: db.update_job(job_id, progress=0.5)),
            "requeue_job": each(db.requeue_job),
            "archive_job": each(db.archive_job),
            # Two calls inserted, so two delete.
            "delete_job": lambda: db.delete_job(next(left)),
            "delete_job, the rest": lambda: db.delete_job(next(left)),
        }

    def _working(self) -> dict[str, Call]:
        """What a worker does; the job waits again afterwards."""
        db = self.db
        within = Limits(stage=50, author=50)

        async def work(limit: int = 1, limits: Limits | None = None) -> None:
            claims = await db.claim_jobs(
                Stage.DOWNLOADED, into=Stage.ENCODING, limit=limit, limits=limits
            )
            for claim in claims:  # none while the table is empty
                await db.load_checkpoint(claim)
                await db.save_checkpoint(claim, {"next_segment": 12})
                await db.update_job(claim, progress=0.5)
                await db.renew_claims(claims)
                await db.release_job(claim)

        return {
            "claim_jobs to release_job": work,
            "the same, 10 jobs": lambda: work(10),
            "the same, up to 200 jobs": lambda: work(200),
            "the same within limits": lambda: work(limits=within),
            "has_lapsed": db.has_lapsed,
            "recover": db.recover,
        }


def _job(offset: int, job_id: int | None = None) -> Job:
    return Job(
        author=f"mika-{offset % 4}",
        author_id=10_000 + offset % 4,
        guild_id=900 + offset % 2,
        job_id=job_id,
        link="https://videos.example/live.mkv",
        requested_at=_REQUESTED + offset,
        ready=Stage.QUEUED if job_id is None else Stage(offset % 6),
    )
