"""Removing the folders of jobs that ended long ago."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pandora_db.errors import HandleClosed, PandoraDbError, UnknownCode
from pandora_db.models.checks import counted
from pandora_db.models.status import ENDED, status_of
from pandora_db.services.outage import Outage

if TYPE_CHECKING:
    from pandora_db.db import JobDb
    from pandora_db.models.job_row import JobRow
    from pandora_db.runtime.data_dirs import DataDirs

log = logging.getLogger("pandora_db")

_AT_ONCE = 500
_PART, _LEAST, _MOST = 0.1, 1.0, 3600.0  # of the time to keep; seconds between two looks


class Retention:
    """Looks now and then; any number of processes may, on one root."""

    def __init__(self, db: JobDb, dirs: DataDirs, keep: float) -> None:
        self._db = db
        self._dirs = dirs
        self._keep = keep
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """End; what was hidden is removed by whoever looks next."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def look(self) -> list[int]:
        """Remove what may go; the jobs whose folders were taken away."""
        removed: list[int] = []
        marked = await asyncio.to_thread(self._dirs.marked)
        listed = sorted(marked)
        for start in range(0, len(listed), _AT_ONCE):
            ids = listed[start : start + _AT_ONCE]
            rows = {row.job_id: row for row in await self._db.get_jobs_by_ids(ids)}
            for job_id in ids:
                row = rows.get(job_id)
                age = marked[job_id] if row is None else _age(row)
                if age is not None and age > self._keep and await self._hide(job_id):
                    removed.append(job_id)
        await asyncio.to_thread(self._dirs.sweep)
        return removed

    async def _run(self) -> None:
        pause = min(max(self._keep * _PART, _LEAST), _MOST)
        outage = Outage()
        while True:
            try:
                removed = await self.look()
            except HandleClosed:
                return
            except (PandoraDbError, OSError) as error:
                level = outage.failed()
                log.log(level, "the folders of jobs that have ended were not removed: %s", error)
            except Exception:
                level = outage.failed(logging.ERROR)
                failed = "the folders of jobs that have ended were not removed"
                log.log(level, failed, exc_info=True)
            else:
                if (seconds := outage.over()) is not None:
                    log.info("folders can be removed again, after %.1f s", seconds)
                if removed:
                    log.info("removed the folders of %s", counted(len(removed), "ended job"))
            await asyncio.sleep(pause)

    async def _hide(self, job_id: int) -> bool:
        """Take the folder away while the job is kept as it is: nobody begins it again meanwhile."""
        async with self._db.transaction() as tx:
            state = await tx._lock(job_id)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
            if state is not None and not _is_over(state.ready, state.hold):
                return False
            self._dirs.hide(job_id)
        return True


def _age(row: JobRow) -> float | None:
    """Seconds since the job ended; None when it has not."""
    ended_at = row.completed_at or row.updated_at
    if not _is_over(row.ready, row.hold) or ended_at is None:
        return None
    return (datetime.now(UTC) - ended_at).total_seconds()


def _is_over(stage: int | None, hold: int) -> bool:
    try:
        return stage is not None and status_of(stage, hold) in ENDED
    except UnknownCode:  # of a newer program: it knows
        return False
