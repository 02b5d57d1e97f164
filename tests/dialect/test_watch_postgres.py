"""Watching while transactions end in another order than they began."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from pandora_db import EventKind, JobDb, PandoraDbError, Stage
from pandora_db.runtime import JobContext, Pipeline
from pandora_db.services import lookout
from pandora_db.testing import make_job

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pandora_db import JobEvent, Watch


async def take(watch: Watch, count: int) -> list[JobEvent]:
    async with asyncio.timeout(10):
        return [await anext(watch) for _ in range(count)]


async def test_a_transaction_that_stays_open_stops_nobody_and_is_not_missed(url: str) -> None:
    async with JobDb.open(url, sweep=None) as db, db.watch() as watch:
        start = watch.cursor
        with psycopg.connect(url) as theirs:
            theirs.execute("INSERT INTO jobs (job_id, requested_at, ready) VALUES (900, 1, 0)")
            ids = [await db.insert_job(make_job()) for _ in range(3)]
            assert [one.job_id for one in await take(watch, 3)] == ids
            middle = watch.cursor
            theirs.commit()

        (late,) = await take(watch, 1)
        assert (late.job_id, late.kind) == (900, EventKind.INSERTED)
        ids.append(await db.insert_job(make_job()))

        assert {one.job_id for one in await take(db.watch(after=start), 5)} == {*ids, 900}
        assert {one.job_id for one in await take(db.watch(after=middle), 2)} == {900, ids[-1]}


@pytest.mark.parametrize("window", [1, 2, 3, 1000])
async def test_a_job_keeps_its_order_when_the_older_transaction_writes_later(
    url: str, window: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows end by the number of the transaction; no end may part the events of one job."""
    monkeypatch.setattr(lookout, "WINDOW", window)
    async with JobDb.open(url, sweep=None) as db:
        jobs = await db.insert_jobs([make_job() for _ in range(4)])
        async with db.watch() as watch:
            start = watch.cursor
        with psycopg.connect(url) as older, psycopg.connect(url, autocommit=True) as newer:
            older.execute("UPDATE jobs SET ready = 1 WHERE job_id = %s", [jobs[0]])
            for job_id in jobs[1:]:
                newer.execute("UPDATE jobs SET ready = 1 WHERE job_id = %s", [job_id])
            for job_id in jobs[1:]:
                older.execute("UPDATE jobs SET ready = 3 WHERE job_id = %s", [job_id])
            older.commit()

        events = await take(db.watch(after=start), 7)

    assert [one.seq for one in events if one.job_id == jobs[0]] == [2]
    for job_id in jobs[1:]:
        assert [one.seq for one in events if one.job_id == job_id] == [2, 3]


async def test_rows_restored_from_another_server_are_no_news(url: str) -> None:
    async with JobDb.open(url, sweep=None) as db:
        job_id = await db.insert_job(make_job())
        with psycopg.connect(url, autocommit=True) as theirs:
            theirs.execute(
                "INSERT INTO job_events (job_id, seq, at, kind, attempt, tx) VALUES (77, 1, now(), "
                "1, 0, (pg_snapshot_xmax(pg_current_snapshot())::text::bigint + 6)::text::xid8)"
            )
        async with db.watch() as watch:
            for stage in (1, 3, 5, 6):
                await db.update_stage(job_id, Stage(stage))
                await db.insert_job(make_job())
                await db.insert_job(make_job())

            events = await take(watch, 12)

    assert 77 not in {one.job_id for one in events}


async def test_restored_jobs_in_a_large_transaction_silence_nobody(url: str) -> None:
    """Their events bear numbers that this server will not give out for long."""
    async with JobDb.open(url, sweep=None) as db:
        restored = await db.insert_job(make_job())
        with psycopg.connect(url, autocommit=True) as theirs:
            theirs.execute("SET session_replication_role = replica")
            theirs.execute("UPDATE job_events SET tx = '5000000'")
        async with db.watch() as watch:
            async with db.transaction() as tx:
                await tx.update_stage(restored, Stage.DOWNLOADING)
                ids = await tx.insert_jobs([make_job() for _ in range(1500)])
            events = await take(watch, 1501)
            last = await db.insert_job(make_job())

            assert {one.job_id for one in events} == {restored, *ids}
            assert [one.job_id for one in await take(watch, 1)] == [last]


@pytest.fixture
def role(url: str) -> Iterator[str]:
    """The DSN of a role that has no rights but those on the tables."""
    name, word = f"worker_{secrets.token_hex(4)}", secrets.token_hex(8)
    with psycopg.connect(url, autocommit=True) as owner:
        owner.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{word}'")
        try:
            owner.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {name}")
            owner.execute(f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {name}")
            owner.execute("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC")
            yield make_conninfo(url, user=name, password=word)
        finally:
            owner.execute(f"DROP OWNED BY {name}")
            owner.execute(f"DROP ROLE {name}")


async def test_a_role_without_other_rights_watches_and_works(role: str) -> None:
    pipeline = Pipeline()

    @pipeline.stage(Stage.QUEUED, Stage.DOWNLOADING, Stage.UPLOADED)
    async def upload(ctx: JobContext) -> None:
        ctx.progress(1.0)

    async with JobDb.open(role) as db, db.watch() as watch, pipeline.running(db):
        job_id = await db.insert_job(make_job())
        events = await take(watch, 3)
        assert [(one.job_id, one.kind) for one in events] == [
            (job_id, EventKind.INSERTED), (job_id, EventKind.CLAIMED), (job_id, EventKind.FINISHED),
        ]  # fmt: skip


async def test_a_role_that_may_not_name_the_server_has_no_cursor(url: str, role: str) -> None:
    async with JobDb.open(url, sweep=None) as db, db.watch() as watch:
        kept = watch.cursor
    async with JobDb.open(role, sweep=None) as db, db.watch() as watch:
        with pytest.raises(PandoraDbError, match="GRANT EXECUTE ON FUNCTION pg_control_system"):
            _ = watch.cursor
        with pytest.raises(PandoraDbError, match="GRANT EXECUTE ON FUNCTION pg_control_system"):
            await take(db.watch(after=kept), 1)


async def test_an_event_without_a_time_stops_no_watcher(url: str) -> None:
    """Another program may have written it."""
    async with JobDb.open(url, sweep=None) as db:
        job_id = await db.insert_job(make_job())
        async with asyncio.timeout(10), db.watch() as events:
            with psycopg.connect(url, autocommit=True) as other:
                other.execute(
                    "INSERT INTO job_events (job_id, seq, at, kind, stage, attempt) "
                    "VALUES (%s, 9000, 'infinity', 77, 0, 0)",
                    [job_id],
                )
            later = await db.insert_job(make_job())
            assert {(await anext(events)).job_id for _ in range(2)} == {job_id, later}
