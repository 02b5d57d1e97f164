"""Start again after a crash (libpndb's third common pattern).

python -m examples.restart_after_crash [URL]     (a temporary file when no URL is given)

The document fails every job that was found at work. Here those jobs go back into the queue instead,
at most twice; after that they fail, so that a job that kills its worker each time comes to an end.

Run it only where no other process is working on the same database: it takes every job that is found
at work for an interrupted one.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from pandora_db import EventKind, Job, JobDb, Stage, StageKind

MAX_RESTARTS = 2


async def recover(db: JobDb) -> None:
    """Put interrupted jobs back into the queue, or fail them."""
    for row in await db.get_active_jobs():
        job = row.to_job_metadata()
        if job.ready.kind is not StageKind.WORKING:
            continue
        events = await db.history(job.job_id)
        restarts = sum(event.kind is EventKind.REQUEUED for event in events)
        if restarts < MAX_RESTARTS:
            await db.requeue_job(job.job_id)
            print(f"job {job.job_id}: was {job.ready.name}, queued again")
            continue
        async with db.transaction() as tx:
            await tx.update_job(job.job_id, error=f"interrupted {restarts + 1} times")
            await tx.update_stage(job.job_id, Stage.FAILED)
            await tx.archive_job(job.job_id)
        print(f"job {job.job_id}: was {job.ready.name}, failed")


async def crash(url: str, job_ids: list[int]) -> None:
    """Leave jobs at work, as a process that is killed does."""
    async with JobDb.open(url) as db:
        for job_id, stage in zip(job_ids, (Stage.DOWNLOADING, Stage.ENCODING), strict=True):
            await db.update_stage(job_id, stage)


async def main(url: str) -> None:
    """Crash three times with the same two jobs at work, and recover each time."""
    async with JobDb.open(url) as db:
        await db.init_schema()
        job_ids = await db.insert_jobs(
            Job(author="mika", link=f"https://example.com/{n}.mkv") for n in (1, 2)
        )
    for number in range(1, MAX_RESTARTS + 2):
        await crash(url, job_ids)
        print(f"start {number}")
        async with JobDb.open(url) as db:
            await db.init_schema()
            await recover(db)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        asyncio.run(main(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as folder:
            asyncio.run(main(str(Path(folder) / "pandora.db")))
