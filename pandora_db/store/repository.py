"""What every repository is made of: a session, the claims of the handle, and decoded rows."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

from pandora_db.codecs.stage import missing_stages
from pandora_db.drivers.base import Row, Session
from pandora_db.errors import SchemaMissing
from pandora_db.models.job_row import JobRow, row_of
from pandora_db.models.pipeline import pipeline_of
from pandora_db.store.leases import Leases

_AT_ONCE = 500


class Repository:
    """Named queries on a session; it knows neither connections nor dialects."""

    def __init__(self, session: Session, leases: Leases) -> None:
        self._session = session
        self._leases = leases

    async def _jobs(
        self, name: str, args: dict[str, Any], when: frozenset[str] = frozenset()
    ) -> list[JobRow]:
        return await decode_jobs(await self._session.read(name, args, when))

    async def _check_pipeline(self, job_type: int) -> None:
        """Refuse a pipeline that the database was not told: nobody could recover its jobs."""
        pipeline = pipeline_of(job_type)
        if missing_stages(await self._session.read("get_stages", {}), [pipeline]):
            raise SchemaMissing(f"this database does not know the pipeline {pipeline} yet")
        self._leases.pipelines.add(job_type)


async def decode_jobs(found: Sequence[Row]) -> list[JobRow]:
    """Rows as `JobRow`s, letting other tasks run now and then (P12).

    A driver's list is filled anew: a second one beside it makes Python's garbage collector look
    through everything, at a third of the whole cost.
    """
    rows = found if isinstance(found, list) else list(found)
    for start in range(0, len(rows), _AT_ONCE):
        if start:
            await asyncio.sleep(0)
        part = slice(start, start + _AT_ONCE)
        rows[part] = map(row_of, rows[part])
    return cast("list[JobRow]", rows)
