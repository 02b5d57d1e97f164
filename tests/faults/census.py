"""Who looks on during a storm, and writes down what is in the database and what hangs about it."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections import defaultdict
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.faults.journal import Journal
    from tests.faults.leaks import Watch


class Census:
    """Looks at a database from outside, in lines of the journal."""

    def __init__(self, journal: Journal, watch: Watch) -> None:
        self._journal = journal
        self._watch = watch

    async def go_round(self, pause: float) -> None:
        """Count again and again, until cancelled."""
        due = 0.0
        while True:
            if time.monotonic() >= due:
                await self.count()
                due = time.monotonic() + pause
            await self.look()
            await asyncio.sleep(0.3)

    async def count(self) -> None:
        """Every job with the number of its events and a digest of them."""
        rows = await self._watch.rows(
            "SELECT job_id, seq, kind, stage, attempt, owner FROM job_events ORDER BY job_id, seq"
        )
        histories: dict[int, list[tuple[Any, ...]]] = defaultdict(list)
        for job_id, *event in rows:
            histories[job_id].append(tuple(event))
        jobs = {job_id: [len(events), fingerprint(events)] for job_id, events in histories.items()}
        # A lease is whole, and its job is worked on: token, owner and end stand and fall together.
        (half,) = await self._watch.rows(
            "SELECT count(*) FROM jobs WHERE (lease_token IS NULL) <> (lease_owner IS NULL) "
            "OR (lease_token IS NULL) <> (lease_until IS NULL) "
            "OR lease_token IS NOT NULL AND ready NOT IN (1, 3, 5)"
        )
        self._journal.write("census", jobs=jobs, half_leases=half[0])

    async def look(self) -> None:
        """The size of the WAL and, on PostgreSQL, every session of the storm."""
        if self._watch.path is not None:
            size = 0
            with suppress(FileNotFoundError):
                size = os.stat(self._watch.path + "-wal").st_size  # noqa: PTH116
            self._journal.write("look", wal=size)
            return
        sessions = await self._watch.rows(
            "SELECT application_name, count(*), max(extract(epoch FROM clock_timestamp() - "
            "state_change)::float8) FILTER (WHERE state LIKE 'idle in transaction%') "
            "FROM pg_stat_activity WHERE datname = current_database() "
            "AND application_name LIKE 'storm %' GROUP BY 1"
        )
        ((wal,),) = await self._watch.rows("SELECT sum(size)::int8 FROM pg_ls_waldir()")
        self._journal.write("look", sessions=[list(row) for row in sessions], wal=wal)


def fingerprint(events: list[tuple[Any, ...]]) -> str:
    """Of (seq, kind, stage, attempt, owner) of a history."""
    return hashlib.sha256(repr(events).encode()).hexdigest()[:16]
