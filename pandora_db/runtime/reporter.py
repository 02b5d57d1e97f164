"""Writing what a job tells, now and then: at most one write in each interval."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from pandora_db.db import internals
from pandora_db.errors import LeaseLost, OutcomeUnknown, PandoraDbError
from pandora_db.models.limits import MAX_LOGS
from pandora_db.models.log import LogLine
from pandora_db.runtime.notes import Notes
from pandora_db.runtime.passing import FIRST_PAUSE, next_pause, passes
from pandora_db.runtime.progress import Progress
from pandora_db.services.outage import Outage

if TYPE_CHECKING:
    from pandora_db.db import JobDb
    from pandora_db.models.claim import Claim

log = logging.getLogger("pandora_db")


class _Batch(NamedTuple):
    """Lines with the time when each was said, how many before them were let go, and its write."""

    lines: deque[tuple[float, LogLine]]
    dropped: int
    operation_id: UUID | None = None


class Reporter:
    """Gathers progress, notes and log lines of one job; what was told last is always written."""

    def __init__(
        self, db: JobDb, claim: Claim, every: float, loop: asyncio.AbstractEventLoop, thread: int
    ) -> None:
        self.notes = Notes(claim.job)
        self._db = db
        self._claim = claim
        self._every = every
        self._progress = Progress.of(claim.job)
        self._loop = loop
        self._thread = thread
        self._next = self._loop.time()
        self._dirty = False
        self._closed = False
        self._hurried = False
        self._closing: asyncio.Timeout | None = None
        # When each line was said; those that would not be kept anyway are let go, and counted.
        self._lines: deque[tuple[float, LogLine]] = deque()
        self._dropped = 0
        self._unsure: _Batch | None = None  # it may be stored or not
        self._outage = Outage()
        self._context = Context()  # not that of a transaction in which something is told
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    def report(self, progress: Progress | None = None) -> None:
        """Have the progress, or the notes that were changed, written soon; from any thread."""
        self._here(self._report, progress)

    def log(self, line: LogLine) -> None:
        """Have a line written soon, with those that come meanwhile; from any thread."""
        self._here(self._keep, self._loop.time(), line)

    async def close(self) -> None:
        """Write what is left; what is told from now on is told to nobody.

        It is tried again through failures that pass, but for no longer than a lease lasts: the end
        of the job waits for it. Whoever could not write that end either may call this again.
        """
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        written = False
        with suppress(TimeoutError):
            async with asyncio.timeout(None) as self._closing:
                written = await self._write_last()
        self._closing = None
        if not written:
            log.warning(
                "what job %d told last could not be written; its end waits for it no longer",
                self._claim.job_id,
            )

    def hurry(self) -> None:
        """Have `close` give up what it is at; from now on it tries once."""
        self._hurried = True
        if self._closing is not None:
            self._closing.reschedule(self._loop.time())
            self._closing = None

    def drop(self) -> None:
        """Write nothing more, also of what is told from now on."""
        self._closed = True
        self._dirty = False
        self._lines.clear()
        self._unsure = None
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()

    def _here(self, call: Callable[..., None], *args: object) -> None:
        """Call it in the thread of the event loop: a function in `run_blocking` is in another."""
        if threading.get_ident() == self._thread:
            call(*args)
        else:
            with suppress(RuntimeError):  # the loop was closed meanwhile
                self._loop.call_soon_threadsafe(call, *args)

    def _report(self, progress: Progress | None) -> None:
        if self._closed:  # a handler that was given up, or its thread, goes on telling
            return
        if progress is not None:
            self._progress = progress
        self._dirty = True
        self._soon()

    def _keep(self, said: float, line: LogLine) -> None:
        if self._closed:
            return
        if len(self._lines) == MAX_LOGS:
            self._lines.popleft()
            self._dropped += 1
        self._lines.append((said, line))
        self._soon()

    @property
    def is_due(self) -> bool:
        """Whether something was told and is not written yet."""
        return self._dirty or bool(self._lines) or self._unsure is not None

    @property
    def _is_left(self) -> bool:
        return self.is_due and self._claim.alive

    def _soon(self) -> None:
        if self._timer is None and self._task is None and not self._closed:
            when = max(self._next, self._loop.time())
            self._timer = self._loop.call_at(when, self._begin, context=self._context)

    def _begin(self) -> None:
        self._timer = None
        self._next = self._loop.time() + self._every
        self._task = self._loop.create_task(self._write_soon())

    async def _write_soon(self) -> None:
        try:
            await self._write()
        finally:
            self._task = None
            if self._is_left:
                self._soon()

    async def _write_last(self) -> bool:
        """Through failures that pass; whether nothing is left."""
        if self._task is not None:
            await asyncio.wait([self._task])
        until = self._loop.time() + self._claim.lease
        pause = FIRST_PAUSE
        while self._is_left:
            errors = await self._write()
            may_pass = any(error is not None and passes(error) for error in errors)
            if self._hurried or not may_pass or self._loop.time() + pause > until:
                break
            await asyncio.sleep(pause)
            pause = next_pause(pause)
        return not self._is_left

    async def _write(self) -> tuple[PandoraDbError | None, PandoraDbError | None]:
        """Both at once: they go out together. What each of them met."""
        errors = await asyncio.gather(self._write_progress(), self._write_lines())
        if not any(errors):
            self._outage.over()
        return errors

    def _note_failure(self, what: str, error: PandoraDbError) -> None:
        words = "%s of job %d was not written: %s"
        log.log(self._outage.failed(), words, what, self._claim.job_id, error)

    async def _write_progress(self) -> PandoraDbError | None:
        progress, notes = self._progress, self.notes.to_data()
        data: dict[str, Any] = progress.to_data() | ({"notes": notes} if notes else {})
        dirty, self._dirty = self._dirty, False
        if not dirty or not self._claim.alive:
            return None
        try:
            await self._db.update_job(
                self._claim, progress=progress.fraction, current_step=progress.step,
                progress_data=data,
            )  # fmt: skip
            internals(self._db).lookout.tell(self._claim.job_id)
        except LeaseLost as error:
            self._claim.lose(error.reason)
        except PandoraDbError as error:
            self._note_failure("progress", error)
            self._dirty = self._dirty or passes(error)
            return error
        return None

    async def _write_lines(self) -> PandoraDbError | None:
        error: PandoraDbError | None = None
        if self._unsure is not None and self._claim.alive:
            error = await self._append(self._unsure)
        if self._lines and self._unsure is None and self._claim.alive:
            batch = _Batch(self._lines, self._dropped)
            self._lines, self._dropped = deque(), 0
            error = await self._append(batch)
        return error

    async def _append(self, batch: _Batch) -> PandoraDbError | None:
        now = self._loop.time()
        lines = [line._replace(age=now - said) for said, line in batch.lines]
        try:
            await self._db.append_logs(
                self._claim, lines, skipped=batch.dropped, operation_id=batch.operation_id
            )
            self._unsure = None
        except LeaseLost as error:
            self._claim.lose(error.reason)
            self._unsure = None
        except PandoraDbError as error:
            self._note_failure("the log", error)
            if isinstance(error, OutcomeUnknown):  # once more by its id, before newer ones
                self._unsure = batch._replace(operation_id=error.operation_id)
            elif self._unsure is None:  # with the next ones
                together = [*batch.lines, *self._lines]
                self._lines = deque(together[-MAX_LOGS:])
                self._dropped += batch.dropped + len(together) - len(self._lines)
            return error
        return None
