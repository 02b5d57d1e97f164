"""`db.bind(connection)`: a job exists exactly if the caller's own rows do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aiosqlite
import pytest

from pandora_db import Duplicate, InvalidInput, JobDb, Stage, TransactionAborted
from pandora_db.testing import make_job
from tests.support.caller import Caller, opened

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pandora_db import Store
    from tests.support.raw import Raw


@pytest.fixture
async def caller(db: JobDb, db_url: str, raw: Raw) -> AsyncIterator[Caller]:
    raw("CREATE TABLE orders (customer TEXT)")
    async with opened(db_url) as caller:
        yield caller


async def use(store: Store) -> int:
    """Something of everything."""
    job_id = await store.insert_job(make_job(author="mika"))
    await store.insert_jobs([make_job(), make_job(external_id="run-1")])
    await store.insert_job(make_job(), max_active=100)
    await store.update_stage(job_id, Stage.ENCODING)
    await store.update_job(job_id, progress=0.5, config={"crf": 18})
    assert await store.cancel_job(job_id) is False
    await store.delete_job((await store.get_recent_jobs(1))[0].job_id)
    return job_id


async def test_the_callers_commit_decides(db: JobDb, caller: Caller, raw: Raw) -> None:
    await caller.begin()
    store = db.bind(caller.connection)
    job_id = await use(store)
    await caller.buy("mika")
    assert await db.count_jobs() == 0

    await caller.commit()

    assert await db.count_jobs() == 3
    row = await db.get_job(job_id)
    assert row is not None
    assert (row.author, row.ready, row.progress, row.hold) == ("mika", Stage.ENCODING, 0.5, 2)
    assert [one.seq for one in await db.history(job_id)] == [1, 2, 3, 4]
    assert raw("SELECT customer FROM orders") == [("mika",)]


async def test_the_callers_rollback_decides(db: JobDb, caller: Caller, raw: Raw) -> None:
    await caller.begin()
    job_id = await use(db.bind(caller.connection))
    await caller.buy("mika")

    await caller.rollback()

    assert await db.count_jobs() == 0
    assert await db.history(job_id) == []
    assert raw("SELECT customer FROM orders") == []


async def test_a_refused_operation_leaves_the_callers_transaction_usable(
    db: JobDb, caller: Caller, raw: Raw
) -> None:
    await db.insert_job(make_job(job_id=5))
    await caller.begin()
    store = db.bind(caller.connection)
    await caller.buy("mika")
    with pytest.raises(Duplicate):
        await store.insert_job(make_job(job_id=5))
    with pytest.raises(Duplicate):
        await store.insert_jobs([make_job(job_id=6), make_job(job_id=5)])
    await store.insert_job(make_job(job_id=7))
    await caller.commit()

    assert [row.job_id for row in await db.get_active_jobs()] == [5, 7]
    assert raw("SELECT customer FROM orders") == [("mika",)]


async def test_bind_refuses_a_connection_without_a_transaction(db: JobDb, caller: Caller) -> None:
    with pytest.raises(InvalidInput, match="no transaction open") as caught:
        db.bind(caller.connection)

    assert caught.value.field == "connection"


async def test_a_bound_store_ends_with_the_callers_transaction(db: JobDb, caller: Caller) -> None:
    """A call that came late must not commit by itself."""
    await caller.begin()
    store = db.bind(caller.connection)
    await caller.commit()

    with pytest.raises(TransactionAborted, match="over"):
        await store.insert_job(make_job())
    with pytest.raises(TransactionAborted, match="over"):
        await store.insert_jobs([make_job()])

    assert await db.count_jobs() == 0


async def test_bind_refuses_a_closed_connection(db: JobDb, caller: Caller) -> None:
    await caller.close()

    with pytest.raises(InvalidInput, match="closed"):
        db.bind(caller.connection)


async def test_bind_refuses_what_is_no_connection_of_the_dialect(
    db: JobDb, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other: Any
    if db.dialect == "postgres":
        async with aiosqlite.connect(tmp_path_factory.mktemp("other") / "x.db") as other:
            await other.execute("BEGIN")
            with pytest.raises(InvalidInput, match=r"connection, not aiosqlite\.core\.Connection$"):
                db.bind(other)
    for other, name in (
        (None, "NoneType"),
        ("host=localhost", "str"),
        (db, "pandora_db.db.JobDb"),
    ):
        with pytest.raises(InvalidInput, match=rf"bind\(\) .* not {name}$"):
            db.bind(other)


async def test_a_bound_store_works_beside_the_handle(db: JobDb, caller: Caller) -> None:
    """Reads of the handle go on while the caller's transaction is open."""
    known = await db.insert_job(make_job())
    await caller.begin()
    bound = db.bind(caller.connection)
    await bound.update_stage(known, Stage.DOWNLOADING)

    row = await db.get_job(known)
    assert row is not None
    assert row.ready == Stage.QUEUED
    await caller.commit()
    assert [one.job_id for one in await db.get_jobs_by_stage(Stage.DOWNLOADING)] == [known]
