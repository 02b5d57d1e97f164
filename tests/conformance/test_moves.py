"""Moving jobs along, changing them and taking them out, on both dialects."""

from __future__ import annotations

import asyncio
import itertools
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from pandora_db import (
    EventKind,
    Hold,
    InvalidTransition,
    JobDb,
    JobRow,
    JobStatus,
    NotFound,
    Stage,
    StageKind,
    TaskStage,
    UnknownCode,
)
from pandora_db.testing import insert_job_at, make_job
from tests.support.raw import Raw

LIVE = [stage for stage in Stage if not stage.terminal]
ENDED = [stage for stage in Stage if stage.terminal]
WAITING = [stage for stage in LIVE if stage.kind is StageKind.WAITING]
WORKING = [stage for stage in LIVE if stage.kind is StageKind.WORKING]
MISSING = 404


async def row_of(db: JobDb, job_id: int) -> JobRow:
    row = await db.get_job(job_id)
    assert row is not None
    return row


async def kinds_of(db: JobDb, job_id: int) -> list[EventKind]:
    return [event.kind for event in await db.history(job_id)]


async def test_update_stage_walks_the_whole_pipeline(db: JobDb) -> None:
    job_id = await db.insert_job(make_job())
    walk = [Stage(code) for code in range(1, 7)]

    for stage in walk:
        await db.update_stage(job_id, stage)
        assert (await row_of(db, job_id)).ready == stage

    assert [event.stage for event in await db.history(job_id)] == [Stage.QUEUED, *walk]
    row = await row_of(db, job_id)
    assert (row.archived, row.completed_at) == (False, None)


async def test_update_stage_keeps_the_stage_rules(db: JobDb) -> None:
    """Forward and staying are allowed; back, and out of a terminal stage, are not."""
    for current, wanted in itertools.product(Stage, Stage):
        job_id = await insert_job_at(db, current, archived=False)
        before = await row_of(db, job_id)
        length = len(await db.history(job_id))

        if current == wanted or (current in LIVE and wanted > current):
            await db.update_stage(job_id, wanted)
            assert (await row_of(db, job_id)).ready == wanted, (current, wanted)
            assert len(await db.history(job_id)) == length + (current != wanted)
        else:
            advice = "retry_job" if current.terminal else "requeue_job"
            with pytest.raises(InvalidTransition, match=rf"(?i){current.name}.*{advice}"):
                await db.update_stage(job_id, wanted)
            assert await row_of(db, job_id) == before
            assert len(await db.history(job_id)) == length


async def test_update_stage_takes_the_number_of_a_stage(db: JobDb) -> None:
    job_id = await db.insert_job(make_job())

    await db.update_stage(job_id, 3)

    assert (await row_of(db, job_id)).ready == Stage.ENCODING


async def test_update_stage_takes_a_job_from_a_stage_nobody_knows_nowhere(
    db: JobDb, raw: Raw
) -> None:
    job_id = await db.insert_job(make_job())
    raw("UPDATE jobs SET ready = 42 WHERE job_id = %s", job_id)

    with pytest.raises(UnknownCode, match="42"):
        await db.update_stage(job_id, Stage.UPLOADED)

    assert (await row_of(db, job_id)).ready == 42


async def test_update_stage_revokes_a_lease(db: JobDb, raw: Raw) -> None:
    job_id = await insert_job_at(db, Stage.ENCODING)
    lease = (
        "UPDATE jobs SET lease_token = 7, lease_owner = 'w', lease_until = '2099-01-01 00:00:00' "
        "WHERE job_id = %s"
    )
    look = "SELECT lease_token, lease_owner, lease_until FROM jobs WHERE job_id = %s"

    raw(lease, job_id)
    await db.update_stage(job_id, Stage.ENCODING)
    assert raw(look, job_id) == [(None, None, None)]

    raw(lease, job_id)
    await db.update_stage(job_id, Stage.ENCODED)
    assert raw(look, job_id) == [(None, None, None)]


async def test_archive_job_sets_the_time_once(db: JobDb) -> None:
    job_id = await insert_job_at(db, Stage.ENCODING)

    await db.archive_job(job_id)
    first = await row_of(db, job_id)
    await asyncio.sleep(0.01)
    await db.archive_job(job_id)

    assert first.archived
    assert first.completed_at is not None
    assert first.ready == Stage.ENCODING
    assert await row_of(db, job_id) == first
    assert await kinds_of(db, job_id) == [EventKind.INSERTED, EventKind.STAGE, EventKind.ARCHIVED]


async def test_archive_job_keeps_a_time_that_another_program_set(db: JobDb, raw: Raw) -> None:
    job_id = await db.insert_job(make_job())
    raw("UPDATE jobs SET completed_at = '2026-01-02 03:04:05' WHERE job_id = %s", job_id)

    await db.archive_job(job_id)

    row = await row_of(db, job_id)
    assert row.archived
    assert row.completed_at == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


async def test_retry_job_takes_an_ended_job_to_the_first_stage(db: JobDb) -> None:
    for stage in ENDED:
        job_id = await insert_job_at(db, stage)
        await db.update_job(job_id, error="it broke", progress=0.9)

        await db.retry_job(job_id)

        row = await row_of(db, job_id)
        assert (row.ready, row.archived, row.completed_at, row.error, row.progress, row.hold) == (
            Stage.QUEUED, False, None, None, None, 0,
        )  # fmt: skip
        last = (await db.history(job_id))[-1]
        assert (last.kind, last.stage, last.previous, last.detail) == (
            EventKind.RETRIED, Stage.QUEUED, stage, "it broke",
        )  # fmt: skip
        assert job_id in [job.job_id for job in await db.get_jobs_by_stage(Stage.QUEUED)]


@pytest.mark.parametrize("move", ["retry_job", "requeue_job"])
async def test_who_goes_back_is_nowhere_yet_and_keeps_its_notes(db: JobDb, move: str) -> None:
    notes = {"warnings": ["odd"], "counts": {"warnings": 1}}
    told = {"kind": "count", "done": 8, "total": 20}
    noted = await db.insert_job(make_job())
    bare = await db.insert_job(make_job())
    for job_id, data in ((noted, {**told, "notes": notes}), (bare, told)):
        await db.update_stage(job_id, Stage.ENCODING)
        await db.update_job(job_id, progress=0.4, current_step="segment 8", progress_data=data)
        if move == "retry_job":
            await db.update_stage(job_id, Stage.FAILED)
        await getattr(db, move)(job_id)

    first, second = await db.get_jobs_by_ids([noted, bare])
    assert (first.progress, first.current_step) == (second.progress, second.current_step)
    assert (first.progress, first.current_step) == (None, None)
    assert json.loads(first.progress_data or "") == {"notes": notes}
    assert second.progress_data is None


async def test_who_is_cancelled_keeps_how_far_it_was(db: JobDb) -> None:
    job_id = await db.insert_job(make_job())
    told = {"kind": "count", "done": 8, "total": 20}
    await db.update_job(job_id, progress=0.4, current_step="segment 8", progress_data=told)
    assert await db.cancel_job(job_id)

    row = await db.get_job(job_id)
    assert row is not None
    assert (row.progress, row.current_step) == (0.4, "segment 8")
    assert json.loads(row.progress_data or "") == told


async def test_retry_job_refuses_a_job_that_has_not_ended(db: JobDb) -> None:
    for stage in LIVE:
        job_id = await insert_job_at(db, stage)
        before = await row_of(db, job_id)
        waits = stage is Stage.QUEUED
        advice = "and waits for a worker already" if waits else r"requeue_job\(\) takes it back"

        with pytest.raises(
            InvalidTransition, match=f"cannot be retried: it has not ended.*{advice}"
        ):
            await db.retry_job(job_id)

        assert await row_of(db, job_id) == before

    job_id = await insert_job_at(db, Stage.QUEUED)
    await db.pause_job(job_id)
    with pytest.raises(InvalidTransition, match=r"resume_job\(\) lets it go on"):
        await db.retry_job(job_id)


async def test_a_move_to_another_pipeline_is_refused_by_its_name(db: JobDb) -> None:
    job_id = await insert_job_at(db, Stage.QUEUED)

    told = "is Queued and cannot become Queued of the pipeline Task: it stays in its own, .* Encode"
    with pytest.raises(InvalidTransition, match=told):
        await db.update_stage(job_id, TaskStage.QUEUED)


async def test_requeue_job_takes_a_live_job_to_the_first_stage(db: JobDb) -> None:
    for stage in LIVE:
        job_id = await insert_job_at(db, stage)
        length = len(await db.history(job_id))

        await db.requeue_job(job_id)

        assert (await row_of(db, job_id)).ready == Stage.QUEUED
        events = await db.history(job_id)
        assert len(events) == length + (stage is not Stage.QUEUED)
        if stage is not Stage.QUEUED:
            assert (events[-1].kind, events[-1].previous) == (EventKind.REQUEUED, stage)


async def test_requeue_job_refuses_a_job_that_has_ended(db: JobDb) -> None:
    for stage in ENDED:
        job_id = await insert_job_at(db, stage)
        before = await row_of(db, job_id)

        with pytest.raises(InvalidTransition, match="has ended; retry_job"):
            await db.requeue_job(job_id)

        assert await row_of(db, job_id) == before


async def test_requeue_job_takes_a_job_from_a_stage_nobody_knows(db: JobDb, raw: Raw) -> None:
    job_id = await db.insert_job(make_job())
    raw("UPDATE jobs SET ready = 42 WHERE job_id = %s", job_id)

    await db.requeue_job(job_id)

    assert (await row_of(db, job_id)).ready == Stage.QUEUED


async def test_cancel_job_cancels_a_waiting_job_at_once(db: JobDb) -> None:
    for stage in WAITING:
        job_id = await insert_job_at(db, stage)

        assert await db.cancel_job(job_id) is True

        row = await row_of(db, job_id)
        assert (row.ready, row.archived, row.status) == (Stage.CANCELLED, True, JobStatus.CANCELLED)
        assert row.completed_at is not None
        assert await db.cancel_job(job_id) is True
        assert (await kinds_of(db, job_id)).count(EventKind.CANCELLED) == 1


async def test_cancel_job_asks_the_worker_of_a_working_job(db: JobDb, raw: Raw) -> None:
    for stage in WORKING:
        job_id = await insert_job_at(db, stage)
        raw("UPDATE jobs SET lease_token = 7, progress = 0.5 WHERE job_id = %s", job_id)

        assert await db.cancel_job(job_id) is False
        assert await db.cancel_job(job_id) is False

        row = await row_of(db, job_id)
        assert (row.ready, row.hold, row.archived, row.progress) == (stage, Hold.CANCEL, False, 0.5)
        assert raw("SELECT lease_token FROM jobs WHERE job_id = %s", job_id) == [(7,)]
        assert (await kinds_of(db, job_id)).count(EventKind.CANCEL_REQUESTED) == 1


async def test_cancel_job_ends_what_was_archived_at_work(db: JobDb) -> None:
    job_id = await insert_job_at(db, Stage.ENCODING)
    await db.archive_job(job_id)

    assert await db.cancel_job(job_id) is True
    row = await row_of(db, job_id)
    assert (row.ready, row.archived, row.status) == (Stage.CANCELLED, True, JobStatus.CANCELLED)


async def test_cancel_job_refuses_a_job_that_ended_otherwise(db: JobDb) -> None:
    for stage in (Stage.UPLOADED, Stage.FAILED, Stage.DECLINED):
        job_id = await insert_job_at(db, stage)
        before = await row_of(db, job_id)

        with pytest.raises(InvalidTransition, match="it has ended"):
            await db.cancel_job(job_id)

        assert await row_of(db, job_id) == before


async def test_decline_job_archives_with_the_reason(db: JobDb) -> None:
    job_id = await db.insert_job(make_job())

    await db.decline_job(job_id, reason="not today")
    await db.decline_job(job_id, reason="twice is once")

    row = await row_of(db, job_id)
    assert (row.ready, row.archived, row.error) == (Stage.DECLINED, True, "not today")
    events = await db.history(job_id)
    assert [event.kind for event in events] == [EventKind.INSERTED, EventKind.DECLINED]
    assert events[-1].detail == "not today"


async def test_decline_job_refuses_a_job_in_work_and_one_that_ended(db: JobDb) -> None:
    working = await insert_job_at(db, Stage.ENCODING)
    ended = await insert_job_at(db, Stage.UPLOADED)

    with pytest.raises(InvalidTransition, match="a worker has it; cancel_job"):
        await db.decline_job(working)
    with pytest.raises(InvalidTransition, match="it has ended"):
        await db.decline_job(ended)

    assert [row.ready for row in await db.get_jobs_by_ids([working, ended])] == [3, 6]


async def test_delete_job_takes_the_events_along_and_leaves_a_line(db: JobDb, raw: Raw) -> None:
    job_id = await insert_job_at(db, Stage.FAILED)
    other = await insert_job_at(db, Stage.FAILED)

    await db.delete_job(job_id)

    assert await db.get_job(job_id) is None
    assert raw("SELECT count(*) FROM job_events WHERE job_id = %s", job_id) == [(0,)]
    (line,) = await db.history(job_id)
    assert (line.kind, line.stage) == (EventKind.DELETED, Stage.FAILED)
    assert line.operation_id is not None
    assert len(await db.history(other)) == 4
    with pytest.raises(NotFound):
        await db.delete_job(job_id)


async def test_delete_job_in_a_crowd_signs_each_deletion(db: JobDb) -> None:
    ids = await db.insert_jobs(make_job() for _ in range(20))

    await asyncio.gather(*(db.delete_job(job_id) for job_id in ids))

    lines = [await db.history(job_id) for job_id in ids]
    assert [len(line) for line in lines] == [1] * 20
    assert len({line[0].operation_id for line in lines}) == 20


async def test_a_missing_job_is_not_found(db: JobDb) -> None:
    moves: dict[str, dict[str, Any]] = {
        "update_stage": {"stage": 1},
        "update_job": {"priority": 1},
        "archive_job": {},
        "retry_job": {},
        "requeue_job": {},
        "cancel_job": {},
        "decline_job": {},
        "delete_job": {},
    }
    for method, arguments in moves.items():
        with pytest.raises(NotFound, match="there is no job 404") as caught:
            await getattr(db, method)(MISSING, **arguments)
        assert caught.value.job_id == MISSING
        assert isinstance(caught.value, LookupError)

    assert await db.history(MISSING) == []


async def test_thirty_concurrent_writes_to_one_job_end_in_order_of_arrival(db: JobDb) -> None:
    job_id = await db.insert_job(make_job())

    await asyncio.gather(*(db.update_job(job_id, priority=n) for n in range(30)))

    assert (await row_of(db, job_id)).priority == 29
    events = await db.history(job_id)
    assert [event.seq for event in events] == list(range(1, 32))


async def test_concurrent_writes_of_every_kind_leave_no_gap(db: JobDb) -> None:
    ids = await db.insert_jobs(make_job() for _ in range(10))

    async def storm(job_id: int, n: int) -> None:
        match n % 4:
            case 0:
                await db.update_job(job_id, priority=n)
            case 1:
                await db.update_stage(job_id, Stage.DOWNLOADING)
            case 2:
                await db.requeue_job(job_id)
            case _:
                await db.cancel_job(job_id)

    outcomes = await asyncio.gather(
        *(storm(job_id, n) for n in range(24) for job_id in ids), return_exceptions=True
    )

    assert {type(one) for one in outcomes} <= {type(None), InvalidTransition}
    for job_id in ids:
        events = await db.history(job_id)
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        assert events[-1].stage == (await row_of(db, job_id)).ready


async def test_racing_cancels_and_declines_have_one_winner(db: JobDb) -> None:
    for _ in range(10):
        job_id = await db.insert_job(make_job())

        await asyncio.gather(
            *(db.cancel_job(job_id) for _ in range(5)),
            *(db.decline_job(job_id, reason="no") for _ in range(5)),
            return_exceptions=True,
        )

        kinds = await kinds_of(db, job_id)
        assert len(kinds) == 2
        row = await row_of(db, job_id)
        wanted = {Stage.CANCELLED: EventKind.CANCELLED, Stage.DECLINED: EventKind.DECLINED}
        assert kinds[1] == wanted[Stage(row.ready)]
