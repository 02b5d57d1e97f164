"""Jobs of other pipelines than Encode, on both dialects: tasks, and what users define."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pandora_db import (
    EventKind,
    ForeignSchema,
    Hold,
    InvalidInput,
    InvalidTransition,
    Job,
    JobDb,
    JobRow,
    JobStatus,
    JobType,
    LeaseLost,
    SchemaMissing,
    Stage,
    StageCode,
    StageKind,
    TaskStage,
    UnknownCode,
    define_pipeline,
)
from pandora_db.testing import insert_job_at, make_job
from tests.support.pipelines import Audiobook, define_audiobook
from tests.support.raw import Raw

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

EXPIRE = "UPDATE jobs SET lease_until = '2000-01-01 00:00:00' WHERE lease_token IS NOT NULL"
STAGES = "SELECT code, pipeline, name, kind, returns_to FROM stages WHERE pipeline = 200"


@pytest.fixture
async def books(db: JobDb) -> JobDb:
    """A handle on a database that knows the pipeline Audiobook."""
    define_audiobook()
    await db.init_schema()
    return db


async def row_of(db: JobDb, job_id: int) -> JobRow:
    row = await db.get_job(job_id)
    assert row is not None
    return row


async def test_a_task_goes_through_its_stages(db: JobDb) -> None:
    job_id = await db.insert_job(Job(author="mika", job_type=JobType.TASK, name="index"))
    assert await db.claim_jobs(Stage.QUEUED, into=Stage.DOWNLOADING) == []

    (claim,) = await db.claim_jobs(TaskStage.QUEUED, into=TaskStage.RUNNING, names=["index"])
    assert claim.stage is TaskStage.RUNNING
    await db.save_checkpoint(claim, {"at": 1})
    assert await db.release_job(claim) is TaskStage.QUEUED

    again = await db.claim_job(job_id, into=101)
    assert again is not None
    assert again.stage is TaskStage.RUNNING
    assert await db.load_checkpoint(again) == {"at": 1}
    assert await db.finish_job(again, TaskStage.COMPLETED, output=3) is TaskStage.COMPLETED

    row = await row_of(db, job_id)
    assert (row.job_type, row.ready, row.archived) == (100, 102, True)
    data = row.to_job_metadata()
    assert (data.ready, data.job_type) == (TaskStage.COMPLETED, JobType.TASK)
    assert data.status is JobStatus.COMPLETED
    assert "Queued → Running" in str((await db.history(job_id))[1])


async def test_a_pipeline_of_ones_own_from_draft_to_end(books: JobDb) -> None:
    job_id = await books.insert_job(Job(author="mika", job_type=200))
    assert (await row_of(books, job_id)).ready == Audiobook.PREPARING
    assert await books.claim_job(job_id, into=Audiobook.CONVERTING) is None

    await books.update_stage(job_id, Audiobook.QUEUED)
    (claim,) = await books.claim_jobs(Audiobook.QUEUED, into=310, job_type=200)
    assert claim.stage is Audiobook.CONVERTING
    await books.update_stage(claim, 320)
    (claim,) = await books.claim_jobs(Audiobook.CONVERTED, into=Audiobook.TAGGING)
    assert not await books.fail_job(claim, "no cover", final=True)

    row = await row_of(books, job_id)
    assert (row.ready, row.archived, row.error) == (Audiobook.FAILED, True, "no cover")
    assert await books.get_jobs(status=JobStatus.FAILED, job_type=200) == [row]
    await books.retry_job(job_id)
    assert await books.stage_counts() == {Audiobook.QUEUED: 1}
    assert [type(stage) for stage in await books.stage_counts()] == [Audiobook]
    assert [job.job_id for job in await books.get_jobs_by_stage(301)] == [job_id]
    assert await books.queue_position(job_id) == 1


async def test_the_table_of_stages_names_them_for_people(books: JobDb, raw: Raw) -> None:
    rows = raw(STAGES + " ORDER BY code")

    assert rows[:3] == [
        (300, 200, "Preparing", "draft", None),
        (301, 200, "Queued", "waiting", None),
        (310, 200, "Converting", "working", 301),
    ]
    assert len(rows) == len(Audiobook)
    await books.init_schema()
    assert await books.verify_schema() == []
    await insert_job_at(books, Audiobook.TAGGING)
    assert raw("SELECT stage, kind FROM job_overview") == [("Tagging", "working")]


@pytest.mark.parametrize("stage", list(Audiobook))
async def test_where_moves_take_a_job_of_another_pipeline(books: JobDb, stage: StageCode) -> None:
    moves: list[tuple[Callable[[int], Awaitable[object]], int | None]] = [
        (books.requeue_job, None if stage.terminal else Audiobook.QUEUED),
        (books.retry_job, Audiobook.QUEUED if stage.terminal else None),
        (books.cancel_job, None if stage.terminal else Audiobook.CANCELLED),
        (books.decline_job, None if stage.terminal else Audiobook.CANCELLED),
    ]
    for move, wanted in moves:
        job_id = await insert_job_at(books, stage)
        asked = move == books.cancel_job and stage.kind is StageKind.WORKING
        refused = move == books.decline_job and stage.kind is StageKind.WORKING
        there = stage is Audiobook.CANCELLED and move in (books.cancel_job, books.decline_job)
        if refused or (wanted is None and not there):
            with pytest.raises(InvalidTransition):
                await move(job_id)
        else:
            await move(job_id)
        row = await row_of(books, job_id)
        assert row.ready == (stage if asked or refused or wanted is None else wanted), move
        assert row.hold == (Hold.CANCEL if asked else Hold.NONE)
        assert row.job_type == 200


async def test_recovery_takes_jobs_back_by_the_table(books: JobDb, raw: Raw) -> None:
    kept = await insert_job_at(books, Audiobook.CONVERTED)
    spent = await insert_job_at(books, TaskStage.QUEUED, max_attempts=1)
    doomed = await insert_job_at(books, Audiobook.QUEUED)
    tagging = await books.claim_job(kept, into=Audiobook.TAGGING)
    await books.claim_job(spent, into=TaskStage.RUNNING)
    await books.claim_job(doomed, into=Audiobook.CONVERTING)
    await books.cancel_job(doomed)
    raw(EXPIRE)

    report = await books.recover()

    assert (report.requeued, report.failed, report.cancelled) == ((kept,), (spent,), (doomed,))
    assert (await row_of(books, kept)).ready == Audiobook.CONVERTED
    assert (await row_of(books, spent)).ready == TaskStage.FAILED
    assert (await row_of(books, doomed)).ready == Audiobook.CANCELLED
    assert tagging is not None
    with pytest.raises(LeaseLost):
        await books.finish_job(tagging, Audiobook.DONE)


async def test_stages_of_two_pipelines_do_not_mix(books: JobDb) -> None:
    encode = await books.insert_job(make_job())
    book = await insert_job_at(books, Audiobook.QUEUED)
    for job_id, stage in ((encode, 301), (encode, 101), (book, Stage.ENCODING), (book, 104)):
        before = await row_of(books, job_id)
        with pytest.raises(InvalidTransition):
            await books.update_stage(job_id, stage)
        assert await row_of(books, job_id) == before
    claim = await books.claim_job(book, into=Audiobook.CONVERTING)
    assert claim is not None
    for stage in (Stage.UPLOADED, TaskStage.COMPLETED, Audiobook.QUEUED):
        with pytest.raises(InvalidTransition):
            await books.finish_job(claim, stage)
    with pytest.raises(InvalidInput, match="goes no way from"):
        await books.claim_jobs(Stage.QUEUED, into=Audiobook.CONVERTING)
    assert await books.claim_job(encode, into=Audiobook.CONVERTING) is None


async def test_a_job_of_an_unknown_stage_is_requeued_by_its_type(books: JobDb, raw: Raw) -> None:
    cases: list[tuple[Any, int]] = [(200, 301), (100, 100), (1, 0), (17, 0), (None, 0)]
    for job_type, wanted in cases:
        job_id = await books.insert_job(make_job())
        raw("UPDATE jobs SET ready = 42, job_type = %s WHERE job_id = %s", job_type, job_id)
        assert (await row_of(books, job_id)).ready == 42
        await books.requeue_job(job_id)
        assert (await row_of(books, job_id)).ready == wanted

    job_id = await books.insert_job(make_job())
    raw("UPDATE jobs SET ready = 777, job_type = 250 WHERE job_id = %s", job_id)
    with pytest.raises(UnknownCode, match="job_type 250 is unknown; known are 1 ENCODE, 100 TASK"):
        await books.requeue_job(job_id)
    assert (await row_of(books, job_id)).ready == 777


CALLS: list[Callable[[JobDb], Awaitable[object]]] = [
    lambda db: db.insert_job(make_job(job_type=200)),
    lambda db: db.insert_job(make_job(ready=301), max_active=5),
    lambda db: db.insert_jobs([make_job(), make_job(ready=301)]),
    lambda db: db.insert_jobs([make_job(job_type=200, external_id="e")]),
    lambda db: db.claim_jobs(301, into=310),
    lambda db: db.claim_job(1, into=310),
]


@pytest.mark.parametrize("call", CALLS)
async def test_a_pipeline_defined_after_init_schema(
    db: JobDb, call: Callable[[JobDb], Awaitable[object]]
) -> None:
    await db.insert_job(make_job(job_id=1))
    define_audiobook()

    with pytest.raises(
        SchemaMissing,
        match=r"does not know the pipeline Audiobook \(job type 200\) yet; call init_schema\(\)",
    ):
        await call(db)
    assert await db.count_jobs() == 1
    assert {one.kind for one in await db.verify_schema()} == {"stage"}

    await db.init_schema()
    await call(db)
    async with db.transaction() as tx:
        assert await tx.insert_job(make_job(job_type=200)) > 1


async def test_another_program_that_lacks_the_pipeline_reads_its_jobs(db: JobDb, raw: Raw) -> None:
    raw("INSERT INTO stages VALUES (600, 210, 'Queued', 'waiting', NULL)")
    raw("INSERT INTO jobs (job_id, author, job_type, ready) VALUES (5, 'x', 210, 600)")
    await db.init_schema()

    assert (await row_of(db, 5)).ready == 600
    assert await db.stage_counts() == {600: 1}
    with pytest.raises(UnknownCode, match=r"known are .*100 TaskStage\.QUEUED"):
        await db.cancel_job(5)
    await db.archive_job(5)
    assert [event.kind for event in await db.history(5)][-1] is EventKind.ARCHIVED


FOREIGN = [
    ("UPDATE stages SET name = 'Cutting' WHERE code = 310", r"stage 310 .*'Cutting'.*'Converting'"),
    ("UPDATE stages SET kind = 'draft' WHERE code = 301", r"'Queued' \(draft .*\(waiting of job"),
    ("UPDATE stages SET returns_to = 300 WHERE code = 310", "returning to 300.*returning to 301"),
    ("UPDATE stages SET pipeline = 201 WHERE code = 310", "of job type 201.*of job type 200"),
    ("INSERT INTO stages VALUES (315, 7, 'Cutting', 'draft', NULL)", "among the codes of Audiob"),
    ("UPDATE stages SET code = code + 500 WHERE pipeline = 200", "job type 200 is Audiobook in th"),
]


@pytest.mark.parametrize(("change", "message"), FOREIGN)
async def test_what_means_something_else_in_the_database_is_refused(
    db_url: str, books: JobDb, raw: Raw, change: str, message: str
) -> None:
    raw(change)
    before = raw("SELECT * FROM stages ORDER BY code")

    async with JobDb.open(db_url, sweep=None) as other:
        with pytest.raises(ForeignSchema, match=message):
            await other.init_schema()
        with pytest.raises(ForeignSchema, match=message):
            await other.insert_job(make_job(job_type=200))
        assert await other.insert_job(make_job()) > 0

    assert raw("SELECT * FROM stages ORDER BY code") == before
    assert await books.count_jobs(job_type=200) == 0


async def test_a_later_version_of_a_pipeline_adds_stages(books: JobDb, raw: Raw) -> None:
    raw("DELETE FROM stages WHERE code IN (320, 330)")  # as if the first had come without them

    await books.init_schema()

    assert len(raw(STAGES)) == len(Audiobook)
    raw("INSERT INTO stages VALUES (325, 200, 'Later', 'waiting', NULL)")
    await books.init_schema()
    assert await books.verify_schema() == []


async def test_policies_tell_stages_as_members(books: JobDb, raw: Raw) -> None:
    await books.set_recovery_policy("fail", stage=Audiobook.CONVERTING)
    raw("INSERT INTO recovery_policies VALUES ('stage', '999', 'requeue')")

    policies = await books.get_recovery_policies()

    assert policies == {Audiobook.CONVERTING: "fail", 999: "requeue"}
    assert {type(stage) for stage in policies} == {Audiobook, int}


async def test_a_new_pipeline_needs_no_ddl(books: JobDb) -> None:
    @define_pipeline(job_type=230, name="Later")
    class Later(StageCode):
        QUEUED = 800, StageKind.WAITING
        WORKING = 801, StageKind.WORKING
        DONE = 850, StageKind.DONE
        FAILED = 851, StageKind.FAILED
        DECLINED = 852, StageKind.CANCELLED
        CANCELLED = 853, StageKind.CANCELLED

    assert not (await books.plan_schema()).pending
    await books.init_schema()
    job_id = await books.insert_job(Job(author="mika", ready=Later.QUEUED))
    other = await insert_job_at(books, Later.QUEUED)

    await books.decline_job(job_id, reason="not today")
    assert await books.cancel_job(other)

    assert (await row_of(books, job_id)).ready == Later.DECLINED
    assert (await row_of(books, other)).ready == Later.CANCELLED
