"""How a claim ends, and that nothing is written under one that does not count any more."""

from __future__ import annotations

import asyncio
import contextvars
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

from pandora_db import (
    Backoff,
    Claim,
    EventKind,
    Hold,
    InvalidInput,
    InvalidTransition,
    JobDb,
    JobRow,
    JobStatus,
    LeaseLost,
    Stage,
)
from pandora_db.testing import insert_job_at, make_job
from tests.support.raw import Raw

LATE: dict[str, Callable[[JobDb, Claim], Awaitable[object]]] = {
    "update_stage": lambda db, claim: db.update_stage(claim, Stage.ENCODED),
    "finish_job": lambda db, claim: db.finish_job(claim, Stage.UPLOADED, output={"a": 1}),
    "fail_job": lambda db, claim: db.fail_job(claim, "late"),
    "snooze_job": lambda db, claim: db.snooze_job(claim, 5),
    "release_job": lambda db, claim: db.release_job(claim),
    "update_job": lambda db, claim: db.update_job(claim, progress=0.9),
    "save_checkpoint": lambda db, claim: db.save_checkpoint(claim, {"late": True}),
}
TAKEN: dict[str, Callable[[JobDb, Claim], Awaitable[object]]] = {
    "requeued": lambda db, claim: db.requeue_job(claim.job_id),
    "moved": lambda db, claim: db.update_stage(claim.job_id, Stage.ENCODED),
    "archived": lambda db, claim: db.archive_job(claim.job_id),
    "deleted": lambda db, claim: db.delete_job(claim.job_id),
    "finished": lambda db, claim: db.finish_job(claim, Stage.ENCODED),
    "failed": lambda db, claim: db.fail_job(claim, "x", retry_in=0.0),
}


async def claimed(db: JobDb, **fields: Any) -> Claim:
    job_id = await insert_job_at(db, Stage.DOWNLOADED, **fields)
    claim = await db.claim_job(job_id, into=Stage.ENCODING)
    assert claim is not None
    return claim


async def row_of(db: JobDb, claim: Claim) -> JobRow:
    row = await db.get_job(claim.job_id)
    assert row is not None
    return row


async def last_event(db: JobDb, claim: Claim) -> Any:
    return (await db.history(claim.job_id))[-1]


async def test_finish_job_goes_on_to_the_next_stage(db: JobDb) -> None:
    claim = await claimed(db)

    assert await db.finish_job(claim, Stage.ENCODED, output_file="/x.mkv") is Stage.ENCODED

    row = await row_of(db, claim)
    assert (row.ready, row.archived, row.attempt) == (Stage.ENCODED, False, 0)
    assert row.output_file == "/x.mkv"
    event = await last_event(db, claim)
    assert (event.kind, event.owner, event.attempt) == (EventKind.FINISHED, db.owner, 1)
    assert claim.ended
    assert not claim.lost


async def test_finish_job_at_a_terminal_stage_archives(db: JobDb) -> None:
    claim = await claimed(db)

    await db.finish_job(claim, Stage.UPLOADED, output={"size": [1, 2]}, output_kind="file")

    row = await row_of(db, claim)
    assert (row.ready, row.archived) == (Stage.UPLOADED, True)
    assert row.completed_at is not None
    assert json.loads(row.output or "") == {"size": [1, 2]}
    assert row.output_kind == "file"
    assert row.status is JobStatus.COMPLETED


@pytest.mark.parametrize("name", LATE)
async def test_who_has_ended_a_claim_is_told_so(db: JobDb, name: str) -> None:
    claim = await claimed(db)
    await db.finish_job(claim, Stage.ENCODED)

    with pytest.raises(LeaseLost, match="it was ended before, by finish_job"):
        await LATE[name](db, claim)


async def test_finish_job_leaves_what_it_is_not_given(db: JobDb) -> None:
    claim = await claimed(db)
    await db.update_job(claim, output={"kept": 1}, output_file="/kept", error="old")

    await db.finish_job(claim, Stage.ENCODED)

    row = await row_of(db, claim)
    assert (json.loads(row.output or ""), row.output_file) == ({"kept": 1}, "/kept")
    assert row.error is None


@pytest.mark.parametrize("stage", [Stage.ENCODING, Stage.UPLOADING, Stage.DOWNLOADED])
async def test_finish_job_goes_no_other_way(db: JobDb, stage: Stage) -> None:
    claim = await claimed(db)

    with pytest.raises(InvalidTransition, match="release_job"):
        await db.finish_job(claim, stage)

    assert (await row_of(db, claim)).ready == Stage.ENCODING
    assert await db.renew_claims([claim]) == [claim]


async def test_update_stage_with_a_claim_finishes_it(db: JobDb) -> None:
    claim = await claimed(db)

    await db.update_stage(claim, Stage.ENCODED)

    assert (await last_event(db, claim)).kind is EventKind.FINISHED
    assert claim.ended


async def test_update_job_under_a_claim_keeps_the_claim(db: JobDb) -> None:
    claim = await claimed(db)

    await db.update_job(claim, progress=0.25, current_step="pass 1")
    await db.update_job(claim, output_file="/x")

    row = await row_of(db, claim)
    assert (row.progress, row.current_step, row.output_file) == (0.25, "pass 1", "/x")
    event = await last_event(db, claim)
    assert (event.kind, event.owner) == (EventKind.UPDATED, db.owner)
    await db.update_stage(claim, Stage.ENCODED)


async def test_fail_job_waits_and_tries_again_until_attempts_are_used_up(db: JobDb) -> None:
    job_id = await insert_job_at(db, Stage.DOWNLOADED, max_attempts=3)
    for attempt in (1, 2, 3):
        claim = await db.claim_job(job_id, into=Stage.ENCODING)
        assert claim is not None
        assert claim.attempt == attempt
        again = await db.fail_job(claim, OSError(f"disk {attempt}"), retry_in=0.0)
        assert again == (attempt < 3)
        assert (await row_of(db, claim)).error == f"OSError: disk {attempt}"

    row = await row_of(db, claim)
    assert (row.ready, row.archived, row.attempt) == (Stage.FAILED, True, 3)
    failures = [one for one in await db.history(job_id) if one.detail]
    assert [(one.kind, one.attempt, one.detail) for one in failures] == [
        (EventKind.RETRYING, 1, "OSError: disk 1"),
        (EventKind.RETRYING, 2, "OSError: disk 2"),
        (EventKind.FAILED, 3, "OSError: disk 3"),
    ]


async def test_fail_job_backs_off(db: JobDb, raw: Raw) -> None:
    claim = await claimed(db)
    await db.fail_job(claim, "busy")

    row = await row_of(db, claim)
    assert row.ready == Stage.DOWNLOADED
    assert row.not_before is not None
    assert row.updated_at is not None
    assert 7.4 <= row.not_before - row.updated_at.timestamp() <= 12.6
    assert await db.claim_jobs(Stage.DOWNLOADED, into=Stage.ENCODING) == []
    assert row.to_job_metadata().not_before is not None


def test_backoff_grows_to_its_bound() -> None:
    backoff = Backoff(first=2.0, factor=3.0, most=50.0, jitter=0.5)

    assert [backoff.wait(attempt, 0.5) for attempt in (1, 2, 3, 4, 999)] == [2, 6, 18, 50, 50]
    assert (backoff.wait(1, 0.0), backoff.wait(1, 1.0)) == (1, 3)


async def test_fail_job_for_good(db: JobDb) -> None:
    claim = await claimed(db)

    assert await db.fail_job(claim, "no such codec", final=True) is False

    row = await row_of(db, claim)
    assert (row.ready, row.archived, row.error) == (Stage.FAILED, True, "no such codec")


async def test_fail_job_by_the_setting_of_the_handle(db_url: str) -> None:
    async with JobDb.open(db_url, max_attempts=1) as db:
        claim = await claimed(db)
        assert await db.fail_job(claim, "x") is False


@pytest.mark.parametrize("wrong", [True, -1, "5", float("inf")])
async def test_fail_job_refuses(db: JobDb, wrong: Any) -> None:
    claim = await claimed(db)
    with pytest.raises(InvalidInput, match="retry_in"):
        await db.fail_job(claim, "x", retry_in=wrong)
    with pytest.raises(InvalidInput, match="error is 5"):
        await db.fail_job(claim, 5)  # type: ignore[arg-type]
    assert await db.renew_claims([claim]) == [claim]


async def test_snooze_job_gives_the_attempt_back(db: JobDb) -> None:
    claim = await claimed(db, max_attempts=1)

    assert await db.snooze_job(claim, 60) is Stage.DOWNLOADED

    row = await row_of(db, claim)
    assert (row.ready, row.attempt) == (Stage.DOWNLOADED, 0)
    assert row.not_before is not None
    assert await db.claim_job(claim.job_id, into=Stage.ENCODING) is None
    assert (await last_event(db, claim)).kind is EventKind.SNOOZED
    await db.update_job(claim.job_id, not_before=None)
    assert await db.claim_job(claim.job_id, into=Stage.ENCODING) is not None


async def test_release_job_gives_the_job_back_at_once(db: JobDb) -> None:
    claim = await claimed(db)

    assert await db.release_job(claim) is Stage.DOWNLOADED

    assert (await last_event(db, claim)).kind is EventKind.RELEASED
    again = await db.claim_job(claim.job_id, into=Stage.ENCODING)
    assert again is not None
    assert again.attempt == 1


async def test_attempts_count_per_stage(db: JobDb) -> None:
    claim = await claimed(db)
    await db.fail_job(claim, "x", retry_in=0.0)
    second = await db.claim_job(claim.job_id, into=Stage.ENCODING)
    assert second is not None
    assert second.attempt == 2
    await db.finish_job(second, Stage.ENCODED)
    third = await db.claim_job(claim.job_id, into=Stage.UPLOADING)
    assert third is not None
    assert third.attempt == 1
    await db.requeue_job(claim.job_id)
    assert (await row_of(db, claim)).attempt == 0


@pytest.mark.parametrize(
    "end",
    [
        lambda db, claim: db.finish_job(claim, Stage.ENCODED),
        lambda db, claim: db.snooze_job(claim, 5),
        lambda db, claim: db.release_job(claim),
        lambda db, claim: db.fail_job(claim, "x"),
    ],
)
async def test_a_cancellation_that_was_asked_for_is_carried_out(db: JobDb, end: Any) -> None:
    claim = await claimed(db)
    await db.save_checkpoint(claim, {"n": 1})
    assert await db.cancel_job(claim.job_id) is False

    assert await end(db, claim) in (Stage.CANCELLED, False)

    row = await row_of(db, claim)
    assert (row.ready, row.archived, row.hold) == (Stage.CANCELLED, True, Hold.NONE)
    assert (await last_event(db, claim)).kind is EventKind.CANCELLED
    assert await db.load_checkpoint(claim.job_id, stage=Stage.ENCODING) is None


async def test_a_cancelled_job_may_still_be_finished_for_good(db: JobDb) -> None:
    claim = await claimed(db)
    await db.cancel_job(claim.job_id)

    assert await db.finish_job(claim, Stage.UPLOADED) is Stage.UPLOADED

    assert (await row_of(db, claim)).hold == Hold.NONE


async def test_pause_job_while_it_waits_and_while_it_is_worked_on(db: JobDb) -> None:
    waiting = await db.insert_job(make_job())
    assert await db.pause_job(waiting) is True
    assert await db.pause_job(waiting) is True
    row = await db.get_job(waiting)
    assert row is not None
    assert row.status is JobStatus.PAUSED
    await db.resume_job(waiting)
    assert (await db.claim_job(waiting, into=Stage.DOWNLOADING)) is not None

    claim = await claimed(db)
    assert await db.pause_job(claim.job_id) is False
    await db.renew_claims([claim])
    assert claim.hold is Hold.PAUSE
    assert await db.release_job(claim) is Stage.DOWNLOADED
    assert (await row_of(db, claim)).status is JobStatus.PAUSED
    assert await db.claim_job(claim.job_id, into=Stage.ENCODING) is None
    await db.resume_job(claim.job_id)
    kinds = [one.kind for one in await db.history(claim.job_id)][-4:]
    assert kinds == [
        EventKind.CLAIMED, EventKind.PAUSE_REQUESTED, EventKind.RELEASED, EventKind.RESUMED,
    ]  # fmt: skip


async def test_a_pause_holds_at_the_next_stage(db: JobDb) -> None:
    claim = await claimed(db)
    await db.pause_job(claim.job_id)

    assert await db.finish_job(claim, Stage.ENCODED) is Stage.ENCODED

    assert (await row_of(db, claim)).status is JobStatus.PAUSED
    assert await db.claim_jobs(Stage.ENCODED, into=Stage.UPLOADING) == []


async def test_pause_job_and_resume_job_refuse(db: JobDb) -> None:
    claim = await claimed(db)
    await db.cancel_job(claim.job_id)
    with pytest.raises(InvalidTransition, match="being cancelled"):
        await db.pause_job(claim.job_id)
    with pytest.raises(InvalidTransition, match="being cancelled"):
        await db.resume_job(claim.job_id)
    await db.finish_job(claim, Stage.CANCELLED)
    with pytest.raises(InvalidTransition, match="ended"):
        await db.pause_job(claim.job_id)
    with pytest.raises(InvalidTransition, match="ended"):
        await db.resume_job(claim.job_id)


@pytest.mark.parametrize("how", TAKEN)
@pytest.mark.parametrize("late", LATE)
async def test_a_late_write_is_refused_and_changes_nothing(
    db: JobDb, raw: Raw, how: str, late: str
) -> None:
    claim = await claimed(db)
    await TAKEN[how](db, claim)
    tables = ("jobs", "job_events", "job_checkpoints")
    before = [raw(f"SELECT * FROM {table}") for table in tables]

    with pytest.raises(LeaseLost) as caught:
        await LATE[late](db, claim)

    assert (caught.value.job_id, caught.value.token) == (claim.job_id, claim.token)
    assert caught.value.reason
    assert [raw(f"SELECT * FROM {table}") for table in tables] == before


@pytest.mark.parametrize("late", LATE)
async def test_a_late_write_is_refused_while_another_worker_has_the_job(
    db: JobDb, db_url: str, raw: Raw, late: str
) -> None:
    claim = await claimed(db)
    raw("UPDATE jobs SET lease_until = '2000-01-01 00:00:00'")
    async with JobDb.open(db_url, sweep=None) as other:
        assert (await other.recover()).requeued == (claim.job_id,)
        taken = await other.claim_job(claim.job_id, into=Stage.ENCODING)
        assert taken is not None

        with pytest.raises(LeaseLost, match=other.owner):
            await LATE[late](db, claim)

        assert await other.finish_job(taken, Stage.ENCODED) is Stage.ENCODED


@pytest.mark.parametrize("late", LATE)
async def test_a_late_write_that_waits_for_the_take_over_is_refused(
    db: JobDb, db_url: str, late: str
) -> None:
    """The late writer waits for the row's lock, and is looked at again when it gets it."""
    claim = await claimed(db)
    async with JobDb.open(db_url, sweep=None) as other:
        async with other.transaction() as tx:
            await tx.requeue_job(claim.job_id)
            writing = asyncio.create_task(LATE[late](db, claim))  # type: ignore[arg-type]
            await asyncio.sleep(0.05)
            assert not writing.done()
        with pytest.raises(LeaseLost):
            await writing
        row = await other.get_job(claim.job_id)
        assert row is not None
        assert row.ready == Stage.QUEUED


async def test_an_end_that_is_rolled_back_was_none(db: JobDb) -> None:
    claim = await claimed(db)
    with suppress(ZeroDivisionError):
        async with db.transaction() as tx:
            await tx.finish_job(claim, Stage.ENCODED)
            assert claim.ended
            raise ZeroDivisionError

    assert not claim.ended
    assert claim in db._leases.held()
    async with db.transaction() as tx:
        await tx.finish_job(claim, Stage.ENCODED)
    assert claim.ended
    assert claim not in db._leases.held()


async def test_a_cancellation_outlives_an_override(db: JobDb) -> None:
    """The next worker gets the job, sees what was asked, and ends it."""
    claim = await claimed(db)
    await db.cancel_job(claim.job_id)
    await db.update_stage(claim.job_id, Stage.ENCODED)

    (after,) = await db.claim_jobs(Stage.ENCODED, into=Stage.UPLOADING)
    assert after.hold is Hold.CANCEL
    assert await db.release_job(after) is Stage.CANCELLED


async def test_a_crowd_of_ends_gets_each_its_own_answer(db: JobDb) -> None:
    await db.insert_jobs(make_job() for _ in range(60))
    claims = await db.claim_jobs(Stage.QUEUED, into=Stage.DOWNLOADING, limit=60)
    await db.requeue_job(claims[7].job_id)

    outcomes = await asyncio.gather(
        *(db.finish_job(claim, Stage.DOWNLOADED) for claim in claims), return_exceptions=True
    )

    assert [isinstance(one, LeaseLost) for one in outcomes] == [n == 7 for n in range(60)]
    assert (await db.stage_counts()) == {Stage.QUEUED: 1, Stage.DOWNLOADED: 59}


ENDS: dict[str, Callable[[JobDb, Claim], Awaitable[object]]] = {
    "finish": lambda db, claim: db.finish_job(claim, Stage.UPLOADED),
    "finish a stage": lambda db, claim: db.finish_job(claim, Stage.DOWNLOADED),
    "finish with an output": lambda db, claim: db.finish_job(
        claim, Stage.UPLOADED, output={"job": claim.job_id}
    ),
    "fail": lambda db, claim: db.fail_job(claim, f"job {claim.job_id}", final=True),
    "fail alike": lambda db, claim: db.fail_job(claim, "no such file", final=True),
    "try again": lambda db, claim: db.fail_job(claim, "reset", retry_in=600.0),
    "snooze": lambda db, claim: db.snooze_job(claim, 600.0),
    "release": lambda db, claim: db.release_job(claim),
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("cancelled", [0, 1])
async def test_a_crowd_of_ends_does_what_each_alone_does(
    db: JobDb, end: str, cancelled: int
) -> None:
    ids = await db.insert_jobs(make_job() for _ in range(9))
    claims = await db.claim_jobs(Stage.QUEUED, into=Stage.DOWNLOADING, limit=9)
    for claim in claims[: 2 * cancelled]:  # one of those that end alone, one of the crowd
        await db.cancel_job(claim.job_id)
    alone, crowd = claims[::9], claims[1:]

    for claim in alone:
        await ENDS[end](db, claim)
    await asyncio.gather(*(ENDS[end](db, claim) for claim in crowd))

    def told(job: JobRow) -> tuple[object, ...]:
        own = str(job.job_id)
        return (
            job.ready, job.archived, job.completed_at is None, job.hold, job.attempt,
            job.not_before is None, (job.error or "").replace(own, "N"),
            (job.output or "").replace(own, "N"), job.output_kind,
        )  # fmt: skip

    rows = await db.get_jobs_by_ids(ids)
    assert len({told(row) for row in rows[: 1 + cancelled]}) == 1
    assert {told(row) for row in rows[1 + cancelled :]} == {told(rows[-1])}
    if not cancelled:
        assert told(rows[0]) == told(rows[-1])
    histories = [[event.kind for event in await db.history(job_id)] for job_id in ids]
    assert histories[0] == histories[cancelled]
    assert all(kinds == histories[-1] for kinds in histories[1 + cancelled :])


@pytest.mark.parametrize("late", ["finish_job", "update_job", "save_checkpoint", "release_job"])
async def test_a_claim_that_met_its_loss_says_so(db: JobDb, late: str) -> None:
    job_id = await insert_job_at(db, Stage.DOWNLOADED)
    claim = await db.claim_job(job_id, into=Stage.ENCODING)
    assert claim is not None
    await db.requeue_job(job_id)
    assert not claim.lost

    with pytest.raises(LeaseLost):
        await LATE[late](db, claim)

    assert claim.lost
    assert "lost" in repr(claim)


async def test_an_end_beside_a_save_leaves_no_checkpoint_behind(db: JobDb) -> None:
    for number in range(100):
        job_id = await insert_job_at(db, Stage.DOWNLOADED)
        claim = await db.claim_job(job_id, into=Stage.ENCODING)
        assert claim is not None
        await db.save_checkpoint(claim, {"n": 0})

        async def end(claim: Claim = claim, pause: float = 0.00004 * (number % 50)) -> None:
            await asyncio.sleep(pause)
            await db.finish_job(claim, Stage.ENCODED)

        await asyncio.gather(db.save_checkpoint(claim, {"n": 1}), end(), return_exceptions=True)

        assert await db.load_checkpoint(job_id, stage=Stage.ENCODING) is None


async def test_an_end_in_a_transaction_waits_for_no_save_that_waits_for_it(db: JobDb) -> None:
    job_id = await insert_job_at(db, Stage.DOWNLOADED)
    claim = await db.claim_job(job_id, into=Stage.ENCODING)
    assert claim is not None
    await db.save_checkpoint(claim, {"n": 0})

    async with asyncio.timeout(4), db.transaction() as tx:
        await tx.update_job(claim, progress=0.5)
        context = contextvars.Context()  # another task of the program, outside the transaction
        saving = asyncio.create_task(db.save_checkpoint(claim, {"n": 1}), context=context)
        await asyncio.sleep(0.2)
        await tx.finish_job(claim, Stage.ENCODED)

    with pytest.raises(LeaseLost):
        await saving
