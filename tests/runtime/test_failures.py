"""A failed attempt is told in the log: a bug with its traceback, an expected end in one line."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from pandora_db import Backoff, JobDb, JobStatus
from pandora_db.runtime import Fail, JobContext
from tests.support.handlers import run_one


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
