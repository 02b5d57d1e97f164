"""A pipeline takes jobs from stage to stage, whatever their handlers do."""

from __future__ import annotations

import asyncio
import functools
import inspect
import json
import logging
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, model_serializer

from pandora_db import (
    EventKind,
    InvalidInput,
    Job,
    JobDb,
    JobStatus,
    Limits,
    SchemaMissing,
    Settings,
    Stage,
    StageCode,
)
from pandora_db.runtime import (
    Cancelled,
    Crew,
    Done,
    Fail,
    Handler,
    JobContext,
    Pipeline,
    Progress,
    Snooze,
)
from tests.support.handlers import DOWNLOAD, ENCODE, FAST, UPLOAD, kinds, one_stage, row_of, run_one
from tests.support.raw import Raw
from tests.support.waiting import wait_until


async def test_jobs_walk_the_whole_way(db: JobDb) -> None:
    pipeline = Pipeline()
    seen: list[tuple[str, int]] = []

    @pipeline.stage(*DOWNLOAD, concurrency=2)
    async def download(ctx: JobContext) -> None:
        seen.append(("download", ctx.job_id))

    @pipeline.stage(*ENCODE)
    async def encode(ctx: JobContext) -> None:
        seen.append(("encode", ctx.job_id))
        ctx.progress(Progress.count(3, 4, "pass 1"))

    @pipeline.stage(*UPLOAD, concurrency=3)
    async def upload(ctx: JobContext) -> Done:
        return Done({"url": ctx.job.link}, "upload", "/out.mkv")

    ids = await db.insert_jobs(Job(author="mika", link=f"l{n}") for n in range(10))
    async with pipeline.running(db, **FAST) as crew, asyncio.timeout(20):
        await crew.wait_idle()
        assert crew.running == []

    for number, job_id in enumerate(ids):
        row = await row_of(db, job_id)
        assert (row.status, row.archived) == (JobStatus.COMPLETED, True)
        assert (json.loads(row.output or ""), row.output_kind) == ({"url": f"l{number}"}, "upload")
        assert row.output_file == "/out.mkv"
        assert Progress.of(row) == Progress.count(3, 4, "pass 1")
        assert ("download", job_id) in seen
    assert len(seen) == 20


async def test_at_most_as_many_at_once_as_there_are_hands_and_limits(db: JobDb) -> None:
    at_work = most = 0

    async def handler(ctx: JobContext) -> None:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        await asyncio.sleep(0.02)
        at_work -= 1

    await db.insert_jobs(Job(author="mika") for _ in range(8))
    async with one_stage(handler, concurrency=3).running(db, **FAST) as crew:
        await crew.wait_idle()
    assert most == 3

    most = 0
    await db.insert_jobs(Job(author=f"a{n}") for n in range(4))
    limited = one_stage(handler, concurrency=4, limits=Limits(stage=2))
    async with limited.running(db, **FAST) as crew, asyncio.timeout(20):
        await crew.wait_idle()
        await wait_until(lambda: not crew.running)
    assert most == 2


async def test_a_slow_handler_stops_no_other(db: JobDb) -> None:
    release = asyncio.Event()
    ended: list[int] = []

    async def handler(ctx: JobContext) -> None:
        if ctx.job.link == "slow":
            await release.wait()
        ended.append(ctx.job_id)

    slow = await db.insert_job(Job(author="mika", link="slow"))
    others = await db.insert_jobs(Job(author="mika") for _ in range(5))
    async with one_stage(handler, concurrency=2).running(db, **FAST):
        await wait_until(lambda: ended == others)
        release.set()
        await wait_until(lambda: slow in ended)


async def test_a_job_that_comes_later_is_met(db: JobDb) -> None:
    async def handler(ctx: JobContext) -> None:
        pass

    async with one_stage(handler).running(db, **FAST) as crew:
        await crew.wait_idle()
        job_id = await db.insert_job(Job(author="mika"))
        await wait_until(lambda: _is_at(db, job_id, Stage.DOWNLOADED))


async def _is_at(db: JobDb, job_id: int, stage: Stage) -> bool:
    return (await row_of(db, job_id)).ready == stage


async def test_what_is_raised_fails_the_attempt_and_is_tried_again(db: JobDb) -> None:
    async def handler(ctx: JobContext) -> None:
        raise OSError(f"attempt {ctx.attempt}")

    row = await run_one(db, handler, retry_in=0)

    assert (row.status, row.attempt) == (JobStatus.FAILED, 2)
    assert row.error == "OSError: attempt 2"
    events = await db.history(row.job_id)
    assert [event.detail for event in events if event.kind is EventKind.RETRYING] == [
        "OSError: attempt 1"
    ]


@pytest.mark.parametrize(
    ("returned", "status", "kind"),
    [
        (Fail("no such video", final=True), JobStatus.FAILED, EventKind.FAILED),
        (Fail("later", retry_in=60), JobStatus.QUEUED, EventKind.RETRYING),
        (Snooze(60), JobStatus.QUEUED, EventKind.SNOOZED),
        (Cancelled("spam"), JobStatus.CANCELLED, EventKind.FINISHED),
        ({"size": 5}, JobStatus.QUEUED, EventKind.FINISHED),
    ],
)
async def test_outcomes(db: JobDb, returned: object, status: JobStatus, kind: EventKind) -> None:
    async def handler(ctx: JobContext) -> object:
        return returned

    row = await run_one(db, handler)

    assert (row.status, (await kinds(db, row.job_id))[-1]) == (status, kind)
    if isinstance(returned, Cancelled):
        assert (row.output_kind, json.loads(row.output or "")) == ("cancelled", {"reason": "spam"})
    if isinstance(returned, dict):
        assert json.loads(row.output or "") == returned


class Opened(BaseModel):
    file: Any


class Broken(BaseModel):
    @model_serializer
    def dump(self) -> Any:
        raise RuntimeError("no device")


@pytest.mark.parametrize("resumable", [True, False])
@pytest.mark.parametrize(
    ("output", "said"),
    [
        ({"file": object()}, "a value of type object"),
        (Opened(file=object()), "a value of type Opened that makes no JSON: "),
        ([Broken()], "RuntimeError: no device"),
    ],
)
async def test_an_output_that_cannot_be_kept_fails_the_job_for_good(
    db: JobDb, output: object, said: str, resumable: bool
) -> None:
    async def handler(ctx: JobContext) -> object:
        return output

    row = await run_one(db, handler, resumable=resumable)

    assert (row.status, row.attempt) == (JobStatus.FAILED, 1)
    assert row.error is not None
    assert row.error.startswith("the handler returned what cannot be kept: ")
    assert said in row.error


async def test_an_output_that_cannot_be_kept_stops_no_other(db: JobDb) -> None:
    async def handler(ctx: JobContext) -> object:
        return Opened(file=object() if ctx.job_id == ids[1] else "a")

    ids = await db.insert_jobs(Job(author="mika") for _ in range(3))
    async with one_stage(handler, concurrency=3).running(db, **FAST) as crew:
        await crew.wait_idle()

    found = [(await row_of(db, job_id)).status for job_id in ids]
    assert found == [JobStatus.QUEUED, JobStatus.FAILED, JobStatus.QUEUED]


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (SystemExit(3), "sys.exit(3)"),
        (asyncio.CancelledError(), "nobody had asked"),
        (GeneratorExit(), "GeneratorExit"),
    ],
)
async def test_no_exception_ends_the_worker(db: JobDb, raised: BaseException, said: str) -> None:
    async def handler(ctx: JobContext) -> None:
        raise raised

    row = await run_one(db, handler, retry_in=0)

    assert row.status is JobStatus.FAILED
    assert said in (row.error or "")


async def test_an_attempt_that_takes_too_long_has_failed(db: JobDb) -> None:
    async def handler(ctx: JobContext) -> None:
        await asyncio.sleep(60)

    row = await run_one(db, handler, timeout=0.1, retry_in=0)

    assert row.status is JobStatus.FAILED
    assert row.error == "ExecutionFailed: the attempt took longer than 0.1 s"


@pytest.mark.parametrize("returned", [{"partial": True}, Snooze(60), Cancelled("late")])
async def test_an_attempt_that_takes_too_long_has_failed_whatever_it_returns_when_cut(
    db: JobDb, returned: object
) -> None:
    async def handler(ctx: JobContext) -> object:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        return returned

    row = await run_one(db, handler, timeout=0.1, retry_in=0)

    assert (row.status, row.attempt, row.output) == (JobStatus.FAILED, 2, None)
    assert row.error == "ExecutionFailed: the attempt took longer than 0.1 s"


async def test_an_attempt_that_takes_too_long_is_not_made_again_where_it_is_not_resumable(
    db: JobDb,
) -> None:
    async def handler(ctx: JobContext) -> None:
        await asyncio.sleep(60)

    row = await run_one(db, handler, timeout=0.1, retry_in=0, resumable=False)

    assert (row.status, row.attempt) == (JobStatus.FAILED, 1)


async def test_an_attempt_that_takes_too_long_may_say_that_it_has_failed_for_good(
    db: JobDb,
) -> None:
    async def handler(ctx: JobContext) -> object:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        return Fail("half of it was sent", final=True)

    row = await run_one(db, handler, timeout=0.1, retry_in=0)

    assert (row.status, row.attempt) == (JobStatus.FAILED, 1)
    assert row.error == "half of it was sent"


async def _end_in_a_transaction(ctx: JobContext) -> None:
    async with ctx.db.transaction() as tx:
        await tx.update_job(ctx.claim, priority=7)
        await tx.update_stage(ctx.claim, Stage.DOWNLOADED)


async def _end_by_a_snooze(ctx: JobContext) -> None:
    await ctx.db.snooze_job(ctx.claim, 3600)


@pytest.mark.parametrize(
    ("end", "stage"),
    [(_end_in_a_transaction, Stage.DOWNLOADED), (_end_by_a_snooze, Stage.QUEUED)],
)
@pytest.mark.parametrize("then", ["returns", "tells", "answers", "fails"])
async def test_a_handler_may_end_its_claim_itself(
    db: JobDb, caplog: pytest.LogCaptureFixture, end: Handler, stage: Stage, then: str
) -> None:
    async def handler(ctx: JobContext) -> object:
        if then == "tells":
            ctx.progress(0.5)
        await end(ctx)
        if then == "fails":
            raise ValueError("after the end")
        return "an answer" if then == "answers" else None

    row = await run_one(db, handler)

    assert (row.ready, row.hold, row.output) == (stage, 0, None)
    assert ("has ended the claim itself" in caplog.text) is (then in ("answers", "fails"))


async def test_an_end_of_the_handlers_own_that_is_undone_leaves_the_end_to_its_worker(
    db: JobDb,
) -> None:
    undone = asyncio.Event()
    tasks: list[asyncio.Task[None]] = []

    async def end_and_undo(ctx: JobContext, ended: asyncio.Event) -> None:
        with suppress(ZeroDivisionError):
            async with ctx.db.transaction() as tx:
                await tx.update_stage(ctx.claim, Stage.ENCODED)
                ended.set()
                await asyncio.sleep(0.3)
                undone.set()
                raise ZeroDivisionError

    async def handler(ctx: JobContext) -> None:
        ended = asyncio.Event()
        tasks.append(asyncio.create_task(end_and_undo(ctx, ended)))
        await ended.wait()

    row = await run_one(db, handler)

    assert undone.is_set()
    assert row.ready == Stage.DOWNLOADED
    assert len(tasks) == 1
    assert (await kinds(db, row.job_id))[-1] is EventKind.FINISHED


async def test_workers_that_were_refused_may_begin_later(db_url: str, raw: Raw) -> None:
    raw("ALTER TABLE jobs RENAME TO jobs_of_old")
    async with JobDb.open(db_url, sweep=None) as db:
        crew = one_stage(_nothing).running(db, **FAST)
        with pytest.raises(SchemaMissing):
            await crew.__aenter__()
        raw("ALTER TABLE jobs_of_old RENAME TO jobs")
        job_id = await db.insert_job(Job(author="mika"))
        async with crew:
            await crew.wait_idle()
        assert (await row_of(db, job_id)).ready == Stage.DOWNLOADED
        with pytest.raises(RuntimeError, match="have begun or were stopped before"):
            await crew.__aenter__()


async def test_workers_begin_once_whoever_else_begins_or_stops_them(
    db: JobDb, tmp_path: Path
) -> None:
    crew = one_stage(_nothing).running(db, data_root=tmp_path, keep_data=1.0, **FAST)
    begun = await asyncio.gather(crew.__aenter__(), crew.__aenter__(), return_exceptions=True)
    assert sorted(type(one).__name__ for one in begun) == ["Crew", "RuntimeError"]
    await crew.stop()
    await wait_until(lambda: not [task for task in asyncio.all_tasks() if "Retention" in str(task)])

    stopped = one_stage(_nothing).running(db, **FAST)
    await stopped.stop()
    with pytest.raises(RuntimeError, match="were stopped before"):
        await stopped.__aenter__()


async def test_workers_are_stopped_any_number_of_times(db: JobDb, tmp_path: Path) -> None:
    async def handler(ctx: JobContext) -> None:
        while True:
            await ctx.check_interrupt()
            await asyncio.sleep(0.005)

    job_id = await db.insert_job(Job(author="mika"))
    async with one_stage(handler).running(db, data_root=tmp_path, keep_data=1.0, **FAST) as crew:
        await wait_until(lambda: crew.running)
        await asyncio.gather(*(crew.stop() for _ in range(3)))
        assert crew.running == []
        assert (await row_of(db, job_id)).status is JobStatus.QUEUED
        await crew.stop()
    assert (await kinds(db, job_id)).count(EventKind.RELEASED) == 1


async def test_a_handler_that_swallows_its_cancellation_is_given_up(db: JobDb) -> None:
    release = asyncio.Event()
    begun: list[int] = []
    until = time.monotonic() + 10  # the test ends, whatever it finds

    async def handler(ctx: JobContext) -> None:
        begun.append(ctx.job_id)
        while not release.is_set() and time.monotonic() < until:
            try:
                await asyncio.sleep(0.05)
            except asyncio.CancelledError:
                continue

    ids = await db.insert_jobs(Job(author="mika", max_attempts=1) for _ in range(6))
    pipeline = one_stage(handler, concurrency=2, timeout=0.1)
    async with pipeline.running(db, **FAST) as crew:
        await wait_until(lambda: _all_failed(db, ids[:2]))
        row = await row_of(db, ids[0])
        assert row.error == "the handler went on after it was cancelled"
        # As many as there are hands were given up: nothing more is begun until one of them ends.
        await asyncio.sleep(0.6)
        assert 2 <= len(begun) <= 3
        release.set()
        await wait_until(lambda: begun == ids)
        await crew.wait_idle()
    assert await _is_at(db, ids[5], Stage.DOWNLOADED)


async def _all_failed(db: JobDb, ids: list[int]) -> bool:
    return all(row.status is JobStatus.FAILED for row in await db.get_jobs_by_ids(ids))


async def test_names_and_tags_choose_the_handler(db: JobDb) -> None:
    pipeline = Pipeline()
    seen: dict[str, str | None] = {}

    @pipeline.stage(*DOWNLOAD, names=["video"])
    async def video(ctx: JobContext) -> None:
        seen["video"] = ctx.job.name

    @pipeline.stage(*DOWNLOAD, names=["audio"], tags=["gpu"])
    async def audio(ctx: JobContext) -> None:
        seen["audio"] = ctx.job.name

    await db.insert_job(Job(author="mika", name="video"))
    await db.insert_job(Job(author="mika", name="audio", tags=["gpu"]))
    other = await db.insert_job(Job(author="mika", name="video", tags=["gpu"]))
    async with pipeline.running(db, **FAST) as crew:
        await crew.wait_idle()
    assert seen == {"video": "video", "audio": "audio"}
    assert await _is_at(db, other, Stage.QUEUED)


async def _takes_nothing() -> None: ...


async def _takes_more(session: object, ctx: JobContext) -> None: ...


@functools.wraps(_takes_more)
async def _decorated(ctx: JobContext) -> None:
    await _takes_more(object(), ctx)


async def _nothing(ctx: JobContext) -> None:
    pass


@pytest.mark.parametrize(
    ("arguments", "options", "field"),
    [
        ((Stage.DOWNLOADING, Stage.ENCODING, Stage.ENCODED), {}, "stage"),
        ((Stage.QUEUED, Stage.DOWNLOADED, Stage.ENCODED), {}, "into"),
        ((Stage.DOWNLOADED, Stage.ENCODING, Stage.QUEUED), {}, "after"),
        ((Stage.DOWNLOADED, Stage.ENCODING, Stage.UPLOADING), {}, "after"),
        (DOWNLOAD, {"concurrency": 0}, "concurrency"),
        (DOWNLOAD, {"timeout": -1}, "timeout"),
        (DOWNLOAD, {"lease": "5"}, "lease"),
        (DOWNLOAD, {"limits": 5}, "limits"),
        (DOWNLOAD, {"retry_in": "5"}, "retry_in"),
        (DOWNLOAD, {"resumable": 1}, "resumable"),
        (DOWNLOAD, {"tags": "gpu"}, "tags"),
        (DOWNLOAD, {"concurrency": True}, "concurrency"),
        (DOWNLOAD, {"concurrency": 1001}, "concurrency"),
        (DOWNLOAD, {"timeout": 0}, "timeout"),
        (DOWNLOAD, {"timeout": float("nan")}, "timeout"),
        (DOWNLOAD, {"lease": 0}, "lease"),
        (DOWNLOAD, {"lease": 40_000_000}, "lease"),
        (DOWNLOAD, {"names": True}, "names"),
        (DOWNLOAD, {"names": "abc"}, "names"),
        (DOWNLOAD, {"names": ()}, "names"),
        (DOWNLOAD, {"names": ["video", 5]}, "names"),
        (DOWNLOAD, {"tags": 5}, "tags"),
        (DOWNLOAD, {"checkpoint_every": -1}, "checkpoint_every"),
        (DOWNLOAD, {"checkpoint_every": None}, "checkpoint_every"),
        (DOWNLOAD, {"progress_every": None}, "progress_every"),
    ],
)
def test_a_stage_that_cannot_be_is_refused(arguments: Any, options: Any, field: str) -> None:
    with pytest.raises(InvalidInput, match=r"^\w+ (is|has) .+; expected ") as refused:
        Pipeline().stage(*arguments, **options)(_nothing)
    assert refused.value.field == field


async def test_a_pipeline_that_cannot_run_is_refused(db: JobDb) -> None:
    pipeline = Pipeline()
    with pytest.raises(InvalidInput, match="no stage"):
        pipeline.running(db)
    with pytest.raises(InvalidInput, match="async def"):
        pipeline.stage(*DOWNLOAD)(lambda _: None)  # type: ignore[arg-type, return-value]
    with pytest.raises(InvalidInput, match=r"_takes_nothing\(\).* cannot be called"):
        pipeline.stage(*DOWNLOAD)(_takes_nothing)  # type: ignore[type-var]
    Pipeline().stage(*DOWNLOAD)(_decorated)
    _decorated.__signature__ = inspect.signature(_takes_more)  # type: ignore[attr-defined]
    Pipeline().stage(*DOWNLOAD)(_decorated)
    pipeline.stage(*DOWNLOAD)(_nothing)
    with pytest.raises(InvalidInput, match=r"^db is .*text.*; expected an open JobDb"):
        pipeline.running("p.db")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="have a handler already"):
        pipeline.stage(*DOWNLOAD)(_nothing)
    with pytest.raises(InvalidInput) as refused:
        pipeline.running(db, poll=0)
    assert refused.value.field == "poll"
    pipeline.stage(*ENCODE, lease=db.settings.heartbeat)(_nothing)
    with pytest.raises(InvalidInput, match="more than heartbeat"):
        pipeline.running(db)


async def test_idle_means_that_every_worker_has_looked(db: JobDb) -> None:
    pipeline = Pipeline()
    for way in (DOWNLOAD, ENCODE, UPLOAD):
        pipeline.stage(*way, concurrency=20)(_nothing)
    async with pipeline.running(db, **FAST) as crew:
        for _ in range(5):
            ids = await db.insert_jobs(Job(author="mika") for _ in range(40))
            await crew.wait_idle()
            assert {row.ready for row in await db.get_jobs_by_ids(ids)} == {Stage.UPLOADED}


async def test_a_worker_wakes_for_a_job_of_another_process(db: JobDb, db_url: str) -> None:
    begun = asyncio.Event()

    async def handler(ctx: JobContext) -> None:
        begun.set()

    terms = FAST | {"poll": 60.0}
    async with (
        JobDb.open(db_url, sweep=None) as other,
        one_stage(handler).running(db, **terms) as crew,
    ):
        await crew.wait_idle()
        await asyncio.sleep(1.5)  # the pause before the next look has grown
        await other.insert_job(Job(author="mika"))
        await asyncio.wait_for(begun.wait(), 1.0)


async def test_wait_idle_waits_for_what_a_dead_worker_has_and_does_it(
    db_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Its lease lies there until it runs out, and nobody renews it."""
    done: list[int] = []

    async def handler(ctx: JobContext) -> None:
        done.append(ctx.job_id)

    settings = Settings(lease=1.5, heartbeat=0.3, sweep=None)
    async with JobDb.open(db_url, settings=settings) as db:
        await db.init_schema()
        job_id = await db.insert_job(Job(author="mika"))
        claim = await db.claim_job(job_id, into=Stage.DOWNLOADING)
        assert claim is not None
        claim.lose("as if its process were killed")  # renewed no more
        with caplog.at_level(logging.INFO, "pandora_db"):
            async with one_stage(handler).running(db, **FAST) as crew:
                async with asyncio.timeout(20):
                    await crew.wait_idle()

    assert done == [job_id]
    told = "under leases of other workers, 1 job: "
    assert f"{told}these come here if their leases run out" in caplog.text
    assert f"{told}waiting until these are renewed or run out" in caplog.text
    assert f"recovered job {job_id}" in caplog.text


async def test_wait_idle_does_not_wait_for_a_worker_that_lives(db_url: str) -> None:
    async def handler(_ctx: JobContext) -> None: ...

    settings = Settings(lease=60.0, heartbeat=0.2)
    async with (
        JobDb.open(db_url, settings=settings) as db,
        JobDb.open(db_url, settings=settings) as other,
    ):
        await db.init_schema()
        job_id = await db.insert_job(Job(author="mika"))
        claim = await other.claim_job(job_id, into=Stage.DOWNLOADING)
        assert claim is not None
        async with one_stage(handler).running(db, **FAST) as crew:
            async with asyncio.timeout(10):
                await crew.wait_idle()
        assert (await row_of(db, job_id)).ready == Stage.DOWNLOADING
        await other.release_job(claim)


async def test_a_pause_that_cannot_be_met_is_taken_back(
    db: JobDb, caplog: pytest.LogCaptureFixture
) -> None:
    go = asyncio.Event()

    async def handler(_ctx: JobContext) -> None:
        await go.wait()

    job_id = await db.insert_job(Job(author="mika"))
    async with one_stage(handler, resumable=False).running(db, **FAST) as crew:
        await wait_until(lambda: crew.running)
        assert await db.pause_job(job_id) is False

        async def taken_back() -> bool:
            return EventKind.RESUMED in await kinds(db, job_id)

        await wait_until(taken_back, timeout=5)
        assert (await row_of(db, job_id)).hold == 0
        go.set()
        await crew.wait_idle()

    assert (await row_of(db, job_id)).ready == Stage.DOWNLOADED
    assert f"job {job_id} is not resumable: it is not paused" in caplog.text


async def test_wait_idle_returns_when_the_workers_are_over(db: JobDb, db_url: str) -> None:
    pipeline = Pipeline()
    begun = asyncio.Event()

    @pipeline.stage(*DOWNLOAD)
    async def download(_: JobContext) -> None:
        begun.set()
        await asyncio.sleep(60)

    await db.insert_job(Job(author="mika"))
    crew = pipeline.running(db, **FAST | {"shutdown_timeout": 0.2})
    with pytest.raises(RuntimeError, match="have not begun"):
        await crew.wait_idle()
    async with crew:
        await begun.wait()
        waiting = asyncio.create_task(crew.wait_idle())
        await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await waiting

    async with JobDb.open(db_url, sweep=None) as other, pipeline.running(other, **FAST) as crew:
        waiting = asyncio.create_task(crew.wait_idle())
        await other.close()
        async with asyncio.timeout(5):
            await waiting


async def test_an_end_that_is_lost_hides_no_other(
    db: JobDb, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost, _ = await db.insert_jobs([Job(author="mika", ready=Stage.ENCODED) for _ in range(2)])
    pipeline = Pipeline()
    taken = asyncio.Event()

    @pipeline.stage(Stage.ENCODED, Stage.UPLOADING, Stage.UPLOADED, concurrency=2)
    async def upload(ctx: JobContext) -> None:
        if ctx.job_id == lost:
            await db.update_stage(lost, Stage.FAILED)  # its claim is gone
            taken.set()
        await taken.wait()

    told: list[StageCode] = []
    monkeypatch.setattr(Crew, "_hand_on", lambda _, stage: told.append(stage))
    async with pipeline.running(db) as crew:
        await wait_until(lambda: taken.is_set() and not crew.running)
        await crew.wait_idle()

    assert told == [Stage.UPLOADED]
