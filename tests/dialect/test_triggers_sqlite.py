"""A trigger of another program that refuses a call keeps no half of it, and takes none along."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import pytest

from pandora_db import EventKind, Finish, InvalidInput, JobDb, Stage
from pandora_db.testing import make_job

if TYPE_CHECKING:
    from pathlib import Path

REFUSES = """
CREATE TRIGGER others BEFORE INSERT ON job_events WHEN NEW.job_id = 3 AND NEW.seq = 3
BEGIN SELECT RAISE({}, 'no'); END
"""


@pytest.mark.parametrize("way", ["ABORT", "FAIL", "ROLLBACK"])
async def test_a_call_that_a_trigger_refuses_is_undone_as_a_whole_and_alone(
    sqlite_path: Path, way: str
) -> None:
    async with JobDb.open(sqlite_path) as db:
        await db.init_schema()
        await db.insert_jobs(make_job() for _ in range(6))
        claims = await db.claim_jobs(Stage.QUEUED, into=Stage.DOWNLOADING, limit=6)
        with sqlite3.connect(sqlite_path) as theirs:
            theirs.execute(REFUSES.format(way))
        theirs.close()

        found = await db.finish_jobs(Finish(claim, Stage.DOWNLOADED) for claim in claims)

        assert isinstance(found[2], InvalidInput)
        assert found[:2] + found[3:] == [Stage.DOWNLOADED] * 5
        row = await db.get_job(3)
        assert row is not None
        assert row.ready == Stage.DOWNLOADING
        assert [event.kind for event in await db.history(3)] == [
            EventKind.INSERTED,
            EventKind.CLAIMED,
        ]
