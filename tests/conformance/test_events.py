"""`history()`: gapless, append-only, and written for other programs too."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from pandora_db import EventKind, JobDb, Stage
from pandora_db.testing import insert_job_at, make_job

if TYPE_CHECKING:
    from tests.support.raw import Raw


async def test_history_tells_everything_that_happened(db: JobDb) -> None:
    calls = {name: uuid4() for name in ("insert", "stage", "cancel", "archive", "fail", "retry")}
    before = datetime.now(UTC)
    job_id = await db.insert_job(make_job(), operation_id=calls["insert"])
    await db.update_stage(job_id, Stage.ENCODING, operation_id=calls["stage"])
    await db.cancel_job(job_id, operation_id=calls["cancel"])
    await db.archive_job(job_id, operation_id=calls["archive"])
    await db.update_stage(job_id, Stage.FAILED, operation_id=calls["fail"])
    await db.retry_job(job_id, operation_id=calls["retry"])

    events = await db.history(job_id)

    assert [(one.seq, one.kind, one.stage, one.previous) for one in events] == [
        (1, EventKind.INSERTED, Stage.QUEUED, None),
        (2, EventKind.STAGE, Stage.ENCODING, Stage.QUEUED),
        (3, EventKind.CANCEL_REQUESTED, Stage.ENCODING, Stage.ENCODING),
        (4, EventKind.ARCHIVED, Stage.ENCODING, Stage.ENCODING),
        (5, EventKind.STAGE, Stage.FAILED, Stage.ENCODING),
        (6, EventKind.RETRIED, Stage.QUEUED, Stage.FAILED),
    ]
    assert [one.operation_id for one in events] == list(calls.values())
    assert {one.job_id for one in events} == {job_id}
    assert [one.at for one in events] == sorted(one.at for one in events)
    assert abs((events[0].at - before).total_seconds()) < 60
    assert "Queued → Encoding" in str(events[1])
    assert (events[1].stage, events[1].previous) == (Stage.ENCODING, Stage.QUEUED)
    assert "stage=<Stage.ENCODING: 3>" in repr(events[1])


async def test_a_job_that_never_was_has_no_history(db: JobDb) -> None:
    assert await db.history(12345) == []


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE job_events SET stage = 6 WHERE job_id = %s",
        "UPDATE job_events SET seq = seq + 1 WHERE job_id = %s",
        "UPDATE job_events SET job_id = job_id + 1 WHERE job_id = %s",
        "DELETE FROM job_events WHERE job_id = %s",
        "UPDATE jobs SET job_id = job_id + 1000 WHERE job_id = %s",
    ],
)
async def test_the_engine_keeps_the_events_of_a_job(db: JobDb, raw: Raw, statement: str) -> None:
    job_id = await insert_job_at(db, Stage.ENCODING)
    before = await db.history(job_id)

    with pytest.raises(Exception, match=r"append-only|keeps its id"):
        raw(statement, job_id)

    assert await db.history(job_id) == before


async def test_events_of_a_job_that_is_gone_may_go_too(db: JobDb, raw: Raw) -> None:
    raw(
        "INSERT INTO job_events (job_id, seq, at, kind, attempt) "
        "VALUES (77, 1, '2026-01-01 00:00:00', 1, 0)"
    )

    raw("DELETE FROM job_events WHERE job_id = 77")

    assert await db.history(77) == []


async def test_other_programs_are_recorded(db: JobDb, raw: Raw) -> None:
    raw("INSERT INTO jobs (job_id, author, requested_at, ready) VALUES (7, 'x', 1, 0)")
    raw("UPDATE jobs SET ready = 3 WHERE job_id = 7")
    raw("UPDATE jobs SET link = 'elsewhere' WHERE job_id = 7")
    raw("UPDATE jobs SET hold = 1 WHERE job_id = 7")
    raw("UPDATE jobs SET archived = TRUE WHERE job_id = 7")
    raw("UPDATE jobs SET archived = FALSE WHERE job_id = 7")
    await db.requeue_job(7)
    raw("UPDATE jobs SET ready = 42, archived = TRUE WHERE job_id = 7")

    events = await db.history(7)

    assert [(one.seq, one.kind, one.stage) for one in events] == [
        (1, EventKind.INSERTED, 0),
        (2, EventKind.STAGE, 3),
        (3, EventKind.RECORDED, 3),
        (4, EventKind.ARCHIVED, 3),
        (5, EventKind.RECORDED, 3),
        (6, EventKind.REQUEUED, 0),
        (7, EventKind.STAGE, 42),
    ]
    assert [one.operation_id is None for one in events] == [True] * 5 + [False, True]


async def test_updated_at_is_kept_for_other_programs(db: JobDb, raw: Raw) -> None:
    job_id = await db.insert_job(make_job())
    for statement in ("link = 'elsewhere'", "ready = 3", "archived = TRUE"):
        before = await db.get_job(job_id)
        await asyncio.sleep(0.005)

        raw(f"UPDATE jobs SET {statement} WHERE job_id = %s", job_id)

        after = await db.get_job(job_id)
        assert before is not None
        assert after is not None
        assert before.updated_at is not None
        assert after.updated_at is not None
        assert after.updated_at > before.updated_at, statement


async def test_a_deletion_by_another_program_is_the_last_line(db: JobDb, raw: Raw) -> None:
    ids = [await insert_job_at(db, Stage.FAILED) for _ in range(3)]

    raw("DELETE FROM jobs WHERE archived")

    for job_id in ids:
        (line,) = await db.history(job_id)
        assert (line.kind, line.seq, line.operation_id) == (EventKind.DELETED, 5, None)


async def test_a_deletion_by_another_program_after_one_of_ours_is_not_signed(
    db: JobDb, raw: Raw
) -> None:
    ours, theirs = [await db.insert_job(make_job()) for _ in range(2)]
    await db.delete_job(ours)

    raw("DELETE FROM jobs WHERE job_id = %s", theirs)

    assert (await db.history(ours))[-1].operation_id is not None
    assert (await db.history(theirs))[-1].operation_id is None


async def test_a_job_that_comes_again_keeps_the_line_of_its_deletion(db: JobDb) -> None:
    """Whatever the clock says: the deletion came before the events that are there now."""
    for _ in range(20):
        await db.insert_job(make_job(job_id=5))
        await db.update_stage(5, Stage.DOWNLOADING)
        await db.delete_job(5)
    await db.insert_job(make_job(job_id=5))

    events = await db.history(5)

    assert [one.kind for one in events] == [EventKind.DELETED] * 20 + [EventKind.INSERTED]


async def test_history_is_in_order_when_the_clock_was_set_back(db: JobDb, raw: Raw) -> None:
    job_id = await db.insert_job(make_job())
    raw(
        "INSERT INTO job_events (job_id, seq, at, kind, stage, attempt) "
        "VALUES (%s, 2, '2020-01-01 00:00:00', 2, 1, 0)",
        job_id,
    )

    events = await db.history(job_id)

    assert [(one.seq, one.previous) for one in events] == [(1, None), (2, 0)]
    assert events[1].at.year == 2020
