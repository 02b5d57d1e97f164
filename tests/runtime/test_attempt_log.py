"""Attempts are told in the log: a bug with its traceback, an expected end in one line."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from pandora_db import Backoff, Job, JobDb, JobStatus, Stage
from pandora_db.runtime import Fail, JobContext
from tests.support.handlers import FAST, one_stage, run_one
from tests.support.waiting import wait_until


def told(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """Level and text of what was said of job 1."""
    return [
        (record.levelname, record.getMessage())
        for record in caplog.records
        if record.name == "pandora_db" and record.getMessage().startswith("job 1: ")
    ]


async def test_a_bug_is_told_with_its_traceback_in_each_attempt(
    db: JobDb, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(ctx: Any) -> Any:
        return ctx.job.lnik.upper()

    caplog.set_level(logging.INFO, "pandora_db")
    row = await run_one(db, handler, retry_in=0.0)

    assert row.status is JobStatus.FAILED
    wrong = "AttributeError: 'JobRow' object has no attribute 'lnik'"
    assert told(caplog) == [
        ("WARNING", f"job 1: attempt 1 failed: {wrong}"),
        ("INFO", f"job 1: attempt 1: {wrong}; tried again in 0.0 s"),
        ("WARNING", f"job 1: attempt 2 failed: {wrong}"),
        ("INFO", f"job 1: attempt 2: {wrong}; not tried again"),
    ]
    assert caplog.text.count("return ctx.job.lnik.upper()") == 2


async def test_a_failure_that_was_returned_is_a_line_and_no_warning(
    db: JobDb, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(_ctx: JobContext) -> Fail:
        return Fail("503\nfrom the server", retry_in=Backoff(first=900.0, jitter=0))

    caplog.set_level(logging.INFO, "pandora_db")
    await run_one(db, handler)

    assert told(caplog) == [("INFO", "job 1: attempt 1: 503; tried again in 900.0 s")]


async def test_an_output_that_cannot_be_kept_is_a_warning(
    db: JobDb, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(_ctx: JobContext) -> object:
        return {1, 2}

    await run_one(db, handler)

    ((level, text),) = told(caplog)
    assert level == "WARNING"
    assert text.startswith("job 1: attempt 1 failed: the handler returned what cannot be kept: ")


async def test_an_attempt_that_took_too_long_is_a_warning(
    db: JobDb, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(_ctx: JobContext) -> None:
        await asyncio.Event().wait()

    await run_one(db, handler, timeout=0.05, retry_in=900.0)

    late = "ExecutionFailed: the attempt took longer than 0.05 s"
    assert told(caplog) == [("WARNING", f"job 1: attempt 1 failed: {late}")]


async def test_what_was_stopped_is_told(db: JobDb, caplog: pytest.LogCaptureFixture) -> None:
    async def handler(ctx: JobContext) -> None:
        while True:
            await ctx.check_interrupt()
            await asyncio.sleep(0.001)

    caplog.set_level(logging.INFO, "pandora_db")
    pipeline = one_stage(handler)
    await db.insert_job(Job(author="mika"))
    async with pipeline.running(db, **FAST) as crew:
        await wait_until(lambda: crew.running)
        await db.pause_job(1)
        await wait_until(lambda: not crew.running)
        await db.resume_job(1)
        await wait_until(lambda: crew.running)
    async with pipeline.running(db, **FAST) as crew:
        await wait_until(lambda: crew.running)
        await db.cancel_job(1)
        await wait_until(lambda: not crew.running)

    assert told(caplog) == [
        ("INFO", "job 1: attempt 1 was stopped: paused"),
        ("INFO", "job 1: attempt 1 was stopped: given back, waits at Queued"),
        ("INFO", "job 1: attempt 1 was stopped: cancelled"),
    ]


async def test_jobs_that_wait_when_all_is_done_are_told(
    db: JobDb, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(_ctx: JobContext) -> Fail:
        return Fail("503", retry_in=900.0)

    caplog.set_level(logging.INFO, "pandora_db")
    await run_one(db, handler)
    (left,) = (text for text in caplog.messages if " left at " in text)
    assert left.startswith("1 job left at Queued: ")

    for stage, told in ((Stage.DOWNLOADED, ["1 job left at Downloaded: "]), (Stage.ENCODED, [])):
        caplog.clear()
        await db.update_stage(1, stage)
        async with one_stage(handler).running(db, **FAST) as crew:
            await crew.wait_idle()
        left_there = [text for text in caplog.messages if " left at " in text]
        assert [text[: len("1 job left at Downloaded: ")] for text in left_there] == told
