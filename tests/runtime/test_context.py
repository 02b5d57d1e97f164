"""What a handler tells through its context: written seldom, and the last word always."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from pydantic import BaseModel, field_serializer

from pandora_db import (
    ConnectionFailed,
    Interrupted,
    InvalidInput,
    Job,
    JobDb,
    LogLine,
    OutcomeUnknown,
    Stage,
)
from pandora_db.runtime import JobContext, JobManager, Progress, Registry, run_blocking
from tests.support.handlers import DOWNLOAD, FAST, one_stage, row_of, run_one
from tests.support.waiting import wait_until


@pytest.mark.parametrize(
    "told",
    [
        Progress.percentage(0.5, "half"),
        Progress.count(3, 12),
        Progress.count(3),
        Progress.bytes(2**40, 2**41, "copying"),
        Progress.structured({"file": "a.mkv", "sizes": [1, 2]}, fraction=0.25),
        Progress.indeterminate("looking"),
    ],
    ids=lambda told: told.kind,
)
async def test_progress_of_every_shape_is_read_back(db: JobDb, told: Progress) -> None:
    async def handler(ctx: JobContext) -> None:
        ctx.progress(0.1)
        ctx.progress(told)

    assert Progress.of(await run_one(db, handler)) == told


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), "half", True])
async def test_progress_that_is_none_is_refused(db: JobDb, value: float) -> None:
    with pytest.raises(InvalidInput, match=r"expected a number from 0 to 1: 0\.5 is half$"):
        Progress.percentage(value)


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("data", "limit"),
    [
        (nested(64), "at most 63 levels; tell a summary"),
        ("x" * 262_143, "at most 262144; tell a summary"),
        ([1] * 300_000, "at most 262144 bytes as JSON; tell a summary"),
        ({"a": {1}}, "expected JSON"),
    ],
    ids=["deep", "large", "of too many parts", "a set"],
)
def test_progress_that_would_not_be_kept_is_refused_where_it_is_told(data: Any, limit: str) -> None:
    with pytest.raises(InvalidInput, match=limit):
        Progress.structured(data)


def test_progress_of_an_unknown_kind_is_refused() -> None:
    with pytest.raises(InvalidInput, match="expected one of percentage, count"):
        Progress(kind="very far")


@pytest.mark.parametrize("data", [nested(63), "x" * 262_142], ids=["deep", "large"])
async def test_the_largest_progress_is_kept_with_as_many_notes_as_there_may_be(
    db: JobDb, data: Any
) -> None:
    async def handler(ctx: JobContext) -> None:
        for number in range(200):
            ctx.metric(f"{number:03}" + "\x01" * 125, -1.2345678901234567e-100)
        for _ in range(50):
            ctx.warn("\x01" * 1000)
            ctx.add_error("\x01" * 1000)
        ctx.progress(Progress.structured(data, fraction=0.5, step="far"))

    row = await run_one(db, handler, progress_every=60.0)
    assert Progress.of(row) == Progress.structured(data, fraction=0.5, step="far")
    notes = json.loads(row.progress_data or "")["notes"]
    assert [len(notes[kind]) for kind in ("warnings", "errors", "metrics")] == [50, 50, 200]


async def test_progress_is_what_it_was_when_it_was_told(db: JobDb) -> None:
    async def handler(ctx: JobContext) -> None:
        data: dict[str, Any] = {"files": [1]}
        ctx.progress(0.1)
        ctx.progress(Progress.structured(data))
        data["files"] = {2}

    row = await run_one(db, handler, progress_every=60.0)
    assert Progress.of(row).data == {"files": [1]}


async def test_progress_is_written_once_in_each_interval(
    db: JobDb, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes: list[float | None] = []
    write = db.update_job

    async def counted(*args: object, **changes: object) -> None:
        writes.append(changes.get("progress"))  # type: ignore[arg-type]
        await write(*args, **changes)  # type: ignore[arg-type]

    monkeypatch.setattr(db, "update_job", counted)

    async def handler(ctx: JobContext) -> None:
        for step in range(100):
            ctx.progress(step / 100)
            await asyncio.sleep(0.005)

    row = await run_one(db, handler, progress_every=0.2)
    assert 2 <= len(writes) <= 8
    assert (writes[-1], row.progress) == (0.99, 0.99)


async def test_checkpoints_are_cheap_and_forced_ones_are_written(db: JobDb) -> None:
    written: list[bool] = []

    async def handler(ctx: JobContext) -> None:
        for step in range(5):
            saved = await ctx.checkpoint({"step": step}, force=step == 3)
            written.append(saved)
        assert await ctx.load_checkpoint() == {"step": 3}
        with pytest.raises(InvalidInput) as refused:
            await ctx.checkpoint()
        assert refused.value.field == "state"

    row = await run_one(db, handler, checkpoint_every=60.0)
    assert row.ready == Stage.DOWNLOADED
    assert written == [True, False, False, True, False]


async def test_a_state_that_comes_while_another_one_is_written_is_written_too(
    db: JobDb, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def handler(ctx: JobContext) -> None:
        await ctx.checkpoint({"step": 0})
        save = db.save_checkpoint

        async def slow(*args: Any, **options: Any) -> bool:
            monkeypatch.undo()
            assert not await ctx.checkpoint({"step": 2})  # by another task of the handler
            return await save(*args, **options)

        monkeypatch.setattr(db, "save_checkpoint", slow)
        await ctx.checkpoint({"step": 1}, force=True)
        assert await ctx.load_checkpoint() == {"step": 1}
        ctx.interrupt("shutdown")
        with pytest.raises(Interrupted):
            await ctx.check_interrupt()
        assert await ctx.load_checkpoint() == {"step": 2}

    assert (await run_one(db, handler, checkpoint_every=60.0)).ready == Stage.DOWNLOADED


async def test_states_are_written_in_the_order_in_which_they_were_given(db: JobDb) -> None:
    async def handler(ctx: JobContext) -> None:
        large = {"step": 1, "rows": [[number, str(number)] for number in range(200_000)]}
        async with asyncio.TaskGroup() as group:
            first = group.create_task(ctx.checkpoint(large, force=True))
            await asyncio.sleep(0)
            second = group.create_task(ctx.checkpoint({"step": 2}, force=True))
        assert first.result()
        assert second.result()
        assert await ctx.load_checkpoint() == {"step": 2}

    assert (await run_one(db, handler)).ready == Stage.DOWNLOADED


async def test_a_state_that_is_refused_leaves_the_one_before(db: JobDb) -> None:
    async def handler(ctx: JobContext) -> None:
        await ctx.checkpoint({"step": 0})
        assert not await ctx.checkpoint({"step": 1})
        with pytest.raises(InvalidInput, match="state"):
            await ctx.checkpoint({"step": object()}, force=True)
        ctx.interrupt("shutdown")
        with pytest.raises(Interrupted):
            await ctx.check_interrupt()
        assert await ctx.load_checkpoint() == {"step": 1}

    assert (await run_one(db, handler, checkpoint_every=60.0)).ready == Stage.DOWNLOADED


async def test_what_is_told_inside_a_transaction_is_written(db: JobDb) -> None:
    async def handler(ctx: JobContext) -> None:
        async with ctx.db.transaction() as tx:
            ctx.progress(0.5)
            ctx.warn("careful")
            await tx.get_job(ctx.job_id)
            if db.dialect == "postgres":  # SQLite has one writer: it waits
                await asyncio.sleep(0.2)
        await wait_until(lambda: has_progress(db, ctx.job_id))

    row = await run_one(db, handler, progress_every=0.05)
    assert (row.ready, row.progress) == (Stage.DOWNLOADED, 0.5)


async def has_progress(db: JobDb, job_id: int) -> bool:
    return (await row_of(db, job_id)).progress is not None


async def test_the_state_of_a_job_is_made_only_when_it_is_written(db: JobDb) -> None:
    made: list[int] = []
    registry = Registry()

    @registry.job(name="steps")
    class Steps(BaseModel):
        step: int = 0

        @field_serializer("step")
        def _made(self, value: int) -> int:
            made.append(value)
            return value

        async def run(self, ctx: JobContext) -> list[int]:
            made.clear()
            for self.step in range(100):
                await ctx.checkpoint()
            return list(made)

    async with JobManager(db, registry, checkpoint_every=60.0, **FAST) as jobs:
        assert await (await jobs.dispatch(Steps())).result(10) == [0]


async def test_checkpoints_are_written_as_often_as_was_asked(db: JobDb) -> None:
    written: list[bool] = []

    async def handler(ctx: JobContext) -> None:
        for step in range(3):
            written.append(await ctx.checkpoint({"step": step}))
            await asyncio.sleep(0.06)

    await run_one(db, handler, checkpoint_every=0.05)
    assert written == [True, True, True]


async def test_notes_outlast_an_attempt(db: JobDb, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "pandora_db.jobs")

    async def handler(ctx: JobContext) -> None:
        ctx.log("begun")
        for number in range(60):
            ctx.warn(f"warning {number}")
        ctx.add_error(FileNotFoundError("one of many"))
        ctx.metric("speed", 1.5)
        ctx.count("frames", 100)
        if ctx.attempt == 1:
            raise OSError("again")

    row = await run_one(db, handler, retry_in=0)
    notes = json.loads(row.progress_data or "")["notes"]
    assert notes["counts"] == {"warnings": 120, "errors": 2}
    assert notes["warnings"] == [f"warning {number}" for number in range(10, 60)]
    assert notes["errors"] == ["FileNotFoundError: one of many"] * 2
    assert notes["metrics"] == {"speed": 1.5, "frames": 200}
    record = next(one for one in caplog.records if "begun" in one.getMessage())
    assert (record.name, record.__dict__["job_id"]) == ("pandora_db.jobs", row.job_id)


async def test_each_job_has_a_folder(db: JobDb, tmp_path: Path) -> None:
    async def handler(ctx: JobContext) -> None:
        (ctx.data_dir / "part").write_text("x")

    job_id = await db.insert_job(Job(author="mika"))
    async with one_stage(handler).running(db, **FAST, data_root=tmp_path / "jobs") as crew:
        await crew.wait_idle()
    assert (tmp_path / "jobs" / str(job_id) / "part").read_text() == "x"
    row = await run_one(db, handler, retry_in=0)
    assert "data_root" in ((await row_of(db, row.job_id)).error or "")


async def test_the_folder_of_a_job_is_absolute_wherever_the_program_goes(
    db: JobDb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Path] = []

    async def handler(ctx: JobContext) -> None:
        seen.append(ctx.data_dir)

    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    job_id = await db.insert_job(Job(author="mika"))
    crew = one_stage(handler).running(db, **FAST, data_root="jobs")
    monkeypatch.chdir(tmp_path / "elsewhere")
    async with crew:
        await crew.wait_idle()
    assert seen == [tmp_path.resolve() / "jobs" / str(job_id)]


async def test_the_log_of_a_job_is_kept_in_few_writes(
    db: JobDb, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes: list[int] = []
    append = db.append_logs

    async def counted(claim: Any, lines: Any, **options: Any) -> int:
        listed = list(lines)
        writes.append(len(listed))
        return await append(claim, listed, **options)

    monkeypatch.setattr(db, "append_logs", counted)

    async def handler(ctx: JobContext) -> None:
        for number in range(300):
            ctx.log(f"line {number}")
            await asyncio.sleep(0)
        ctx.warn("odd")
        if ctx.attempt == 1:
            raise OSError("broken")

    row = await run_one(db, handler, retry_in=0.0, progress_every=60.0)
    lines = await db.logs(row.job_id, limit=1000)

    assert [line.message for line in lines] == [*(f"line {n}" for n in range(300)), "odd"] * 2
    assert [line.seq for line in lines] == list(range(1, 603))
    assert {line.attempt for line in lines} == {1, 2}
    assert [line.level for line in lines if line.message == "odd"] == [logging.WARNING] * 2
    assert len(writes) <= 4, "per attempt: one at once, one at the end"


async def test_a_job_that_says_very_much_is_cut_before_it_is_written(db: JobDb) -> None:
    async def handler(ctx: JobContext) -> None:
        for number in range(5000):
            ctx.log(f"line {number}")

    row = await run_one(db, handler)
    lines = await db.logs(row.job_id, limit=2000)

    assert [line.message for line in lines] == [f"line {n}" for n in range(4000, 5000)]
    assert [line.seq for line in lines] == list(range(4001, 5001))


async def test_the_log_is_written_with_the_next_lines_when_the_database_was_away(
    db: JobDb, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = db.append_logs
    failures = [ConnectionFailed("gone", target="here") for _ in range(2)]

    async def failing(claim: Any, lines: Any, **options: Any) -> int:
        if failures:
            raise failures.pop()
        return await append(claim, lines, **options)

    monkeypatch.setattr(db, "append_logs", failing)

    async def handler(ctx: JobContext) -> None:
        for number in range(3):
            ctx.log(f"line {number}")
            await wait_until(lambda number=number: len(failures) <= max(0, 1 - number))

    row = await run_one(db, handler, progress_every=0.01)
    assert [line.message for line in await db.logs(row.job_id)] == ["line 0", "line 1", "line 2"]


@pytest.mark.parametrize("kept", [True, False])
async def test_lines_whose_fate_is_unknown_are_written_once_and_before_newer_ones(
    db: JobDb, monkeypatch: pytest.MonkeyPatch, *, kept: bool
) -> None:
    append = db.append_logs
    calls: list[UUID | None] = []
    call = uuid4()

    async def uncertain(
        claim: Any, lines: Any, *, operation_id: UUID | None = None, **options: Any
    ) -> int:
        calls.append(operation_id)
        if len(calls) == 2:
            raise ConnectionFailed("gone", target="here")
        if len(calls) > 2:
            return await append(claim, lines, operation_id=operation_id, **options)
        if kept:
            await append(claim, lines, operation_id=call, **options)
        raise OutcomeUnknown(call, "append_logs")

    monkeypatch.setattr(db, "append_logs", uncertain)

    async def handler(ctx: JobContext) -> None:
        for number in range(1500):
            ctx.log(f"line {number}")
        await wait_until(lambda: calls)
        ctx.log("newer")
        await wait_until(lambda: len(calls) == 4)

    row = await run_one(db, handler, progress_every=0.01)
    lines = await db.logs(row.job_id, limit=2000)
    expected = [*(f"line {number}" for number in range(501, 1500)), "newer"]
    assert [line.message for line in lines] == expected
    assert [line.seq for line in lines] == list(range(502, 1502))
    assert calls == [None, call, call, None]


@pytest.mark.parametrize("kept", [True, False])
async def test_last_lines_whose_fate_is_unknown_are_written_once(
    db: JobDb, monkeypatch: pytest.MonkeyPatch, *, kept: bool
) -> None:
    append = db.append_logs
    calls: list[UUID | None] = []
    call = uuid4()

    async def uncertain(
        claim: Any, lines: Any, *, operation_id: UUID | None = None, **options: Any
    ) -> int:
        calls.append(operation_id)
        if len(calls) > 3:
            return await append(claim, lines, operation_id=operation_id, **options)
        if kept:
            await append(claim, lines, operation_id=call, **options)
        raise OutcomeUnknown(call, "append_logs")

    monkeypatch.setattr(db, "append_logs", uncertain)

    async def handler(ctx: JobContext) -> None:
        ctx.log("the last line")

    row = await run_one(db, handler)
    assert row.ready == DOWNLOAD[2]
    assert calls == [None, call, call, call]
    assert [line.message for line in await db.logs(row.job_id)] == ["the last line"]


async def test_progress_whose_write_failed_is_written_without_being_told_again(
    db: JobDb, monkeypatch: pytest.MonkeyPatch
) -> None:
    update = db.update_job
    failures = [ConnectionFailed("gone", target="here")]

    async def failing(job: Any, **changes: Any) -> None:
        if failures:
            raise failures.pop()
        await update(job, **changes)

    monkeypatch.setattr(db, "update_job", failing)

    async def handler(ctx: JobContext) -> None:
        async def written() -> bool:
            return (await row_of(db, ctx.job_id)).progress == 0.5

        ctx.progress(0.5)
        await wait_until(written)

    row = await run_one(db, handler, progress_every=0.01)
    assert (row.ready, row.error, failures) == (DOWNLOAD[2], None, [])


async def test_the_log_keeps_what_the_handler_appends_itself(db: JobDb) -> None:
    said: list[str] = []

    async def handler(ctx: JobContext) -> None:
        async def written() -> bool:
            return {line.message for line in await db.logs(ctx.job_id)} >= set(said)

        for number in range(5):
            ctx.log(f"told {number}")
            await ctx.db.append_logs(ctx.claim, [LogLine(f"own {number}")])
            said.extend([f"told {number}", f"own {number}"])
            await wait_until(written)

    row = await run_one(db, handler, progress_every=0.01)
    lines = await db.logs(row.job_id)
    assert sorted(line.message for line in lines) == sorted(said)
    assert [line.seq for line in lines] == list(range(1, 11))


@pytest.mark.parametrize("wrong", [(5,), ("text", -1), ("text", True)])
async def test_a_line_that_is_none_is_refused_where_it_is_said(db: JobDb, wrong: Any) -> None:
    async def handler(ctx: JobContext) -> None:
        ctx.log("before")
        with pytest.raises(InvalidInput):
            ctx.log(*wrong)
        ctx.log("after")

    row = await run_one(db, handler)
    assert [line.message for line in await db.logs(row.job_id)] == ["before", "after"]


async def test_a_function_in_a_thread_tells_too(db: JobDb) -> None:
    asyncio.get_running_loop().set_debug(True)  # a call from the wrong thread is refused

    async def handler(ctx: JobContext) -> None:
        def work() -> None:
            for number in range(100):
                ctx.log(f"line {number}")
                ctx.progress(Progress.count(number + 1, 100))

        await run_blocking(work)

    row = await run_one(db, handler)
    assert Progress.of(row) == Progress.count(100, 100)
    assert [line.message for line in await db.logs(row.job_id)] == [f"line {n}" for n in range(100)]


async def test_a_thread_may_go_on_noting_while_what_it_noted_is_written(
    db: JobDb, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, Any]] = []
    update = JobDb.update_job

    async def noting(self: JobDb, *args: Any, **changes: Any) -> None:
        ctx.warn("late")
        ctx.metric("late", 1)
        seen.append(changes["progress_data"]["notes"])
        await update(self, *args, **changes)

    async def handler(given: JobContext) -> None:
        nonlocal ctx
        ctx = given
        monkeypatch.setattr(JobDb, "update_job", noting)
        ctx.metric("early", 1)
        await wait_until(lambda: bool(seen))
        monkeypatch.undo()

    ctx: JobContext
    row = await run_one(db, handler)
    assert seen[0] == {"metrics": {"early": 1}}
    assert json.loads(row.progress_data or "")["notes"]["metrics"] == {"early": 1, "late": 1}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 10**400])
async def test_a_metric_that_cannot_be_kept_is_refused_where_it_is_set(
    db: JobDb, value: float
) -> None:
    async def handler(ctx: JobContext) -> None:
        with pytest.raises(InvalidInput, match="metric fps"):
            ctx.metric("fps", value)
        ctx.metric("fps", 0.5)
        with pytest.raises(InvalidInput, match="metric fps"):
            ctx.count("fps", value)
        ctx.progress(0.5)

    row = await run_one(db, handler)
    assert row.progress == 0.5


@pytest.mark.parametrize(
    "stored",
    [
        {"notes": {"metrics": ["fps"]}},
        {"notes": {"warnings": None, "errors": "none"}},
        {"notes": {"counts": {"warnings": "many"}}},
        {"notes": {"warnings": ["x" * 1_040_000]}},
        {"notes": {"metrics": {"x" * 1_040_000: 1}}},
        {"kind": "count", "done": "x"},
        {"kind": "bytes", "total": 1.5},
        {"kind": 5},
        [1],
    ],
)
async def test_progress_data_of_another_program_spoils_no_attempt(db: JobDb, stored: Any) -> None:
    job_id = await db.insert_job(Job(author="mika"))
    await db.update_job(job_id, progress_data=stored)
    row = await db.get_job(job_id)
    assert row is not None
    assert Progress.of(row).fraction is None

    async def handler(ctx: JobContext) -> None:
        ctx.warn("odd")
        ctx.progress(0.5)

    async with one_stage(handler).running(db, **FAST) as crew:
        await crew.wait_idle()
    row = await db.get_job(job_id)
    assert row is not None
    assert (row.ready, row.progress) == (DOWNLOAD[2], 0.5)
