"""Registered jobs are dispatched, worked on, paused, cancelled and answered for."""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime
from typing import Any
from uuid import uuid4

import pytest
from pydantic import BaseModel, Field

from pandora_db import (
    Duplicate,
    EventKind,
    ExecutionFailed,
    HandleClosed,
    Hold,
    Interrupted,
    InvalidInput,
    InvalidTransition,
    Job,
    JobCancelled,
    JobDb,
    JobStatus,
    JobType,
    LockTimeout,
    MissingPrivilege,
    NotFound,
    PandoraDbError,
    Priority,
    TaskStage,
)
from pandora_db.runtime import (
    Cancelled,
    FileCopyOutput,
    JobContext,
    JobHandle,
    JobManager,
    Progress,
    Registry,
)
from tests.support.handlers import FAST
from tests.support.raw import Raw
from tests.support.waiting import wait_until

REGISTRY = Registry()
OPTIONS: dict[str, Any] = {**FAST, "progress_every": 0.02, "retry_in": 0.0}
seen: list[tuple[str, int]] = []


@REGISTRY.job(name="copy", description="Copies nothing")
class Copy(BaseModel):
    total: int
    done: int = 0
    slow: bool = False

    async def run(self, ctx: JobContext) -> FileCopyOutput:
        seen.append(("begun", self.done))
        while self.done < self.total:
            await ctx.check_interrupt()
            await asyncio.sleep(0.01 if self.slow else 0)
            self.done += 1
            ctx.progress(Progress.count(self.done, self.total))
            await ctx.checkpoint()
        ctx.warn("nothing was copied")
        return FileCopyOutput(copied_count=self.done, total_bytes=0)


@REGISTRY.job(name="once", resumable=False)
class Once(BaseModel):
    async def run(self, _ctx: JobContext) -> None:
        raise OSError("broken")


@REGISTRY.job(name="unwanted")
class Unwanted(BaseModel):
    async def run(self, _ctx: JobContext) -> Cancelled:
        return Cancelled("meh")


@REGISTRY.job(name="waits")
class Waits(BaseModel):
    other: int

    async def run(self, ctx: JobContext) -> object:
        handle = await JobManager(ctx.db, REGISTRY).handle(self.other)
        assert handle is not None
        return await handle.result()


@REGISTRY.job(name="wrong")
class Wrong(BaseModel):
    async def run(self, _ctx: JobContext) -> int:
        return "text"  # type: ignore[return-value]


@pytest.fixture(autouse=True)
def _forget() -> None:
    seen.clear()


async def test_a_job_is_dispatched_and_its_result_awaited(db: JobDb) -> None:
    async with JobManager(db, REGISTRY, **OPTIONS) as jobs:
        handle = await jobs.dispatch(Copy(total=5))
        other = await jobs.dispatch_by_name("copy", '{"total": 3}', author="mika")
        assert await handle.result(10) == FileCopyOutput(copied_count=5, total_bytes=0)
        assert await other.result(10) == FileCopyOutput(copied_count=3, total_bytes=0)
        assert await handle.status() is JobStatus.COMPLETED
        info = await jobs.get_job_info(handle.id)

    assert info is not None
    assert (info.name, info.status, info.output_kind) == ("copy", JobStatus.COMPLETED, "file_copy")
    assert info.progress == Progress.count(5, 5)
    assert info.warnings == ("nothing was copied",)
    assert info.output == {"copied_count": 5, "total_bytes": 0}
    row = await other.row()
    assert (row.author, row.job_type, row.ready) == ("mika", JobType.TASK, TaskStage.COMPLETED)


async def test_progress_is_followed_to_the_end(db: JobDb) -> None:
    async with JobManager(db, REGISTRY, **OPTIONS) as jobs:
        handle = await jobs.dispatch(Copy(total=20, slow=True))
        told = [progress async for progress in handle.progress()]
    assert told[-1] == Progress.count(20, 20)
    fractions = [progress.fraction for progress in told if progress.fraction is not None]
    assert 2 <= len(fractions) <= 20
    assert fractions == sorted(set(fractions))


@pytest.mark.parametrize("near", [True, False])
async def test_a_running_job_is_paused_and_goes_on_where_it_was(
    db: JobDb, db_url: str, near: bool
) -> None:
    async with JobDb.open(db_url, sweep=None, heartbeat=0.1) as worker:
        far = JobManager(db, REGISTRY)
        async with JobManager(worker, REGISTRY, **OPTIONS) as here:
            asking = here if near else far
            handle = await asking.dispatch(Copy(total=60, slow=True))
            await wait_until(lambda: here.crew.running)
            await asyncio.sleep(0.1)
            assert [info.id for info in await far.list_running_jobs()] == [handle.id]
            assert await asking.pause_job(handle.id) is False
            await wait_until(lambda: _is(far, handle.id, JobStatus.PAUSED))
            await wait_until(lambda: not here.crew.running)  # it hears of its commit a moment later
            await asking.resume_job(handle.id)
            result = await handle.result(10)
    assert result.copied_count == 60
    (_, first), (_, second) = seen
    assert first == 0 < second


async def _is(jobs: JobManager, job_id: int, status: JobStatus) -> bool:
    info = await jobs.get_job_info(job_id)
    return info is not None and info.status is status


async def test_a_running_job_is_cancelled(db: JobDb) -> None:
    async with JobManager(db, REGISTRY, **OPTIONS) as jobs:
        handle = await jobs.dispatch(Copy(total=10_000, slow=True))
        await wait_until(lambda: jobs.crew.running)
        assert await jobs.cancel_job(handle.id) is False
        with pytest.raises(JobCancelled, match=f"^job {handle.id} was cancelled$"):
            await handle.result(10)
        with pytest.raises(InvalidTransition):
            await jobs.pause_job(handle.id)
        with pytest.raises(NotFound):
            await jobs.pause_job(999)


async def test_a_handle_pauses_resumes_and_cancels_its_job(db: JobDb) -> None:
    async with JobManager(db, REGISTRY, **OPTIONS) as jobs:
        handle = await jobs.dispatch(Copy(total=10_000, slow=True))
        await wait_until(lambda: jobs.crew.running)
        assert await handle.pause() is False
        await wait_until(lambda: _is(jobs, handle.id, JobStatus.PAUSED))
        await handle.resume()
        await wait_until(lambda: jobs.crew.running)
        assert await handle.cancel() is False
        with pytest.raises(JobCancelled):
            await handle.result(10)
        with pytest.raises(InvalidTransition):
            await handle.pause()
        waiting = await jobs.dispatch(Copy(total=1), delay=60)
        assert await waiting.pause() is True
        assert await waiting.cancel() is True


async def test_what_was_interrupted_goes_on_when_a_manager_starts(db: JobDb) -> None:
    async with JobManager(db, REGISTRY, **OPTIONS) as jobs:
        handle = await jobs.dispatch(Copy(total=50, slow=True))
        await wait_until(lambda: jobs.crew.running)
        await asyncio.sleep(0.1)
    assert await handle.status() is JobStatus.QUEUED
    async with JobManager(db, REGISTRY, **OPTIONS):
        assert (await handle.result(10)).copied_count == 50
    assert seen[0][1] == 0 < seen[1][1]


async def test_a_pause_outlasts_the_manager(db: JobDb) -> None:
    jobs = JobManager(db, REGISTRY, **OPTIONS)
    handle = await jobs.dispatch(Copy(total=1))
    assert await jobs.pause_job(handle.id) is True
    async with jobs:
        await jobs.crew.wait_idle()
    assert await handle.status() is JobStatus.PAUSED


async def test_priorities_delays_and_keys(db: JobDb) -> None:
    jobs = JobManager(db, REGISTRY, concurrency=1, **OPTIONS)
    last = await jobs.dispatch(Copy(total=1))
    first = await jobs.dispatch(Copy(total=2), priority=Priority.HIGH)
    late = await jobs.dispatch(Copy(total=3), delay=60)
    again = await jobs.dispatch(Copy(total=4), idempotency_key="k")
    assert (await jobs.dispatch(Copy(total=5), idempotency_key="k")).id == again.id
    async with jobs:
        await jobs.crew.wait_idle()
    done = [await handle.row() for handle in (first, last)]
    events = [(await db.history(row.job_id))[1].at for row in done]
    assert events == sorted(events)
    assert await late.status() is JobStatus.QUEUED


async def test_a_job_that_is_not_resumable_is_tried_once(db: JobDb) -> None:
    async with JobManager(db, REGISTRY, **OPTIONS) as jobs:
        handle = await jobs.dispatch(Once())
        with pytest.raises(ExecutionFailed, match="OSError: broken"):
            await handle.result(10)
    assert (await handle.row()).attempt == 1


async def test_a_manager_of_something_else_is_refused(db: JobDb) -> None:
    with pytest.raises(InvalidInput, match=r"^db is .*; expected an open JobDb"):
        JobManager("x.db")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match=r"^registry is .*; expected a Registry"):
        JobManager(db, BaseModel)  # type: ignore[arg-type]


async def test_a_result_that_does_not_come_in_time_names_the_job(db: JobDb) -> None:
    registry = Registry()

    @registry.job(name="never")
    class Never(BaseModel):
        async def run(self, _ctx: JobContext) -> None: ...

    handle = await JobManager(db, registry).dispatch(Never())
    with pytest.raises(TimeoutError, match=f"job {handle.id} has not ended within 0.05 s"):
        await handle.result(0.05)


async def test_the_result_of_a_job_that_cancelled_itself_says_so_and_why(db: JobDb) -> None:
    async with JobManager(db, REGISTRY, **OPTIONS) as jobs:
        handle = await jobs.dispatch(Unwanted())
        with pytest.raises(JobCancelled) as cancelled:
            await handle.result(10)
    assert str(cancelled.value) == f"job {handle.id} was cancelled: meh"
    assert (cancelled.value.job_id, cancelled.value.reason) == (handle.id, "meh")


async def test_a_job_that_awaits_a_cancelled_one_fails_and_says_so(db: JobDb) -> None:
    async with JobManager(db, REGISTRY, **OPTIONS) as jobs:
        unwanted = await jobs.dispatch(Unwanted())
        handle = await jobs.dispatch(Waits(other=unwanted.id), max_attempts=1)
        wrong = f"JobCancelled: job {unwanted.id} was cancelled: meh"
        with pytest.raises(ExecutionFailed, match=wrong):
            await handle.result(10)


def warnings(caplog: pytest.LogCaptureFixture) -> str:
    return "\n".join(one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING)


async def test_a_wrong_output_fails_the_job(db: JobDb, caplog: pytest.LogCaptureFixture) -> None:
    async with JobManager(db, REGISTRY, **OPTIONS) as jobs:
        handle = await jobs.dispatch(Wrong())
        with pytest.raises(ExecutionFailed, match="is not the output that it names"):
            await handle.result(10)
    assert "attempt 1 failed: ExecutionFailed: wrong returned a str" in warnings(caplog)


async def test_a_manager_that_works_on_nothing_says_so(
    db: JobDb, caplog: pytest.LogCaptureFixture
) -> None:
    registry = Registry()
    async with JobManager(db, registry, **OPTIONS) as jobs:
        assert "this manager works on nothing: a manager works on what" in warnings(caplog)
        registry.job(name="copy")(Copy)
        handle = await jobs.dispatch(Copy(total=1))
        assert f"job {handle.id} waits, and not for this manager" in warnings(caplog)
        late = f"^job {handle.id} has not ended within 0.05 s: copy is queued, no worker has begun"
        with pytest.raises(TimeoutError, match=late):
            await handle.result(0.05)
    caplog.clear()
    async with JobManager(db, registry, **OPTIONS) as jobs:
        await jobs.dispatch(Copy(total=1))
        await handle.result(10)
    assert "works on" not in warnings(caplog)
    assert "not for this manager" not in warnings(caplog)


async def test_a_job_is_stored_together_with_what_else_a_transaction_writes(db: JobDb) -> None:
    async with JobManager(db, REGISTRY, **OPTIONS) as jobs:

        async def undo() -> None:
            async with db.transaction() as tx:
                await tx.insert_job(jobs.make_job(Copy(total=1)))
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await undo()
        async with db.transaction() as tx:
            row = jobs.make_job(Copy(total=2), priority=Priority.HIGH, author="mika")
            job_id = await tx.insert_job(row)
        assert [info.id for info in await jobs.list_jobs()] == [job_id]
        handle = await jobs.handle(job_id)
        assert handle is not None
        assert (await handle.result(10)).copied_count == 2
        stored = await handle.row()
        assert (stored.priority, stored.author) == (Priority.HIGH, "mika")


@pytest.mark.parametrize("job", [{"total": 1}, "copy", None])
async def test_what_is_no_job_is_told_apart_from_one_that_is_not_registered(
    db: JobDb, job: Any
) -> None:
    with pytest.raises(InvalidInput, match=r"^job is .*; expected a job, .* dispatch_by_name"):
        await JobManager(db, REGISTRY).dispatch(job)


async def test_a_registered_job_gives_no_other_state_than_its_fields(db: JobDb) -> None:
    registry = Registry()

    @registry.job(name="mixed")
    class Mixed(BaseModel):
        async def run(self, ctx: JobContext) -> str:
            try:
                await ctx.checkpoint({"position": 8}, force=True)
            except InvalidInput as error:
                return str(error)
            return ""

    async with JobManager(db, registry, **OPTIONS) as jobs:
        said = await (await jobs.dispatch(Mixed())).result(10)
    assert said.startswith("state was given by a registered job, which goes on with its own fields")


async def test_unknown_names_wait_and_are_reported(
    db: JobDb, caplog: pytest.LogCaptureFixture
) -> None:
    task: dict[str, Any] = {"job_type": JobType.TASK, "ready": TaskStage.QUEUED}
    unknown = await db.insert_job(Job(author="mika", name="later", **task))
    empty = await db.insert_job(Job(author="mika", name="copy", max_attempts=1, **task))
    with caplog.at_level(logging.WARNING, "pandora_db"):
        async with JobManager(db, REGISTRY, **OPTIONS) as jobs:
            await jobs.crew.wait_idle()
            assert await jobs.unknown_jobs() == {"later": 1}
            assert await _is(jobs, unknown, JobStatus.QUEUED)
            info = await jobs.get_job_info(empty)
    assert info is not None
    assert "has no parameters" in (info.error or "")
    assert "jobs called 'later' wait (1)" in caplog.text


async def test_state_of_a_newer_version_fails_the_attempt_and_says_so(db: JobDb) -> None:
    newer = Registry()
    newer.job(name="copy", version=2)(Copy)
    async with JobManager(db, newer, **OPTIONS) as jobs:
        handle = await jobs.dispatch(Copy(total=10_000, slow=True), max_attempts=2)
        await wait_until(lambda: jobs.crew.running)
        await asyncio.sleep(0.1)
    async with JobManager(db, REGISTRY, **OPTIONS):
        with pytest.raises(ExecutionFailed, match="of version 2 of the state, this program knows"):
            await handle.result(10)


async def test_what_is_known_is_listed(db: JobDb) -> None:
    jobs = JobManager(db, REGISTRY)
    assert [kind.name for kind in jobs.list_job_types()] == [
        "copy",
        "once",
        "steady",
        "unwanted",
        "waits",
        "wrong",
    ]
    assert jobs.get_job_schema("copy") is not None
    assert jobs.get_job_schema("index") is None
    assert await jobs.list_jobs() == []
    handle = await jobs.dispatch(Copy(total=1))
    assert [info.id for info in await jobs.list_jobs("queued")] == [handle.id]
    assert await jobs.list_jobs(JobStatus.COMPLETED) == []
    assert repr(await jobs.handle(handle.id)) == f"<JobHandle copy {handle.id}>"
    assert await jobs.handle(999) is None
    assert await jobs.get_job_info(999) is None


async def test_jobs_are_listed_by_what_became_of_them(db: JobDb) -> None:
    jobs = JobManager(db, REGISTRY, **OPTIONS)
    done, failed = [await jobs.dispatch(job) for job in (Copy(total=1), Once())]
    async with jobs:
        await jobs.crew.wait_idle()
    queued, paused, cancelled, running = [await jobs.dispatch(Copy(total=1)) for _ in range(4)]
    assert await jobs.pause_job(paused.id)
    assert await jobs.cancel_job(cancelled.id)
    claim = await db.claim_job(running.id, into=TaskStage.RUNNING)
    assert claim is not None
    await db.insert_job(Job(author="mika"))  # of another pipeline
    expected = {
        "queued": queued, "running": running, "completed": done,
        "failed": failed, "cancelled": cancelled, "paused": paused,
    }  # fmt: skip
    assert [status.value for status in JobStatus] == [
        "queued", "running", "paused", "completed", "failed", "cancelled",
    ]  # fmt: skip
    for status, handle in expected.items():
        (info,) = await jobs.list_jobs(status)
        assert (info.id, info.status, info.name) == (
            handle.id, JobStatus(status), "once" if status == "failed" else "copy",
        )  # fmt: skip
        assert (info.completed_at is None) is (status in ("queued", "running", "paused"))
        assert info.created_at is not None
        assert info.error == ("OSError: broken" if status == "failed" else None)
    assert len(await jobs.list_jobs()) == len(expected)
    assert len(await jobs.list_jobs(limit=2)) == 2


async def test_all_running_jobs_are_listed(db: JobDb) -> None:
    task = Job(author="mika", job_type=JobType.TASK, ready=TaskStage.QUEUED, name="copy")
    await db.insert_jobs([task] * 1050)
    for limit in (1000, 50):
        await db.claim_jobs(TaskStage.QUEUED, into=TaskStage.RUNNING, limit=limit)
    assert len(await JobManager(db, REGISTRY).list_running_jobs()) == 1050


async def test_a_job_has_an_id_of_another_system(db: JobDb) -> None:
    jobs = JobManager(db, REGISTRY)
    key = str(uuid4())
    handle = await jobs.dispatch_by_name("copy", {"total": 1}, external_id=key)
    info = await jobs.get_job_info(handle.id)
    assert info is not None
    assert info.external_id == key
    with pytest.raises(Duplicate, match=key):
        await jobs.dispatch(Copy(total=1), external_id=key)
    assert len(await jobs.list_jobs()) == 1


async def test_what_a_handler_raises_is_told_by_its_result(db: JobDb) -> None:
    registry = Registry()
    reasons: list[str] = []

    @registry.job(name="raises")
    class Raises(BaseModel):
        async def run(self, _ctx: JobContext) -> None:
            raise ExecutionFailed("no such device")

    @registry.job(name="stops")
    class Stops(BaseModel):
        async def run(self, ctx: JobContext) -> None:
            try:
                while True:
                    await ctx.check_interrupt()
                    await asyncio.sleep(0.005)
            except Interrupted as interrupted:
                reasons.append(interrupted.reason)
                raise

    async with JobManager(db, registry, **OPTIONS) as jobs:
        raises = await jobs.dispatch(Raises(), max_attempts=1)
        with pytest.raises(ExecutionFailed, match="no such device"):
            await raises.result(10)
        stops = await jobs.dispatch(Stops())
        await wait_until(lambda: jobs.crew.running)
        await jobs.cancel_job(stops.id)
        with pytest.raises(JobCancelled):
            await stops.result(10)
    assert reasons == ["cancel"]


async def test_transient_fields_are_made_anew_when_a_job_goes_on(db: JobDb) -> None:
    registry = Registry()
    met: list[tuple[int, object]] = []

    @registry.job(name="session")
    class Session(BaseModel):
        processed: int = 0
        connection: object = Field(default_factory=object, exclude=True)

        async def run(self, ctx: JobContext) -> int:
            met.append((self.processed, self.connection))
            while self.processed < 50:
                await ctx.check_interrupt()
                await asyncio.sleep(0.01)
                self.processed += 1
                await ctx.checkpoint()
            return self.processed

    async with JobManager(db, registry, **OPTIONS) as jobs:
        handle = await jobs.dispatch(Session())
        await wait_until(lambda: met)
        await asyncio.sleep(0.05)
        await handle.pause()
        await wait_until(lambda: _is(jobs, handle.id, JobStatus.PAUSED))
        await handle.resume()
        assert await handle.result(10) == 50
    (first, one), (second, other) = met
    assert first == 0 < second
    assert one is not other


async def test_what_cannot_be_dispatched_is_refused_and_changes_nothing(db: JobDb) -> None:
    jobs = JobManager(db, REGISTRY)
    with pytest.raises(InvalidInput, match="did you mean copy"):
        await jobs.dispatch_by_name("cpy", {})
    with pytest.raises(InvalidInput) as refused:
        await jobs.dispatch_by_name("copy", {"total": "many"})
    assert refused.value.field == "total"
    with pytest.raises(InvalidInput):
        await jobs.dispatch(Copy(total=1), delay=-1)
    assert await jobs.list_jobs() == []


@pytest.mark.parametrize("job", [Copy(total=1), Once()])
@pytest.mark.parametrize(
    ("field", "value"),
    [("author", ""), ("author", 0), ("author", []), ("max_attempts", "x"), ("max_attempts", 0)],
)
async def test_a_bad_author_or_number_of_attempts_is_refused(
    db: JobDb, job: BaseModel, field: str, value: Any
) -> None:
    jobs = JobManager(db, REGISTRY, author="mika")
    with pytest.raises(InvalidInput) as refused:
        await jobs.dispatch(job, **{field: value})
    assert refused.value.field == field
    assert await jobs.list_jobs() == []
    row = await (await jobs.dispatch(job, author=None, max_attempts=None)).row()
    assert row.author == "mika"


async def test_a_job_that_is_not_known_has_a_handle_too(db: JobDb) -> None:
    task: dict[str, Any] = {"job_type": JobType.TASK, "ready": TaskStage.QUEUED}
    nameless = await db.insert_job(Job(author="mika", **task))
    async with JobManager(db, REGISTRY, **OPTIONS) as jobs:
        known = await jobs.dispatch(Copy(total=1))
        await known.result(10)
    elsewhere = JobManager(db, Registry())
    handle = await elsewhere.handle(known.id)
    assert handle is not None
    assert await handle.result() == {"copied_count": 1, "total_bytes": 0}
    for jobs in (elsewhere, JobManager(db, REGISTRY)):
        waiting = await jobs.handle(nameless)
        assert waiting is not None
        assert await waiting.status() is JobStatus.QUEUED


@pytest.mark.parametrize("timeout", [float("nan"), float("inf"), -1, "x", [], True])
async def test_a_time_to_wait_for_a_result_is_a_number_of_seconds(db: JobDb, timeout: Any) -> None:
    handle = await JobManager(db, REGISTRY).dispatch(Copy(total=1))
    with pytest.raises(InvalidInput, match=r"^timeout is .*; expected a number of seconds") as (
        refused
    ):
        await handle.result(timeout)
    assert refused.value.field == "timeout"


async def test_a_result_that_is_there_takes_no_time(db: JobDb) -> None:
    async with JobManager(db, REGISTRY, **OPTIONS) as jobs:
        handle = await jobs.dispatch(Copy(total=1))
        late = await jobs.dispatch(Copy(total=1), delay=60)
        await handle.result(10)
        assert await handle.result(0) == FileCopyOutput(copied_count=1, total_bytes=0)
        with pytest.raises(TimeoutError, match=f"job {late.id} has not ended within 0 s"):
            await late.result(0)


async def test_a_result_is_awaited_without_looking_again_and_again(
    db: JobDb, db_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0
    look = db.get_jobs_by_ids

    async def counted(ids: Any) -> Any:
        nonlocal looks
        looks += 1
        return await look(ids)

    monkeypatch.setattr(db, "get_jobs_by_ids", counted)
    handle = await JobManager(db, REGISTRY).dispatch(Copy(total=60, slow=True))
    async with JobDb.open(db_url) as other, JobManager(other, REGISTRY, **OPTIONS):
        assert await handle.result(20) == FileCopyOutput(copied_count=60, total_bytes=0)

    events = await db.history(handle.id)
    assert looks <= len(events) + 2


async def test_a_result_that_is_awaited_of_a_closed_handle_is_an_error(db_url: str) -> None:
    async with JobDb.open(db_url) as db:
        await db.init_schema()
        handle = await JobManager(db, REGISTRY).dispatch(Copy(total=1))
        waiting = asyncio.ensure_future(handle.result())
        await asyncio.sleep(0.1)
    with pytest.raises(HandleClosed):
        await asyncio.wait_for(waiting, 5)


@REGISTRY.job(name="steady", resumable=False)
class Steady(BaseModel):
    async def run(self, _ctx: JobContext) -> None:
        seen.append(("steady", 0))
        while not go:
            await asyncio.sleep(0.005)


go: list[bool] = []


async def test_the_pause_of_a_running_job_that_is_not_resumable_is_refused(db: JobDb) -> None:
    go.clear()
    async with JobManager(db, REGISTRY, **OPTIONS) as jobs:
        handle = await jobs.dispatch(Steady())
        await wait_until(lambda: seen)
        before = await db.history(handle.id)
        with pytest.raises(InvalidTransition, match="steady is not resumable"):
            await jobs.pause_job(handle.id)
        with pytest.raises(InvalidTransition, match="steady is not resumable"):
            await handle.pause()
        assert await db.history(handle.id) == before
        go.append(True)
        await handle.result(10)

    waiting = await JobManager(db, REGISTRY).dispatch(Steady())
    assert await JobManager(db, REGISTRY).pause_job(waiting.id) is True


def fail_once(db: JobDb, monkeypatch: pytest.MonkeyPatch, error: PandoraDbError) -> None:
    """The next pause is not taken back."""

    async def failing(_job_id: int) -> None:
        monkeypatch.undo()
        raise error

    monkeypatch.setattr(db, "resume_job", failing)


async def pause_and_tell(db: JobDb, jobs: JobManager, handle: JobHandle) -> None:
    """Pause a running job behind its handle, and have its worker hear of it now."""
    await db.pause_job(handle.id)
    await db.renew_claims(jobs.crew.workers[0].claims)


async def test_a_pause_that_cannot_be_refused_at_once_is_refused_later(
    db: JobDb, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    go.clear()
    resume = db.resume_job
    async with JobManager(db, REGISTRY, **OPTIONS) as jobs:
        handle = await jobs.dispatch(Steady())
        await wait_until(lambda: seen)
        fail_once(db, monkeypatch, LockTimeout("away"))
        await pause_and_tell(db, jobs, handle)
        await wait_until(lambda: db.resume_job == resume)
        assert "is not paused" not in caplog.text
        await wait_until(lambda: "is not paused" in caplog.text)
        assert (await handle.row()).hold == Hold.NONE
        go.append(True)
        await handle.result(10)
    assert "was not taken back: away" in caplog.text
    assert f"job {handle.id} is not resumable: it is not paused" in caplog.text


async def test_a_refusal_of_a_pause_that_fails_keeps_none_from_being_refused_later(
    db: JobDb, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    go.clear()
    async with JobManager(db, REGISTRY, **OPTIONS) as jobs:
        handle = await jobs.dispatch(Steady())
        await wait_until(lambda: seen)
        fail_once(db, monkeypatch, MissingPrivilege("no right"))
        await pause_and_tell(db, jobs, handle)
        await wait_until(lambda: "was not taken back: no right" in caplog.text)
        await db.resume_job(handle.id)
        await db.renew_claims(jobs.crew.workers[0].claims)
        await pause_and_tell(db, jobs, handle)
        await wait_until(lambda: "is not paused" in caplog.text)
        go.append(True)
        await handle.result(10)


async def test_a_manager_starts_while_the_database_is_away(
    db: JobDb, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(_stage: object) -> None:
        raise LockTimeout("away")

    monkeypatch.setattr(db, "name_counts", away)
    async with JobManager(db, REGISTRY, **OPTIONS) as jobs:
        handle = await jobs.dispatch(Unwanted())
        with pytest.raises(JobCancelled):
            await handle.result(10)


async def test_a_key_gives_the_job_that_has_it_whatever_its_class(db: JobDb) -> None:
    async with JobManager(db, REGISTRY, **OPTIONS) as jobs:
        first = await jobs.dispatch(Copy(total=1), idempotency_key="k")
        again = await jobs.dispatch(Steady(), idempotency_key="k")
        assert again.id == first.id
        assert await again.result(10) == FileCopyOutput(copied_count=1, total_bytes=0)


async def test_a_manager_starts_beside_very_many_jobs_without_reading_them(
    db: JobDb, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Job(author="mika", job_type=JobType.TASK, ready=TaskStage.QUEUED, name="unknown")
    await db.insert_jobs([job] * 3000)
    await db.insert_job(Job(author="mika", job_type=JobType.TASK, ready=TaskStage.QUEUED))
    rows = 0
    read = db._session.read

    async def counted(name: str, *args: Any) -> Any:
        nonlocal rows
        found = await read(name, *args)
        rows += len(found)
        return found

    monkeypatch.setattr(db._session, "read", counted)
    assert await JobManager(db, REGISTRY).unknown_jobs() == {"unknown": 3000, "": 1}
    assert rows == 2


async def test_when_a_job_was_begun_and_kept_last_is_known(db: JobDb, raw: Raw) -> None:
    async with JobManager(db, REGISTRY, **OPTIONS) as jobs:
        handle = await jobs.dispatch(Copy(total=10_000, slow=True))
        kept = "SELECT max(at) FROM job_checkpoints WHERE job_id = %s"
        await wait_until(lambda: raw(kept, handle.id) != [(None,)])
        begun = [one for one in await db.history(handle.id) if one.kind is EventKind.CLAIMED]
        ((last,),) = raw(kept, handle.id)
        if isinstance(last, str):
            last = datetime.fromisoformat(f"{last}+00:00")
        assert begun[0].at <= last
        await jobs.cancel_job(handle.id)


async def test_what_a_manager_asks_of_its_own_jobs_is_heard_when_the_call_returns(
    db: JobDb,
) -> None:
    async with JobManager(db, REGISTRY, **OPTIONS) as jobs:
        handle = await jobs.dispatch(Copy(total=10_000, slow=True))
        await wait_until(lambda: jobs.crew.running)
        (claim,) = jobs.crew._claims()
        assert await jobs.pause_job(handle.id) is False
        assert claim.hold is Hold.PAUSE
        await jobs.crew.wait_idle()
        assert await handle.status() is JobStatus.PAUSED
        await jobs.cancel_job(handle.id)
