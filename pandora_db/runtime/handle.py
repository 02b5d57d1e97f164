"""`JobHandle`: a dispatched job, as its caller sees it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any

from pandora_db.errors import ExecutionFailed, Interrupted, NotFound
from pandora_db.models.status import JobStatus
from pandora_db.runtime.progress import Progress

if TYPE_CHECKING:
    from pandora_db.models.job_row import JobRow
    from pandora_db.runtime.definition import JobDefinition
    from pandora_db.store import Store

_FIRST, _GROWTH, _MOST = 0.02, 1.5, 0.5  # seconds between two looks
_ENDED = (JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED)


class JobHandle:
    """A job in the database, wherever it is worked on.

    Attributes:
        id: the job.
    """

    def __init__(self, db: Store, job_id: int, definition: JobDefinition) -> None:
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

    async def progress(self) -> AsyncGenerator[Progress]:
        """Its progress, each time that it has changed, until it has ended.

        A slow reader gets the newest only.
        """
        last = Progress()
        pause = _FIRST
        while True:
            row = await self.row()
            if (now := Progress.of(row)) != last:
                last, pause = now, _FIRST
                yield now
            if row.status in _ENDED:
                return
            await asyncio.sleep(pause)
            pause = min(pause * _GROWTH, _MOST)

    async def result(self, timeout: float | None = None) -> Any:  # noqa: ANN401 - what `run` returns
        """Wait until it has ended; its output, in the type that `run` names.

        Raises:
            ExecutionFailed: it has failed; the message is its error.
            Interrupted: it was cancelled.
            TimeoutError: it has not ended in time; it goes on.
            NotFound: it was deleted.
        """
        pause = _FIRST
        async with asyncio.timeout(timeout):
            while (row := await self.row()).status not in _ENDED:
                await asyncio.sleep(pause)
                pause = min(pause * _GROWTH, _MOST)
        if row.status is JobStatus.FAILED:
            raise ExecutionFailed(f"job {self.id} has failed: {row.error}")
        if row.status is JobStatus.CANCELLED:
            raise Interrupted("cancel")
        output = None if row.output is None else json.loads(row.output)
        return self._definition.output.validate_json(json.dumps(output))

    def __repr__(self) -> str:
        return f"<JobHandle {self._definition.name} {self.id}>"
