"""One handler, and the jobs that it is given."""

from __future__ import annotations

import asyncio
from typing import Any

from pandora_db import EventKind, Job, JobDb, JobRow, Stage
from pandora_db.runtime import Pipeline

DOWNLOAD = (Stage.QUEUED, Stage.DOWNLOADING, Stage.DOWNLOADED)
ENCODE = (Stage.DOWNLOADED, Stage.ENCODING, Stage.ENCODED)
UPLOAD = (Stage.ENCODED, Stage.UPLOADING, Stage.UPLOADED)
FAST: dict[str, Any] = {"poll": 0.05, "grace": 0.2, "cancel_grace": 0.2, "shutdown_timeout": 3.0}


async def row_of(db: JobDb, job_id: int) -> JobRow:
    row = await db.get_job(job_id)
    assert row is not None
    return row


async def kinds(db: JobDb, job_id: int) -> list[EventKind]:
    return [event.kind for event in await db.history(job_id)]


def one_stage(handler: Any, way: tuple[Stage, Stage, Stage] = DOWNLOAD, **options: Any) -> Pipeline:
    pipeline = Pipeline()
    pipeline.stage(*way, **options)(handler)
    return pipeline


async def run_one(db: JobDb, handler: Any, **options: Any) -> JobRow:
    """The job after every attempt that was made until nothing could be claimed."""
    job_id = await db.insert_job(Job(author="mika", max_attempts=2))
    async with one_stage(handler, **options).running(db, **FAST) as crew:
        async with asyncio.timeout(20):
            await crew.wait_idle()
    return await row_of(db, job_id)
