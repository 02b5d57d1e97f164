"""Tests that skip time instead of waiting for it, on both dialects."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from pydantic import BaseModel

from pandora_db import ExecutionFailed, InvalidInput, Job, JobDb, JobStatus, Stage, TaskStage
from pandora_db.runtime import JobContext, JobManager, Registry, Snooze
from pandora_db.testing import Clock, NeverIdle, new_test_db, run_job, run_until_idle
from tests.support.handlers import FAST, one_stage, row_of

REGISTRY = Registry()
WEEK = 604_800.0
SPENT = 20.0  # seconds that may pass by themselves, and need not be skipped


@pytest.fixture
async def fresh(empty_url: str, dialect: str) -> AsyncIterator[JobDb]:
    """A handle of `new_test_db()`, on each dialect."""
    made = new_test_db(empty_url) if dialect == "postgres" else new_test_db()
    async with made as db:
        yield db


@REGISTRY.job(name="patient")
class Patient(BaseModel):
    times: int
    done: int = 0

    async def run(self, ctx: JobContext) -> int | Snooze:
        if self.done < self.times:
            self.done += 1
            await ctx.checkpoint(force=True)
            return Snooze(3600.0)
        return self.done


@REGISTRY.job(name="clumsy")
class Clumsy(BaseModel):
    async def run(self, ctx: JobContext) -> int:
        if ctx.attempt < 4:
            raise OSError("broken")
        return ctx.attempt


@REGISTRY.job(name="family")
class Parent(BaseModel):
    async def run(self, ctx: JobContext) -> list[Any]:
        await ctx.spawn(Patient(times=2), delay=WEEK)
        return [child.output for child in await ctx.wait_children()]


async def test_snoozes_delays_and_back_offs_are_skipped(fresh: JobDb) -> None:
    began = time.monotonic()
    async with JobManager(fresh, REGISTRY, concurrency=2, poll=0.1) as jobs:
        late = await jobs.dispatch(Patient(times=3), delay=WEEK)
        clumsy = await jobs.dispatch(Clumsy())
        clock = await run_until_idle(jobs)
        assert await late.result(1) == 3
        assert await clumsy.result(1) == 4

    assert WEEK + 3 * 3600 - SPENT < clock.skipped < WEEK + 3 * 3600 + SPENT
    assert clock.now() - datetime.now(UTC) > timedelta(seconds=WEEK)
    assert time.monotonic() - began < SPENT


async def test_a_parent_that_waits_for_a_child_with_a_delay_is_no_reason_to_wait(
    fresh: JobDb,
) -> None:
    async with JobManager(fresh, REGISTRY, concurrency=1, poll=0.1) as jobs:
        parent = await jobs.dispatch(Parent())
        async with asyncio.timeout(20):
            clock = await run_until_idle(jobs)
        assert await parent.result(1) == [2]
    assert clock.skipped > WEEK + 7200 - SPENT


async def test_what_is_paused_or_nobody_takes_is_not_waited_for(fresh: JobDb) -> None:
    async def handler(ctx: JobContext) -> None: ...

    paused = await fresh.insert_job(Job(author="mika", not_before=time.time() + 50))
    await fresh.pause_job(paused)
    later = await fresh.insert_job(Job(author="mika", not_before=time.time() + 500))
    await fresh.update_stage(later, Stage.ENCODED)
    async with one_stage(handler).running(fresh, **FAST) as crew:
        clock = await run_until_idle(crew)
    assert clock.skipped == 0
    assert (await row_of(fresh, paused)).status is JobStatus.PAUSED


async def test_a_time_that_only_others_wait_for_is_not_skipped(fresh: JobDb) -> None:
    for name, tags in (("foreign", ()), ("patient", ("gpu",)), ("patient", ("disk", "gpu"))):
        later = time.time() + WEEK
        job = Job(author="mika", ready=TaskStage.QUEUED, name=name, tags=tags, not_before=later)
        await fresh.insert_job(job)
    async with JobManager(fresh, REGISTRY, poll=0.1, tags=("disk",)) as jobs:
        handle = await jobs.dispatch(Patient(times=0), delay=3600.0, tags=("disk",))
        clock = await run_until_idle(jobs)
        assert await handle.result(1) == 0
        assert len(await jobs.list_jobs()) == 4
    assert 3600 - SPENT < clock.skipped < 3601


@pytest.mark.parametrize(
    ("field", "value"),
    [("limit", "x"), ("limit", float("nan")), ("limit", -1), ("limit", True), ("clock", 5)],
)
async def test_a_bad_limit_or_clock_is_refused(field: str, value: Any) -> None:
    async with new_test_db() as db, JobManager(db, REGISTRY) as jobs:
        await jobs.dispatch(Patient(times=0), delay=5.0)
        with pytest.raises(InvalidInput, match=f"^{field} is ") as refused:
            await run_until_idle(jobs, **{field: value})
    assert refused.value.field == field


async def test_what_has_no_workers_is_refused() -> None:
    async with new_test_db() as db:
        for nothing in (5, db):
            with pytest.raises(InvalidInput, match=r"^workers is .*; expected a JobManager"):
                await run_until_idle(cast("Any", nothing))


async def test_a_job_that_comes_back_for_ever_is_named(fresh: JobDb) -> None:
    async def again(ctx: JobContext) -> Snooze:
        return Snooze(0)

    job_id = await fresh.insert_job(Job(author="mika"))
    async with one_stage(again).running(fresh, **FAST) as crew, asyncio.timeout(60):
        with pytest.raises(NeverIdle, match=f"^job {job_id} was begun 50 times ") as raised:
            await run_until_idle(crew, most=50)
    assert (raised.value.job_id, raised.value.times) == (job_id, 50)
    assert isinstance(raised.value, TimeoutError)


async def test_a_job_that_is_done_when_it_was_begun_as_often_as_it_may_is_done(
    fresh: JobDb,
) -> None:
    async with JobManager(fresh, REGISTRY, poll=0.1) as jobs:
        once = await jobs.dispatch(Patient(times=0), delay=5.0)
        await run_until_idle(jobs, most=1)
        assert await once.result(1) == 0
        clumsy = await jobs.dispatch(Clumsy())
        await run_until_idle(jobs, most=4)
        assert await clumsy.result(1) == 4


async def test_a_parent_that_waits_for_what_nobody_takes_is_named(fresh: JobDb) -> None:
    registry = Registry()

    @registry.job(name="order")
    class Order(BaseModel):
        async def run(self, ctx: JobContext) -> None:
            await ctx.wait(await ctx.spawn(Job(author="mika", tags=["gpu"]), key="encode"))

    async with JobManager(fresh, registry, **FAST) as jobs, asyncio.timeout(60):
        order = await jobs.dispatch(Order())
        with pytest.raises(NeverIdle) as raised:
            await run_until_idle(jobs, patience=0.3)
    (child,) = await fresh.get_children(order.id)
    assert raised.value.job_id == order.id
    assert str(raised.value) == (
        f"job {order.id} waits for job {child.job_id}, which nobody takes: it is queued at Queued, "
        'of the name None, with the tags ["gpu"]; have workers that take it'
    )


async def test_a_child_that_is_worked_on_elsewhere_is_waited_for(fresh: JobDb) -> None:
    registry = Registry()

    @registry.job(name="order")
    class Order(BaseModel):
        async def run(self, ctx: JobContext) -> str:
            return (await ctx.wait(await ctx.spawn(Job(author="mika"), key="encode"))).status

    async def slow(ctx: JobContext) -> None:
        await asyncio.sleep(1.0)

    elsewhere = one_stage(slow, (Stage.QUEUED, Stage.DOWNLOADING, Stage.UPLOADED))
    async with JobManager(fresh, registry, **FAST) as jobs, elsewhere.running(fresh, **FAST):
        order = await jobs.dispatch(Order())
        await run_until_idle(jobs, patience=0.3)
        assert await order.result(1) == "completed"


async def test_time_beyond_the_limit_is_not_skipped(fresh: JobDb) -> None:
    async with JobManager(fresh, REGISTRY, poll=0.1) as jobs:
        handle = await jobs.dispatch(Patient(times=1), delay=100.0)
        clock = Clock()
        with pytest.raises(TimeoutError, match=r"waits for another (100|9[0-9]) s"):
            await run_until_idle(jobs, clock=clock, limit=50.0)
        assert await handle.status() is JobStatus.QUEUED
        await clock.advance(fresh, 60.0)
        await run_until_idle(jobs, clock=clock, limit=5000.0)
        assert await handle.result(1) == 1
    assert 3700 - SPENT < clock.skipped < 3702


async def test_run_job_skips_what_a_job_waits_for() -> None:
    clock = Clock()
    assert await run_job(Patient(times=5), registry=REGISTRY, clock=clock) == 5
    assert clock.skipped > 5 * 3600 - SPENT
    assert await run_job(Clumsy(), registry=REGISTRY, max_attempts=4) == 4
    with pytest.raises(ExecutionFailed, match="broken"):
        await run_job(Clumsy(), registry=REGISTRY)


async def test_the_time_of_another_database_is_not_touched(db: JobDb) -> None:
    job_id = await db.insert_job(Job(author="mika", not_before=5e9))
    with pytest.raises(InvalidInput, match="advance"):
        await Clock().advance(db, 5.0)
    async with JobManager(db, REGISTRY) as jobs:
        with pytest.raises(InvalidInput, match="run_until_idle"):
            await run_until_idle(jobs)
    row = await row_of(db, job_id)
    assert row.not_before == 5e9
