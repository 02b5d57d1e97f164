"""`async with claim`: what is refused at its door, and what is told when it is left."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from pandora_db import Claim, JobDb, LeaseLost, Stage
from pandora_db.testing import insert_job_at

LEFT = "the block of the claim on job {} was left, and the claim has not ended"


async def claimed(db: JobDb, **terms: Any) -> Claim:
    job_id = await insert_job_at(db, Stage.DOWNLOADED)
    claim = await db.claim_job(job_id, into=Stage.ENCODING, **terms)
    assert claim is not None
    return claim


async def enter(claim: Claim) -> None:
    async with claim:
        pytest.fail("nobody is to work under it")


def warned(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]


async def test_a_claim_that_has_ended_opens_no_block(db: JobDb) -> None:
    finished, released = await claimed(db), await claimed(db)
    await db.finish_job(finished, Stage.ENCODED)
    await db.release_job(released)

    for claim in (finished, released):
        with pytest.raises(LeaseLost, match=f"job {claim.job_id} no longer counts: it has ended"):
            await enter(claim)


async def test_an_end_that_is_undone_opens_it_again(db: JobDb) -> None:
    claim = await claimed(db)

    async def undo() -> None:
        async with db.transaction() as tx:
            await tx.finish_job(claim, Stage.ENCODED)
            with pytest.raises(LeaseLost):
                await enter(claim)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await undo()
    async with claim:
        await db.finish_job(claim, Stage.ENCODED)


async def test_a_claim_of_a_closed_handle_opens_no_block(db_url: str) -> None:
    async with JobDb.open(db_url, sweep=None) as db:
        claim = await claimed(db)

    with pytest.raises(LeaseLost, match="the handle that renewed its lease was closed"):
        await enter(claim)


async def test_a_claim_that_comes_after_the_close_opens_no_block(db: JobDb, db_url: str) -> None:
    async with JobDb.open(db_url, sweep=None) as other:
        job_id = await insert_job_at(db, Stage.DOWNLOADED)
        claiming = asyncio.create_task(other.claim_job(job_id, into=Stage.ENCODING))
        await asyncio.sleep(0)  # it is under way, and ends within `close_timeout`
    claim = await claiming

    assert claim is not None
    with pytest.raises(LeaseLost, match="the handle that renewed its lease was closed"):
        await enter(claim)


async def test_a_claim_made_in_a_transaction_may_be_entered(db: JobDb) -> None:
    job_id = await insert_job_at(db, Stage.DOWNLOADED)
    async with db.transaction() as tx:
        claim = await tx.claim_job(job_id, into=Stage.ENCODING)
        assert claim is not None
        async with claim:
            await tx.finish_job(claim, Stage.ENCODED)


async def test_a_block_that_is_left_without_an_end_is_told(
    db: JobDb, caplog: pytest.LogCaptureFixture
) -> None:
    claim = await claimed(db)
    async with claim:
        pass

    (told,) = warned(caplog)
    assert told.startswith(LEFT.format(claim.job_id))
    assert claim.alive
    assert await db.renew_claims([claim]) == [claim]


async def test_an_end_an_error_and_a_loss_need_no_warning(
    db: JobDb, caplog: pytest.LogCaptureFixture
) -> None:
    ended, failed, lost, late = [await claimed(db) for _ in range(4)]
    async with ended:
        await db.finish_job(ended, Stage.ENCODED)
    with pytest.raises(ZeroDivisionError):
        async with failed:
            raise ZeroDivisionError  # whoever catches it ends the claim
    await db.requeue_job(lost.job_id)
    with pytest.raises(LeaseLost):
        async with lost:
            await db.finish_job(lost, Stage.ENCODED)
    async with late:
        ending = asyncio.create_task(db.finish_job(late, Stage.ENCODED))
        await asyncio.sleep(0)  # it is on its way
    await ending

    assert warned(caplog) == []
