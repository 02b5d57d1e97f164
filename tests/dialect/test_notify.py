"""LISTEN and NOTIFY: heard without a poll, and done without where they cannot be had."""

from __future__ import annotations

import asyncio
import gc
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from pandora_db import JobDb, Limits, NotFound, Stage
from pandora_db.db import internals
from pandora_db.drivers.postgres import bell
from pandora_db.drivers.postgres.listener import Listener
from pandora_db.drivers.postgres.notifier import channel, read, written
from pandora_db.testing import make_job
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from pandora_db import Watch

LISTENER = (
    "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query ~ '^LISTEN'"
)


@pytest.fixture
def no_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_BUSY", "_IDLE", "_LISTENING"):
        monkeypatch.setattr(bell, name, 10_000.0)


async def take(watch: Watch, count: int) -> list[int]:
    async with asyncio.timeout(10):
        return [(await anext(watch)).job_id for _ in range(count)]


def listeners(url: str) -> list[int]:
    with psycopg.connect(url) as connection:
        return [pid for (pid,) in connection.execute(LISTENER)]


async def listening(db: JobDb, url: str) -> int:
    """Wait until it listens; the server process that it does so by."""
    found: list[int] = []

    def one() -> bool:
        found[:] = listeners(url)
        return len(found) == 1

    await wait_until(one)
    return found[0]


@pytest.mark.usefixtures("no_poll")
async def test_commits_of_another_handle_are_heard(url: str) -> None:
    async with (
        JobDb.open(url, sweep=None) as db,
        JobDb.open(url, sweep=None) as other,
        db.watch() as watch,
    ):
        await listening(db, url)
        for _ in range(3):
            ids = [await other.insert_job(make_job())]
            async with other.transaction() as tx:
                ids.append(await tx.insert_job(make_job()))
            ids += await other.insert_jobs([make_job() for _ in range(3)])
            ids += [claim.job_id for claim in await other.claim_jobs(
                Stage.QUEUED, into=Stage.DOWNLOADING, limit=2
            )]  # fmt: skip
            assert sorted(await take(watch, len(ids))) == sorted(ids)
            await asyncio.sleep(0.1)


async def test_who_wrote_nothing_notifies_nobody(url: str) -> None:
    async with JobDb.open(url, sweep=None) as db:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f'LISTEN "{channel("public")}"')

            async def heard() -> int:
                await asyncio.sleep(0.2)
                return len(list(connection.notifies(timeout=0.2)))

            async with db.transaction() as tx:
                await tx.get_queue_length()
            with suppress(NotFound):
                async with db.transaction() as tx:
                    await tx.insert_job(make_job())
                    await tx.archive_job(404)
            limits = Limits(stage=1)
            assert await db.claim_jobs(Stage.QUEUED, into=Stage.DOWNLOADING, limits=limits) == []
            assert await heard() == 0

            async with db.transaction() as tx:
                await tx.insert_job(make_job())
            assert await heard() == 1


@pytest.mark.usefixtures("no_poll")
async def test_a_commit_just_before_close_is_heard(url: str) -> None:
    async with JobDb.open(url, sweep=None) as db, db.watch() as watch:
        await listening(db, url)
        async with JobDb.open(url, sweep=None) as other:
            ids = [await other.insert_job(make_job()) for _ in range(5)]

        assert await take(watch, 5) == ids


@pytest.mark.usefixtures("no_poll")
async def test_a_listener_that_was_killed_comes_back(url: str) -> None:
    async with (
        JobDb.open(url, sweep=None) as db,
        JobDb.open(url, sweep=None) as other,
        db.watch() as watch,
    ):
        first = await listening(db, url)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("SELECT pg_terminate_backend(%s)", [first])
        # What is notified while nobody listens is found when it is back.
        ids = [await other.insert_job(make_job())]
        await wait_until(lambda: listeners(url) not in ([], [first]))
        ids.append(await other.insert_job(make_job()))

        assert await take(watch, 2) == ids


@pytest.mark.usefixtures("no_poll")
async def test_a_worker_of_another_handle_begins_at_once(url: str) -> None:
    from pandora_db.runtime import JobContext, Pipeline

    begun: asyncio.Queue[int] = asyncio.Queue()
    pipeline = Pipeline()

    @pipeline.stage(Stage.QUEUED, Stage.DOWNLOADING, Stage.UPLOADED)
    async def begin(ctx: JobContext) -> None:
        begun.put_nowait(ctx.job_id)

    async with (
        JobDb.open(url, sweep=None) as db,
        JobDb.open(url, sweep=None) as other,
        pipeline.running(db, poll=10_000.0),
    ):
        await listening(db, url)
        for _ in range(5):
            job_id = await other.insert_job(make_job())
            async with asyncio.timeout(10):
                assert await begun.get() == job_id


@pytest.mark.parametrize("settings", [{"notify": False}, {"pgbouncer": True}])
async def test_without_a_listener_polling_does_it(url: str, settings: dict[str, Any]) -> None:
    async with (
        JobDb.open(url, sweep=None, **settings) as db,
        JobDb.open(url, sweep=None) as other,
        db.watch() as watch,
    ):
        job_id = await other.insert_job(make_job())
        assert await take(watch, 1) == [job_id]
        await asyncio.sleep(0.3)
        assert listeners(url) == []


async def test_it_listens_only_while_somebody_watches(url: str) -> None:
    async with JobDb.open(url, sweep=None) as db:
        await db.insert_job(make_job())
        assert listeners(url) == []
        async with db.watch():
            await listening(db, url)
        await wait_until(lambda: listeners(url) == [])


@pytest.mark.usefixtures("no_poll")
async def test_schemas_have_channels_of_their_own(url: str) -> None:
    names = ("public", "a" * 63, "a" * 62 + "b")
    assert len({channel(name) for name in names}) == len(names)
    assert all(len(channel(name).encode()) <= 63 for name in names)

    async with (
        JobDb.open(url, sweep=None, schema=names[1]) as db,
        JobDb.open(url, sweep=None, schema=names[1]) as other,
    ):
        await db.init_schema()
        async with db.watch() as watch:
            await listening(db, url)
            assert await take(watch, 0) == []
            job_id = await other.insert_job(make_job())
            assert await take(watch, 1) == [job_id]


def test_a_notification_says_who_and_where() -> None:
    assert read(written("0a1b", {4, 0})) == ("0a1b", [0, 4])
    assert read(written("0a1b", ())) == ("0a1b", [])
    assert read(written("0a1b", set(range(1000)))) == ("0a1b", [])
    for strange in ("", " ", "x y -1 ² 5", "\n", "x " + "9" * 5000):
        assert all(isinstance(stage, int) for stage in read(strange)[1])


async def test_a_listener_that_is_left_while_it_connects_leaves_no_error_behind(url: str) -> None:
    left: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: left.append(context))
    async with JobDb.open(url, sweep=None) as db:
        connect = internals(db).driver._connect  # type: ignore[attr-defined]
        for turns in range(25):
            listener = Listener(connect, "any", "none", "SELECT 1", lambda _: None)
            for _ in range(turns):
                await asyncio.sleep(0)
            await listener.close()
        await asyncio.sleep(0.1)
        gc.collect()
        assert left == []
        assert listeners(url) == []
