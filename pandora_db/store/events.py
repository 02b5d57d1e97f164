"""The history of jobs."""

from __future__ import annotations

from pandora_db.codecs.checks import check_id
from pandora_db.models.event import JobEvent
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
        return [JobEvent.decode(job_id, row) for row in rows]
