"""Every wait has an end (P8)."""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import closing

import asyncpg
import pytest
from psycopg.conninfo import make_conninfo

from pandora_db import ConnectionFailed, JobDb, LockTimeout, PoolTimeout, StatementTimeout
from pandora_db.dsn import PostgresTarget, parse_dsn
from tests.faults.calls import make_job
from tests.faults.leaks import connect_directly
from tests.faults.proxy import UP, Ending, Plan, Proxy


async def test_a_pool_in_use_is_a_pool_timeout(migrated_dsn: str) -> None:
    async with JobDb.open(migrated_dsn, sweep=None, pool_max=2, acquire_timeout=0.3) as db:
        async with db.transaction(), _another(db):
            start = time.monotonic()
            calls = [_from_outside(db) for _ in range(5)]
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
            assert [type(outcome) for outcome in outcomes] == [PoolTimeout] * 5
            assert time.monotonic() - start < 0.3 + 1.0
        assert await db.get_queue_length() == 0


def _another(db: JobDb) -> _Held:
    return _Held(db)


class _Held:
    """A transaction of another task."""

    def __init__(self, db: JobDb) -> None:
        self._db = db
        self._end = asyncio.Event()
        self._begun = asyncio.Event()

    async def _hold(self) -> None:
        async with self._db.transaction():
            self._begun.set()
            await self._end.wait()

    async def __aenter__(self) -> None:
        self._task = _outside(self._hold())
        await self._begun.wait()

    async def __aexit__(self, *_: object) -> None:
        self._end.set()
        await self._task


def _outside(work: object) -> asyncio.Task[object]:
    """Run in a task that does not inherit the mark of the open transaction."""
    from contextvars import Context

    return asyncio.get_running_loop().create_task(work, context=Context())  # type: ignore[arg-type]


async def _from_outside(db: JobDb) -> object:
    return await _outside(db.get_queue_length())


async def test_no_server_is_a_connection_failed() -> None:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        start = time.monotonic()
        with pytest.raises(ConnectionFailed, match=f"127.0.0.1:{port}"):
            await JobDb.connect(f"host=127.0.0.1 port={port} user=x password=secret dbname=y")
        assert time.monotonic() - start < 1.0


async def test_a_server_that_says_nothing_ends_with_connect_timeout() -> None:
    with closing(socket.socket()) as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        port = mute.getsockname()[1]
        start = time.monotonic()
        with pytest.raises(ConnectionFailed, match="connect_timeout"):
            await JobDb.connect(
                f"host=127.0.0.1 port={port} user=x dbname=y sslmode=disable", connect_timeout=0.4
            )
        assert time.monotonic() - start < 0.4 + 1.0
        start = time.monotonic()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await JobDb.connect(f"host=127.0.0.1 port={port} user=x dbname=y sslmode=disable")
        assert time.monotonic() - start < 0.2 + 2.0


async def test_the_first_connect_waits_for_a_server_that_starts_late(migrated_dsn: str) -> None:
    async with Proxy(migrated_dsn) as proxy:
        proxy.refusing = True
        with pytest.raises(ConnectionFailed):
            await JobDb.connect(proxy.dsn, wait_for_server=0.3)
        asyncio.get_running_loop().call_later(0.8, proxy.heal)
        async with JobDb.open(proxy.dsn, wait_for_server=10, sweep=None) as db:
            assert await db.get_queue_length() == 0


async def test_waiting_for_a_server_does_not_wait_out_a_wrong_login(migrated_dsn: str) -> None:
    start = time.monotonic()
    with pytest.raises(ConnectionFailed):
        await JobDb.connect(make_conninfo(migrated_dsn, dbname="none"), wait_for_server=20)
    assert time.monotonic() - start < 5.0


async def test_a_locked_row_is_a_lock_timeout(migrated_dsn: str) -> None:
    other = await connect_directly(migrated_dsn)
    async with JobDb.open(migrated_dsn, sweep=None, lock_timeout=0.3) as db:
        job_id = await db.insert_job(make_job("a"))
        async with other.transaction():
            await other.execute("SELECT * FROM jobs FOR UPDATE")
            start = time.monotonic()
            with pytest.raises(LockTimeout):
                await db.archive_job(job_id)
            assert time.monotonic() - start < 0.3 + 1.0
        await db.archive_job(job_id)
    await other.close()


async def test_a_slow_statement_is_a_statement_timeout(migrated_dsn: str) -> None:
    other = await connect_directly(migrated_dsn)
    async with JobDb.open(migrated_dsn, sweep=None, lock_timeout=10.0, statement_timeout=0.3) as db:
        job_id = await db.insert_job(make_job("a"))
        async with other.transaction():
            await other.execute("LOCK TABLE jobs")
            start = time.monotonic()
            with pytest.raises(StatementTimeout):
                await db.archive_job(job_id)
            with pytest.raises(StatementTimeout):
                await db.get_queue_length()
            assert time.monotonic() - start < 2 * 0.3 + 1.0
        await db.archive_job(job_id)
    await other.close()


async def test_a_full_queue_of_calls_is_a_pool_timeout(db_url: str, dialect: str) -> None:
    async with JobDb.open(
        db_url, sweep=None, acquire_timeout=0.3, max_pending=10, pool_max=1
    ) as db:
        async with db.transaction():
            start = time.monotonic()
            calls = [_outside(db.insert_job(make_job("a"))) for _ in range(40)]
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
            assert {type(outcome) for outcome in outcomes} == {PoolTimeout}
            assert time.monotonic() - start < 2 * 0.3 + 1.0
        assert await db.count_jobs() == 0


async def test_ping_on_a_silent_line_ends(migrated_dsn: str) -> None:
    async with Proxy(migrated_dsn) as proxy:
        timeouts = {"statement_timeout": 0.3, "connect_timeout": 0.5, "close_timeout": 0.5}
        async with JobDb.open(proxy.dsn, sweep=None, **timeouts) as db:
            await db.ping()
            proxy.arm(Plan(UP, 0, Ending.SILENCE, times=100))
            start = time.monotonic()
            with pytest.raises(ConnectionFailed):
                await db.ping()
            assert time.monotonic() - start < 0.3 + 1.0 + 0.5 + 1.0


@pytest.mark.postgres
async def test_many_calls_on_a_locked_table_wait_together_for_one_statement(
    migrated_dsn: str,
) -> None:
    target = parse_dsn(migrated_dsn)
    assert isinstance(target, PostgresTarget)
    connection = await asyncpg.connect(**target.connect_arguments())
    try:
        async with JobDb.open(
            migrated_dsn, lock_timeout=0.2, statement_timeout=1.0, outcome_timeout=5.0
        ) as db:
            await connection.execute("BEGIN")
            await connection.execute("LOCK TABLE jobs")
            start = time.monotonic()
            calls = [db.insert_job(make_job("mika")) for _ in range(100)]
            found = await asyncio.gather(*calls, return_exceptions=True)

            assert {type(error) for error in found} == {LockTimeout}
            assert time.monotonic() - start < 10.0  # a lock_timeout for each would be 20 s
            await connection.execute("ROLLBACK")
            assert await db.insert_job(make_job("mika"))
    finally:
        await connection.close()
