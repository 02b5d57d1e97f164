"""Following the jobs of this run by `db.watch()`: for the screen, and until all have ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

from examples.encode_queue.facts import SETTINGS, Workspace, overall
from examples.encode_queue.screen import Screen
from examples.encode_queue.workers import Names
from pandora_db import EventKind, JobDb, JobEvent, JobRow, Stage
from pandora_db.runtime import Progress

_LOOK_EVERY = 0.25  # seconds between two looks at the progress
_PATIENCE = 1.0  # seconds after which the bot tries again even if no job was seen to end
# What a handler of each stage reports: until it does, the progress is that of the stage before.
_KINDS = {Stage.DOWNLOADING: "bytes", Stage.ENCODING: "count", Stage.UPLOADING: "bytes"}
# Where nobody needs the files of a job any more; those of a failed one may tell why.
_UNWANTED = (Stage.UPLOADED, Stage.DECLINED, Stage.CANCELLED)


class Follower:
    """Shows what happens to the expected jobs, and clears up after them.

    Attributes:
        job_ids: every job of this run, those that an earlier run left first.
        rows: each of them as it was seen last.
    """

    def __init__(self, db: JobDb, screen: Screen, names: Names) -> None:
        self.job_ids: list[int] = []
        self.rows: dict[int, JobRow] = {}
        self._db = db
        self._screen = screen
        self._names = names
        self._open: set[int] = set()
        self._news = asyncio.Condition()

    def expect(self, job_id: int) -> None:
        """Count a job in, before it is inserted: `all_ended()` waits for it."""
        self.job_ids.append(job_id)
        self._open.add(job_id)

    async def wait_for_room(self) -> None:
        """Wait until some job has ended, or a moment, since other programs end jobs as well."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE), self._news:
                await self._news.wait()

    async def all_ended(self) -> None:
        """Wait until every expected job has ended."""
        async with self._news:
            await self._news.wait_for(lambda: not self._open)

    async def follow(self, events: AsyncIterator[JobEvent]) -> None:
        """Show what happens, until cancelled."""
        async for event in events:
            if event.job_id in self._open:
                await self._show(event)

    async def show_progress(self) -> None:
        """Show how far the jobs are, until cancelled: progress is no event."""
        while True:
            await asyncio.sleep(_LOOK_EVERY)
            for job in await self._db.get_jobs_by_ids(sorted(self._open & self.rows.keys())):
                stage, progress = Stage(job.ready), Progress.of(job)
                if progress.kind == _KINDS.get(stage):
                    done = overall(stage, progress.fraction or 0.0)
                    self._screen.progress(job.job_id, done, progress.step or "")

    async def _show(self, event: JobEvent) -> None:
        job = await self._db.get_job(event.job_id)
        if job is None or event.stage is None:
            self._screen.note(f"job {event.job_id} was deleted")
            await self._leave(event.job_id)
            return
        if event.job_id not in self.rows:
            self._screen.add(job)
        self.rows[job.job_id] = job
        stage, name = Stage(event.stage), self._names.of(event.owner)
        words = stage.name.lower()
        if event.kind is EventKind.RECOVERED:
            tries = f"attempt {event.attempt} of {SETTINGS.max_attempts} is over"
            self._screen.note(f"job {job.job_id}: the lease of {name} ran out; {tries}")
        elif event.kind is EventKind.RETRYING:
            self._screen.note(f"job {job.job_id}: attempt {event.attempt} failed: {event.detail}")
        elif event.kind is EventKind.CLAIMED:
            more = f", attempt {event.attempt}" if event.attempt > 1 else ""
            words = f"{words} by {name}{more}"
        reason = job.error if stage is Stage.FAILED else None
        # What is kept over attempts is not shown as if it was lost.
        done = None if event.attempt > 1 or event.kind is EventKind.RECOVERED else overall(stage)
        self._screen.stage(job.job_id, stage, done, words, reason or "")
        if stage.terminal or event.kind is EventKind.ARCHIVED:
            if stage in _UNWANTED:
                Workspace.of(job).clear()  # not before: until then the files are all there is
            await self._leave(job.job_id)

    async def _leave(self, job_id: int) -> None:
        async with self._news:
            self._open.discard(job_id)
            self._news.notify_all()
