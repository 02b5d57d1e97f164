"""`testing.run_job` runs one job to its end, without a database of one's own."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from pandora_db import ExecutionFailed, InvalidInput, JobStatus
from pandora_db.runtime import JobContext, JobManager, Registry
from pandora_db.testing import new_test_db, run_job

REGISTRY = Registry()


@REGISTRY.job(name="double")
class Double(BaseModel):
    number: int

    async def run(self, ctx: JobContext) -> int:
        if self.number < 0:
            raise ValueError("negative")
        (ctx.data_dir / "number").write_text(str(self.number))
        return self.number * 2


class Opened(BaseModel):
    file: Any


@REGISTRY.job(name="open")
class Open(BaseModel):
    async def run(self, _ctx: JobContext) -> Opened:
        return Opened(file=object())


async def test_the_output_comes_back(tmp_path: Path) -> None:
    assert await run_job(Double(number=4), registry=REGISTRY, data_root=tmp_path) == 8
    assert [path.read_text() for path in tmp_path.rglob("number")] == ["4"]


async def test_an_output_that_is_no_json_fails_at_once() -> None:
    with pytest.raises(ExecutionFailed, match=r"what cannot be kept: .* of type Opened"):
        await run_job(Open(), registry=REGISTRY, timeout=5, max_attempts=3)


async def test_a_new_database_lists_no_jobs() -> None:
    async with new_test_db() as db:
        jobs = JobManager(db, REGISTRY)
        assert await jobs.list_jobs() == []
        assert await jobs.list_jobs(JobStatus.RUNNING) == []
        await jobs.dispatch(Double(number=2))
        assert await jobs.list_jobs(JobStatus.RUNNING) == []
        assert len(await jobs.list_jobs()) == 1


async def test_a_failure_is_raised() -> None:
    with pytest.raises(ExecutionFailed, match="ValueError: negative") as failed:
        await run_job(Double(number=-1), registry=REGISTRY)
    cause = failed.value.__cause__
    assert isinstance(cause, ValueError)
    assert traceback.extract_tb(cause.__traceback__)[-1].line == 'raise ValueError("negative")'
    a_class: Any = Double
    with pytest.raises(InvalidInput, match="not its class"):
        await run_job(a_class, registry=REGISTRY)
    with pytest.raises(InvalidInput, match="not registered"):
        await run_job(Double(number=1))
