"""`db.transaction()`: all or nothing, one object that is passed, and nothing beside it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from pandora_db import (
    Duplicate,
    InsideTransaction,
    InvalidInput,
    InvalidTransition,
    JobDb,
    NotFound,
    QueueFull,
    Stage,
    Store,
    TransactionAborted,
)
from pandora_db.testing import make_job

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class Oops(Exception):
    """What goes wrong in the caller's own code."""


async def test_a_transaction_commits_all_of_it(db: JobDb, db_url: str) -> None:
    async with db.transaction() as tx:
        first = await tx.insert_job(make_job())
        second = await tx.insert_job(make_job())
        await tx.update_stage(first, Stage.DOWNLOADING)
        async with JobDb.open(db_url) as other:
            assert await other.count_jobs() == 0

    rows = await db.get_jobs_by_ids([first, second])
    assert [row.ready for row in rows] == [Stage.DOWNLOADING, Stage.QUEUED]
    assert len(await db.history(first)) == 2


async def test_a_transaction_sees_its_own_writes(db: JobDb) -> None:
    async with db.transaction() as tx:
        job_id = await tx.insert_job(make_job(author="mika"))
        await tx.update_job(job_id, priority=3)

        row = await tx.get_job(job_id)
        assert row is not None
        assert row.priority == 3
        assert await tx.queue_position(job_id) == 1
        assert [event.seq for event in await tx.history(job_id)] == [1, 2]
        assert [one.job_id async for one in tx.iter_jobs(page_size=1)] == [job_id]


async def test_an_error_of_the_caller_rolls_all_of_it_back(db: JobDb) -> None:
    old = await db.insert_job(make_job())
    before = await db.get_job(old)

    async def fails() -> None:
        async with db.transaction() as tx:
            await tx.insert_jobs([make_job(), make_job(external_id="run-1")])
            await tx.update_stage(old, Stage.FAILED)
            await tx.delete_job(old)
            raise Oops

    with pytest.raises(Oops):
        await fails()

    assert await db.get_job(old) == before
    assert await db.count_jobs() == 1
    assert len(await db.history(old)) == 1
    await db.update_stage(old, Stage.DOWNLOADING)


async def test_a_cancelled_transaction_is_rolled_back(db: JobDb) -> None:
    inside = asyncio.Event()

    async def waits() -> None:
        async with db.transaction() as tx:
            await tx.insert_job(make_job())
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(waits())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert await db.count_jobs() == 0
    await db.insert_job(make_job())


CALLS_ON_THE_HANDLE: list[Callable[[JobDb], Awaitable[object]]] = [
    lambda db: db.get_job(1),
    lambda db: db.count_jobs(),
    lambda db: db.history(1),
    lambda db: db.insert_job(make_job()),
    lambda db: db.insert_job(make_job(), max_active=9),
    lambda db: db.insert_jobs([make_job()]),
    lambda db: db.get_next_job_id(),
    lambda db: db.archive_job(1),
    lambda db: db.retry_job(1),
    lambda db: db.ping(),
    lambda db: db.health(),
    lambda db: db.init_schema(),
    lambda db: db.plan_schema(),
    lambda db: db.verify_schema(),
    lambda db: db.transaction().__aenter__(),
]


async def test_the_handle_refuses_every_call_inside_its_own_transaction(db: JobDb) -> None:
    async with db.transaction() as tx:
        for call in CALLS_ON_THE_HANDLE:
            with pytest.raises(InsideTransaction, match="`tx`"):
                await asyncio.wait_for(call(db), 5)
            # Child tasks are inside too.
            with pytest.raises(InsideTransaction, match="`tx`"):
                await asyncio.wait_for(asyncio.create_task(_awaited(call(db))), 5)
        job_id = await tx.insert_job(make_job())

    assert [row.job_id for row in await db.get_active_jobs()] == [job_id]


async def _awaited(call: Awaitable[object]) -> object:
    return await call


async def test_tasks_outside_and_other_handles_go_on_beside_a_transaction(
    db: JobDb, db_url: str
) -> None:
    known = await db.insert_job(make_job())
    outside: asyncio.Queue[None] = asyncio.Queue()

    async def reads() -> int:
        await outside.get()
        return await db.count_jobs()

    reader = asyncio.create_task(reads())
    async with JobDb.open(db_url) as other, db.transaction() as tx:
        await tx.insert_job(make_job())
        assert (await other.get_job(known)) is not None
        outside.put_nowait(None)
        assert await asyncio.wait_for(reader, 5) == 1

    assert await db.count_jobs() == 2


async def test_a_child_task_that_outlives_the_transaction_may_use_the_handle(db: JobDb) -> None:
    over = asyncio.Event()

    async def later() -> int:
        await over.wait()
        return await db.count_jobs()

    async with db.transaction() as tx:
        child = asyncio.create_task(later())
        await tx.insert_job(make_job())
    over.set()

    assert await child == 1


async def test_a_transaction_that_is_over_takes_no_more_calls(db: JobDb) -> None:
    kept: list[Store] = []
    async with db.transaction() as tx:
        kept.append(tx)

    with pytest.raises(TransactionAborted, match="over"):
        await kept[0].insert_job(make_job())
    with pytest.raises(TransactionAborted, match="over"):
        await kept[0].count_jobs()

    # On SQLite the connection is shared: a late call must not slip into somebody else's turn.
    async with db.transaction() as tx:
        with pytest.raises(TransactionAborted, match="over"):
            await kept[0].insert_job(make_job())
        await tx.insert_job(make_job())
    assert await db.count_jobs() == 1


async def test_a_refused_operation_leaves_the_transaction_usable(db: JobDb) -> None:
    ended = await db.insert_job(make_job(job_id=5))
    await db.update_stage(ended, Stage.FAILED)

    async with db.transaction() as tx:
        before = await tx.insert_job(make_job())
        with pytest.raises(Duplicate):
            await tx.insert_job(make_job(job_id=5))
        with pytest.raises(NotFound):
            await tx.archive_job(404)
        with pytest.raises(InvalidTransition):
            await tx.update_stage(ended, Stage.ENCODING)
        with pytest.raises(QueueFull):
            await tx.insert_job(make_job(), max_active=1)
        with pytest.raises(InvalidInput):
            await tx.update_job(before, progress=2)
        with pytest.raises(Duplicate):
            await tx.insert_jobs([make_job(job_id=6), make_job(job_id=5)])
        with pytest.raises(Duplicate):
            await tx.insert_jobs([make_job(job_id=7, external_id="a"), make_job(job_id=5)])
        after = await tx.insert_job(make_job())

    assert {row.job_id for row in await db.get_active_jobs()} == {5, before, after}


async def test_a_transaction_may_be_used_by_several_tasks(db: JobDb) -> None:
    async with db.transaction() as tx:
        ids = await asyncio.gather(*(tx.insert_job(make_job()) for _ in range(20)))
        await asyncio.gather(
            *(tx.update_stage(job_id, Stage.DOWNLOADING) for job_id in ids),
            *(tx.update_job(job_id, priority=1) for job_id in ids),
        )
        counts = await asyncio.gather(*(tx.count_jobs() for _ in range(5)))

    assert counts == [20] * 5
    for job_id in ids:
        assert len(await db.history(job_id)) == 3


async def test_a_refused_bulk_undoes_only_itself_among_concurrent_calls(db: JobDb) -> None:
    """What `insert_jobs` undoes must not take along what another task was told is done."""
    await db.insert_job(make_job(job_id=5))
    bulk = [*(make_job(external_id=f"run-{n}") for n in range(10)), make_job(job_id=5)]

    async with db.transaction() as tx:
        outcomes = await asyncio.gather(
            *(tx.insert_jobs(bulk) for _ in range(3)),
            *(tx.insert_job(make_job()) for _ in range(20)),
            *(tx.insert_job(make_job(), max_active=1000) for _ in range(5)),
            return_exceptions=True,
        )

    refused, told = outcomes[:3], {one for one in outcomes[3:] if isinstance(one, int)}
    assert [type(one) for one in refused] == [Duplicate] * 3
    assert len(told) == 25
    assert {row.job_id for row in await db.get_active_jobs()} == {5, *told}


async def test_transactions_of_many_tasks_take_turns(db: JobDb) -> None:
    async def moves(n: int) -> None:
        async with db.transaction() as tx:
            job_id = await tx.insert_job(make_job(author=f"author {n}"))
            await tx.update_stage(job_id, Stage.DOWNLOADING)
            if n % 3 == 0:
                raise Oops

    outcomes = await asyncio.gather(*(moves(n) for n in range(15)), return_exceptions=True)

    assert sum(isinstance(one, Oops) for one in outcomes) == 5
    rows = await db.get_active_jobs()
    assert {row.author for row in rows} == {f"author {n}" for n in range(15) if n % 3}
    assert {row.ready for row in rows} == {Stage.DOWNLOADING}
