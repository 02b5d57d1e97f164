"""The life of one job, from the request to the permanent log.

python -m examples.quickstart [URL]     (a database in memory when no URL is given)
"""

from __future__ import annotations

import asyncio

from examples import url_argument
from pandora_db import Job, JobDb, Preset, Stage


async def main(url: str) -> None:
    """Insert a job, move it through its stages, archive it, and read it back."""
    async with JobDb.open(url) as db:
        await db.init_schema()

        job = Job(
            author="mika",
            link="https://example.com/video.mkv",
            preset=Preset.STANDARD,
            message_id=1_312_000_000_000_000_001,
            channel_id=1_312_000_000_000_000_002,
        )
        job_id = await db.insert_job(job)
        print(f"job {job_id} is queued, {await db.get_queue_length()} active")

        await db.update_stage(job_id, Stage.DOWNLOADING)
        await db.update_stage(job_id, Stage.DOWNLOADED)
        await db.update_stage(job_id, Stage.UPLOADED)  # stages may be skipped
        await db.archive_job(job_id)  # marks it as done; the row stays

        row = await db.get_job(job_id)
        assert row is not None
        metadata = row.to_job_metadata()
        print(f"{metadata.author}'s job is {metadata.ready.name}, {metadata.status}")
        for event in await db.history(job_id):
            print(" ", event)


if __name__ == "__main__":
    asyncio.run(main(url_argument(__doc__) or ":memory:"))
