"""Worker loops, one for each stage of work, in one process.

python -m examples.worker_loop [URL]     (a database in memory when no URL is given)

Each loop asks for the jobs that wait for it, says what it is doing before it begins, and writes the
end of it in one transaction. One loop for each stage is safe as it stands. For several loops on one
stage see examples/encode_queue/workers.py; several processes need leases, which come later.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable

from pandora_db import Job, JobDb, JobMetadata, Stage

Work = Callable[[JobMetadata], Awaitable[None]]


async def download(job: JobMetadata) -> None:
    """Stands for the real work; one link is dead."""
    await asyncio.sleep(0.01)
    if "dead" in job.link:
        raise OSError(f"404 from {job.link}")


async def encode(_job: JobMetadata) -> None:
    """Stands for the real work."""
    await asyncio.sleep(0.02)


async def upload(_job: JobMetadata) -> None:
    """Stands for the real work."""
    await asyncio.sleep(0.01)


async def worker(db: JobDb, waiting: Stage, working: Stage, after: Stage, work: Work) -> None:
    """Take the jobs of `waiting` through `working` to `after`, for ever."""
    while True:
        jobs = await db.get_jobs_by_stage(waiting)
        if not jobs:
            await asyncio.sleep(0.02)
            continue
        job = jobs[0].to_job_metadata()
        await db.update_stage(job.job_id, working)
        try:
            await work(job)
        except OSError as error:
            await finish(db, job.job_id, Stage.FAILED, str(error))
            continue
        if after is Stage.UPLOADED:
            await finish(db, job.job_id, after)
        else:
            await db.update_stage(job.job_id, after)


async def finish(db: JobDb, job_id: int, stage: Stage, error: str | None = None) -> None:
    """End a job: reason, stage and archive mark become visible together."""
    async with db.transaction() as tx:
        if error is not None:
            await tx.update_job(job_id, error=error)
        await tx.update_stage(job_id, stage)
        await tx.archive_job(job_id)


async def main(url: str) -> None:
    """Queue four jobs and let the loops work until none is active."""
    async with JobDb.open(url) as db:
        await db.init_schema()
        names = ["one", "two", "dead", "four"]
        ids = await db.insert_jobs(
            Job(author="mika", link=f"https://example.com/{n}.mkv") for n in names
        )
        async with asyncio.TaskGroup() as group:
            loops = [
                group.create_task(
                    worker(db, Stage.QUEUED, Stage.DOWNLOADING, Stage.DOWNLOADED, download)
                ),
                group.create_task(
                    worker(db, Stage.DOWNLOADED, Stage.ENCODING, Stage.ENCODED, encode)
                ),
                group.create_task(
                    worker(db, Stage.ENCODED, Stage.UPLOADING, Stage.UPLOADED, upload)
                ),
            ]
            while await db.get_queue_length():  # noqa: ASYNC110 - the database is what we wait for
                await asyncio.sleep(0.02)
            for loop in loops:
                loop.cancel()
        for job in await db.get_jobs_by_ids(ids):
            print(f"job {job.job_id}: {Stage(job.ready).name} {job.error or ''}".rstrip())


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else ":memory:"))
