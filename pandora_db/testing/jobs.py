"""Running one registered job, as a worker would."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from pandora_db.errors import ExecutionFailed
from pandora_db.runtime import REGISTRY, JobManager
from pandora_db.testing.clock import Clock, run_until_idle
from pandora_db.testing.databases import new_test_db

if TYPE_CHECKING:
    from pydantic import BaseModel

    from pandora_db.runtime import Handler, JobContext, Registry


async def run_job(
    job: BaseModel,
    *,
    registry: Registry = REGISTRY,
    timeout: float = 30.0,
    clock: Clock | None = None,
    max_attempts: int = 1,
    most: int = 1000,
    **options: Any,  # noqa: ANN401 - those of JobManager, which checks them
) -> Any:  # noqa: ANN401 - what its `run` returns
    """Dispatch a job on a database in memory, work on it to its end, and return its output.

    Nothing is waited for but the work itself: see `run_until_idle`.

    Args:
        job: of a class that is registered.
        registry: where.
        timeout: seconds that it may take.
        clock: tells how much time was skipped.
        max_attempts: how often it is tried.
        most: how often a job may be begun, it or one of its children.
        **options: of `JobManager`, such as `data_root`.

    Raises:
        ExecutionFailed: it has failed; the message is its error, the cause what `run` raised last.
        JobCancelled: it was cancelled.
        TimeoutError: it did not end in time; it was stopped. `NeverIdle` where it never would.
        InvalidInput: its class is not registered there, or another bad argument.
    """
    given: dict[str, Any] = {"poll": 0.1, "shutdown_timeout": 2.0, "concurrency": 1, **options}
    async with new_test_db() as db, JobManager(db, registry, **given) as jobs:
        raised = _watch(jobs)
        handle = await jobs.dispatch(job, max_attempts=max_attempts)
        async with asyncio.timeout(timeout):
            await run_until_idle(jobs, clock=clock, most=most)
            try:
                return await handle.result()
            except ExecutionFailed as error:
                raise error from raised.get(handle.id)


def _watch(jobs: JobManager) -> dict[int, BaseException]:
    """What the handlers of each job will have raised last."""
    raised: dict[int, BaseException] = {}
    for worker in jobs.crew.workers:

        async def handler(ctx: JobContext, call: Handler = worker.work.handler) -> object:
            raised.pop(ctx.job_id, None)
            try:
                return await call(ctx)
            except Exception as error:
                raised[ctx.job_id] = error
                raise

        worker.use_handler(handler)
    return raised
