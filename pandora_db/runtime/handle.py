"""`JobHandle`: a dispatched job, as its caller sees it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from pandora_db.codecs.claim import check_seconds
from pandora_db.db import internals
from pandora_db.errors import (
    ExecutionFailed,
    InvalidTransition,
    JobCancelled,
    NotFound,
    PandoraDbError,
)
from pandora_db.models.checks import counted
from pandora_db.models.stage import TaskStage
from pandora_db.models.status import ENDED, JobStatus
from pandora_db.runtime.following import wait_ended
from pandora_db.runtime.progress import Progress

if TYPE_CHECKING:
    from pandora_db.db import JobDb
    from pandora_db.models.event import EventKind
    from pandora_db.models.job_row import JobRow
    from pandora_db.runtime.definition import JobDefinition

_FIRST, _GROWTH, _MOST = 0.02, 1.5, 0.5  # seconds between two looks at another's progress

_TELLING = 1.0
"""Seconds that an error may take to find out what it says."""


class JobHandle:
    """A job in the database, wherever it is worked on.

    Attributes:
        id: the job.
    """

    def __init__(self, db: JobDb, job_id: int, definition: JobDefinition | None = None) -> None:
        self.id = job_id
        self._db = db
        self._definition = definition

    async def row(self) -> JobRow:
        """The job as it is stored; raises `NotFound` when it was deleted."""
        row = await self._db.get_job(self.id)
        if row is None:
            raise NotFound(self.id)
        return row

    async def status(self) -> JobStatus:
        """What became of it so far."""
        return (await self.row()).status

    async def pause(self) -> bool:
        """Pause it, in whatever process it is; see `JobDb.pause_job`.

        Returns:
            True when it is paused; False when its worker was asked to, and meets it soon.

        Raises:
            NotFound: it was deleted.
            InvalidTransition: it has ended, or it is worked on and not resumable.
        """
        once = self._definition is not None and not self._definition.resumable
        if once and (row := await self.row()).status is JobStatus.RUNNING:
            advice = f"{row.name} is not resumable: cancel_job() ends it, or it runs to its end"
            raise InvalidTransition(self.id, TaskStage.RUNNING.name, "paused", advice)
        return await self._db.pause_job(self.id)

    async def resume(self) -> None:
        """Let it go on when it is paused; see `JobDb.resume_job`."""
        await self._db.resume_job(self.id)

    async def cancel(self) -> bool:
        """Cancel it and its children, in whatever process they are; see `JobDb.cancel_job`.

        Returns:
            True when it is cancelled; False when its worker was asked to, and meets it soon.

        Raises:
            NotFound: it was deleted.
            InvalidTransition: it has ended otherwise.
        """
        return await self._db.cancel_job(self.id)

    async def progress(self) -> AsyncGenerator[Progress]:
        """Its progress, each time that it has changed, until it has ended.

        A slow reader gets the newest only.
        """
        last = Progress()
        pause = _FIRST
        rung = asyncio.Event()

        def heard(_: EventKind | None) -> None:
            rung.set()

        undo = internals(self._db).lookout.follow(self.id, heard)
        try:
            while True:
                rung.clear()
                row = await self.row()
                if (now := Progress.of(row)) != last:
                    last, pause = now, _FIRST
                    yield now
                if row.status in ENDED:
                    return
                with suppress(TimeoutError):  # progress is no event: another process tells nobody
                    async with asyncio.timeout(pause):
                        await rung.wait()
                pause = min(pause * _GROWTH, _MOST)
        finally:
            undo()

    async def result(self, timeout: float | None = None) -> Any:  # noqa: ANN401 - what `run` returns
        """Wait until it has ended; its output, in the type that `run` names.

        With a `timeout` of 0 seconds it looks once.

        Raises:
            ExecutionFailed: it has failed; the message is its error.
            JobCancelled: it was cancelled; `reason` says why, if its handler did.
            TimeoutError: it has not ended in time; it goes on.
            InvalidInput: `timeout` is no number of seconds, or more than a year.
            NotFound: it was deleted.
            Serialization: its output is not of that type, as the class was changed.
        """
        row = await self._ended(timeout)
        if row is None:
            raise NotFound(self.id)
        if row.status is JobStatus.FAILED:
            raise ExecutionFailed(f"job {self.id} has failed: {row.error}")
        output = None if row.output is None else json.loads(row.output)
        if row.status is JobStatus.CANCELLED:
            raise JobCancelled(self.id, _reason(output))
        if self._definition is None:
            return output
        return self._definition.load_output(output)

    async def _ended(self, timeout: float | None) -> JobRow | None:
        """Wait until it has ended; None when it was deleted."""
        limit = asyncio.timeout(None if timeout is None else check_seconds(timeout, "timeout"))
        if timeout == 0:
            row = await self._db.get_job(self.id)  # to look takes its time
            if row is None or row.status in ENDED:
                return row
        try:
            async with limit:
                return (await wait_ended(self._db, [self.id])).get(self.id)
        except TimeoutError as error:
            if not limit.expired():
                raise
            late = f"job {self.id} has not ended within {timeout:g} s"
            with suppress(PandoraDbError, TimeoutError):
                late = f"{late}: {await self._describe()}"
            raise TimeoutError(late) from error

    async def _describe(self) -> str:
        """What it waits for, in a few words."""
        async with asyncio.timeout(_TELLING):
            row = await self.row()
        begun = f"begun {counted(row.attempt, 'time')}" if row.attempt else "no worker has begun it"
        return f"{row.name or 'it'} is {row.status}, {begun}"

    def __repr__(self) -> str:
        name = "job" if self._definition is None else self._definition.name
        return f"<JobHandle {name} {self.id}>"


def _reason(output: object) -> str | None:
    """What `Cancelled(reason)` left as the output of its job."""
    if not isinstance(output, dict):
        return None
    reason = cast("dict[str, object]", output).get("reason")
    return reason if isinstance(reason, str) else None
