"""Writing what a job tells, now and then: at most one write in each interval."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from pandora_db.db import internals
from pandora_db.errors import LeaseLost, OutcomeUnknown, PandoraDbError
from pandora_db.models.limits import MAX_LOGS
from pandora_db.models.log import LogLine
from pandora_db.runtime.notes import Notes
from pandora_db.runtime.progress import Progress

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
        # When each line was said; those that would not be kept anyway are let go, and counted.
        self._lines: deque[tuple[float, LogLine]] = deque()
        self._dropped = 0
        self._unsure: _Batch | None = None  # it may be stored or not
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    def report(self, progress: Progress | None = None) -> None:
        """Have the progress, or the notes that were changed, written soon; from any thread."""
        self._here(self._report, progress)

    def log(self, line: LogLine) -> None:
        """Have a line written soon, with those that come meanwhile; from any thread."""
        self._here(self._keep, self._loop.time(), line)

    async def close(self) -> None:
        """Write what is left, once."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._task is not None:
            await asyncio.wait([self._task])
        if self._timer is not None:
            self._timer.cancel()
        if self._is_due:
            await self._write()

    def drop(self) -> None:
        """Write nothing more."""
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
        if progress is not None:
            self._progress = progress
        self._dirty = True
        self._soon()

    def _keep(self, said: float, line: LogLine) -> None:
        if len(self._lines) == MAX_LOGS:
            self._lines.popleft()
            self._dropped += 1
        self._lines.append((said, line))
        self._soon()

    @property
    def _is_due(self) -> bool:
        return self._dirty or bool(self._lines) or self._unsure is not None

    def _soon(self) -> None:
        if self._timer is None and self._task is None:
            self._timer = self._loop.call_at(max(self._next, self._loop.time()), self._begin)

    def _begin(self) -> None:
        self._timer = None
        self._next = self._loop.time() + self._every
        self._task = self._loop.create_task(self._write_soon())

    async def _write_soon(self) -> None:
        try:
            await self._write()
        finally:
            self._task = None
            if self._is_due:
                self._soon()

    async def _write(self) -> None:
        """Both at once: they go out together."""
        await asyncio.gather(self._write_progress(), self._write_lines())

    async def _write_progress(self) -> None:
        progress, notes = self._progress, self.notes.to_data()
        data: dict[str, Any] = progress.to_data() | ({"notes": notes} if notes else {})
        dirty, self._dirty = self._dirty, False
        if not dirty or not self._claim.alive:
            return
        try:
            await self._db.update_job(
                self._claim, progress=progress.fraction, current_step=progress.step,
                progress_data=data,
            )  # fmt: skip
            internals(self._db).lookout.tell(self._claim.job_id)
        except LeaseLost as error:
            self._claim.lose(error.reason)
        except PandoraDbError as error:  # the next one may get through; the last is told nowhere
            log.warning("progress of job %d was not written: %s", self._claim.job_id, error)

    async def _write_lines(self) -> None:
        if self._unsure is not None and self._claim.alive:
            await self._append(self._unsure)
        if self._lines and self._unsure is None and self._claim.alive:
            batch = _Batch(self._lines, self._dropped)
            self._lines, self._dropped = deque(), 0
            await self._append(batch)

    async def _append(self, batch: _Batch) -> None:
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
            log.warning("the log of job %d was not written: %s", self._claim.job_id, error)
            if isinstance(error, OutcomeUnknown):  # once more by its id, before newer ones
                self._unsure = batch._replace(operation_id=error.operation_id)
            elif self._unsure is None:  # with the next ones
                together = [*batch.lines, *self._lines]
                self._lines = deque(together[-MAX_LOGS:])
                self._dropped += batch.dropped + len(together) - len(self._lines)
