"""`insert_jobs` on PostgreSQL beside a transaction that brings an id of its own."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from pandora_db import Duplicate, JobDb
from pandora_db.dsn import PostgresTarget, parse_dsn
from pandora_db.testing import make_job

pytestmark = pytest.mark.postgres


async def test_an_id_that_somebody_else_is_bringing_is_stepped_over(migrated_dsn: str) -> None:
    target = parse_dsn(migrated_dsn)
    assert isinstance(target, PostgresTarget)
    connection = await asyncpg.connect(**target.connect_arguments())
    try:
        async with JobDb.open(migrated_dsn) as db:
            last = await db.get_next_job_id()
            await connection.execute("BEGIN")
            await connection.execute("INSERT INTO jobs (job_id) VALUES ($1)", last + 2)

            async def commit() -> None:
                await asyncio.sleep(0.1)
                await connection.execute("COMMIT")

            ids, refused, _ = await asyncio.gather(
                db.insert_jobs([make_job() for _ in range(3)]),
                db.insert_jobs([make_job(job_id=last + 2)]),
                commit(),
                return_exceptions=True,
            )

            assert isinstance(refused, Duplicate)
            assert isinstance(ids, list)

            assert len(set(ids)) == 3
            assert last + 2 not in ids
            assert await db.count_jobs() == 4
            assert [len(await db.history(job_id)) for job_id in ids] == [1, 1, 1]
    finally:
        await connection.close()
