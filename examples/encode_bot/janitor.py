"""Removes the folders of jobs that have ended."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from pandora_db import JobDb, PandoraDbError
from pandora_db.runtime import run_blocking

log = logging.getLogger("encode_bot")

_EVERY = 600.0  # seconds: a job that is retried soon finds its download again


@asynccontextmanager
async def keep_clean(db: JobDb, folder: Path) -> AsyncIterator[None]:
    """Look now and then, for the length of an `async with` block."""
    task = asyncio.create_task(_sweep_for_ever(db, folder))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def sweep(db: JobDb, folder: Path) -> list[int]:
    """Remove the folders of jobs that are archived, or not there any more; which they were."""
    found = await run_blocking(_folders, folder)
    active = {job.job_id for job in await db.get_jobs_by_ids(found) if not job.archived}
    ended = [job_id for job_id in found if job_id not in active]
    for job_id in ended:
        await run_blocking(shutil.rmtree, folder / str(job_id), ignore_errors=True)
    return ended


async def _sweep_for_ever(db: JobDb, folder: Path) -> None:
    while True:
        try:
            await sweep(db, folder)
        except (PandoraDbError, OSError) as error:
            log.warning("folders of ended jobs stay a while longer: %s", error)
        await asyncio.sleep(_EVERY)


def _folders(folder: Path) -> list[int]:
    if not folder.is_dir():
        return []
    return sorted(int(entry.name) for entry in folder.iterdir() if entry.name.isdecimal())
