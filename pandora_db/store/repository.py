"""What every repository is made of: a session, and the decoding of rows."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from pandora_db.drivers.base import Row, Session
from pandora_db.models.job_row import JobRow

_AT_ONCE = 2000


class Repository:
    """Named queries on a session; it knows neither connections nor dialects."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def _jobs(
        self, name: str, args: dict[str, Any], when: frozenset[str] = frozenset()
    ) -> list[JobRow]:
        return await decode_jobs(await self._session.read(name, args, when))


async def decode_jobs(rows: Sequence[Row]) -> list[JobRow]:
    """Rows as `JobRow`s, letting other tasks run now and then (P12)."""
    make = JobRow._make
    if len(rows) <= _AT_ONCE:
        return [make(row) for row in rows]
    jobs: list[JobRow] = []
    for start in range(0, len(rows), _AT_ONCE):
        jobs.extend(map(make, rows[start : start + _AT_ONCE]))
        await asyncio.sleep(0)
    return jobs
