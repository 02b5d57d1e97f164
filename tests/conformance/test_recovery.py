"""Recovery, the sweep and the heartbeat, on both dialects."""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from pandora_db import (
    Claim,
    EventKind,
    InvalidInput,
    JobDb,
    JobStatus,
    LeaseLost,
    Stage,
)
from pandora_db.db import internals
from pandora_db.testing import insert_job_at, make_job
from tests.support.raw import Raw
from tests.support.waiting import wait_until

EXPIRE = "UPDATE jobs SET lease_until = '2000-01-01 00:00:00' WHERE lease_token IS NOT NULL"


async def claimed(db: JobDb, **fields: Any) -> Claim:
    job_id = await insert_job_at(db, Stage.DOWNLOADED, **fields)
    claim = await db.claim_job(job_id, into=Stage.ENCODING)
    assert claim is not None
    return claim


async def test_recover_takes_back_what_has_lapsed_and_nothing_else(db: JobDb, raw: Raw) -> None:
    lapsed = await claimed(db)
    raw(EXPIRE)
    alive = await claimed(db)
    waiting = await db.insert_job(make_job())
    unowned = await insert_job_at(db, Stage.UPLOADING)

    report = await db.recover()

    assert report.requeued == (lapsed.job_id,)
    assert (report.failed, report.cancelled, report.unowned) == ((), (), (unowned,))
    row = await db.get_job(lapsed.job_id)
    assert row is not None
    assert (row.ready, row.attempt, row.archived) == (Stage.DOWNLOADED, 1, False)
    event = (await db.history(lapsed.job_id))[-1]
    assert (event.kind, event.owner, event.attempt) == (EventKind.RECOVERED, db.owner, 1)
    assert event.detail is not None
    assert "attempt 1 of 5" in event.detail
    assert db.owner in event.detail
    assert f"by {db.owner}" not in str(event)  # it did nothing: it was lost
    assert str(event).count(db.owner) == 1
    assert await db.renew_claims([alive]) == [alive]
    assert [row.job_id for row in await db.get_jobs_by_stage(Stage.QUEUED)] == [waiting]
    assert str(lapsed.job_id) in str(report)
    assert str(report).endswith("1 job is at work without a lease: left alone")
    assert (await db.recover()).jobs == ()


async def test_recover_fails_a_job_that_kills_its_workers(db: JobDb, raw: Raw) -> None:
    job_id = await insert_job_at(db, Stage.DOWNLOADED, max_attempts=2)
    for attempt in (1, 2):
        assert await db.claim_job(job_id, into=Stage.ENCODING) is not None
        raw(EXPIRE)
        report = await db.recover()
        assert report.jobs[0].attempt == attempt

    assert report.failed == (job_id,)
    row = await db.get_job(job_id)
    assert row is not None
    assert (row.ready, row.archived, row.status) == (Stage.FAILED, True, JobStatus.FAILED)
    assert row.completed_at is not None
    assert row.error is not None
    assert row.error.startswith("interrupted in Encoding, attempt 2 of 2: the lease of ")
    assert (await db.history(job_id))[-1].kind is EventKind.INTERRUPTED


async def test_recover_carries_out_a_cancellation(db: JobDb, raw: Raw) -> None:
    claim = await claimed(db)
    await db.save_checkpoint(claim, {"n": 1})
    await db.cancel_job(claim.job_id)
    raw(EXPIRE)

    assert (await db.recover()).cancelled == (claim.job_id,)

    row = await db.get_job(claim.job_id)
    assert row is not None
    assert (row.ready, row.archived, row.hold) == (Stage.CANCELLED, True, 0)
    assert raw("SELECT count(*) FROM job_checkpoints") == [(0,)]


async def test_recover_keeps_a_pause(db: JobDb, raw: Raw) -> None:
    claim = await claimed(db)
    await db.pause_job(claim.job_id)
    raw(EXPIRE)

    assert (await db.recover()).requeued == (claim.job_id,)

    row = await db.get_job(claim.job_id)
    assert row is not None
    assert row.status is JobStatus.PAUSED


async def test_set_and_get_recovery_policies_for_a_stage_and_a_name(db: JobDb, raw: Raw) -> None:
    await db.set_recovery_policy("fail", stage=Stage.ENCODING)
    await db.set_recovery_policy("requeue", name="resumable")
    plain = await claimed(db)
    named = await claimed(db, name="resumable")
    raw(EXPIRE)

    report = await db.recover()

    assert (report.failed, report.requeued) == ((plain.job_id,), (named.job_id,))
    policies = {Stage.ENCODING: "fail", "resumable": "requeue"}
    assert await db.get_recovery_policies() == policies
    await db.set_recovery_policy("requeue", stage=Stage.ENCODING)
    third = await claimed(db)
    raw(EXPIRE)
    assert (await db.recover()).requeued == (third.job_id,)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("x",), "action is a text"),
        (("fail",), "give a stage or a name"),
        (("fail", Stage.ENCODED), "stage is Stage.ENCODED, where nobody works"),
    ],
)
async def test_set_recovery_policy_refuses(db: JobDb, arguments: Any, message: str) -> None:
    action, *stage = arguments
    with pytest.raises(InvalidInput, match=message):
        await db.set_recovery_policy(action, stage=stage[0] if stage else None)


@pytest.mark.parametrize(("unowned", "stage"), [("requeue", Stage.ENCODED), ("fail", Stage.FAILED)])
async def test_recover_unowned(db: JobDb, unowned: Any, stage: Stage) -> None:
    job_id = await insert_job_at(db, Stage.UPLOADING)
    alive = await claimed(db)

    report = await db.recover(unowned=unowned)

    assert [job.job_id for job in report.jobs] == [job_id]
    assert report.unowned == ()
    row = await db.get_job(job_id)
    assert row is not None
    assert (row.ready, row.archived) == (stage, unowned == "fail")
    assert await db.renew_claims([alive]) == [alive]


async def test_recover_unowned_comes_to_an_end(db: JobDb) -> None:
    job_id = await db.insert_job(make_job(max_attempts=2))
    for stage in (Stage.QUEUED, Stage.FAILED):
        await db.update_stage(job_id, Stage.DOWNLOADING)
        await db.recover(unowned="requeue")
        row = await db.get_job(job_id)
        assert row is not None
        assert row.ready == stage
        if stage is Stage.FAILED:
            assert "no worker had a lease" in (row.error or "")
        else:  # another program goes on where ours left off
            assert row.attempt == 1


async def test_recover_waits_for_the_leases_of_the_dead(db_url: str, db: JobDb) -> None:
    async with JobDb.open(db_url, lease=0.6, heartbeat=0.2, sweep=None) as killed:
        dead = await claimed(killed)
        await killed.close()
    async with JobDb.open(db_url, lease=0.6, heartbeat=0.2, sweep=None) as other:
        alive = await claimed(other)
        start = time.monotonic()

        report = await db.recover(wait=5)

        assert report.requeued == (dead.job_id,)
        assert time.monotonic() - start < 4
        assert await other.renew_claims([alive]) == [alive]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"unowned": "x"}, "expected 'requeue', 'fail'"), ({"wait": -1}, "wait is -1")],
)
async def test_recover_refuses(db: JobDb, arguments: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        await db.recover(**arguments)


async def test_recover_in_many_processes_at_once_takes_each_job_once(
    db: JobDb, db_url: str, raw: Raw
) -> None:
    await db.insert_jobs(make_job() for _ in range(700))
    claims = await db.claim_jobs(Stage.QUEUED, into=Stage.DOWNLOADING, limit=700)
    raw(EXPIRE)
    async with JobDb.open(db_url, sweep=None) as two, JobDb.open(db_url, sweep=None) as three:
        reports = await asyncio.gather(*(one.recover() for one in (db, two, three) * 2))

    found = sorted(job_id for report in reports for job_id in report.requeued)
    assert found == [claim.job_id for claim in claims]
    assert await db.stage_counts() == {Stage.QUEUED: 700}
    gaps = "SELECT count(*) FROM job_events WHERE seq = 3 AND kind = 21"
    assert raw(gaps) == [(700,)]


async def test_each_recovery_of_a_job_is_an_operation_of_its_own(
    db: JobDb, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job may be lost once more while one call looks again at what others had locked."""
    claim = await claimed(db)
    raw(EXPIRE)
    driver = internals(db).driver
    read = driver.read
    again = [True]

    async def held(name: str, *args: Any) -> Any:
        if name == "find_lapsed" and again and again.pop():
            assert await db.claim_job(claim.job_id, into=Stage.ENCODING)
            raw(EXPIRE)
        return await read(name, *args)

    monkeypatch.setattr(driver, "read", held)
    report = await db.recover()

    assert report.requeued == (claim.job_id, claim.job_id)
    history = await db.history(claim.job_id)
    operations = [one.operation_id for one in history if one.kind is EventKind.RECOVERED]
    assert len(operations) == len(set(operations)) == 2


async def test_has_lapsed_tells_without_writing(db: JobDb, raw: Raw) -> None:
    await claimed(db)
    assert not await db.has_lapsed()
    raw(EXPIRE)
    assert await db.has_lapsed()


async def test_the_sweep_recovers_by_itself(
    db_url: str, raw: Raw, caplog: pytest.LogCaptureFixture
) -> None:
    async with JobDb.open(db_url, sweep=None) as db, JobDb.open(db_url, sweep=0.1):
        claim = await claimed(db)
        with caplog.at_level(logging.WARNING, "pandora_db"):
            raw(EXPIRE)
            await wait_until(lambda: f"recovered job {claim.job_id}" in caplog.text)
    assert raw("SELECT ready FROM jobs") == [(Stage.DOWNLOADED,)]


async def test_the_jobs_of_a_worker_that_held_many_are_told_of_together(
    db_url: str, raw: Raw, caplog: pytest.LogCaptureFixture
) -> None:
    async with JobDb.open(db_url, sweep=None) as db:
        await db.insert_jobs(make_job(max_attempts=1 + (n > 4)) for n in range(50))
        await db.claim_jobs(Stage.QUEUED, into=Stage.DOWNLOADING, limit=50)
        raw(EXPIRE)
        with caplog.at_level(logging.WARNING, "pandora_db"):
            async with JobDb.open(db_url, sweep=0.1):
                await wait_until(lambda: "recovered" in caplog.text)

    told = [line for line in caplog.messages if "recovered" in line]
    assert told == [f"recovered 50 jobs of {db.owner}: 5 failed, 45 requeued"]


async def test_the_heartbeat_renews_what_is_held(db_url: str, raw: Raw) -> None:
    async with JobDb.open(db_url, lease=0.5, heartbeat=0.1, sweep=0.1) as db:
        claims = [await claimed(db) for _ in range(3)]
        await asyncio.sleep(1.2)
        await db.finish_job(claims[0], Stage.ENCODED)
        assert await db.renew_claims(claims[1:]) == claims[1:]
        assert [claim.lost for claim in claims] == [False] * 3
        # Renewing is no change of the job.
        row = await db.get_job(claims[1].job_id)
        assert row is not None
        assert row.updated_at == claims[1].job.updated_at


async def test_a_claim_that_nobody_has_in_hand_runs_out(db_url: str, raw: Raw) -> None:
    async with JobDb.open(db_url, lease=0.4, heartbeat=0.1, sweep=0.1) as db:
        claim = await claimed(db)
        job_id = claim.job_id
        del claim
        gc.collect()
        await wait_until(lambda: raw("SELECT ready FROM jobs") == [(Stage.DOWNLOADED,)])
        assert (await db.history(job_id))[-1].kind is EventKind.RECOVERED


async def test_a_loss_is_noticed_and_cancels_the_work(db_url: str, db: JobDb) -> None:
    async with JobDb.open(db_url, lease=5.0, heartbeat=0.1, sweep=None) as worker:
        claim = await claimed(worker)
        cancelled = False

        async def work() -> None:
            nonlocal cancelled
            async with claim:
                try:
                    await asyncio.sleep(30)
                except asyncio.CancelledError:
                    cancelled = True
                    raise

        working = asyncio.create_task(work())
        await asyncio.sleep(0.05)
        await db.requeue_job(claim.job_id)

        with pytest.raises(LeaseLost, match="taken from it"):
            await asyncio.wait_for(working, 5)
        assert cancelled
        assert claim.lost
        with pytest.raises(LeaseLost):
            async with claim:
                pass


async def test_a_loss_that_the_body_itself_finds_leaves_no_cancellation(db: JobDb) -> None:
    for absorbs in (False, True):
        claim = await claimed(db)
        await db.requeue_job(claim.job_id)
        with pytest.raises(LeaseLost):  # noqa: PT012 - what happens inside is the point
            async with claim:
                if absorbs:  # told by another task while the body awaits nothing any more
                    await asyncio.to_thread(
                        asyncio.get_running_loop().call_soon_threadsafe, claim.lose, "x"
                    )
                    time.sleep(0.01)
                else:
                    assert await db.renew_claims([claim]) == []
        await asyncio.sleep(0.01)


async def test_a_block_that_ends_well_is_not_cancelled(db: JobDb) -> None:
    claim = await claimed(db)
    async with claim:
        await db.finish_job(claim, Stage.ENCODED)
    claim.lose("too late to matter")
    assert not claim.lost


async def test_the_work_may_be_cancelled_from_outside_as_ever(db: JobDb) -> None:
    claim = await claimed(db)

    async def work() -> None:
        async with claim:
            await asyncio.sleep(30)

    working = asyncio.create_task(work())
    await asyncio.sleep(0.01)
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    assert not claim.lost


async def test_a_busy_event_loop_costs_no_lease(db_url: str, db: JobDb) -> None:
    async with JobDb.open(db_url, lease=0.6, heartbeat=0.15, sweep=None) as worker:
        claim = await claimed(worker)
        await asyncio.sleep(0.2)
        time.sleep(1.5)

        assert not await db.has_lapsed()
        await worker.finish_job(claim, Stage.ENCODED)


async def test_a_stalled_event_loop_is_not_kept_alive(db_url: str) -> None:
    async def recover() -> tuple[int, ...]:
        await asyncio.sleep(1.0)  # until then it is kept alive
        async with JobDb.open(db_url, sweep=None) as db:
            return (await db.recover(wait=10)).requeued

    async with JobDb.open(db_url, lease=0.5, heartbeat=0.1, stall=0.4, sweep=None) as worker:
        claim = await claimed(worker)
        await asyncio.sleep(0.2)
        with ThreadPoolExecutor(1) as elsewhere:  # blocks this loop, which is what it is about
            assert elsewhere.submit(asyncio.run, recover()).result() == (claim.job_id,)
        await wait_until(lambda: claim.lost)  # it turns again, and hears of it
        with pytest.raises(LeaseLost):
            await worker.finish_job(claim, Stage.ENCODED)


async def test_a_claim_past_its_deadline_is_not_renewed(db_url: str, raw: Raw) -> None:
    settings: dict[str, Any] = {"lease": 0.4, "heartbeat": 0.1, "sweep": 0.1, "deadline": 0.5}
    async with JobDb.open(db_url, **settings) as db:
        claim = await claimed(db)
        await wait_until(lambda: claim.lost)
        assert "its deadline has passed" in str(claim.error())
        await wait_until(lambda: raw("SELECT ready FROM jobs") == [(Stage.DOWNLOADED,)])


async def test_renewing_moves_no_deadline(db_url: str) -> None:
    settings: dict[str, Any] = {"lease": 5.0, "heartbeat": 0.1, "sweep": None, "deadline": 0.4}
    async with JobDb.open(db_url, **settings) as db:
        claim = await claimed(db)
        for _ in range(6):
            await asyncio.sleep(0.1)
            await db.renew_claims([claim])
        await wait_until(lambda: claim.lost)
        assert "its deadline has passed" in str(claim.error())
        assert await db.renew_claims([claim]) == []


async def test_close_waits_for_no_threads_of_others(db_url: str) -> None:
    """The default executor may be full of encodes."""
    async with JobDb.open(db_url, sweep=None) as db:
        await claimed(db)
        loop = asyncio.get_running_loop()
        busy = [loop.run_in_executor(None, time.sleep, 3) for _ in range(40)]
        await asyncio.sleep(0.1)
        start = time.monotonic()
        await db.close()
        assert time.monotonic() - start < 2
        for one in busy:
            one.cancel()
        await asyncio.gather(*busy, return_exceptions=True)


async def test_the_sweep_survives_what_nobody_foresaw(
    db_url: str, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with JobDb.open(db_url, sweep=0.1) as db:
        await claimed(db)
        monkeypatch.setattr(db, "has_lapsed", lambda: 1 / 0)
        await asyncio.sleep(0.3)
        monkeypatch.undo()
        raw(EXPIRE)
        await wait_until(lambda: raw("SELECT ready FROM jobs") == [(Stage.DOWNLOADED,)])


async def test_renew_claims_tells_which_are_left(db: JobDb) -> None:
    one, other = await claimed(db), await claimed(db)
    await db.requeue_job(one.job_id)

    assert await db.renew_claims([one, other]) == [other]
    assert one.lost
    with pytest.raises(InvalidInput, match="claims is 5"):
        await db.renew_claims([5])  # type: ignore[list-item]


async def test_an_owner_is_another_one_after_each_start(db: JobDb, db_url: str) -> None:
    async with JobDb.open(db_url, sweep=None) as other:
        assert db.owner != other.owner


async def test_lease_and_heartbeat_fit(db_url: str) -> None:
    with pytest.raises(InvalidInput, match="lease is 5 s; expected more than heartbeat"):
        await JobDb.connect(db_url, lease=5.0)
