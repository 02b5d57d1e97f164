"""Time that passes when a test says so."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from pandora_db.codecs.checks import check_int
from pandora_db.codecs.claim import check_seconds, claim_filters
from pandora_db.db import internals
from pandora_db.models.checks import counted, refuse
from pandora_db.models.event import EventKind, stage_name
from pandora_db.models.status import JobStatus
from pandora_db.runtime import Crew, JobManager
from pandora_db.testing.databases import check_test_db

if TYPE_CHECKING:
    from collections.abc import Collection

    from pandora_db.db import JobDb
    from pandora_db.models.job_row import JobRow
    from pandora_db.runtime.work import Work
    from pandora_db.services.watch import Watch

YEAR = 31_536_000.0
_AGAIN = (EventKind.RETRYING, EventKind.SNOOZED, EventKind.RECOVERED)
"""How an attempt ends that will be made again."""
_JUST = 0.001  # seconds: the engines know milliseconds


class Clock:
    """Skips the time that jobs wait for: delays, snoozes, and the waits after failed attempts.

    The engine's own clock judges whether a job is due, on both dialects. So it is not set: the
    times of the jobs that wait are brought forward. Leases and time-outs are not touched.

    Attributes:
        skipped: seconds, in all.
    """

    def __init__(self) -> None:
        self.skipped = 0.0

    def now(self) -> datetime:
        """The time as the jobs see it (aware)."""
        return datetime.now(UTC) + timedelta(seconds=self.skipped)

    async def advance(self, db: JobDb, seconds: float) -> None:
        """Let so much time pass, for all jobs of a test database.

        Raises:
            InvalidInput: the handle is not of `new_test_db()`, or no number of seconds.
        """
        check_test_db(db, "advance")
        check_seconds(seconds, "seconds")
        driver = internals(db).driver
        await driver.take("skip_time", {"seconds": seconds})
        self.skipped += seconds


class NeverIdle(TimeoutError):
    """The workers would go on for ever, or wait for ever.

    Attributes:
        job_id: the job that comes back again and again, or waits for another one.
        times: how often it was begun during the call.
    """

    def __init__(self, message: str, job_id: int, times: int) -> None:
        super().__init__(message)
        self.job_id = job_id
        self.times = times


async def run_until_idle(
    workers: JobManager | Crew,
    *,
    clock: Clock | None = None,
    limit: float = YEAR,
    most: int = 1000,
    patience: float = 10.0,
) -> Clock:
    """Let workers go on until no job waits for them any more, without waiting for any time.

    Whenever there is nothing to do but to wait for the time of a job, that time is skipped. Jobs
    that are paused, or that these workers do not take, are not waited for.

    Args:
        workers: a manager, or what `pipeline.running(db)` gave, at work on a `new_test_db()`.
        clock: tells what was skipped, over several calls; None begins a new one.
        limit: seconds that may be skipped, in all of the clock.
        most: how often one job may be begun meanwhile: `Snooze(0)` comes back for ever.
        patience: seconds in which something has to happen while handlers wait for children that
            nobody works on.

    Returns:
        The clock.

    Raises:
        TimeoutError: a job waits for a time beyond `limit`.
        NeverIdle: a job was begun `most` times and is not done, or waits for a child that nobody
            takes. It is a `TimeoutError` too. The workers go on: end their block.
        InvalidInput: the handle is not of `new_test_db()`, or another bad argument.
    """
    crew = workers.crew if isinstance(workers, JobManager) else workers
    if not isinstance(crew, Crew):  # pyright: ignore[reportUnnecessaryIsInstance]
        refuse("workers", workers, "a JobManager, or what pipeline.running(db) gave")
    clock = Clock() if clock is None else clock
    db = check_test_db(crew.db, "run_until_idle")
    if not isinstance(clock, Clock):  # pyright: ignore[reportUnnecessaryIsInstance]
        refuse("clock", clock, "a Clock, or None for a new one")
    _check_limit(limit)
    check_int(most, "most", 1, 2**31)
    check_seconds(patience, "patience")
    async with db.watch() as events:
        seen = _Seen(events, patience)
        counting = asyncio.ensure_future(seen.count(most))
        idling = asyncio.ensure_future(_skip_time(crew, db, clock, limit, seen))
        try:
            await asyncio.wait((counting, idling), return_when=asyncio.FIRST_COMPLETED)
            if counting.done():
                counting.result()
            await idling
        finally:
            counting.cancel()
            idling.cancel()
            await asyncio.gather(counting, idling, return_exceptions=True)
    return clock


async def _skip_time(crew: Crew, db: JobDb, clock: Clock, limit: float, seen: _Seen) -> None:
    while True:
        await crew.wait_settled()
        waits = [wait for worker in crew.workers if (wait := await _next_due(db, worker.work))]
        if waits:
            wait = min(waits)
            if clock.skipped + wait > limit:
                raise TimeoutError(
                    f"a job waits for another {wait:.0f} s, {clock.skipped:.0f} s were skipped "
                    f"and {limit:.0f} s may be"
                )
            await clock.advance(db, wait + _JUST)
        elif not crew.running:
            await crew.wait_idle()
            return
        else:  # they wait for a job that goes on elsewhere, or are about to go on
            await seen.check_children(db, crew.running)
            await asyncio.sleep(_JUST)


async def _next_due(db: JobDb, work: Work) -> float | None:
    """Seconds until the next job that waits for a time could be taken; None when none does."""
    args, flags = claim_filters(work.names, None, None, None, work.tags)
    args["stage"] = work.waiting.value
    ((wait,),) = await internals(db).driver.read("next_due", args, flags)
    return None if wait is None else float(wait)


def _check_limit(value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        refuse("limit", value, "a number of seconds, 0 or more")


class _Seen:
    """What happened to the jobs."""

    def __init__(self, events: Watch, patience: float) -> None:
        self._last = time.monotonic()
        self._events = events
        self._patience = patience
        self._begun: Counter[int] = Counter()

    async def count(self, most: int) -> None:
        """Count how often each job is begun; raises `NeverIdle` after `most` times."""
        async for event in self._events:
            self._last = time.monotonic()
            self._begun[event.job_id] += event.kind is EventKind.CLAIMED
            times = self._begun[event.job_id]
            if times > most or (times == most and event.kind in _AGAIN):
                raise NeverIdle(
                    f"job {event.job_id} was begun {counted(times, 'time')} and comes back again "
                    "and again: does it snooze, or fail, without end? If that is meant, give more "
                    "as `most`",
                    event.job_id, times,
                )  # fmt: skip

    async def check_children(self, db: JobDb, parents: Collection[int]) -> None:
        """When nothing has happened for long: whether they wait in vain for children."""
        if time.monotonic() - self._last <= self._patience:
            return
        self._last = time.monotonic()
        waiting: list[tuple[int, JobRow]] = []
        for parent in parents:
            for child in await db.get_children(parent):
                if child.status is JobStatus.RUNNING and child.job_id not in parents:
                    return
                if child.status in (JobStatus.QUEUED, JobStatus.PAUSED):
                    waiting.append((parent, child))
        if waiting:
            job_id, child = waiting[0]
            raise NeverIdle(
                f"job {job_id} waits for job {child.job_id}, which nobody takes: it is "
                f"{child.status} at {stage_name(child.ready)}, of the name {child.name!r}, with "
                f"the tags {child.tags or 'none'}; have workers that take it",
                job_id, self._begun[job_id],
            )  # fmt: skip
