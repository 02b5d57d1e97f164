"""Claims ahead of need: while jobs are short, and given back when they are not, or at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest

from pandora_db import (
    Claim,
    EventKind,
    Finish,
    Hold,
    InvalidInput,
    JobDb,
    PandoraDbError,
    Stage,
    StageCode,
    StorageError,
)
from pandora_db.runtime import JobContext, Pipeline, ahead
from pandora_db.testing import make_job
from tests.support.waiting import wait_until

SHORT = 20


class Shop:
    """Two hands: short jobs, then jobs that take until they are let go."""

    def __init__(self) -> None:
        self.pipeline = Pipeline()
        self.begun: list[int] = []
        self.go = asyncio.Event()

        @self.pipeline.stage(Stage.QUEUED, Stage.DOWNLOADING, Stage.UPLOADED, concurrency=2)
        async def work(ctx: JobContext) -> None:
            self.begun.append(ctx.job_id)
            if ctx.job.priority == 0:
                await self.go.wait()


async def filled(db: JobDb) -> list[int]:
    ids = await db.insert_jobs([make_job(priority=1) for _ in range(SHORT)])
    return ids + await db.insert_jobs([make_job(priority=0) for _ in range(12)])


async def at_work(db: JobDb) -> int:
    return len(await db.get_jobs(stage=Stage.DOWNLOADING, limit=100))


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "_SHORT", 10.0)  # however slow the machine is


async def test_what_was_claimed_ahead_of_long_jobs_is_given_back(db: JobDb) -> None:
    ids = await filled(db)
    shop = Shop()
    async with shop.pipeline.running(db) as crew:
        await wait_until(lambda: len(shop.begun) == SHORT + 2)
        (worker,) = crew.workers
        await wait_until(lambda: len(worker.attempts) == 2 and len(worker.claims) >= 4)
        await wait_until(lambda: at_work_is(db, 2))
        assert len(shop.begun) == SHORT + 2
        shop.go.set()
        await wait_until(lambda: len(shop.begun) == len(ids))

    assert sorted(shop.begun) == sorted(ids)
    assert await db.get_queue_length() == 0
    kinds = [{one.kind for one in await db.history(job_id)} for job_id in ids[SHORT:]]
    assert sum(EventKind.RELEASED in found for found in kinds) >= 2
    for job_id in ids:
        finished = [one for one in await db.history(job_id) if one.kind is EventKind.FINISHED]
        assert [one.attempt for one in finished] == [1]


async def at_work_is(db: JobDb, count: int) -> bool:
    return await at_work(db) == count


async def test_at_the_end_it_is_given_back_too(db: JobDb) -> None:
    ids = await filled(db)
    shop = Shop()
    async with shop.pipeline.running(db, grace=0.1, shutdown_timeout=1.0):
        await wait_until(lambda: len(shop.begun) == SHORT + 2)

    assert await at_work(db) == 0
    assert len(await db.get_jobs(stage=Stage.QUEUED, limit=100)) == len(ids) - SHORT


async def test_a_claim_takes_no_more_than_a_claim_may(db: JobDb) -> None:
    pipeline = Pipeline()

    @pipeline.stage(Stage.QUEUED, Stage.DOWNLOADING, Stage.UPLOADED, concurrency=600)
    async def work(_: JobContext) -> None:
        """Be short."""

    ids = await db.insert_jobs([make_job() for _ in range(2_500)])
    async with pipeline.running(db) as crew:
        await crew.wait_idle()

    assert await db.get_queue_length() == 0
    done = await db.count_jobs(stage=Stage.UPLOADED)
    assert done == len(ids)


async def test_in_an_even_run_nothing_is_given_back(
    db: JobDb, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead, "_PATIENCE", 5.0)  # a disk that pauses for 0.5 s is not even
    pipeline = Pipeline()

    @pipeline.stage(Stage.QUEUED, Stage.DOWNLOADING, Stage.UPLOADED, concurrency=8)
    async def work(_: JobContext) -> None:
        await asyncio.sleep(0.02)

    ids = await db.insert_jobs([make_job() for _ in range(600)])
    async with pipeline.running(db) as crew:
        await crew.wait_idle()

    kinds = [one.kind for job_id in ids for one in await db.history(job_id)]
    assert kinds.count(EventKind.RELEASED) == 0
    assert kinds.count(EventKind.CLAIMED) == len(ids)


async def test_a_job_that_is_cancelled_ahead_is_not_begun(
    db: JobDb, db_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead, "_PATIENCE", 60.0)
    await filled(db)
    shop = Shop()
    async with JobDb.open(db_url, sweep=None) as other, shop.pipeline.running(db) as crew:
        await wait_until(lambda: len(shop.begun) == SHORT + 2)
        (worker,) = crew.workers

        def not_begun() -> list[Claim]:
            return [claim for claim in worker.claims if claim.job_id not in shop.begun]

        waiting = await wait_until(not_begun)
        for claim in waiting:
            await other.cancel_job(claim.job_id)
        await wait_until(lambda: all(claim.hold is Hold.CANCEL for claim in waiting))
        shop.go.set()
        await crew.wait_idle()

    assert not {claim.job_id for claim in waiting} & set(shop.begun)


async def test_the_shorter_the_jobs_the_more_are_claimed_ahead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ahead, "_SHORT", 0.1)

    async def give_back(_: Claim) -> None:
        """Nothing is."""

    def room(seconds: float) -> int:
        ten_hands = ahead.Ahead(10, lambda _: False, give_back)
        ten_hands.note(seconds)
        return ten_hands.room

    assert [room(seconds) for seconds in (0.0, 0.01, 0.02, 0.09, 0.1)] == [40, 40, 40, 20, 0]


@pytest.mark.parametrize(("resumable", "most"), [(True, 6), (False, 4)])
async def test_hands_go_on_while_ends_are_written_but_not_without_end(
    db: JobDb, monkeypatch: pytest.MonkeyPatch, *, resumable: bool, most: int
) -> None:
    """Two jobs that are over, and as many ends before them as hands; twice that of short jobs."""
    pipeline = Pipeline()
    begun: list[int] = []
    written = asyncio.Event()
    finish = db.finish_jobs

    async def finish_later(ends: Iterable[Finish]) -> list[StageCode | PandoraDbError]:
        await written.wait()
        return await finish(ends)

    @pipeline.stage(
        Stage.QUEUED, Stage.DOWNLOADING, Stage.UPLOADED, concurrency=2, resumable=resumable
    )
    async def work(ctx: JobContext) -> None:
        begun.append(ctx.job_id)

    monkeypatch.setattr(db, "finish_jobs", finish_later)
    ids = await db.insert_jobs([make_job() for _ in range(SHORT)])
    async with pipeline.running(db) as crew:
        await wait_until(lambda: len(begun) >= most)
        await asyncio.sleep(0.2)
        assert len(begun) == most
        written.set()
        await crew.wait_idle()

    assert sorted(begun) == ids


async def test_what_may_be_begun_once_only_is_not_claimed_ahead(db: JobDb) -> None:
    pipeline = Pipeline()
    most = 0

    @pipeline.stage(Stage.QUEUED, Stage.DOWNLOADING, Stage.UPLOADED, concurrency=2, resumable=False)
    async def work(ctx: JobContext) -> None:
        nonlocal most
        most = max(most, await at_work(db))

    await db.insert_jobs([make_job(max_attempts=1) for _ in range(SHORT)])
    async with pipeline.running(db) as crew:
        await crew.wait_idle()

    assert await db.get_queue_length() == 0
    assert most <= 4  # two hands, and as many whose ends are being written


@pytest.mark.parametrize("by", ["attempts", "stage", "name"])
async def test_a_job_that_would_fail_with_its_worker_does_not_wait_for_a_hand(
    db: JobDb, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    monkeypatch.setattr(ahead, "_PATIENCE", 60.0)
    long = {"attempts": make_job(max_attempts=1), "name": make_job(name="film")}.get(by, make_job())
    if by == "stage":
        await db.set_recovery_policy("fail", stage=Stage.DOWNLOADING)
    if by == "name":
        await db.set_recovery_policy("fail", name="film")
    short = await db.insert_jobs([make_job(priority=1) for _ in range(SHORT)])
    await db.insert_jobs([long] * 12)
    shop = Shop()
    async with shop.pipeline.running(db):
        await wait_until(lambda: len(shop.begun) == SHORT + 2)
        await wait_until(lambda: at_work_is(db, 2))
        unbegun = [row for row in await db.get_active_jobs() if row.job_id not in shop.begun]
        shop.go.set()

    assert [row.attempt for row in unbegun] == [0] * 10
    assert set(short) <= set(shop.begun)


async def test_the_policy_of_a_name_goes_before_that_of_the_stage(
    db: JobDb, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead, "_PATIENCE", 60.0)
    await db.set_recovery_policy("fail", stage=Stage.DOWNLOADING)
    await db.set_recovery_policy("requeue", name="film")
    await db.insert_jobs([make_job(priority=1, name="film") for _ in range(SHORT)])
    await db.insert_jobs([make_job(name="film") for _ in range(12)])
    shop = Shop()
    async with shop.pipeline.running(db) as crew:
        (worker,) = crew.workers
        await wait_until(lambda: len(shop.begun) == SHORT + 2 and len(worker.claims) > 2)
        shop.go.set()


async def test_a_claim_that_is_under_way_at_the_end_is_given_back(db: JobDb) -> None:
    pipeline = Pipeline()

    @pipeline.stage(Stage.QUEUED, Stage.DOWNLOADING, Stage.UPLOADED, concurrency=4)
    async def work(_: JobContext) -> None:
        await asyncio.sleep(0.001)

    await db.insert_jobs([make_job() for _ in range(2_000)])
    for turn in range(6):
        async with pipeline.running(db):
            await asyncio.sleep(0.1 + turn * 0.013)
        assert await at_work(db) == 0


async def test_without_the_policies_jobs_are_done_and_none_wait(
    db: JobDb, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused() -> None:
        raise StorageError("permission denied for table recovery_policies")

    monkeypatch.setattr(db, "get_recovery_policies", refused)
    ids = await filled(db)
    shop = Shop()
    async with shop.pipeline.running(db) as crew:
        await wait_until(lambda: len(shop.begun) == SHORT + 2)
        (worker,) = crew.workers
        await wait_until(lambda: len(worker.attempts) == 2)
        assert len(worker.claims) == 2
        shop.go.set()
        await crew.wait_idle()

    assert sorted(shop.begun) == sorted(ids)


async def test_the_policies_are_not_asked_for_where_nothing_is_claimed_ahead(
    db: JobDb, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead, "_SHORT", 0.0)
    asked = 0
    get = db.get_recovery_policies

    async def counted() -> object:
        nonlocal asked
        asked += 1
        return await get()

    monkeypatch.setattr(db, "get_recovery_policies", counted)
    await filled(db)
    shop = Shop()
    shop.go.set()
    async with shop.pipeline.running(db) as crew:
        await crew.wait_idle()

    assert asked == 0


async def test_workers_are_not_settled_while_something_is_given_back(
    db: JobDb, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, go = db.release_job, asyncio.Event()

    async def slow(claim: Claim, **options: Any) -> object:
        await go.wait()
        return await release(claim, **options)

    monkeypatch.setattr(db, "release_job", slow)
    ids = await filled(db)
    shop = Shop()
    async with shop.pipeline.running(db) as crew:
        (worker,) = crew.workers
        giving = await wait_until(lambda: worker._ahead.giving)
        shop.go.set()
        waiting = asyncio.ensure_future(crew.wait_settled())
        await wait_until(lambda: len(shop.begun) == len(ids) - len(giving))
        await asyncio.wait([waiting], timeout=0.3)
        assert not waiting.done()
        go.set()
        await waiting

    assert sorted(shop.begun) == sorted(ids)


async def test_a_job_that_cannot_be_given_back_is_told_and_left(
    db: JobDb, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def refused(_: Claim, **_options: object) -> None:
        raise InvalidInput("not this one")

    await filled(db)
    shop = Shop()
    monkeypatch.setattr(db, "release_job", refused)
    async with shop.pipeline.running(db) as crew:
        await wait_until(lambda: len(shop.begun) == SHORT + 2)
        (worker,) = crew.workers
        waiting = await wait_until(
            lambda: [claim for claim in worker.claims if claim.job_id not in shop.begun]
        )
        await wait_until(lambda: all(claim.lost for claim in waiting))
        shop.go.set()

    for claim in waiting:
        assert f"a worker failed on job {claim.job_id}; its lease runs out" in caplog.text
    assert "never retrieved" not in caplog.text


async def test_none_are_claimed_ahead_beside_a_last_attempt(db: JobDb) -> None:
    pipeline = Pipeline()
    most = 0

    @pipeline.stage(Stage.QUEUED, Stage.DOWNLOADING, Stage.UPLOADED, concurrency=2)
    async def work(_: JobContext) -> None:
        nonlocal most
        most = max(most, await at_work(db))

    ids = await db.insert_jobs([make_job(max_attempts=1) for _ in range(SHORT)])
    async with pipeline.running(db) as crew:
        await crew.wait_idle()

    assert await db.count_jobs(stage=Stage.UPLOADED) == len(ids)
    assert most <= 4  # two hands, and as many whose ends are being written
    kinds = [one.kind for job_id in ids for one in await db.history(job_id)]
    assert EventKind.RELEASED not in kinds
