"""`watch()`: everything that happens, in order per job, from a place that can be kept."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from pandora_db import (
    EventKind,
    HandleClosed,
    InsideTransaction,
    InvalidInput,
    JobDb,
    PandoraDbError,
    Stage,
    Watch,
)
from pandora_db.db import internals
from pandora_db.drivers.postgres import bell
from pandora_db.services import lookout
from pandora_db.testing import make_job
from tests.support.raw import Raw
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from pandora_db import JobEvent
    from tests.support.raw import Raw


async def take(watch: Watch, count: int) -> list[JobEvent]:
    """The next events, within a few seconds."""
    async with asyncio.timeout(10):
        return [await anext(watch) for _ in range(count)]


async def nothing_comes(watch: Watch) -> bool:
    try:
        async with asyncio.timeout(0.4):
            await anext(watch)
    except TimeoutError:
        return True
    return False


async def test_watch_tells_what_happens_from_now_on(db: JobDb) -> None:
    before = await db.insert_job(make_job())
    async with db.watch() as watch:
        job_id = await db.insert_job(make_job())
        await db.update_stage(job_id, Stage.ENCODING)
        await db.archive_job(before)

        events = await take(watch, 3)

    assert [(one.job_id, one.kind) for one in events] == [
        (job_id, EventKind.INSERTED),
        (job_id, EventKind.STAGE),
        (before, EventKind.ARCHIVED),
    ]
    assert events[:2] == await db.history(job_id)


async def test_watch_of_a_job_and_of_a_guild(db: JobDb) -> None:
    ids = [await db.insert_job(make_job(guild_id=guild)) for guild in (1, 2, 1)]
    async with db.watch(job_id=ids[2]) as job, db.watch(guild_id=1) as guild:
        for job_id in ids:
            await db.update_stage(job_id, Stage.DOWNLOADING)

        assert [one.job_id for one in await take(job, 1)] == [ids[2]]
        assert [one.job_id for one in await take(guild, 2)] == [ids[0], ids[2]]
        assert await nothing_comes(job)
        assert await nothing_comes(guild)


async def test_watch_goes_on_after_a_cursor_in_another_handle(db: JobDb, db_url: str) -> None:
    async with db.watch() as watch:
        start = watch.cursor
        ids = [await db.insert_job(make_job()) for _ in range(5)]
        first = await take(watch, 2)
        cursor = watch.cursor
    assert isinstance(cursor, str)
    assert cursor.isprintable()

    async with JobDb.open(db_url, sweep=None) as other:
        rest = await take(other.watch(after=cursor), 3)
        again = await take(other.watch(after=start), 5)
        assert await nothing_comes(other.watch(job_id=ids[0], after=cursor))

    assert [one.job_id for one in first + rest] == ids
    assert again == first + rest


async def test_watch_in_parts_misses_nothing(db: JobDb, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader far behind, windows of a few events, one transaction larger than a window."""
    monkeypatch.setattr(lookout, "WINDOW", 7)
    async with db.watch() as watch:
        cursor = watch.cursor
        ids = await db.insert_jobs([make_job() for _ in range(40)])
        for job_id in ids:
            await db.update_stage(job_id, Stage.DOWNLOADING)
        await asyncio.gather(*(db.archive_job(job_id) for job_id in ids))

        heard = await take(watch, 120)
        assert await nothing_comes(watch)

    later = db.watch(after=cursor)
    read: list[JobEvent] = []
    while len(read) < 120:
        read += await take(later, 3)
        later = db.watch(after=later.cursor)
    assert await nothing_comes(later)

    for events in (heard, read):
        for job_id in ids:
            assert [one.seq for one in events if one.job_id == job_id] == [1, 2, 3]


async def test_watch_sees_other_programs_and_their_deletions(db: JobDb, raw: Raw) -> None:
    async with db.watch(job_id=7) as job, db.watch(guild_id=3) as guild:
        raw("INSERT INTO jobs (job_id, author, requested_at, ready, guild_id) VALUES (7,'x',1,0,3)")
        (inserted,) = await take(job, 1)
        await take(guild, 1)
        raw("UPDATE jobs SET ready = 3 WHERE job_id = 7")
        (moved,) = await take(job, 1)
        await take(guild, 1)
        raw("DELETE FROM jobs WHERE job_id = 7")
        (deleted,) = await take(job, 1)
        (told,) = await take(guild, 1)
        with pytest.raises(StopAsyncIteration):
            await take(job, 1)

    assert inserted.kind is EventKind.INSERTED
    assert (moved.kind, moved.stage, moved.previous) == (EventKind.STAGE, 3, 0)
    assert deleted.kind is told.kind is EventKind.DELETED
    assert deleted.seq == 3


async def test_watch_tells_a_job_that_came_again_after_its_deletion(db: JobDb) -> None:
    async with db.watch() as watch:
        await db.insert_job(make_job(job_id=5))
        await db.update_stage(5, Stage.DOWNLOADING)
        await take(watch, 2)
        cursor = watch.cursor
    for _ in range(3):
        await db.delete_job(5)
        await db.insert_job(make_job(job_id=5))
    await db.update_stage(5, Stage.ENCODING)

    events = await take(db.watch(after=cursor), 5)

    assert [one.kind for one in events] == [
        *[EventKind.DELETED] * 3, EventKind.INSERTED, EventKind.STAGE,
    ]  # fmt: skip


async def test_watch_ends_when_the_handle_closes(db_url: str) -> None:
    async with JobDb.open(db_url, sweep=None) as db:
        watch = db.watch()
        waiting = asyncio.ensure_future(anext(watch))
        await asyncio.sleep(0.1)

    with pytest.raises(StopAsyncIteration):
        await waiting
    with pytest.raises(HandleClosed):
        db.watch()


async def test_a_cancelled_watch_misses_nothing(db: JobDb) -> None:
    async with db.watch() as watch:
        for step in range(20):
            waiting = asyncio.ensure_future(anext(watch))
            await asyncio.sleep(step / 5000)
            waiting.cancel()
            await asyncio.wait([waiting])
            if not waiting.cancelled():
                pytest.fail("nothing had happened")
        job_id = await db.insert_job(make_job())

        assert [one.job_id for one in await take(watch, 1)] == [job_id]


async def test_watch_inside_a_transaction_is_refused(db: JobDb) -> None:
    async with db.watch() as watch, db.transaction() as tx:
        with pytest.raises(InsideTransaction):
            db.watch()
        await tx.insert_job(make_job())
        assert await nothing_comes(watch)
    assert not watch._live


async def test_watch_refuses_bad_input(db: JobDb) -> None:
    for bad in (
        {"job_id": -1}, {"guild_id": 2**63}, {"job_id": "1"}, {"job_id": 1, "guild_id": 1},
        {"after": ""}, {"after": 5}, {"after": "w1.e30"}, {"after": "w1.W10"}, {"after": "w1.é"},
    ):  # fmt: skip
        with pytest.raises(InvalidInput) as caught:
            db.watch(**bad)  # type: ignore[arg-type]
        assert caught.value.field in bad


async def test_watch_refuses_the_cursor_of_another_database(db: JobDb) -> None:
    async with JobDb.open(":memory:", sweep=None) as other:
        await other.init_schema()
        async with other.watch() as watch:
            cursor = watch.cursor

    with pytest.raises(InvalidInput, match=r"another database|is a cursor of sqlite"):
        await take(db.watch(after=cursor), 1)


async def test_work_is_told_at_its_stages_only(db: JobDb) -> None:
    told = asyncio.Event()
    seeker = internals(db).lookout.seek([Stage.DOWNLOADED], told.set)
    async with asyncio.timeout(5):
        await told.wait()  # nobody has looked yet
    told.clear()
    job_id = await db.insert_job(make_job())
    await asyncio.sleep(0.3)
    assert not told.is_set()

    await db.update_stage(job_id, Stage.DOWNLOADED)
    async with asyncio.timeout(5):
        await told.wait()

    seeker.end()
    await wait_until(lambda: db._lookout._task is not None and db._lookout._task.done())


async def test_where_jobs_come_to_by_the_handle_itself_is_told_without_a_look(
    db: JobDb, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = asyncio.Event()
    for name in ("_BUSY", "_IDLE", "_LISTENING"):
        monkeypatch.setattr(bell, name, 10_000.0)
    seeker = internals(db).lookout.seek([Stage.QUEUED], told.set)
    async with asyncio.timeout(5):
        await told.wait()
    looks = 0
    driver = internals(db).driver
    read = driver.read

    async def counted(name: str, *args: Any) -> Any:
        nonlocal looks
        looks += name.startswith("watch_")
        return await read(name, *args)

    monkeypatch.setattr(driver, "read", counted)
    seen = -1
    while looks > seen:  # whatever is looked for at the beginning has been
        seen = looks
        await asyncio.sleep(0.5)
    looks = 0
    for _ in range(50):
        told.clear()
        await db.insert_job(make_job())
        assert told.is_set()
    for claim in await db.claim_jobs(Stage.QUEUED, into=Stage.DOWNLOADING, limit=50):
        await db.finish_job(claim, Stage.DOWNLOADED)

    assert looks == 0
    async with db.watch() as watch:  # begins now, and not where the last look was
        job_id = await db.insert_job(make_job())
        assert [event.job_id for event in await take(watch, 1)] == [job_id]
    seeker.end()


@pytest.mark.parametrize("elsewhere", [False, True])
async def test_what_came_while_a_worker_rested_is_told_when_it_seeks(
    db: JobDb, raw: Raw, elsewhere: bool
) -> None:
    told = asyncio.Event()
    reader = internals(db).lookout
    seeker = reader.seek([Stage.QUEUED], told.set)
    other = reader.seek([Stage.UPLOADED], lambda: None)  # so that the reader does not rest
    async with asyncio.timeout(5):
        await told.wait()
    told.clear()
    seeker.rest()
    if elsewhere:  # which is found by a look
        raw("INSERT INTO jobs (job_id, author, ready) VALUES (77, 'x', 0)")
    else:
        await db.insert_job(make_job())
    reader.ring()
    await asyncio.sleep(0.3)
    assert not told.is_set()

    seeker.seek()
    assert told.is_set()

    told.clear()
    seeker.rest()
    await db.insert_job(make_job())
    seeker.answer()  # it looks, and finds that one
    seeker.seek()
    assert not told.is_set()
    seeker.end()
    other.end()


async def test_nothing_runs_while_nobody_watches(db: JobDb) -> None:
    async with db.watch() as watch:
        await db.insert_job(make_job())
        await take(watch, 1)
        reader = db._lookout._task
        assert reader is not None
        assert not reader.done()

    await wait_until(reader.done)
    async with db.watch() as again:  # and begins anew
        job_id = await db.insert_job(make_job())
        assert [event.job_id for event in await take(again, 1)] == [job_id]


@pytest.mark.parametrize("turns", range(6))
async def test_who_comes_while_the_last_one_leaves_is_told(db: JobDb, turns: int) -> None:
    """The reader ends with the last watcher, and takes its time over it."""
    async with db.watch():
        pass
    for _ in range(turns):
        await asyncio.sleep(0)
    async with asyncio.timeout(5), db.watch() as events:
        job_id = await db.insert_job(make_job())
        assert (await anext(events)).job_id == job_id


async def test_where_nothing_can_be_watched_that_is_said(
    db: JobDb, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise ZeroDivisionError("no bell")

    with monkeypatch.context() as broken:
        broken.setattr(db._driver, "bell", refuse)
        async with asyncio.timeout(5):
            with pytest.raises(PandoraDbError, match="no bell"):
                await anext(db.watch())
    async with asyncio.timeout(5), db.watch() as events:
        job_id = await db.insert_job(make_job())
        assert (await anext(events)).job_id == job_id


async def test_a_watch_begins_although_there_is_news_at_every_look(
    db: JobDb, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = lookout.Lookout._look

    async def late(reader: lookout.Lookout) -> bool:
        await db.insert_job(make_job())
        return await look(reader)

    monkeypatch.setattr(lookout.Lookout, "_look", late)
    async with asyncio.timeout(5), db.watch() as watch:
        ids = [(await anext(watch)).job_id for _ in range(5)]
        async with db.watch() as second:
            assert (await anext(second)).job_id > ids[-1]
    assert ids == list(range(ids[0], ids[0] + 5))
