"""Time that passes when a test says so."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from pandora_db.codecs.claim import check_seconds
from pandora_db.db import internals
from pandora_db.runtime import JobManager
from pandora_db.testing.databases import check_test_db

if TYPE_CHECKING:
    from pandora_db.db import JobDb
    from pandora_db.runtime import Crew

YEAR = 31_536_000.0
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


async def run_until_idle(
    workers: JobManager | Crew, *, clock: Clock | None = None, limit: float = YEAR
) -> Clock:
    """Let workers go on until no job waits for them any more, without waiting for any time.

    Whenever there is nothing to do but to wait for the time of a job, that time is skipped. Jobs
    that are paused, or that these workers do not take, are not waited for.

    Args:
        workers: a manager, or what `pipeline.running(db)` gave, at work on a `new_test_db()`.
        clock: tells what was skipped, over several calls; None begins a new one.
        limit: seconds that may be skipped, in all of the clock.

    Returns:
        The clock.

    Raises:
        TimeoutError: a job waits for a time beyond `limit`.
        InvalidInput: the handle is not of `new_test_db()`.
    """
    crew = workers.crew if isinstance(workers, JobManager) else workers
    clock = Clock() if clock is None else clock
    db = check_test_db(crew.db, "run_until_idle")
    driver = internals(db).driver
    stages = sorted({worker.work.waiting.value for worker in crew.workers})
    while True:
        await crew.wait_settled()
        ((wait,),) = await driver.read("next_due", {"stages": stages})
        if wait is not None:
            if clock.skipped + wait > limit:
                raise TimeoutError(
                    f"a job waits for another {wait:.0f} s, {clock.skipped:.0f} s were skipped "
                    f"and {limit:.0f} s may be"
                )
            await clock.advance(db, wait + _JUST)
        elif not crew.running:
            await crew.wait_idle()
            return clock
        else:  # they wait for a job that goes on elsewhere, or are about to go on
            await asyncio.sleep(_JUST)
