"""`db.bind` on asyncpg: whatever the caller has set on the connection does not matter."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from uuid import UUID

import asyncpg
import pytest

from pandora_db import InvalidInput, JobDb, Stage
from pandora_db.dsn import PostgresTarget, parse_dsn
from pandora_db.testing import make_job

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def db(url: str) -> AsyncIterator[JobDb]:
    async with JobDb.open(url) as db:
        yield db


def arguments(url: str) -> dict[str, Any]:
    target = parse_dsn(url)
    assert isinstance(target, PostgresTarget)
    return target.connect_arguments()


@pytest.fixture
async def theirs(db: JobDb, url: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    connection = await asyncpg.connect(**arguments(url))
    yield connection
    await connection.close()


async def test_codecs_search_path_and_time_zone_of_the_caller_do_not_matter(
    db: JobDb, theirs: asyncpg.Connection[Any]
) -> None:
    class Row(asyncpg.Record):
        def __getattr__(self, name: str) -> Any:
            return self[name]

    await theirs.execute("CREATE SCHEMA shop; CREATE TABLE shop.jobs (id TEXT)")
    await theirs.execute("SET search_path = shop; SET TIME ZONE 'Asia/Tokyo'")
    await theirs.execute("SET DateStyle = 'SQL, DMY'; SET extra_float_digits = -10")
    for name in ("json", "jsonb"):
        await theirs.set_type_codec(
            name, encoder=json.dumps, decoder=json.loads, schema="pg_catalog"
        )
    await theirs.set_type_codec("uuid", encoder=str, decoder=lambda text: text, schema="pg_catalog")
    call = UUID(int=7)

    async with theirs.transaction():
        store = db.bind(theirs)
        job_id = await store.insert_job(make_job(config={"crf": 18}), operation_id=call)
        await store.update_job(job_id, output=[1, 2], progress=0.1)
        (loaded,) = await store.insert_jobs([make_job(link="a\tb\nc\\d\re", directory="\\N")])
        await store.archive_job(loaded)
        inside = await store.get_jobs_by_ids([job_id, loaded])
        events = await store.history(job_id)

    outside = await db.get_jobs_by_ids([job_id, loaded])
    assert [tuple(row) for row in inside] == [tuple(row) for row in outside]
    assert [row.created_at for row in inside] == [row.created_at for row in outside]
    assert events == await db.history(job_id)
    assert (inside[1].link, inside[1].directory) == ("a\tb\nc\\d\re", "\\N")
    assert events[0].operation_id == call
    assert await theirs.fetchval("SHOW TimeZone") == "Asia/Tokyo"


@pytest.mark.xfail(
    reason="times are read with the codec of the connection: the caller's own gets in between",
)
async def test_a_codec_for_times_does_not_matter(
    db: JobDb, theirs: asyncpg.Connection[Any]
) -> None:
    for name in ("timestamptz", "timestamp"):
        await theirs.set_type_codec(
            name, encoder=str, decoder=lambda text: text, schema="pg_catalog"
        )

    async with theirs.transaction():
        store = db.bind(theirs)
        job_id = await store.insert_job(make_job())
        (loaded,) = await store.insert_jobs([make_job()])
        rows = await store.get_jobs_by_ids([job_id, loaded])
        events = await store.history(job_id)

    assert rows == await db.get_jobs_by_ids([job_id, loaded])
    assert events == await db.history(job_id)


async def test_bind_takes_a_connection_of_a_pool(db: JobDb, url: str) -> None:
    async with asyncpg.create_pool(**arguments(url), min_size=1, max_size=1) as pool:
        async with pool.acquire() as connection:
            with pytest.raises(InvalidInput, match="no transaction open"):
                db.bind(connection)
            async with connection.transaction():
                job_id = await db.bind(connection).insert_job(make_job())
        with pytest.raises(InvalidInput, match=r"(?i)released|closed"):
            db.bind(connection)

    assert await db.get_job(job_id) is not None


@pytest.mark.parametrize("isolation", ["repeatable_read", "serializable"])
async def test_a_stricter_isolation_of_the_caller_is_kept(
    db: JobDb, theirs: asyncpg.Connection[Any], isolation: Any
) -> None:
    async with theirs.transaction(isolation=isolation):
        store = db.bind(theirs)
        job_id = await store.insert_job(make_job(), max_active=5)
        await store.update_stage(job_id, Stage.ENCODING)
        assert await theirs.fetchval("SHOW transaction_isolation") == isolation.replace("_", " ")

    assert len(await db.history(job_id)) == 2


async def test_savepoints_of_the_caller_hold_for_jobs_too(
    db: JobDb, theirs: asyncpg.Connection[Any]
) -> None:
    async with theirs.transaction():
        store = db.bind(theirs)
        kept = await store.insert_job(make_job())
        inner = theirs.transaction()
        await inner.start()
        await store.insert_jobs([make_job(), make_job()])
        await inner.rollback()

    assert [row.job_id for row in await db.get_active_jobs()] == [kept]
