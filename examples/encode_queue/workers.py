"""The worker loops: each stage has workers of its own, which look for jobs that wait for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

import aiohttp

from examples.encode_queue.facts import Workspace
from examples.encode_queue.failure import StepError
from examples.encode_queue.screen import Screen
from examples.encode_queue.steps import STEPS, Step, Tools
from pandora_db import InvalidTransition, JobRow, NotFound, Stage

_STORE_EVERY = 0.5  # seconds between two stored progress figures of a job
_LOOK_EVERY = 1.0  # seconds after which an idle worker looks again even if nobody rang


class Pipeline:
    """Takes jobs from Queued to Uploaded or Failed, one `Step` after the other."""

    def __init__(self, tools: Tools, screen: Screen, *, workers: int) -> None:
        self._tools = tools
        self._db = tools.db
        self._screen = screen
        self._workers = workers
        self._bells = {step.waiting: asyncio.Event() for step in STEPS}
        self._taken: set[int] = set()
        self._open: set[int] = set()
        self._room = asyncio.Condition()

    async def expect(self, job_id: int) -> None:
        """Count a job in: `drained()` waits for it. Its worker is woken."""
        async with self._room:
            self._open.add(job_id)
        for bell in self._bells.values():
            bell.set()

    async def wait_for_room(self) -> None:
        """Wait until some job has ended, or a moment, since other programs end jobs as well."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_EVERY), self._room:
                await self._room.wait()

    async def drained(self) -> None:
        """Wait until every expected job has ended."""
        async with self._room:
            await self._room.wait_for(lambda: not self._open)

    async def run(self, feed: Callable[[], Awaitable[None]]) -> None:
        """Work until `feed` has ended and every job it brought has ended too."""
        async with asyncio.TaskGroup() as group:
            loops = [
                group.create_task(self._work(step)) for step in STEPS for _ in range(self._workers)
            ]
            await feed()
            await self.drained()
            for loop in loops:
                loop.cancel()

    async def _work(self, step: Step) -> None:
        bell = self._bells[step.waiting]
        while True:
            bell.clear()  # before looking: a job that arrives meanwhile rings again
            job = await self._take(step.waiting)
            if job is None:
                # Not wait_for(): Python 3.11's forgets a cancellation that comes with the bell.
                with suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_EVERY):
                        await bell.wait()
                continue
            try:
                await self._carry(step, job)
            except (InvalidTransition, NotFound) as error:
                self._screen.note(f"job {job.job_id} was changed by somebody else: {error}")
                await self._leave(job.job_id)
            finally:
                self._taken.discard(job.job_id)

    async def _take(self, stage: Stage) -> JobRow | None:
        for job in await self._db.get_jobs_by_stage(stage):
            if job.job_id in self._open and job.job_id not in self._taken:
                self._taken.add(job.job_id)
                return job
        return None

    async def _carry(self, step: Step, job: JobRow) -> None:
        await self._db.update_stage(job.job_id, step.working)
        self._screen.stage(job.job_id, step.working, step.begins)
        try:
            await step.run(self._tools, job, self._reporter(step, job.job_id))
        except (StepError, aiohttp.ClientError, TimeoutError, OSError) as error:
            await self._fail(job, step, error)
            return
        if step.after.terminal:
            async with self._db.transaction() as tx:
                await tx.update_job(job.job_id, progress=1.0, current_step="")
                await tx.update_stage(job.job_id, step.after)
                await tx.archive_job(job.job_id)
            Workspace.of(job).clear()  # not before: until then the files are all there is
            self._screen.stage(job.job_id, step.after, 1.0)
            await self._leave(job.job_id)
            return
        await self._db.update_stage(job.job_id, step.after)
        self._screen.stage(job.job_id, step.after, step.ends)
        self._bells[step.after].set()

    async def _fail(self, job: JobRow, step: Step, error: Exception) -> None:
        reason = f"{step.working.name.lower()}: {str(error) or type(error).__name__}"
        async with self._db.transaction() as tx:
            await tx.update_job(job.job_id, error=reason)
            await tx.update_stage(job.job_id, Stage.FAILED)
            await tx.archive_job(job.job_id)
        self._screen.stage(job.job_id, Stage.FAILED, None, reason)
        await self._leave(job.job_id)

    async def _leave(self, job_id: int) -> None:
        async with self._room:
            self._open.discard(job_id)
            self._room.notify_all()

    def _reporter(self, step: Step, job_id: int) -> Callable[[float, str], Awaitable[None]]:
        stored = time.monotonic()

        async def report(fraction: float, words: str) -> None:
            nonlocal stored
            overall = step.begins + fraction * (step.ends - step.begins)
            self._screen.progress(job_id, overall, words)
            if time.monotonic() - stored >= _STORE_EVERY:
                stored = time.monotonic()
                await self._db.update_job(job_id, progress=round(overall, 4), current_step=words)

        return report
