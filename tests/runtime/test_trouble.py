"""A database that fails for a while costs time, and nothing else."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import psycopg
import pytest

from pandora_db import Job, JobDb, JobStatus, LockTimeout, MissingPrivilege, PandoraDbError, Stage
from pandora_db.runtime import Cancelled, Done, JobContext, ahead
from pandora_db.services.heartbeat import Heartbeat
from tests.support.handlers import FAST, one_stage, row_of, run_one
from tests.support.raw import Raw
from tests.support.waiting import wait_until


@contextmanager
def locked(raw: Raw) -> Iterator[None]:
    """Another program holds the table, or the file."""
    if raw.path is None:
        with psycopg.connect(raw.url) as connection:
            connection.execute("LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE")
            yield
            connection.rollback()
        return
    connection = sqlite3.connect(raw.path, isolation_level=None, check_same_thread=False)
    connection.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        connection.close()


@contextmanager
def patience(seconds: float) -> Iterator[None]:
    """The heartbeat waits no longer than this for an answer, in two groups of leases."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Heartbeat, "_patience", lambda _, claim: seconds + claim.lease / 1000)
        yield


@asynccontextmanager
async def impatient(db_url: str) -> AsyncIterator[JobDb]:
    async with JobDb.open(db_url, sweep=None, lock_timeout=0.2) as db:
        yield db


async def test_the_end_of_a_job_is_written_when_the_database_is_back(
    db_url: str, raw: Raw, caplog: pytest.LogCaptureFixture
) -> None:
    at_work, go_on = asyncio.Event(), asyncio.Event()

    async def handler(ctx: JobContext) -> None:
        at_work.set()
        await go_on.wait()

    async with impatient(db_url) as db:
        job_id = await db.insert_job(Job(author="mika"))
        async with one_stage(handler).running(db, **FAST) as crew:
            await asyncio.wait_for(at_work.wait(), 10)
            with locked(raw):
                go_on.set()
                await asyncio.sleep(0.7)
                assert crew.running == [job_id]
            await wait_until(lambda: not crew.running)
        assert (await row_of(db, job_id)).ready == Stage.DOWNLOADED
    assert "could not be written yet" in caplog.text


async def test_what_was_told_last_is_written_when_the_database_is_back(
    db_url: str, raw: Raw
) -> None:
    at_work, go_on = asyncio.Event(), asyncio.Event()

    async def handler(ctx: JobContext) -> None:
        at_work.set()
        await go_on.wait()
        ctx.progress(0.9)
        ctx.log("the last line")
        ctx.warn("careful")
        ctx.count("frames", 42)

    async with impatient(db_url) as db:
        job_id = await db.insert_job(Job(author="mika"))
        async with one_stage(handler).running(db, **FAST) as crew:
            await asyncio.wait_for(at_work.wait(), 10)
            with locked(raw):
                go_on.set()
                await asyncio.sleep(1.2)
            await wait_until(lambda: not crew.running)
        row = await row_of(db, job_id)
        lines = [line.message for line in await db.logs(job_id)]
    assert (row.ready, row.progress) == (Stage.DOWNLOADED, 0.9)
    notes = json.loads(row.progress_data or "")["notes"]
    assert (notes["warnings"], notes["metrics"]) == (["careful"], {"frames": 42})
    assert lines == ["the last line", "careful"]


@pytest.mark.parametrize("asked", ["at its check", "at its checkpoint"])
async def test_a_job_is_given_back_with_its_state_when_the_database_is_back(
    db_url: str, raw: Raw, caplog: pytest.LogCaptureFixture, asked: str
) -> None:
    at_work, step = asyncio.Event(), asyncio.Event()
    step.set()
    steps = 0

    async def handler(ctx: JobContext) -> None:
        nonlocal steps
        while True:
            steps += 1
            if asked == "at its checkpoint":
                await step.wait()
            await ctx.checkpoint({"steps": steps})
            at_work.set()
            if asked == "at its check":
                await asyncio.sleep(0.01)
            await ctx.check_interrupt()

    async with impatient(db_url) as db:
        job_id = await db.insert_job(Job(author="mika", max_attempts=1))
        terms = FAST | {"grace": 10.0, "shutdown_timeout": 20.0}
        async with one_stage(handler, checkpoint_every=60.0).running(db, **terms) as crew:
            await asyncio.wait_for(at_work.wait(), 10)
            await wait_until(lambda: steps > 3)
            step.clear()
            with locked(raw):
                await asyncio.sleep(0.05)
                stopping = asyncio.create_task(crew.stop())
                await asyncio.sleep(0.05)
                step.set()
                await asyncio.sleep(0.7)
                assert crew.running == [job_id]
            await stopping
        row = await row_of(db, job_id)
        assert (row.status, row.attempt) == (JobStatus.QUEUED, 0)
        claim = await db.claim_job(job_id, into=Stage.DOWNLOADING)
        assert claim is not None
        assert await db.load_checkpoint(claim) == {"steps": steps}
    assert "could not be written yet" in caplog.text


async def test_a_checkpoint_that_is_due_while_the_database_is_away_is_written_later(
    db_url: str, raw: Raw
) -> None:
    at_work, go_on = asyncio.Event(), asyncio.Event()
    written: list[bool] = []

    async def handler(ctx: JobContext) -> None:
        at_work.set()
        await go_on.wait()
        written.append(await ctx.checkpoint({"step": 1}))
        with pytest.raises(LockTimeout):
            await ctx.checkpoint({"step": 2}, force=True)
        while not written[-1]:
            await asyncio.sleep(0.05)
            written.append(await ctx.checkpoint({"step": 3}))
        assert await ctx.load_checkpoint() == {"step": 3}

    async with impatient(db_url) as db:
        job_id = await db.insert_job(Job(author="mika", max_attempts=1))
        async with one_stage(handler, checkpoint_every=0.0).running(db, **FAST) as crew:
            await asyncio.wait_for(at_work.wait(), 10)
            with locked(raw):
                go_on.set()
                await asyncio.sleep(0.9)
            await wait_until(lambda: not crew.running)
        assert (await row_of(db, job_id)).ready == Stage.DOWNLOADED
    assert written[0] is False


async def test_what_was_told_last_holds_the_end_up_no_longer_than_a_lease_lasts(
    db_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with JobDb.open(db_url, sweep=None, lease=1.0, heartbeat=0.3) as db:
        tries = fail_logs(db, monkeypatch, LockTimeout("locked"))
        began = time.monotonic()
        row = await run_one(db, tell)
    assert 0.5 < time.monotonic() - began < 5.0
    assert len(tries) > 1
    assert (row.ready, row.progress) == (Stage.DOWNLOADED, 0.5)
    assert f"what job {row.job_id} told last could not be written" in caplog.text
    told = [one for one in caplog.records if one.getMessage().startswith("the log of job")]
    assert [one.levelno for one in told if one.levelno > logging.DEBUG] == [logging.WARNING]


async def test_a_log_that_is_refused_does_not_hold_the_end_up(
    db: JobDb, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tries = fail_logs(db, monkeypatch, MissingPrivilege("no right"))
    row = await run_one(db, tell)
    assert (row.ready, row.progress) == (Stage.DOWNLOADED, 0.5)
    assert len(tries) <= 2  # as it was told, and at the end
    assert f"what job {row.job_id} told last could not be written" in caplog.text


@pytest.mark.parametrize("hangs", [True, False])
async def test_ending_leaves_time_for_the_end_of_a_job_whose_log_cannot_be_written(
    db: JobDb, monkeypatch: pytest.MonkeyPatch, *, hangs: bool
) -> None:
    tries = fail_logs(db, monkeypatch, None if hangs else LockTimeout("locked"))
    job_id = await db.insert_job(Job(author="mika"))
    terms = FAST | {"shutdown_timeout": 2.0}
    async with one_stage(tell).running(db, **terms):
        await wait_until(lambda: tries)
        began = time.monotonic()
    assert time.monotonic() - began < 2.0
    row = await row_of(db, job_id)
    assert (row.ready, row.progress) == (Stage.DOWNLOADED, 0.5)


async def tell(ctx: JobContext) -> None:
    ctx.progress(0.5)
    ctx.log("a line")


def fail_logs(
    db: JobDb, monkeypatch: pytest.MonkeyPatch, error: PandoraDbError | None
) -> list[float]:
    """No log is written; when it was tried. Without an error the call hangs."""
    tries: list[float] = []

    async def append_logs(*_: object, **__: object) -> int:
        tries.append(time.monotonic())
        if error is not None:
            raise error
        await asyncio.Event().wait()
        return 0

    monkeypatch.setattr(db, "append_logs", append_logs)
    return tries


async def test_workers_look_again_when_the_database_is_back(
    db_url: str, raw: Raw, caplog: pytest.LogCaptureFixture
) -> None:
    done = asyncio.Event()

    async def handler(ctx: JobContext) -> None:
        done.set()

    async with impatient(db_url) as db, one_stage(handler).running(db, **FAST):
        with locked(raw):
            await wait_until(lambda: "no jobs can be claimed for DOWNLOADING" in caplog.text)
        await db.insert_job(Job(author="mika"))
        await asyncio.wait_for(done.wait(), 10)
    assert caplog.text.count("no jobs can be claimed") == 1


async def test_leases_that_cannot_be_renewed_are_told_of_once_and_when_they_can_again(
    db_url: str, raw: Raw, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    settings = {"sweep": None, "lock_timeout": 0.2, "lease": 60.0, "heartbeat": 0.1}
    async with JobDb.open(db_url, **settings) as db:
        await db.insert_jobs([Job(author="mika") for _ in range(3)])
        claims = await db.claim_jobs(Stage.QUEUED, into=Stage.DOWNLOADING, limit=2)
        claims += await db.claim_jobs(Stage.QUEUED, into=Stage.DOWNLOADING, lease=30.0)
        with patience(0.2), locked(raw):
            await wait_until(lambda: "could not be renewed" in caplog.text)
            await asyncio.sleep(1.5)
        await wait_until(lambda: "could be renewed again" in caplog.text)
        assert not any(claim.lost for claim in claims)

    told = [text for text in caplog.messages if " renewed" in text]
    assert len(told) == 2
    assert told[0].startswith("3 leases could not be renewed: ")
    assert re.fullmatch(r"after [0-9.]+ s 3 leases could be renewed again", told[1])


async def test_workers_end_with_their_handle(db_url: str) -> None:
    async def handler(ctx: JobContext) -> None: ...

    db = await JobDb.connect(db_url, sweep=None)
    async with one_stage(handler).running(db, **FAST) as crew:
        await crew.wait_idle()
        await db.close()
        await asyncio.sleep(0.2)


async def test_a_crew_works_once(db: JobDb) -> None:
    async def handler(ctx: JobContext) -> None: ...

    crew = one_stage(handler).running(db, **FAST)
    async with crew:
        pass
    with pytest.raises(RuntimeError, match="once"):
        await crew.__aenter__()


def test_the_package_does_not_import_the_runtime() -> None:
    code = "import sys, pandora_db; sys.exit('pandora_db.runtime' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


async def test_ending_waits_no_longer_than_it_may_and_leaves_the_jobs_to_their_leases(
    db_url: str, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also for claims ahead of need; whatever keeps them, their leases are renewed no more."""
    monkeypatch.setattr(ahead, "_SHORT", 10.0)
    monkeypatch.setattr(ahead, "_PATIENCE", 60.0)
    held, never = asyncio.Event(), asyncio.Event()

    async def handler(ctx: JobContext) -> None:
        if ctx.job.priority == 0:
            held.set()
            await never.wait()

    settings = {"sweep": None, "lock_timeout": 0.2, "lease": 2.0, "heartbeat": 0.5}
    async with JobDb.open(db_url, **settings) as db:
        await db.insert_jobs([Job(author="mika", priority=1) for _ in range(20)])
        await db.insert_jobs([Job(author="mika", priority=0) for _ in range(6)])
        pipeline = one_stage(handler, concurrency=2)
        terms = FAST | {"shutdown_timeout": 1.0}
        async with pipeline.running(db, **terms) as crew:
            await held.wait()
            (worker,) = crew.workers
            await wait_until(lambda: len(worker.claims) > 2)  # some wait ahead
            await wait_until(lambda: all(claim.job.priority == 0 for claim in worker.claims))
            claims = worker.claims
            lock = locked(raw)
            # In a thread: a statement that the event loop prepares just now holds the table too.
            await asyncio.to_thread(lock.__enter__)
            began = asyncio.get_running_loop().time()
        took = asyncio.get_running_loop().time() - began
        lock.__exit__(None, None, None)
        assert took < 1.0 + 3.0
        assert [claim for claim in claims if not claim.lost] == []
        async with JobDb.open(db_url, sweep=None) as other:
            await wait_until(lambda: all_came_back(other, {claim.job_id for claim in claims}))


async def all_came_back(db: JobDb, job_ids: set[int]) -> bool:
    await db.recover()
    rows = await db.get_jobs_by_ids(sorted(job_ids))
    return all(row.ready == Stage.QUEUED for row in rows)


def _itself() -> list[object]:
    output: list[object] = []
    output.append(output)
    return output


@pytest.mark.parametrize(
    ("answer", "stage"),
    [(Cancelled("a\0b \ud800"), Stage.CANCELLED), (Done(_itself()), Stage.FAILED)],
    ids=["a strange reason", "an output that holds itself"],
)
async def test_what_a_handler_answers_ends_the_job_whatever_it_is(
    db: JobDb, answer: object, stage: Stage
) -> None:
    async def handler(_: JobContext) -> object:
        return answer

    row = await run_one(db, handler)
    assert row.ready == stage


async def test_what_is_told_after_the_end_is_told_to_nobody(db: JobDb) -> None:
    kept: list[JobContext] = []

    async def handler(ctx: JobContext) -> None:
        ctx.log("in time")
        kept.append(ctx)

    row = await run_one(db, handler)
    (ctx,) = kept
    before = asyncio.all_tasks()
    ctx.log("late")
    ctx.progress(0.5)
    await asyncio.sleep(0.1)
    assert asyncio.all_tasks() <= before
    assert [line.message for line in await db.logs(row.job_id)] == ["in time"]
