"""The children of a job, as its handler sees them."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from pandora_db.codecs.checks import check_id
from pandora_db.errors import Interrupted, InvalidInput, NotFound
from pandora_db.models.event import stage_name
from pandora_db.models.job import Job
from pandora_db.models.limits import MAX_PRIORITY
from pandora_db.models.status import ENDED, JobStatus
from pandora_db.runtime.dispatching import child_key, make_job
from pandora_db.runtime.following import wait_ended
from pandora_db.runtime.handle import JobHandle
from pandora_db.runtime.job_info import JobInfo

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic import BaseModel

    from pandora_db.db import JobDb
    from pandora_db.models.claim import Claim
    from pandora_db.models.job_row import JobRow
    from pandora_db.runtime.definition import JobDefinition
    from pandora_db.runtime.hands import Hand
    from pandora_db.runtime.registry import Registry

log = logging.getLogger("pandora_db")

_LONG = 10.0
"""Seconds after which children of which nobody has taken any are told of."""


class Family:
    """Begins children, whose classes are registered in `registry`, and waits for them."""

    def __init__(self, db: JobDb, claim: Claim, hand: Hand | None, registry: Registry) -> None:
        self._registry = registry
        self._db = db
        self._claim = claim
        self._hand = hand

    async def spawn(
        self, job: BaseModel | Job, key: str | None, options: dict[str, Any]
    ) -> JobHandle:
        """Begin a child, or find it."""
        if isinstance(job, Job):
            if key is None:
                raise InvalidInput(
                    "key is missing; expected what tells this Job from the other children",
                    field="key",
                )
            _check_own(options)
            return JobHandle(self._db, await self._db.insert_child(self._claim, job, key=key))
        definition: JobDefinition | None
        definition = self._registry.definition_of(job)
        parent = self._claim.job
        if options["priority"] is None:
            options["priority"] = min(parent.priority + 1, MAX_PRIORITY)
        row = make_job(
            definition, job, **options, author=parent.author or "system",
            author_id=parent.author_id, guild_id=parent.guild_id,
        )  # fmt: skip
        child_id = await self._db.insert_child(
            self._claim, row, key=child_key(definition, job) if key is None else key
        )
        if key is not None:  # it may be a child of another class
            definition = self._registry.find(await self._db.get_job(child_id))
        return JobHandle(self._db, child_id, definition)

    async def children(self) -> list[JobInfo]:
        """All of them."""
        return [JobInfo.of(row) for row in await self._db.get_children(self._claim.job_id)]

    async def check(self, child: JobHandle | int) -> int:
        """The id of a child of this job."""
        child_id = check_id(child.id if isinstance(child, JobHandle) else child, "child")
        if await self._db.get_parent(child_id) != self._claim.job_id:
            if await self._db.get_job(child_id) is None:
                raise NotFound(child_id)
            raise InvalidInput(
                f"job {child_id} is no child of job {self._claim.job_id}; "
                "wait() takes what spawn() gave",
                field="child",
            )
        return child_id

    async def wait(self, child_ids: Sequence[int], asked: asyncio.Event) -> list[JobInfo]:
        """Wait until all have ended; raises `Interrupted` when the handler was asked to stop."""
        rows = {row.job_id: row for row in await self._db.get_jobs_by_ids(child_ids)}
        left = [job_id for job_id, row in rows.items() if row.status not in ENDED]
        if left:
            ending = asyncio.ensure_future(self._wait_ended(left))
            asking = asyncio.ensure_future(asked.wait())
            telling = asyncio.ensure_future(self._tell_of_untaken(left))
            try:
                await asyncio.wait((ending, asking), return_when=asyncio.FIRST_COMPLETED)
            finally:
                for one in (ending, asking, telling):
                    one.cancel()
                await asyncio.gather(ending, asking, telling, return_exceptions=True)
            if ending.cancelled():
                raise Interrupted("children")
            found = ending.result()
            rows = {job_id: row for job_id, row in rows.items() if job_id not in left} | found
        return [JobInfo.of(rows[job_id]) for job_id in child_ids if job_id in rows]

    async def _tell_of_untaken(self, child_ids: Sequence[int]) -> None:
        """Say in the log that a handler may wait in vain, if none of its children has begun."""
        await asyncio.sleep(_LONG)
        rows = await self._db.get_jobs_by_ids(child_ids)
        if rows and all(map(_is_untaken, rows)):
            log.warning(
                "job %d has waited %g s, and no worker has taken what it waits for: job %d (%s)%s",
                self._claim.job_id, _LONG,
                rows[0].job_id, rows[0].name or stage_name(rows[0].ready),
                " and others" if len(rows) > 1 else "",
            )  # fmt: skip

    async def _wait_ended(self, child_ids: Sequence[int]) -> dict[int, JobRow]:
        """Wait until all have ended, and then for a hand to go on with."""
        if self._hand is None:
            return await wait_ended(self._db, child_ids)
        async with self._hand.lent():
            return await wait_ended(self._db, child_ids)


def _check_own(options: dict[str, Any]) -> None:
    """Refuse options beside a `Job`: nobody would look at them."""
    for field, value in options.items():
        if value:
            raise InvalidInput(
                f"{field} was given beside a Job; expected it as a field of the Job"
                f"{', not_before' if field == 'delay' else ''}",
                field=field,
            )


def _is_untaken(row: JobRow) -> bool:
    """Whether it waits for its first worker, and for nothing else."""
    return row.status is JobStatus.QUEUED and not (row.attempt or row.not_before)
