"""After a stop or a crash: put every unfinished job back where its files allow it to go on."""

from __future__ import annotations

from examples.encode_queue.facts import Workspace, local_file, title
from examples.encode_queue.screen import Screen
from pandora_db import JobDb, JobRow, Stage, StageKind


async def pick_up(db: JobDb, screen: Screen) -> list[JobRow]:
    """The jobs that an earlier run left, each where it can go on from, or failed.

    A job found at work goes back to Queued, and from there forward to where its files are complete:
    with the source kept it is not downloaded again. A job whose source is gone fails, and says so.
    """
    left: list[int] = []
    for job in await db.get_active_jobs():
        await _settle(db, job, screen)
        left.append(job.job_id)
    return await db.get_jobs_by_ids(left)


async def _settle(db: JobDb, job: JobRow, screen: Screen) -> None:
    found, reached = Stage(job.ready), Workspace.of(job).reached()
    file = local_file(job)
    if (
        reached is Stage.QUEUED
        and file is not None
        and found is not Stage.QUEUED
        and not file.exists()
    ):
        reason = f"the source {file.name} is gone, and so is the downloaded copy"
        async with db.transaction() as tx:
            await tx.update_job(job.job_id, error=reason)
            await tx.update_stage(job.job_id, Stage.FAILED)
            await tx.archive_job(job.job_id)
        screen.note(f"job {job.job_id} failed: {reason}")
        return
    if found.kind is StageKind.WORKING or found > reached:
        async with db.transaction() as tx:
            await tx.requeue_job(job.job_id)
            if reached > Stage.QUEUED:
                await tx.update_stage(job.job_id, reached)
        screen.note(
            f"job {job.job_id} ({title(job)}) was {_name(found)}: goes on from {_name(reached)}"
        )


def _name(stage: Stage) -> str:
    return stage.name.capitalize()
