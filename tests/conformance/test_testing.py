"""`pandora_db.testing`, as a user's own suite takes it, on both dialects."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from pandora_db import InvalidInput, Job, JobDb, JobStatus, Preset, SchemaMissing, Stage
from pandora_db.testing import JobFields, insert_job_at, make_job, new_test_db, reset, seed
from tests.support.raw import Raw

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

FINISHED = {Stage.UPLOADED, Stage.FAILED, Stage.DECLINED, Stage.CANCELLED}


@pytest.fixture
def test_url(dialect: str, request: pytest.FixtureRequest) -> str | None:
    """What a user hands to `new_test_db` on this dialect."""
    if dialect == "sqlite":
        return None
    dsn: str = request.getfixturevalue("postgres_dsn")
    return dsn


@pytest.fixture
async def test_db(test_url: str | None) -> AsyncIterator[JobDb]:
    async with new_test_db(test_url) as db:
        yield db


async def test_a_test_database_is_ready_and_empty(test_db: JobDb, dialect: str) -> None:
    assert test_db.dialect == dialect
    assert await test_db.verify_schema() == []
    assert await test_db.count_jobs() == 0
    assert await test_db.insert_job(make_job()) == 1


async def test_two_test_databases_know_nothing_of_each_other(test_url: str | None) -> None:
    async with new_test_db(test_url) as one, new_test_db(test_url) as other:
        await one.insert_job(make_job())

        assert await other.count_jobs() == 0


async def test_a_test_database_is_gone_afterwards_also_when_the_test_fails(
    postgres_dsn: str,
) -> None:
    async def fails() -> None:
        async with new_test_db(postgres_dsn) as db:
            await db.insert_job(make_job())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fails()

    schemas = Raw(postgres_dsn)(
        "SELECT nspname FROM pg_namespace WHERE nspname NOT LIKE %s AND nspname <> %s",
        "pg_%",
        "information_schema",
    )
    assert schemas == [("public",)]
    async with JobDb.open(postgres_dsn) as db:
        with pytest.raises(SchemaMissing):
            await db.count_jobs()


async def test_a_cancelled_test_leaves_no_schema(postgres_dsn: str) -> None:
    entered = asyncio.Event()

    async def waits() -> None:
        async with new_test_db(postgres_dsn):
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(waits())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    left = Raw(postgres_dsn)("SELECT nspname FROM pg_namespace WHERE nspname LIKE %s", "pandora%")
    assert left == []


async def test_a_test_may_close_its_handle(test_url: str | None) -> None:
    async with new_test_db(test_url) as db:
        await db.close()


async def test_a_temporary_file_is_shared_by_handles_and_deleted(sqlite_path: Path) -> None:
    async with new_test_db(temporary_file=sqlite_path) as db:
        job_id = await db.insert_job(make_job(author="mika"))
        async with JobDb.open(sqlite_path) as other:
            row = await other.get_job(job_id)

    assert row is not None
    assert row.author == "mika"
    assert list(sqlite_path.parent.iterdir()) == []


async def test_a_temporary_file_needs_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    async with new_test_db(temporary_file=True) as db:
        assert await db.insert_job(make_job()) == 1
        assert len(list(tmp_path.glob("*/pandora.db"))) == 1

    assert list(tmp_path.iterdir()) == []


async def test_a_file_that_exists_is_never_a_test_database(sqlite_path: Path) -> None:
    sqlite_path.write_text("mine")

    with pytest.raises(InvalidInput, match="exists"):
        async with new_test_db(temporary_file=sqlite_path):
            pass

    assert sqlite_path.read_text() == "mine"


async def test_settings_reach_the_test_database(test_url: str | None) -> None:
    with pytest.raises(InvalidInput, match="pool_size"):
        async with new_test_db(test_url, pool_size=3):
            pass


@pytest.mark.parametrize("url", ["sqlite:///pandora.db", ":memory:", "pandora.db"])
async def test_a_file_of_the_users_is_not_taken_for_a_test_database(url: str) -> None:
    with pytest.raises(InvalidInput, match="temporary_file"):
        async with new_test_db(url):
            pass


async def test_reset_empties_the_database_and_counts_ids_from_one_again(test_db: JobDb) -> None:
    first = await test_db.insert_job(make_job())
    await seed(test_db)
    await test_db.delete_job(first)
    await test_db.set_recovery_policy("fail", name="encode")

    await reset(test_db)

    assert await test_db.count_jobs() == 0
    assert await test_db.stage_counts() == {}
    assert await test_db.insert_job(make_job()) == 1
    assert len(await test_db.history(1)) == 1
    assert await test_db.history(2) == []
    assert await test_db.get_recovery_policies() == {}
    assert await test_db.verify_schema() == []


async def test_reset_refuses_a_handle_that_new_test_db_did_not_make(db: JobDb) -> None:
    job_id = await db.insert_job(make_job())

    with pytest.raises(InvalidInput, match="new_test_db"):
        await reset(db)

    assert await db.get_job(job_id) is not None


async def test_reset_refuses_a_test_database_that_is_over(test_url: str | None) -> None:
    async with new_test_db(test_url) as db:
        pass

    with pytest.raises(InvalidInput, match="new_test_db"):
        await reset(db)


def test_make_job_makes_jobs_that_differ() -> None:
    one, other = make_job(), make_job()

    assert one.author != other.author
    assert one.link != other.link
    assert one.message_id != other.message_id


def test_make_job_takes_every_field_of_job_and_no_other() -> None:
    assert set(JobFields.__annotations__) == set(Job.model_fields)
    assert make_job(author="mika", preset=Preset.GPU).author == "mika"
    with pytest.raises(InvalidInput, match="autor"):
        make_job(autor="mika")  # type: ignore[call-arg]
    with pytest.raises(InvalidInput, match="author"):
        make_job(author="")


@pytest.mark.parametrize("stage", list(Stage))
async def test_insert_job_at_brings_a_job_to_any_stage(db: JobDb, stage: Stage) -> None:
    job_id = await insert_job_at(db, stage, author="mika")

    row = await db.get_job(job_id)
    assert row is not None
    assert (row.author, row.ready, row.archived) == ("mika", stage, stage in FINISHED)
    assert (row.completed_at is not None) == (stage in FINISHED)
    assert (row.error is not None) == (stage in {Stage.FAILED, Stage.DECLINED})


async def test_insert_job_at_archives_as_it_is_told(db: JobDb) -> None:
    live = await insert_job_at(db, Stage.FAILED, archived=False)
    archived = await insert_job_at(db, Stage.QUEUED, archived=True)

    rows = await db.get_jobs_by_ids([live, archived])
    assert [row.archived for row in rows] == [False, True]


async def test_seed_puts_jobs_at_every_stage(db: JobDb) -> None:
    ids = await seed(db, per_stage=2)

    assert set(ids) == set(Stage)
    for stage, members in ids.items():
        rows = await db.get_jobs_by_ids(members)
        assert [row.ready for row in rows] == [stage, stage]
    assert {row.status for row in await db.get_jobs()} >= {
        JobStatus.QUEUED,
        JobStatus.RUNNING,
        JobStatus.COMPLETED,
        JobStatus.FAILED,
        JobStatus.CANCELLED,
    }


async def test_seed_works_inside_a_transaction(db: JobDb) -> None:
    async with db.transaction() as tx:
        await seed(tx)

    assert await db.count_jobs() == len(Stage)
