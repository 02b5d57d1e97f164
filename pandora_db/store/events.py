"""The history of jobs."""

from __future__ import annotations

from uuid import UUID

from pandora_db.codecs.checks import check_id
from pandora_db.models.event import EventKind, JobEvent
from pandora_db.store.repository import Repository


class Events(Repository):
    """Part of `Store`."""

    async def history(self, job_id: int) -> list[JobEvent]:
        """What happened to a job, oldest first, by whichever program.

        Of a deleted job one line remains, which says when it was deleted. A job that was never
        there has no history: the list is empty.

        Raises:
            UnknownCode: a newer pandora_db recorded a kind of event that this one does not know.
        """
        rows = await self._session.read("history", {"job_id": check_id(job_id)})
        return [
            JobEvent(
                job_id, seq, at, EventKind(kind), stage, attempt, owner,
                None if operation_id is None else UUID(operation_id), detail, previous,
            )
            for seq, at, kind, stage, attempt, owner, operation_id, detail, previous in rows
        ]  # fmt: skip
