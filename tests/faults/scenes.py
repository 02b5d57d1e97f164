"""In which company a call is made when it is cancelled."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import aiosqlite
import asyncpg

from pandora_db.errors import TransactionAborted
from tests.faults.stepping import Cancellation, Stepped

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pandora_db import JobDb
    from tests.faults.calls import Call

CROWD = 5


class Scene(StrEnum):
    ALONE = "alone"
    EMPTY_POOL = "alone, and the pool must connect first"
    CROWD = "in a crowd of group commit"
    INSIDE = "inside a transaction that goes on"
    BOUND = "bound to a connection of the caller's"


class Ended(StrEnum):
    CANCELLED = "cancelled"
    ANSWERED = "answered"
    ABORTED = "cancelled, and its transaction aborted"


async def play(
    db: JobDb, call: Call, author: str, when: Cancellation, scene: Scene
) -> tuple[Ended, int]:
    """Make `call` for `author`, cancelled as `when` says; how it ended, and how often it waited."""
    job_id = await call.prepare(db, author)
    if scene is Scene.CROWD:
        return await _in_crowd(db, call, author, job_id, when)
    if scene is Scene.INSIDE:
        return await _inside(db, call, author, job_id, when)
    if scene is Scene.BOUND:
        return await _bound(db, call, author, job_id, when)
    if scene is Scene.EMPTY_POOL:
        empty_pool(db)
    stepped = Stepped(call.run(db, author, job_id), *when)
    return await _ended(stepped), stepped.points


def empty_pool(db: JobDb) -> None:
    """Throw the idle connections away, as their age would."""
    pool = db._driver._pool  # type: ignore[attr-defined]
    while (connection := pool.try_take()) is not None:
        pool.discard(connection)


async def _drive(stepped: Stepped) -> Any:
    return await stepped


async def _ended(stepped: Stepped) -> Ended:
    task = asyncio.ensure_future(_drive(stepped))
    await asyncio.wait([task])
    if task.cancelled():
        return Ended.CANCELLED
    task.result()
    return Ended.ANSWERED


async def _in_crowd(
    db: JobDb, call: Call, author: str, job_id: int, when: Cancellation
) -> tuple[Ended, int]:
    others = [f"{author}, neighbour {number}" for number in range(CROWD)]
    jobs = await asyncio.gather(*(call.prepare(db, other) for other in others))
    before = [
        asyncio.ensure_future(call.run(db, *pair)) for pair in zip(others[:3], jobs, strict=False)
    ]
    stepped = Stepped(call.run(db, author, job_id), *when)
    target = asyncio.ensure_future(_ended(stepped))
    await asyncio.sleep(0)
    after = [
        asyncio.ensure_future(call.run(db, *pair))
        for pair in zip(others[3:], jobs[3:], strict=True)
    ]
    await asyncio.gather(*before, *after)  # a neighbour's cancellation is no affair of theirs
    return await target, stepped.points


async def _inside(
    db: JobDb, call: Call, author: str, job_id: int, when: Cancellation
) -> tuple[Ended, int]:
    stepped: Stepped | None = None
    ended = Ended.ABORTED
    with suppress(TransactionAborted):
        async with db.transaction() as tx:
            stepped = Stepped(call.run(tx, author, job_id), *when)
            outcome = await _ended(stepped)
            await tx.get_queue_length()
            ended = outcome
    assert stepped is not None
    return ended, stepped.points


async def _bound(
    db: JobDb, call: Call, author: str, job_id: int, when: Cancellation
) -> tuple[Ended, int]:
    ended = Ended.ABORTED
    async with own_connection(db) as connection:
        if isinstance(connection, aiosqlite.Connection):
            await connection.execute("BEGIN IMMEDIATE")
            stepped = Stepped(call.run(db.bind(connection), author, job_id), *when)
            ended = await _ended(stepped)
            await connection.execute("COMMIT")
        else:
            transaction = connection.transaction()
            await transaction.start()
            stepped = Stepped(call.run(db.bind(connection), author, job_id), *when)
            outcome = await _ended(stepped)
            try:
                await connection.execute("SELECT 1")
                await transaction.commit()
                ended = outcome
            except asyncpg.InFailedSQLTransactionError:
                await transaction.rollback()
    return ended, stepped.points


@asynccontextmanager
async def own_connection(db: JobDb) -> AsyncIterator[Any]:
    """A connection of the driver's own kind, opened by the program."""
    target: Any = db._target
    if db.dialect == "sqlite":
        async with aiosqlite.connect(target.path, isolation_level=None) as connection:
            yield connection
        return
    connection = await asyncpg.connect(
        **target.connect_arguments(), server_settings={"application_name": "pandora own"}
    )
    try:
        yield connection
    finally:
        await connection.close()
