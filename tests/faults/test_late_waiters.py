"""Late writes that wait for a lock: what was true before the wait must be looked at again after it.

Under READ COMMITTED only the row that a statement changes or locks is checked again. A token that
is compared anywhere else lets the late writer through.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg
import pytest

from pandora_db import JobDb, LeaseLost, Stage
from tests.faults.calls import make_job
from tests.faults.zombie import WRITES
from tests.support.raw import Raw
from tests.support.waiting import wait_until

PAST = "2000-01-01 00:00:00.000"
SETTINGS = {"lease": 600.0, "heartbeat": 300.0, "sweep": None}
WAITING = (
    "SELECT count(*) FROM pg_stat_activity "
    "WHERE datname = current_database() AND wait_event_type = 'Lock'"
)


@pytest.fixture
async def pair(db_url: str) -> AsyncIterator[tuple[JobDb, JobDb]]:
    """Two handles: the one that comes late, and the other."""
    async with JobDb.open(db_url, **SETTINGS) as one, JobDb.open(db_url, **SETTINGS) as other:
        yield one, other


@contextmanager
def other_transaction(url: str) -> Iterator[Any]:
    """An open write transaction of another program."""
    if url.startswith("sqlite:"):
        path = url.removeprefix("sqlite:///")
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
    else:
        with psycopg.connect(url) as connection:
            yield connection


async def until_it_waits(url: str) -> None:
    if url.startswith("sqlite:"):
        await asyncio.sleep(0.05)  # the file has one lock, and no list of who waits for it
        return
    raw = Raw(url)
    await wait_until(lambda: raw(WAITING)[0][0])


@pytest.mark.parametrize("inside", [False, True], ids=["alone", "in a transaction"])
@pytest.mark.parametrize("name", WRITES)
async def test_a_write_that_waited_for_the_new_owner_is_refused(
    pair: tuple[JobDb, JobDb], db_url: str, raw: Raw, name: str, *, inside: bool
) -> None:
    db, _ = pair
    job_id = await db.insert_job(make_job("a"))
    claim = await db.claim_job(job_id, into=Stage.ENCODING)
    assert claim is not None
    await db.save_checkpoint(claim, {"of": claim.token})

    async def write() -> None:
        if not inside:
            await WRITES[name](db, claim)
            return
        async with db.transaction() as tx:
            await WRITES[name](tx, claim)

    with other_transaction(db_url) as other:
        other.execute(
            f"UPDATE jobs SET lease_token = lease_token + 999, lease_owner = 'other' "
            f"WHERE job_id = {job_id}"
        )
        late = asyncio.ensure_future(write())
        if name != "save_checkpoint, unchanged":  # it writes nothing, and may wait for nobody
            await until_it_waits(db_url)
        other.execute("COMMIT")

    if name != "save_checkpoint, unchanged":
        with pytest.raises(LeaseLost):
            await late
    else:
        await asyncio.wait([late])
    columns = "ready, archived, attempt, progress, priority, error, event_seq, lease_owner"
    before = (3, False, 1, None, 0, None, 2, "other")
    ((ready, archived, *rest),) = raw(f"SELECT {columns} FROM jobs WHERE job_id = %s", job_id)
    assert (ready, bool(archived), *rest) == before
    assert raw("SELECT count(*), max(seq) FROM job_checkpoints WHERE job_id = %s", job_id) == [
        (1, 1)
    ]
    for table, rows in (("jobs", 1), ("job_logs", 0), ("job_children", 0)):
        assert raw(f"SELECT count(*) FROM {table}") == [(rows,)]


@pytest.mark.postgres
@pytest.mark.parametrize("size", [10, 600_000], ids=["small", "in parts"])
async def test_a_job_whose_checkpoint_is_being_written_is_not_taken(
    migrated_dsn: str, size: int
) -> None:
    async with (
        JobDb.open(migrated_dsn, **SETTINGS) as db,
        JobDb.open(migrated_dsn, **SETTINGS) as other,
    ):
        raw = Raw(migrated_dsn)
        job_id = await db.insert_job(make_job("a"))
        claim = await db.claim_job(job_id, into=Stage.ENCODING)
        assert claim is not None
        await db.save_checkpoint(claim, {"n": 1})
        raw(f"UPDATE jobs SET lease_until = '{PAST}' WHERE job_id = %s", job_id)
        with other_transaction(migrated_dsn) as blocker:
            # The save checks its token, and then waits for these rows.
            blocker.execute(
                "INSERT INTO job_checkpoints (job_id, stage, seq, part, at, data) "
                f"SELECT {job_id}, 3, 2, part, now(), '' FROM generate_series(0, 9) AS part"
            )
            state = {"n": 2, "blob": bytes(range(256)) * (size // 256)}
            late = asyncio.ensure_future(db.save_checkpoint(claim, state))
            await until_it_waits(migrated_dsn)
            assert (await other.recover()).requeued == ()
            assert await other.claim_job(job_id, into=Stage.ENCODING) is None
            blocker.execute("ROLLBACK")

        await late
        assert (await other.recover()).requeued == (job_id,)
        again = await other.claim_job(job_id, into=Stage.ENCODING)
        assert again is not None
        assert await other.load_checkpoint(again) == state
