"""Worker loops, as many as you like, in as many processes as you like.

python -m examples.worker_loop [URL]     (a database in memory when no URL is given)

Each loop claims the next job that waits for it. While it works, its lease is renewed; when the
process is killed, another worker gets the job. A failed attempt is repeated after a while, and what
cannot succeed fails for good.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from examples import url_argument
from pandora_db import Claim, Job, JobDb, LeaseLost, Limits, Stage

Work = Callable[[Claim], Awaitable[None]]
Way = tuple[Stage, Stage, Stage]

DOWNLOAD = (Stage.QUEUED, Stage.DOWNLOADING, Stage.DOWNLOADED)
ENCODE = (Stage.DOWNLOADED, Stage.ENCODING, Stage.ENCODED)
UPLOAD = (Stage.ENCODED, Stage.UPLOADING, Stage.UPLOADED)


async def download(claim: Claim) -> None:
    """Stands for the real work; one link is dead, another one fails the first time."""
    await asyncio.sleep(0.01)
    if "dead" in claim.job.link:
        raise FileNotFoundError(f"404 from {claim.job.link}")
    if "shaky" in claim.job.link and claim.attempt == 1:
        raise ConnectionResetError("the connection was reset")


async def encode(_claim: Claim) -> None:
    """Stands for the real work."""
    await asyncio.sleep(0.02)


async def upload(_claim: Claim) -> None:
    """Stands for the real work."""
    await asyncio.sleep(0.01)


async def worker(db: JobDb, way: Way, work: Work, limits: Limits | None = None) -> None:
    """Take the jobs that wait through the work to the stage after it, for ever."""
    waiting, working, after = way
    while True:
        claims = await db.claim_jobs(waiting, into=working, limits=limits)
        if not claims:
            await asyncio.sleep(0.02)
            continue
        (claim,) = claims
        try:
            async with claim:
                await work(claim)
                await db.finish_job(claim, after)
        except LeaseLost:
            print(f"job {claim.job_id} was taken from us")
        except FileNotFoundError as error:
            await db.fail_job(claim, error, final=True)
        except OSError as error:
            await db.fail_job(claim, error, retry_in=0.05)
        except Exception as error:  # noqa: BLE001 - whatever it is, the loop goes on
            await db.fail_job(claim, error)
        except asyncio.CancelledError:  # the program ends: let others have the job at once
            with suppress(LeaseLost):
                await db.release_job(claim)
            raise


async def main(url: str) -> None:
    """Queue four jobs and let the loops work until none is active."""
    async with JobDb.open(url) as db:
        await db.init_schema()
        names = ["one", "shaky", "dead", "four"]
        ids = await db.insert_jobs(
            Job(author="mika", link=f"https://example.com/{n}.mkv") for n in names
        )
        async with asyncio.TaskGroup() as group:
            loops = [
                group.create_task(loop)
                for loop in (
                    worker(db, DOWNLOAD, download),
                    worker(db, DOWNLOAD, download),
                    # One encode at a time for each author, however many workers there are.
                    worker(db, ENCODE, encode, Limits(author=1)),
                    worker(db, ENCODE, encode, Limits(author=1)),
                    worker(db, UPLOAD, upload),
                )
            ]
            while await db.get_queue_length():  # noqa: ASYNC110 - the database is what we wait for
                await asyncio.sleep(0.02)
            for loop in loops:
                loop.cancel()
        for job in await db.get_jobs_by_ids(ids):
            print(f"job {job.job_id}: {Stage(job.ready).name} {job.error or ''}".rstrip())


if __name__ == "__main__":
    asyncio.run(main(url_argument(__doc__) or ":memory:"))
