"""No server, wrong password, wrong database: who answered what, and never the password."""

from __future__ import annotations

import asyncio
import secrets
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pandora_db import (
    ConnectionFailed,
    InvalidInput,
    JobDb,
    PandoraDbError,
    PoolTimeout,
    Stage,
)
from pandora_db.testing import make_job
from tests.support.provider import Provider
from tests.support.raw import Raw

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.databases import PostgresDatabases


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_no_server_names_host_port_and_database() -> None:
    port = free_port()

    with pytest.raises(ConnectionFailed) as caught:
        await JobDb.connect(
            f"host=127.0.0.1 port={port} user=u password=canary dbname=pandora", connect_timeout=3.0
        )

    assert f"127.0.0.1:{port}/pandora" in str(caught.value)
    assert "canary" not in str(caught.value)
    assert "canary" not in repr(caught.value.__cause__)


async def test_a_server_that_never_answers_is_given_up_in_time() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        start = time.monotonic()
        with pytest.raises(ConnectionFailed, match="connect_timeout"):
            await JobDb.connect(
                f"host=127.0.0.1 port={silent.getsockname()[1]} user=u dbname=d",
                connect_timeout=0.3,
            )
        assert time.monotonic() - start < 2


async def test_what_is_no_postgres_server_is_a_connection_that_failed() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        with pytest.raises(ConnectionFailed, match=f"127.0.0.1:{port}/d"):
            await JobDb.connect(f"host=127.0.0.1 port={port} user=u dbname=d", connect_timeout=3.0)


async def test_a_database_that_is_not_there_is_named(url: str) -> None:
    wrong = make_conninfo(url, dbname="nowhere_" + secrets.token_hex(4))

    with pytest.raises(ConnectionFailed, match=r'database "nowhere_\w+" does not exist') as caught:
        await JobDb.connect(wrong)

    assert conninfo_to_dict(wrong)["dbname"] in str(caught.value)
    assert "create it first" in str(caught.value)


async def test_a_role_that_is_not_there_is_named(url: str) -> None:
    with pytest.raises(ConnectionFailed, match="nobody_at_all"):
        await JobDb.connect(make_conninfo(url, user="nobody_at_all"))


@pytest.fixture
def guarded(url: str, postgres_databases: PostgresDatabases) -> Iterator[str]:
    """A role that needs its password; the server of the wheel is told so for this test."""
    role, password = f"pandora_{secrets.token_hex(4)}", "c@nary "
    raw = Raw(url)
    raw(f"CREATE ROLE {role} LOGIN PASSWORD '{password}'")
    raw(f"GRANT pg_read_all_data TO {role}")
    mine = make_conninfo(url, user=role, password=password)
    rules: Path | None = None
    before = ""
    try:
        if postgres_databases.server.provider is Provider.WHEEL:
            rules = Path(raw("SHOW hba_file")[0][0])
            before = rules.read_text()
            rules.write_text(f"local all {role} scram-sha-256\n{before}")
            raw("SELECT pg_reload_conf()")
        deadline = time.monotonic() + 5
        while asks_for_no_password(mine):
            if rules is None or time.monotonic() > deadline:
                pytest.skip("this server lets everybody in without a password")
            time.sleep(0.05)
        yield mine
    finally:
        if rules is not None:
            rules.write_text(before)
            raw("SELECT pg_reload_conf()")
        raw(f"DROP ROLE {role}")


def asks_for_no_password(url: str) -> bool:
    try:
        psycopg.connect(make_conninfo(url, password="wrong")).close()  # noqa: S106 - it is wrong
    except psycopg.OperationalError:
        return False
    return True


async def test_a_wrong_password_is_told_and_not_shown(guarded: str) -> None:
    async with JobDb.open(guarded) as db:
        assert await db.ping() > 0
    database = conninfo_to_dict(guarded)["dbname"]

    with pytest.raises(ConnectionFailed, match=r"refused the login.*password") as caught:
        await JobDb.connect(make_conninfo(guarded, password="wr0ng-c@nary"))  # noqa: S106 - a canary

    assert f"/{database}" in str(caught.value)
    error: BaseException | None = caught.value
    while error is not None:
        assert "c@nary" not in f"{error!s} {error!r}"
        error = error.__cause__ or error.__context__


async def test_the_first_connect_may_wait_for_a_server_that_starts(url: str) -> None:
    """A port that begins to answer only while the handle is being opened."""
    port = free_port()
    target = conninfo_to_dict(url)
    host = str(target["host"])
    proxied = make_conninfo(url, host="127.0.0.1", port=port)
    tasks: set[asyncio.Task[None]] = set()

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = int(target.get("port") or 5432)
        if host.startswith("/"):
            there = await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{number}")
        else:
            there = await asyncio.open_connection(host, number)
        tasks.add(asyncio.create_task(pipe(there[0], writer)))
        await pipe(reader, there[1])

    with pytest.raises(ConnectionFailed):
        await JobDb.connect(proxied)
    opening = asyncio.create_task(JobDb.connect(proxied, wait_for_server=10.0))
    await asyncio.sleep(0.4)
    assert not opening.done()
    server = await asyncio.start_server(forward, "127.0.0.1", port)
    async with server:
        db = await asyncio.wait_for(opening, 10)
        await db.insert_job(make_job())
        await db.close()
    await asyncio.gather(*tasks)


async def test_waiting_for_a_server_ends_where_waiting_does_not_help(url: str) -> None:
    start = time.monotonic()
    with pytest.raises(ConnectionFailed, match="does not exist"):
        await JobDb.connect(make_conninfo(url, dbname="nowhere"), wait_for_server=20.0)
    assert time.monotonic() - start < 5


async def test_a_pool_that_is_used_up_refuses_in_time(url: str) -> None:
    async with JobDb.open(url, pool_max=1, acquire_timeout=0.2) as db:
        await db.insert_job(make_job())

        async def holds() -> None:
            async with db.transaction():
                await asyncio.sleep(1)

        holder = asyncio.create_task(holds())
        await asyncio.sleep(0.05)
        with pytest.raises(PoolTimeout, match=r"1 of 1 are in use.*raise pool_max"):
            await db.count_jobs()
        await holder
        assert await db.count_jobs() == 1


async def test_a_connection_that_died_in_the_pool_is_replaced(url: str) -> None:
    async with JobDb.open(url) as db:
        job_id = await db.insert_job(make_job())
        for _ in range(3):
            Raw(url)(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name = 'pandora_db' AND datname = current_database()"
            )
            await asyncio.sleep(0.05)
            assert await db.get_job(job_id) is not None
            await db.update_job(job_id, priority=1)


async def test_the_sessions_have_the_settings_that_were_asked_for(url: str) -> None:
    names = ("lock_timeout", "statement_timeout", "TimeZone", "application_name")
    async with JobDb.open(
        url, lock_timeout=1.5, statement_timeout=2.5, application_name="bot"
    ) as db:
        driver: Any = db._driver
        async with driver._pool.connection() as connection:
            found = [await connection.fetchval(f"SHOW {name}") for name in names]

    assert found == ["1500ms", "2500ms", "UTC", "bot"]


async def test_no_call_is_planned_anew(url: str) -> None:
    async with JobDb.open(url, pool_min=1, pool_max=1) as db:
        for _ in range(10):
            job_id = await db.insert_job(make_job())
            claim = await db.claim_job(job_id, into=Stage.DOWNLOADING)
            assert claim is not None
            await db.finish_job(claim, Stage.UPLOADED)
        driver: Any = db._driver
        async with driver._pool.connection() as connection:
            planned = await connection.fetch(
                "SELECT custom_plans, statement FROM pg_prepared_statements "
                "WHERE generic_plans + custom_plans >= 10"
            )

    assert len(planned) >= 3
    assert [statement for times, statement in planned if times] == []


async def test_unknown_keys_are_refused_before_connecting() -> None:
    port = free_port()
    for url in (
        f"host=127.0.0.1 port={port} sslmod=require",
        f"postgresql://u@127.0.0.1:{port}/d?sslmod=require",
    ):
        with pytest.raises(InvalidInput, match="sslmod"):
            await JobDb.connect(url)


async def test_a_standby_or_read_only_server_says_that_it_takes_no_writes(url: str) -> None:
    (name,) = Raw(url)("SELECT current_database()")[0]
    Raw(url)(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    async with JobDb.open(url) as db:
        assert await db.count_jobs() == 0
        with pytest.raises(PandoraDbError, match="accepts no writes"):
            await db.insert_job(make_job())
