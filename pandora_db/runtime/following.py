"""Waiting until jobs have ended, wherever they are worked on, without looking again and again."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from functools import partial
from typing import TYPE_CHECKING

from pandora_db.db import internals
from pandora_db.models.status import ENDED

if TYPE_CHECKING:
    from pandora_db.db import JobDb
    from pandora_db.models.event import EventKind
    from pandora_db.models.job_row import JobRow


_SURE = 30.0
"""Seconds after which all are looked at, whatever was heard."""


async def wait_ended(db: JobDb, job_ids: Collection[int]) -> dict[int, JobRow]:
    """Wait until each of the jobs has ended or was deleted; those that are there, as they are.

    Raises:
        HandleClosed: the handle was closed meanwhile.
    """
    rung = asyncio.Event()
    changed = set(job_ids)
    left = set(job_ids)
    found: dict[int, JobRow] = {}

    def heard(job_id: int, _: EventKind | None) -> None:
        changed.add(job_id)
        rung.set()

    lookout = internals(db).lookout
    undo = [lookout.follow(job_id, partial(heard, job_id)) for job_id in left]
    try:
        while left:
            looked = left & changed
            changed.clear()
            rung.clear()
            rows = {row.job_id: row for row in await db.get_jobs_by_ids(sorted(looked))}
            for job_id in looked:
                row = rows.get(job_id)
                if row is None:
                    left.discard(job_id)
                elif row.status in ENDED:
                    left.discard(job_id)
                    found[job_id] = row
            if left:
                try:
                    async with asyncio.timeout(_SURE):
                        await rung.wait()
                except TimeoutError:
                    changed |= left
                lookout.check()
    finally:
        for call in undo:
            call()
    return found
