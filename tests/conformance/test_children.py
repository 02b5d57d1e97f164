"""Children: begun once, found again, cancelled with their parent, and gone with it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from pandora_db import (
    Claim,
    Duplicate,
    EventKind,
    Hold,
    InvalidInput,
    InvalidTransition,
    Job,
    JobDb,
    JobStatus,
    LeaseLost,
    NotFound,
    Stage,
)

if TYPE_CHECKING:
    from tests.support.raw import Raw

JOB = Job(author="mika")
LINKS = "SELECT parent_id, key, child_id FROM job_children ORDER BY child_id"


async def claimed(db: JobDb) -> Claim:
    job_id = await db.insert_job(Job(author="mika"))
    claim = await db.claim_job(job_id, into=Stage.DOWNLOADING)
    assert claim is not None
    return claim


async def status(db: JobDb, job_id: int) -> JobStatus:
    row = await db.get_job(job_id)
    assert row is not None
    return row.status


async def test_insert_child_stores_a_job_once_for_each_parent_and_key(db: JobDb) -> None:
    parent = await claimed(db)
    other = await db.insert_job(JOB)

    first = await db.insert_child(parent, JOB, key="a")
    second = await db.insert_child(parent, JOB, key="b")
    third = await db.insert_child(other, JOB, key="a")

    assert len({first, second, third}) == 3
    assert await db.insert_child(parent, Job(author="noor"), key="a") == first
    assert await db.insert_child(parent.job_id, JOB, key="b") == second
    assert [row.job_id for row in await db.get_children(parent.job_id)] == [first, second]
    assert await db.get_children(first) == []


async def test_insert_child_at_once_from_many_callers_stores_one(db: JobDb) -> None:
    parent = await db.insert_job(JOB)

    found = await asyncio.gather(*(db.insert_child(parent, JOB, key="one") for _ in range(8)))

    assert len(set(found)) == 1
    assert await db.count_jobs() == 2


async def test_get_parent_and_get_children_go_with_the_jobs(db: JobDb, raw: Raw) -> None:
    parent = await db.insert_job(JOB)
    one, two = [await db.insert_child(parent, JOB, key=key) for key in "ab"]
    assert await db.get_parent(one) == parent
    assert await db.get_parent(parent) is None

    await db.delete_job(one)
    assert raw(LINKS) == [(parent, "b", two)]
    assert [row.job_id for row in await db.get_children(parent)] == [two]
    again = await db.insert_child(parent, JOB, key="a")
    assert again != one

    await db.delete_job(parent)
    assert raw(LINKS) == []
    assert await db.get_parent(two) is None
    assert await db.get_job(two) is not None


async def test_insert_child_refuses_what_is_no_parent_and_stores_nothing(
    db: JobDb, raw: Raw
) -> None:
    ended = await db.insert_job(JOB)
    await db.update_stage(ended, Stage.UPLOADED)
    claim = await claimed(db)
    stale = await claimed(db)
    await db.requeue_job(stale.job_id)
    deleted = await claimed(db)
    await db.delete_job(deleted.job_id)
    asked = await claimed(db)
    await db.cancel_job(asked.job_id)
    before = await db.count_jobs()

    with pytest.raises(NotFound, match="there is no job 404"):
        await db.insert_child(404, JOB, key="a")
    with pytest.raises(InvalidTransition, match="it has ended"):
        await db.insert_child(ended, JOB, key="a")
    with pytest.raises(InvalidTransition, match="it is being cancelled"):
        await db.insert_child(asked, JOB, key="a")
    with pytest.raises(LeaseLost):
        await db.insert_child(stale, JOB, key="a")
    assert stale.lost
    with pytest.raises(LeaseLost, match="was deleted"):
        await db.insert_child(deleted, JOB, key="a")
    with pytest.raises(Duplicate):
        await db.insert_child(claim, Job(author="mika", job_id=ended), key="a")
    with pytest.raises(InvalidInput, match="idempotency_key"):
        await db.insert_child(claim, Job(author="mika", idempotency_key="k"), key="a")
    with pytest.raises(InvalidInput, match="key"):
        await db.insert_child(claim, JOB, key="")
    with pytest.raises(InvalidInput, match="takes a Job"):
        await db.insert_child(claim, "job", key="a")  # type: ignore[arg-type]

    assert await db.count_jobs() == before
    assert raw(LINKS) == []


async def test_cancel_job_cancels_the_children_and_theirs(db: JobDb) -> None:
    parent = await claimed(db)
    waits, works, done = [await db.insert_child(parent, JOB, key=key) for key in "abc"]
    below = await db.insert_child(waits, JOB, key="a")
    other = await db.insert_job(JOB)
    await db.update_stage(done, Stage.UPLOADED)
    claim = await db.claim_job(works, into=Stage.DOWNLOADING)
    assert claim is not None

    assert await db.cancel_job(parent.job_id) is False

    assert await status(db, waits) is JobStatus.CANCELLED
    assert await status(db, below) is JobStatus.CANCELLED
    assert await status(db, done) is JobStatus.COMPLETED
    assert await status(db, other) is JobStatus.QUEUED
    row = await db.get_job(works)
    assert row is not None
    assert row.hold == Hold.CANCEL
    assert (await db.history(works))[-1].kind is EventKind.CANCEL_REQUESTED


async def test_cancel_job_with_children_may_be_repeated(db: JobDb) -> None:
    parent = await db.insert_job(JOB)
    child = await db.insert_child(parent, JOB, key="a")

    assert await db.cancel_job(parent) is True
    assert await db.cancel_job(parent) is True

    assert await status(db, child) is JobStatus.CANCELLED
    assert [event.kind for event in await db.history(child)] == [
        EventKind.INSERTED,
        EventKind.CANCELLED,
    ]


async def test_cancel_job_in_a_transaction_that_is_undone_cancels_nobody(db: JobDb) -> None:
    parent = await db.insert_job(JOB)
    child = await db.insert_child(parent, JOB, key="a")

    with suppress(ZeroDivisionError):
        async with db.transaction() as tx:
            await tx.cancel_job(parent)
            raise ZeroDivisionError

    assert await status(db, parent) is JobStatus.QUEUED
    assert await status(db, child) is JobStatus.QUEUED


async def test_a_child_that_is_begun_while_its_parent_is_cancelled_is_cancelled_or_refused(
    db: JobDb,
) -> None:
    for _ in range(10):
        parent = await db.insert_job(JOB)
        child, _ = await asyncio.gather(
            db.insert_child(parent, JOB, key="a"), db.cancel_job(parent), return_exceptions=True
        )
        if isinstance(child, BaseException):
            assert isinstance(child, InvalidTransition)
            assert await db.get_children(parent) == []
        else:
            assert await status(db, child) is JobStatus.CANCELLED


async def test_cancel_job_reaches_the_end_of_a_long_line(db: JobDb) -> None:
    first = parent = await db.insert_job(JOB)
    for _ in range(1_200):
        parent = await db.insert_child(parent, JOB, key="next")

    assert await db.cancel_job(first)
    assert await status(db, parent) is JobStatus.CANCELLED
