"""`finish_jobs`: many claims end together, and each has an outcome of its own."""

from __future__ import annotations

import asyncio
import json

import pytest

from pandora_db import (
    Claim,
    EventKind,
    Finish,
    HandleClosed,
    InvalidInput,
    InvalidTransition,
    JobDb,
    LeaseLost,
    Stage,
)
from pandora_db.testing import make_job


async def claimed(db: JobDb, count: int) -> list[Claim]:
    await db.insert_jobs(make_job() for _ in range(count))
    return await db.claim_jobs(Stage.QUEUED, into=Stage.DOWNLOADING, limit=count)


def to(stage: Stage, claims: list[Claim]) -> list[Finish]:
    return [Finish(claim, stage) for claim in claims]


@pytest.mark.parametrize("count", [0, 1, 3, 5, 700])
async def test_finish_jobs_ends_all_of_them(db: JobDb, count: int) -> None:
    claims = await claimed(db, count) if count else []

    assert await db.finish_jobs(to(Stage.DOWNLOADED, claims)) == [Stage.DOWNLOADED] * count

    assert await db.count_jobs(stage=Stage.DOWNLOADED) == count
    assert all(claim.ended for claim in claims)
    assert not db._leases.held()
    for claim in claims[:5]:
        kinds = [event.kind for event in await db.history(claim.job_id)]
        assert kinds == [EventKind.INSERTED, EventKind.CLAIMED, EventKind.FINISHED]


async def test_each_keeps_its_own_output_and_goes_its_own_way(db: JobDb) -> None:
    one, two, three = await claimed(db, 3)

    found = await db.finish_jobs(
        [
            Finish(one, Stage.UPLOADED, {"parts": 3}, "encoded", "/srv/one.mkv"),
            Finish(two, Stage.DOWNLOADED),
            Finish(three, Stage.FAILED),
        ]
    )

    assert found == [Stage.UPLOADED, Stage.DOWNLOADED, Stage.FAILED]
    row = await db.get_job(one.job_id)
    assert row is not None
    assert json.loads(row.output or "") == {"parts": 3}
    assert (row.output_kind, row.output_file) == ("encoded", "/srv/one.mkv")


async def test_a_lost_claim_stops_none_of_the_others(db: JobDb) -> None:
    claims = await claimed(db, 9)
    await db.requeue_job(claims[4].job_id)
    await db.cancel_job(claims[7].job_id)

    found = await db.finish_jobs(to(Stage.DOWNLOADED, claims))

    assert isinstance(found[4], LeaseLost)
    assert claims[4].lost
    assert found[7] is Stage.CANCELLED
    assert [one for n, one in enumerate(found) if n not in (4, 7)] == [Stage.DOWNLOADED] * 7


async def test_a_claim_that_is_given_twice_ends_once(db: JobDb) -> None:
    one, two = await claimed(db, 2)

    found = await db.finish_jobs(to(Stage.DOWNLOADED, [one, two, one]))

    assert found[:2] == [Stage.DOWNLOADED] * 2
    assert isinstance(found[2], LeaseLost)
    assert len(await db.history(one.job_id)) == 3


async def test_what_is_refused_for_one_changes_nothing(db: JobDb) -> None:
    one, two = await claimed(db, 2)

    with pytest.raises(InvalidTransition):
        await db.finish_jobs([Finish(one, Stage.UPLOADED), Finish(two, Stage.QUEUED)])
    with pytest.raises(InvalidInput, match="output"):
        await db.finish_jobs([Finish(one, Stage.UPLOADED), Finish(two, Stage.UPLOADED, {1: 2})])  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]
    with pytest.raises(InvalidInput, match="Finish"):
        await db.finish_jobs([one])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    for alone in (Finish(one, Stage.UPLOADED), one, None):
        with pytest.raises(InvalidInput, match="several Finish"):
            await db.finish_jobs(alone)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with pytest.raises(InvalidInput, match="10,000"):
        await db.finish_jobs(Finish(one, Stage.UPLOADED) for _ in range(10_001))

    assert await db.count_jobs(stage=Stage.DOWNLOADING) == 2
    assert not one.ended


async def test_in_a_transaction_they_are_undone_with_it(db: JobDb) -> None:
    claims = await claimed(db, 5)

    async def undo() -> None:
        async with db.transaction() as tx:
            assert await tx.finish_jobs(to(Stage.DOWNLOADED, claims)) == [Stage.DOWNLOADED] * 5
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await undo()
    assert not any(claim.ended for claim in claims)

    async with db.transaction() as tx:
        await tx.finish_jobs(to(Stage.DOWNLOADED, claims))
    assert all(claim.ended for claim in claims)
    assert await db.count_jobs(stage=Stage.DOWNLOADED) == 5


async def test_a_cancelled_call_has_ended_each_once_or_not_at_all(db: JobDb) -> None:
    for turns in range(12):
        claims = await claimed(db, 20)
        call = asyncio.create_task(db.finish_jobs(to(Stage.UPLOADED, claims)))
        for _ in range(turns):
            await asyncio.sleep(0)
        call.cancel()
        await asyncio.wait([call])

        again = await db.finish_jobs(to(Stage.UPLOADED, claims))

        assert {type(one) for one in again} <= {LeaseLost, Stage}
        for claim in claims:
            kinds = [event.kind for event in await db.history(claim.job_id)]
            assert kinds == [EventKind.INSERTED, EventKind.CLAIMED, EventKind.FINISHED]


async def test_those_that_ended_before_the_handle_was_closed_are_told_so(db: JobDb) -> None:
    claims = await claimed(db, 700)

    ending = asyncio.ensure_future(db.finish_jobs(to(Stage.DOWNLOADED, claims)))
    await asyncio.sleep(0)
    await db.close()
    found = await ending

    assert found[:500] == [Stage.DOWNLOADED] * 500
    assert {type(one) for one in found[500:]} == {HandleClosed}
