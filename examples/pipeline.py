"""The pipeline of a bot, in a few lines: one handler for each stage, and what they tell.

Run it with `python -m examples.pipeline [URL]`; without a URL it works in memory.
"""

from __future__ import annotations

import asyncio
import sys

from examples import url_argument
from pandora_db import Job, JobDb, Stage
from pandora_db.runtime import Done, Fail, JobContext, Pipeline, Progress, run_process

pipeline = Pipeline()


@pipeline.stage(Stage.QUEUED, Stage.DOWNLOADING, Stage.DOWNLOADED, concurrency=2, retry_in=0.05)
async def download(ctx: JobContext) -> Fail | None:
    """Stands for the real work; one link is dead, another one fails the first time."""
    if "dead" in ctx.job.link:
        return Fail(f"404 from {ctx.job.link}", final=True)
    if "shaky" in ctx.job.link and ctx.attempt == 1:
        return Fail("the connection was reset")
    return None


@pipeline.stage(Stage.DOWNLOADED, Stage.ENCODING, Stage.ENCODED)
async def encode(ctx: JobContext) -> None:
    """A program stands for ffmpeg; it is killed when the job is cancelled or lost."""
    code = "for n in range(5): print(n + 1)"
    await run_process(
        sys.executable, "-c", code, on_line=lambda n: ctx.progress(Progress.count(int(n), 5))
    )


@pipeline.stage(Stage.ENCODED, Stage.UPLOADING, Stage.UPLOADED, concurrency=2)
async def upload(ctx: JobContext) -> Done:
    """Answers with the result of the job."""
    return Done({"url": f"https://videos.example/{ctx.job_id}"}, kind="upload")


async def main(url: str) -> None:
    """Queue four jobs and work until none is active."""
    async with JobDb.open(url) as db:
        await db.init_schema()
        names = ["one", "shaky", "dead", "four"]
        ids = await db.insert_jobs(
            Job(author="mika", link=f"https://example.com/{name}.mkv") for name in names
        )
        async with pipeline.running(db, poll=0.1):
            while await db.get_queue_length():  # noqa: ASYNC110 - the database is what we wait for
                await asyncio.sleep(0.02)
        for job in await db.get_jobs_by_ids(ids):
            print(f"job {job.job_id}: {Stage(job.ready).name} {job.error or job.output}")


if __name__ == "__main__":
    asyncio.run(main(url_argument(__doc__) or ":memory:"))
