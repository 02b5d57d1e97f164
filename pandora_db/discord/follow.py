"""`JobMessages`: the log of the jobs, shown in their messages."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping
from contextlib import contextmanager, suppress
from contextvars import Context
from datetime import UTC, datetime, timedelta
from itertools import islice
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeAlias, cast

from pandora_db.codecs.claim import check_seconds
from pandora_db.discord.fields import check_fields
from pandora_db.discord.message import MessageRef
from pandora_db.errors import HandleClosed, InvalidInput, PandoraDbError
from pandora_db.models.checks import refuse
from pandora_db.models.event import EventKind
from pandora_db.models.stage import STAGES, StageKind

if TYPE_CHECKING:
    from pandora_db.db import JobDb
    from pandora_db.discord.updater import ProgressUpdater
    from pandora_db.models.event import JobEvent
    from pandora_db.models.job_row import JobRow
    from pandora_db.services.watch import Watch

log = logging.getLogger("pandora_db.discord")

Rendered: TypeAlias = str | Mapping[str, Any] | None
Render: TypeAlias = "Callable[[JobRow], Rendered | Awaitable[Rendered]]"
_GATHER = 0.05  # seconds in which what happens to a job is shown as one
_AGAIN = 1.0  # seconds until the database is asked again
_PAGE = 500
_ENDED = 1000  # jobs that ended last, looked at by `start`
_QUEUE_EVERY = 5.0  # seconds between two looks at where the others stand in the queue,
_QUEUE = 200  # the first so many of them


class JobMessages:
    """Keeps the message of every job true, whichever process works on it, from now to its end.

    It follows the log (`db.watch`) and the progress of the jobs, and shows each change with what
    `render` makes of it. It begins with what happened while nobody looked: the messages of active
    jobs, and of jobs that ended not long ago and do not show it.

        async with JobMessages(db, updater, render):
            ...
    """

    def __init__(
        self,
        db: JobDb,
        updater: ProgressUpdater,
        render: Render,
        *,
        every: float = 1.0,
        ended_within: timedelta = timedelta(days=1),
    ) -> None:
        """Make it; nothing runs before `start` or `async with`.

        Args:
            db: an open handle.
            updater: what shows the messages; it is closed by whoever made it, after this.
            render: what the message of a job shows: text, or the arguments of `updater.show` by
                name, or None to leave the message alone. It may be async. When it raises, that is
                logged, and the message stays as it is.
            every: seconds between two looks at the progress of jobs that are worked on.
            ended_within: how old an end may be whose message is looked at by `start`.

        Raises:
            InvalidInput: an argument of the wrong type or out of range.
        """
        self._db = db
        self._updater = updater
        if not callable(cast("object", render)):
            refuse("render", render, "a function of the form `def render(job)`")
        self._render = render
        self._every = check_seconds(every, "every")
        if not isinstance(cast("object", ended_within), timedelta):
            refuse("ended_within", ended_within, "a timedelta")
        self._ended_within = ended_within
        self._active: dict[int, StageKind | None] = {}
        self._dirty: set[int] = set()
        self._heard = asyncio.Event()
        self._moved = False  # whether the queue may have
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def start(self) -> None:
        """Begin: from here on, nothing that happens is missed.

        Messages are caught up with in the background.

        Raises:
            InvalidInput: it was started before.
            PandoraDbError: the database cannot be read.
        """
        if self._tasks:
            raise InvalidInput("start was called twice; make another JobMessages")
        watch = self._db.watch()
        await watch.__aenter__()
        loop = asyncio.get_running_loop()
        for work in (self._hear(watch), self._look(), self._catch_up()):
            # Not in the caller's context, which may be that of an open transaction.
            task = loop.create_task(work, context=Context())
            task.add_done_callback(_report)
            self._tasks.append(task)

    async def close(self, timeout: float = 5.0) -> None:
        """Show what became of the jobs until now, and stop; close the updater after this.

        What is not read within `timeout` seconds is left to the next `start`. Calling it again does
        nothing.

        Raises:
            InvalidInput: `timeout` is out of range.
        """
        check_seconds(timeout, "timeout")
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        if not tasks:
            return
        await asyncio.wait(tasks)
        loop = asyncio.get_running_loop()
        last = loop.create_task(self._refresh({*self._active, *self._dirty}), context=Context())
        try:
            await asyncio.wait([last], timeout=timeout)
        finally:
            last.cancel()
        with suppress(PandoraDbError, asyncio.CancelledError):
            await last

    async def _hear(self, watch: Watch) -> None:
        """Note which jobs have changed."""
        while True:
            try:
                async with watch:
                    async for event in watch:
                        if event.kind is EventKind.DELETED or _begins_anew(event):
                            self._updater.forget(event.job_id)
                        self._moved = True
                        self._touch(event.job_id)
            except HandleClosed:
                return
            except PandoraDbError as error:
                log.warning("the messages of jobs are behind: %s; watching again", error)
                await asyncio.sleep(_AGAIN)
                watch = self._db.watch(after=watch.cursor)
            else:
                return  # the handle was closed

    async def _look(self) -> None:
        """Show the jobs that have changed, and the progress of those that are worked on."""
        loop = asyncio.get_running_loop()
        tick = queue_tick = loop.time()
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(tick):
                    await self._heard.wait()
                    # What happens to a job at once is shown at once.
                    await asyncio.sleep(_GATHER)
            self._heard.clear()
            jobs, self._dirty = self._dirty, set()
            now = loop.time()
            if now >= tick:
                tick = now + self._every
                working = StageKind.WORKING
                jobs |= {job_id for job_id, kind in self._active.items() if kind is working}
            if now >= queue_tick and self._moved:
                queue_tick, self._moved = now + _QUEUE_EVERY, False
                jobs.update(islice(self._active, _QUEUE))
            try:
                await self._refresh(jobs)
            except HandleClosed:
                return
            except PandoraDbError as error:
                log.warning("the messages of jobs are behind: %s; looking again", error)
                self._dirty |= jobs
                await asyncio.sleep(_AGAIN)

    async def _refresh(self, job_ids: Iterable[int]) -> None:
        wanted = list(job_ids)
        for start in range(0, len(wanted), _PAGE):
            page = wanted[start : start + _PAGE]
            rows = {job.job_id: job for job in await self._db.get_jobs_by_ids(page)}
            for job_id in page:
                if job_id in rows:
                    await self._show(rows[job_id])
                else:
                    self._active.pop(job_id, None)

    async def _show(self, job: JobRow) -> None:
        ended = _has_ended(job)
        if ended:
            self._active.pop(job.job_id, None)
        elif MessageRef.from_job(job) is not None:
            self._active[job.job_id] = _kind(job)
        fields = await self._rendered(job)
        if fields is not None:
            with _one_alone(job):
                self._updater.show(job, last=ended, **fields)

    async def _rendered(self, job: JobRow) -> dict[str, Any] | None:
        if MessageRef.from_job(job) is None:
            return None
        with _one_alone(job):
            made = self._render(job)
            shown = await made if inspect.isawaitable(made) else made
            if shown is not None:
                return check_fields(shown if isinstance(shown, Mapping) else {"content": shown})
        return None

    async def _catch_up(self) -> None:
        """Have shown what happened while nobody looked."""
        ended: list[JobRow] | None = None
        while ended is None:
            try:
                ended = await self._find_all()
            except HandleClosed:
                return
            except PandoraDbError as error:
                log.warning("the messages of jobs are behind: %s; looking again", error)
                await asyncio.sleep(_AGAIN)
        for job in ended:
            fields = await self._rendered(job)
            if fields is not None and not await self._updater.shows(job, **fields):
                self._touch(job.job_id)

    async def _find_all(self) -> list[JobRow]:
        """Have the active jobs shown; return those that ended not long ago."""
        since = datetime.now(UTC) - self._ended_within
        ended: list[JobRow] = []
        async for job in self._db.iter_jobs(archived=False):
            if MessageRef.from_job(job) is None:
                continue
            if not _has_ended(job):
                self._touch(job.job_id)
            elif job.updated_at is not None and job.updated_at >= since:
                ended.append(job)
        archived = await self._db.get_completed_jobs(_ENDED)
        return ended + [job for job in archived if job.completed_at and job.completed_at >= since]

    def _touch(self, job_id: int) -> None:
        """Have a job read and shown by `_look`, which alone shows any: nothing old comes last."""
        self._dirty.add(job_id)
        self._heard.set()


@contextmanager
def _one_alone(job: JobRow) -> Generator[None]:
    """What goes wrong with one message costs none of the others."""
    try:
        yield
    except Exception:
        log.exception("job %d: its message stays as it is", job.job_id)
    except asyncio.CancelledError:  # of what render() waited for, when it is not ours
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        log.warning("job %d: render() was cancelled; its message stays as it is", job.job_id)


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        log.error("the messages of jobs stay as they are", exc_info=task.exception())


def _kind(job: JobRow) -> StageKind | None:
    info = STAGES.get(job.ready)
    return info.kind if info else None


def _has_ended(job: JobRow) -> bool:
    kind = _kind(job)
    return kind is not None and kind.terminal


def _begins_anew(event: JobEvent) -> bool:
    if event.kind in (EventKind.RETRIED, EventKind.REQUEUED):
        return True
    before = STAGES.get(-1 if event.previous is None else event.previous)
    after = STAGES.get(-1 if event.stage is None else event.stage)
    return bool(before and after and before.kind.terminal and not after.kind.terminal)
