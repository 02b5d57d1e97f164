"""A process that works on the whole encode pipeline until its stdin is closed."""

from __future__ import annotations

import asyncio
import random
import sys

from pandora_db import JobDb, Settings, Stage
from pandora_db.runtime import JobContext, Pipeline

pipeline = Pipeline()


@pipeline.stage(Stage.QUEUED, Stage.DOWNLOADING, Stage.DOWNLOADED, concurrency=2, retry_in=0.0)
async def download(ctx: JobContext) -> None:
    """Fails at times."""
    await asyncio.sleep(random.uniform(0, 0.05))
    if random.random() < 0.1:
        raise OSError("the connection was reset")


@pipeline.stage(Stage.DOWNLOADED, Stage.ENCODING, Stage.ENCODED, concurrency=2)
async def encode(ctx: JobContext) -> None:
    """Counts in its checkpoint."""
    state = await ctx.load_checkpoint() or {"next": 0}
    ctx.progress(state["next"] / 5)  # a kill may have come between the last state and its progress
    while state["next"] < 5:
        await ctx.check_interrupt()
        await asyncio.sleep(0.01)
        state["next"] += 1
        ctx.progress(state["next"] / 5)
        await ctx.checkpoint(state, force=True)


@pipeline.stage(Stage.ENCODED, Stage.UPLOADING, Stage.UPLOADED, concurrency=2)
async def upload(ctx: JobContext) -> dict[str, int]:
    """Answers with a result."""
    return {"job": ctx.job_id}


async def main(url: str) -> None:
    """Work until the other side ends."""
    settings = Settings(lease=1.0, heartbeat=0.2, sweep=0.3, max_attempts=50)
    async with (
        JobDb.open(url, settings=settings) as db,
        pipeline.running(db, poll=0.1, shutdown_timeout=3),
    ):
        print("at work", flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
