"""Pauses, cancellations, lost leases and shutdowns meet a handler, with its help or without."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from pandora_db import EventKind, Interrupted, Job, JobDb, JobStatus, LeaseLost, Stage
from pandora_db.runtime import Cancelled, Crew, JobContext, Pipeline
from pandora_db.runtime.work import Handler
from tests.support.handlers import FAST, kinds, one_stage, row_of, run_one
from tests.support.raw import Raw
from tests.support.waiting import wait_until


async def begun(db: JobDb, crew: Crew) -> int:
    """The job that was begun, of which its worker hears at once."""
    await wait_until(lambda: crew.running)
    return crew.running[0]


async def tell(db: JobDb, crew: Crew) -> None:
    """What the next heartbeat would do."""
    await db.renew_claims(attempt.claim for worker in crew.workers for attempt in worker.attempts)


class Seen(list[int]):
    """The step at which each attempt began, and how many were made in all."""

    steps = 0


def stepping(steps: int = 10_000) -> tuple[Pipeline, Seen]:
    """Counts in its checkpoint, and looks at each step whether it shall stop."""
    seen = Seen()

    async def handler(ctx: JobContext) -> None:
        state = await ctx.load_checkpoint() or {"next": 0}
        seen.append(state["next"])
        while state["next"] < steps:
            await ctx.check_interrupt()
            await asyncio.sleep(0.005)
            state["next"] += 1
            seen.steps += 1
            await ctx.checkpoint(state)

    return one_stage(handler, checkpoint_every=60.0), seen


async def deaf(ctx: JobContext) -> None:
    await asyncio.sleep(3600)


@pytest.mark.parametrize("helpful", [True, False])
async def test_a_pause_gives_the_job_back_and_keeps_it(db: JobDb, helpful: bool) -> None:
    pipeline, seen = stepping()
    if not helpful:
        pipeline = one_stage(deaf)
    job_id = await db.insert_job(Job(author="mika"))
    async with pipeline.running(db, **FAST) as crew:
        await begun(db, crew)
        await wait_until(lambda: seen.steps > 5 or not helpful)
        assert await db.pause_job(job_id) is False
        await tell(db, crew)
        await wait_until(lambda: not crew.running)
        row = await row_of(db, job_id)
        assert (row.status, row.ready, row.attempt) == (JobStatus.PAUSED, Stage.QUEUED, 0)

        await db.resume_job(job_id)
        await begun(db, crew)
        if helpful:
            await wait_until(lambda: len(seen) == 2)
            assert seen[1] > 3
        await db.cancel_job(job_id)
        await tell(db, crew)
        await wait_until(lambda: not crew.running)
    row = await row_of(db, job_id)
    assert (row.status, row.archived) == (JobStatus.CANCELLED, True)
    assert (await kinds(db, job_id))[-1] is EventKind.CANCELLED


async def test_a_lost_lease_stops_the_handler_and_nothing_is_written(db: JobDb) -> None:
    stopped = asyncio.Event()

    async def handler(ctx: JobContext) -> None:
        ctx.progress(0.5)
        try:
            await asyncio.sleep(3600)
        finally:
            ctx.progress(0.7)
            stopped.set()

    job_id = await db.insert_job(Job(author="mika"))
    async with one_stage(handler).running(db, **FAST) as crew:
        await begun(db, crew)
        await wait_until(lambda: _progress(db, job_id, 0.5))
        await db.update_stage(job_id, Stage.ENCODED)  # taken out of its hands
        await tell(db, crew)
        await asyncio.wait_for(stopped.wait(), 5)
        await wait_until(lambda: not crew.running)
    row = await row_of(db, job_id)
    assert (row.ready, row.progress) == (Stage.ENCODED, 0.5)
    assert (await kinds(db, job_id))[-1] is EventKind.STAGE


async def _progress(db: JobDb, job_id: int, wanted: float) -> bool:
    return (await row_of(db, job_id)).progress == wanted


async def test_progress_of_a_lost_job_is_how_its_worker_may_learn_it(db: JobDb) -> None:
    async def handler(ctx: JobContext) -> None:
        while True:
            ctx.progress(0.5)
            await asyncio.sleep(0.01)

    job_id = await db.insert_job(Job(author="mika"))
    async with one_stage(handler, progress_every=0.05).running(db, **FAST) as crew:
        await begun(db, crew)
        await db.update_stage(job_id, Stage.ENCODED)
        await wait_until(lambda: not crew.running)


@pytest.mark.parametrize("helpful", [True, False])
async def test_shutdown_gives_the_job_back_with_its_state(db: JobDb, helpful: bool) -> None:
    pipeline, seen = stepping()
    if not helpful:
        pipeline = one_stage(deaf)
    job_id = await db.insert_job(Job(author="mika"))
    async with pipeline.running(db, **FAST) as crew:
        await begun(db, crew)
        await wait_until(lambda: seen.steps > 5 or not helpful)

    row = await row_of(db, job_id)
    assert (row.status, row.attempt) == (JobStatus.QUEUED, 0)
    assert (await kinds(db, job_id))[-1] is EventKind.RELEASED
    if helpful:
        async with pipeline.running(db, **FAST):
            await wait_until(lambda: len(seen) == 2)
        assert seen[1] > 3


async def test_a_handler_that_has_ended_its_claim_is_asked_to_stop_all_the_same(
    db: JobDb,
) -> None:
    ended = asyncio.Event()

    async def handler(ctx: JobContext) -> None:
        await ctx.db.update_stage(ctx.claim, Stage.DOWNLOADED)
        ended.set()
        while True:
            await asyncio.sleep(0.01)
            await ctx.check_interrupt()

    job_id = await db.insert_job(Job(author="mika"))
    terms = FAST | {"grace": 60.0, "shutdown_timeout": 60.0}
    async with asyncio.timeout(10):
        async with one_stage(handler).running(db, **terms):
            await ended.wait()
    assert (await kinds(db, job_id))[-1] is EventKind.FINISHED


@pytest.mark.parametrize("resumable", [True, False])
async def test_a_handler_that_does_not_end_in_time_has_failed(db: JobDb, resumable: bool) -> None:
    release = asyncio.Event()

    async def handler(ctx: JobContext) -> None:
        for _ in range(100):
            try:
                await asyncio.wait_for(release.wait(), 0.1)
            except (asyncio.CancelledError, TimeoutError):
                continue
            return

    job_id = await db.insert_job(Job(author="mika"))
    terms = FAST | {"shutdown_timeout": 0.5, "cancel_grace": 60.0}
    async with asyncio.timeout(5):
        async with one_stage(handler, resumable=resumable).running(db, **terms) as crew:
            await begun(db, crew)
    row = await row_of(db, job_id)
    assert (row.ready, row.attempt) == (Stage.QUEUED if resumable else Stage.FAILED, 1)
    assert row.error == "the handler went on after it was cancelled"
    last = EventKind.RETRYING if resumable else EventKind.FAILED
    assert (await kinds(db, job_id))[-1] is last
    release.set()


async def test_work_that_is_not_resumable_is_waited_for(db: JobDb) -> None:
    ended: list[str | None] = []

    async def handler(ctx: JobContext) -> None:
        await asyncio.sleep(0.5 if ctx.job.link == "short" else 3600)
        ended.append(ctx.interrupted)

    short, long = await db.insert_jobs(Job(author="mika", link=x) for x in ("short", "long"))
    pipeline = one_stage(handler, concurrency=2, resumable=False)
    async with pipeline.running(db, **FAST) as crew:
        await wait_until(lambda: len(crew.running) == 2)
        await db.pause_job(short)
        await tell(db, crew)

    assert ended == [None]
    assert (await row_of(db, short)).ready == Stage.DOWNLOADED
    row = await row_of(db, long)
    assert row.status is JobStatus.FAILED
    assert row.error == "Interrupted: the job was interrupted: shutdown was asked for"


async def test_an_interruption_that_nobody_asked_for_fails_the_attempt(db: JobDb) -> None:
    async def handler(ctx: JobContext) -> None:
        raise Interrupted("pause")

    job_id = await db.insert_job(Job(author="mika", max_attempts=1))
    async with one_stage(handler).running(db, **FAST) as crew:
        await crew.wait_idle()
    row = await row_of(db, job_id)
    assert row.status is JobStatus.FAILED
    raised = "(it raised Interrupted: the job was interrupted: pause was asked for)"
    assert (row.error or "").endswith(f"nobody had asked it to {raised}")


async def look(ctx: JobContext) -> None:
    """Until something is asked."""
    while True:
        await ctx.check_interrupt()
        await asyncio.sleep(0.005)


async def in_groups(*steps: Coroutine[Any, Any, None]) -> None:
    """The steps at once, in a group that is in another."""
    async with asyncio.TaskGroup() as outer, asyncio.TaskGroup() as inner:
        for number, step in enumerate(steps):
            (inner, outer)[number % 2].create_task(step)


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ("pause", JobStatus.PAUSED),
        ("cancel", JobStatus.CANCELLED),
        ("shutdown", JobStatus.QUEUED),
    ],
)
async def test_an_interruption_in_task_groups_is_one(
    db: JobDb, asked: str, status: JobStatus
) -> None:
    async def handler(ctx: JobContext) -> None:
        await in_groups(look(ctx), look(ctx), look(ctx))

    job_id = await db.insert_job(Job(author="mika", max_attempts=1))
    async with one_stage(handler).running(db, **FAST) as crew:
        await begun(db, crew)
        if asked != "shutdown":
            await getattr(db, f"{asked}_job")(job_id)
            await tell(db, crew)
            await wait_until(lambda: not crew.running)

    row = await row_of(db, job_id)
    assert (row.status, row.error) == (status, None)


async def test_an_interruption_beside_another_error_fails_the_attempt(db: JobDb) -> None:
    async def fail_when_stopped() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            raise OSError("broken")

    async def handler(ctx: JobContext) -> None:
        await in_groups(look(ctx), fail_when_stopped())

    job_id = await db.insert_job(Job(author="mika", max_attempts=1))
    async with one_stage(handler).running(db, **FAST) as crew:
        await begun(db, crew)

    row = await row_of(db, job_id)
    assert row.status is JobStatus.FAILED
    assert (row.error or "").startswith("ExceptionGroup: ")


async def test_a_group_of_interruptions_that_nobody_asked_for_fails_the_attempt(db: JobDb) -> None:
    async def stop() -> None:
        raise Interrupted("pause")

    async def handler(ctx: JobContext) -> None:
        await in_groups(stop())

    row = await run_one(db, handler, retry_in=0)
    assert row.status is JobStatus.FAILED
    assert "nobody had asked it to (it raised ExceptionGroup: " in (row.error or "")


async def test_a_lost_lease_in_a_task_group_is_no_failure(
    db: JobDb, caplog: pytest.LogCaptureFixture
) -> None:
    async def save(ctx: JobContext) -> None:
        await db.update_stage(ctx.job_id, Stage.ENCODED)  # taken out of its hands
        await db.save_checkpoint(ctx.claim, {})  # refused, unless the worker hears of it first

    async def handler(ctx: JobContext) -> None:
        await in_groups(save(ctx), asyncio.sleep(3600))

    row = await run_one(db, handler)
    assert (row.ready, row.error) == (Stage.ENCODED, None)
    assert "failed" not in caplog.text


@pytest.mark.parametrize("own", [True, False])
async def test_a_lost_lease_outranks_an_interruption_when_it_is_the_jobs_own(
    db: JobDb, own: bool
) -> None:
    async def lose_when_stopped(ctx: JobContext) -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            raise LeaseLost(ctx.job_id, ctx.claim.token if own else 0, "it was taken")

    async def handler(ctx: JobContext) -> None:
        await in_groups(look(ctx), lose_when_stopped(ctx))

    job_id = await db.insert_job(Job(author="mika", max_attempts=1))
    async with one_stage(handler).running(db, **FAST) as crew:
        await begun(db, crew)

    # Nothing is written under a claim that was lost.
    last = EventKind.CLAIMED if own else EventKind.FAILED
    assert (await kinds(db, job_id))[-1] is last


async def test_a_worker_cancelled_at_any_moment_keeps_no_job(db: JobDb) -> None:
    async def handler(ctx: JobContext) -> None:
        await asyncio.sleep(0.003)

    pipeline = one_stage(handler, concurrency=2)
    ids = await db.insert_jobs(Job(author="mika") for _ in range(30))

    async def work() -> None:
        async with pipeline.running(db, **FAST):
            await asyncio.sleep(3600)

    for delay in (0, 0.001, 0.002, 0.005, 0.01, 0.02):
        task = asyncio.create_task(work())
        await asyncio.sleep(delay)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async with pipeline.running(db, **FAST) as crew, asyncio.timeout(20):
        await wait_until(lambda: _all_at(db, ids, Stage.DOWNLOADED))
        await crew.wait_idle()
    for job_id in ids:
        done: Any = [kind for kind in await kinds(db, job_id) if kind is EventKind.FINISHED]
        assert len(done) == 1


async def _all_at(db: JobDb, ids: list[int], stage: Stage) -> bool:
    return all(row.ready == stage for row in await db.get_jobs_by_ids(ids))


async def test_a_job_that_is_to_be_cancelled_is_not_begun(db: JobDb, raw: Raw) -> None:
    begun: list[int] = []

    async def handler(ctx: JobContext) -> None:
        begun.append(ctx.job_id)

    job_id = await db.insert_job(Job(author="mika"))
    raw("UPDATE jobs SET hold = 2 WHERE job_id = %s", job_id)  # a worker was lost in between
    async with one_stage(handler).running(db, **FAST) as crew:
        await crew.wait_idle()
        await wait_until(lambda: _cancelled(db, job_id))
    assert begun == []


async def _cancelled(db: JobDb, job_id: int) -> bool:
    return (await row_of(db, job_id)).status is JobStatus.CANCELLED


@pytest.mark.parametrize("notify", [True, False])
@pytest.mark.parametrize("call", ["pause_job", "cancel_job", "update_stage"])
async def test_what_another_process_asks_is_heard_long_before_the_heartbeat(
    db_url: str, call: str, notify: bool
) -> None:
    """The heartbeat comes every 10 s."""
    pipeline, _ = stepping()
    async with (
        JobDb.open(db_url, sweep=None, notify=notify) as db,
        JobDb.open(db_url) as other,
        pipeline.running(db, **FAST) as crew,
    ):
        job_id = await db.insert_job(Job(author="mika"))
        await begun(db, crew)
        await asyncio.sleep(0.2)
        assert crew.running == [job_id]
        if call == "update_stage":  # takes the job away
            await other.update_stage(job_id, Stage.ENCODED)
        else:
            assert await getattr(other, call)(job_id) is False
        await wait_until(lambda: not crew.running, timeout=3)
        row = await row_of(other, job_id)

    wanted = {
        "pause_job": (Stage.QUEUED, JobStatus.PAUSED),
        "cancel_job": (Stage.CANCELLED, JobStatus.CANCELLED),
        "update_stage": (Stage.ENCODED, JobStatus.QUEUED),
    }
    assert (row.ready, row.status) == wanted[call]


async def test_without_time_to_shut_down_a_handler_still_meets_its_cancellation(
    db: JobDb, caplog: pytest.LogCaptureFixture
) -> None:
    job_id = await db.insert_job(Job(author="mika"))
    async with one_stage(deaf).running(db, **(FAST | {"shutdown_timeout": 0.0})) as crew:
        await begun(db, crew)

    row = await row_of(db, job_id)
    assert (row.ready, row.attempt) == (Stage.QUEUED, 0)
    assert "went on after it was cancelled" not in caplog.text


def catching(returned: object) -> Handler:
    """A handler that takes whatever it is asked for its end."""

    async def handler(ctx: JobContext) -> object:
        try:
            while True:
                await ctx.check_interrupt()
                await asyncio.sleep(0.005)
        except Exception:  # noqa: BLE001 - what the tests are about
            return returned

    return handler


async def test_whoever_catches_an_interruption_and_returns_is_warned_that_this_counts(
    db: JobDb, caplog: pytest.LogCaptureFixture
) -> None:
    job_id = await db.insert_job(Job(author="mika"))
    async with one_stage(catching(None)).running(db, **FAST) as crew:
        await begun(db, crew)
        await db.pause_job(job_id)
        await tell(db, crew)
        await crew.wait_idle()

    assert (await row_of(db, job_id)).ready == Stage.DOWNLOADED
    assert (
        f"job {job_id}: its handler caught Interrupted, for a pause, and returned Done"
        in caplog.text
    )


@pytest.mark.parametrize(
    ("after", "returned", "warned"),
    [
        (Stage.UPLOADED, None, True),
        (Stage.UPLOADED, Cancelled("as asked"), False),
        (Stage.DOWNLOADED, None, False),  # where it would wait, it is cancelled all the same
    ],
)
async def test_whoever_catches_a_cancellation_is_warned_where_it_is_lost(
    db: JobDb, caplog: pytest.LogCaptureFixture, after: Stage, returned: object, warned: bool
) -> None:
    pipeline = one_stage(catching(returned), (Stage.QUEUED, Stage.DOWNLOADING, after))
    job_id = await db.insert_job(Job(author="mika"))
    async with pipeline.running(db, **FAST) as crew:
        await begun(db, crew)
        await db.cancel_job(job_id)
        await tell(db, crew)
        await crew.wait_idle()

    row = await row_of(db, job_id)
    assert row.ready == (Stage.UPLOADED if warned else Stage.CANCELLED)
    told = f"job {job_id}: its handler caught Interrupted, for a cancel, and returned Done"
    assert (told in caplog.text) is warned
    assert ("and the job is cancelled" in caplog.text) is warned
