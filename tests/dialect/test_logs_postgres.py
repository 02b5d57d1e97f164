"""Log lines where the server's default is a snapshot for the whole transaction."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import asyncpg
import psycopg
import pytest

from pandora_db import Claim, JobDb, LogLine, Stage, TransactionAborted
from pandora_db.dsn import PostgresTarget, parse_dsn
from pandora_db.testing import make_job

if TYPE_CHECKING:
    from tests.support.databases import PostgresDatabases


async def test_lines_that_two_append_at_once_are_kept_or_refused_as_passing(
    postgres_databases: PostgresDatabases,
) -> None:
    with postgres_databases.fresh(migrated=True) as url:
        await _append_at_once(url)


async def _append_at_once(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as raw:
        raw.execute(
            "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_isolation = "
            "''repeatable read''', current_database()); END $$"
        )
    async with JobDb.open(url) as db, JobDb.open(url) as other:
        claim = await db.claim_job(await db.insert_job(make_job()), into=Stage.DOWNLOADING)
        assert claim is not None

        await asyncio.gather(
            *(one.append_logs(claim, [LogLine("at once")]) for one in (db, other) * 20)
        )
        with pytest.raises(TransactionAborted, match="run it again"):
            await _append_after_a_snapshot(url, db, other, claim)

        assert [line.seq for line in await db.logs(claim.job_id)] == list(range(1, 42))


async def _append_after_a_snapshot(url: str, db: JobDb, other: JobDb, claim: Claim) -> None:
    target = parse_dsn(url)
    assert isinstance(target, PostgresTarget)
    theirs = await asyncpg.connect(**target.connect_arguments())
    try:
        async with theirs.transaction():  # a snapshot, by the default of the database
            tx = db.bind(theirs)
            await tx.logs(claim.job_id)
            await other.append_logs(claim, [LogLine("meanwhile")])
            await tx.append_logs(claim, [LogLine("by a number that is taken")])
    finally:
        await theirs.close()
