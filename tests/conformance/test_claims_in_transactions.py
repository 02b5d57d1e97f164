"""Claims that are made, used and ended in transactions: what becomes of them follows the commit."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from pandora_db import Claim, Hold, JobDb, JobStatus, LeaseLost, Stage, Store
from pandora_db.testing import insert_job_at
from tests.support.caller import opened

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


async def claimed(db: JobDb, **terms: float) -> Claim:
    job_id = await insert_job_at(db, Stage.DOWNLOADED)
    claim = await db.claim_job(job_id, into=Stage.ENCODING, **terms)
    assert claim is not None
    return claim


async def cancelled_at_commit(db: JobDb, use: Callable[[Store], Awaitable[Claim | None]]) -> Claim:
    """What `use` took in a transaction whose commit is met by a cancellation."""
    taken: list[Claim] = []

    async def work() -> None:
        async with db.transaction() as tx:
            claim = await use(tx)
            assert claim is not None
            taken.append(claim)
            task = asyncio.current_task()
            assert task is not None
            asyncio.get_running_loop().call_soon(task.cancel)

    with suppress(asyncio.CancelledError):
        await asyncio.create_task(work())
    return taken[0]


@pytest.mark.parametrize("inside", [False, True], ids=["alone", "in a transaction"])
async def test_an_end_drops_the_checkpoint_that_it_waited_for(
    db: JobDb, db_url: str, *, inside: bool
) -> None:
    claim = await claimed(db)

    async def end(other: JobDb) -> None:
        if not inside:
            await other.finish_job(claim, Stage.ENCODED)
            return
        async with other.transaction() as tx:
            await tx.finish_job(claim, Stage.ENCODED)

    async with JobDb.open(db_url, sweep=None) as other:
        async with db.transaction() as tx:
            await tx.save_checkpoint(claim, {"next_segment": 3})
            ending = asyncio.create_task(end(other))
            await asyncio.sleep(0.3)  # it waits for the row by now
        await ending

    assert await db.load_checkpoint(claim.job_id, stage=Stage.ENCODING) is None


async def test_a_cancellation_during_the_commit_leaves_a_new_claim_in_force(db: JobDb) -> None:
    job_id = await insert_job_at(db, Stage.DOWNLOADED)
    claim = await cancelled_at_commit(db, lambda tx: tx.claim_job(job_id, into=Stage.ENCODING))

    row = await db.get_job(job_id)
    assert row is not None
    if row.ready == Stage.DOWNLOADED:  # the cancellation came before the commit
        assert claim.lost
        return
    assert not claim.lost
    assert await db.renew_claims([claim]) == [claim]
    await db.finish_job(claim, Stage.ENCODED)


async def test_a_cancellation_during_the_commit_leaves_an_ended_claim_ended(db: JobDb) -> None:
    claim = await claimed(db)

    async def finish(tx: Store) -> Claim:
        await tx.finish_job(claim, Stage.ENCODED)
        return claim

    await cancelled_at_commit(db, finish)

    row = await db.get_job(claim.job_id)
    assert row is not None
    assert claim.ended is (row.ready == Stage.ENCODED)


async def test_a_renewal_beside_an_open_end_does_not_undo_it(db: JobDb) -> None:
    claim = await claimed(db)
    ended, renewed = asyncio.Event(), asyncio.Event()

    async def end() -> None:
        async with db.transaction() as tx:
            await tx.finish_job(claim, Stage.ENCODED)
            ended.set()
            with suppress(TimeoutError):  # on SQLite the renewal waits for the transaction
                await asyncio.wait_for(renewed.wait(), 0.5)

    ending = asyncio.create_task(end())
    await ended.wait()
    try:
        assert await db.renew_claims([claim]) == []
    finally:
        renewed.set()
        await ending
    assert claim.ended
    assert not claim.lost


async def test_a_load_beside_an_open_save_does_not_hide_it(db: JobDb) -> None:
    """What the handle has read meanwhile is not what the next save builds on."""
    claim = await claimed(db)
    first, second = {"parts": ["a" * 300_000, "b"]}, {"parts": ["a" * 300_000, "c"]}
    await db.save_checkpoint(claim, first)

    outside = contextvars.copy_context()
    async with db.transaction() as tx:
        await tx.save_checkpoint(claim, second)
        loading = asyncio.create_task(db.load_checkpoint(claim), context=outside)
        await asyncio.sleep(0.1)
    assert await loading in (first, second)

    await db.save_checkpoint(claim, first)
    assert await db.load_checkpoint(claim) == first
    await db.save_checkpoint(claim, second)
    assert await db.load_checkpoint(claim.job_id, stage=Stage.ENCODING) == second


async def test_a_bound_store_holds_no_claim(db: JobDb, db_url: str) -> None:
    """Whoever drops a claim leaves the job to recovery, also where the store lives on."""
    job_id = await insert_job_at(db, Stage.DOWNLOADED)
    async with opened(db_url) as caller:
        await caller.begin()
        store = db.bind(caller.connection)
        claim = await store.claim_job(job_id, into=Stage.ENCODING)
        assert claim is not None
        await store.release_job(claim)
        gone = weakref.ref(claim)
        del claim
        gc.collect()
        assert gone() is None
        await caller.commit()


async def test_a_claim_from_a_long_transaction_is_renewed_at_its_commit(
    db_url: str,
) -> None:
    async with (
        JobDb.open(db_url, lease=1.5, heartbeat=1.0, sweep=None) as db,
        JobDb.open(db_url, sweep=None) as other,
    ):
        job_id = await insert_job_at(db, Stage.DOWNLOADED)
        async with db.transaction() as tx:
            claim = await tx.claim_job(job_id, into=Stage.ENCODING)
            assert claim is not None
            await asyncio.sleep(1.2)
        await asyncio.sleep(0.6)  # beyond the lease as it was claimed
        assert not (await other.recover()).jobs
        await db.finish_job(claim, Stage.ENCODED)


async def test_a_claim_whose_handle_is_closed_is_told(db: JobDb, db_url: str) -> None:
    claim = await claimed(db)
    async with JobDb.open(db_url, sweep=None) as other:
        assert await other.renew_claims([claim]) == [claim]

    with pytest.raises(LeaseLost, match="closed"):
        async with claim:
            pass
    await db.finish_job(claim, Stage.ENCODED)  # it counts until somebody takes the job
    row = await db.get_job(claim.job_id)
    assert row is not None
    assert row.status is JobStatus.QUEUED


async def test_an_end_undone_by_another_handle_leaves_the_claim_with_its_own(db_url: str) -> None:
    """It is renewed at the pace of its own handle, and the other one goes on renewing its own."""
    async with (
        JobDb.open(db_url, lease=1.5, heartbeat=0.5, sweep=None) as quick,
        JobDb.open(db_url, lease=4.0, heartbeat=2.0, sweep=None) as slow,
    ):
        short, long = await claimed(quick), await claimed(slow)
        with suppress(ZeroDivisionError):
            async with slow.transaction() as tx:
                await tx.finish_job(short, Stage.ENCODED)
                raise ZeroDivisionError
        await asyncio.sleep(5.0)
        assert not (await quick.recover()).jobs
        await quick.finish_job(short, Stage.ENCODED)
        await slow.finish_job(long, Stage.ENCODED)


@pytest.mark.parametrize("look", ["refresh_claims", "renew_claims"])
async def test_what_is_seen_in_a_transaction_that_is_undone_was_not(db: JobDb, look: str) -> None:
    taken, asked = await claimed(db), await claimed(db)
    with suppress(ZeroDivisionError):
        async with db.transaction() as tx:
            await tx.requeue_job(taken.job_id)
            await tx.cancel_job(asked.job_id)
            assert await getattr(tx, look)([taken, asked]) == [asked]
            raise ZeroDivisionError

    assert not taken.lost
    assert asked.hold is Hold.NONE
    assert await db.refresh_claims([taken, asked]) == [taken, asked]
