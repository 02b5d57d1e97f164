"""What the table of somebody else's PostgreSQL has to say to an insert."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest

from pandora_db import Job, JobDb, WriteRefused
from pandora_db.dsn import PostgresTarget, parse_dsn


async def test_an_exclusion_constraint_refuses_the_one_that_it_is_about(url: str) -> None:
    target = parse_dsn(url)
    assert isinstance(target, PostgresTarget)
    async with JobDb.open(url) as db:
        theirs: asyncpg.Connection[Any] = await asyncpg.connect(**target.connect_arguments())
        await theirs.execute(
            "ALTER TABLE jobs ADD CONSTRAINT mine EXCLUDE USING btree (message_id WITH =)"
        )
        await theirs.close()
        await db.insert_job(Job(author="first", message_id=7))

        crowd = await asyncio.gather(
            *(db.insert_job(Job(author="c", message_id=number)) for number in range(20)),
            return_exceptions=True,
        )

        assert isinstance(crowd.pop(7), WriteRefused)
        assert len({one for one in crowd if isinstance(one, int)}) == 19
        with pytest.raises(WriteRefused, match="unique index"):
            await db.insert_job(Job(author="d", message_id=7))
