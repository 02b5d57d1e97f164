"""A handle that was opened before a fork()."""

from __future__ import annotations

import asyncio
import os
import sys
import traceback
from typing import TYPE_CHECKING

import pytest

from pandora_db import HandleForked, JobDb
from tests.faults.calls import make_job

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.filterwarnings(
    "ignore:This process .* is multi-threaded:DeprecationWarning"
)


def in_child(work: Callable[[], None]) -> str:
    """Run `work` in a forked child; "" when it went well, else its traceback."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            work()
            os.write(writing, b"ok")
        except BaseException:  # noqa: BLE001 - the parent raises it
            os.write(writing, traceback.format_exc().encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return said.removesuffix("ok")


async def test_the_child_is_refused_and_the_parent_goes_on(db: JobDb) -> None:
    await db.insert_job(make_job("parent"))

    def use_it() -> None:
        asyncio._set_running_loop(None)
        asyncio.run(refused())

    async def refused() -> None:
        for call in (db.get_queue_length(), db.insert_job(make_job("child")), db.ping()):
            with pytest.raises(HandleForked):
                await call
        with pytest.raises(HandleForked):
            db.bind(object())  # type: ignore[arg-type]
        async with asyncio.timeout(5):
            await db.close()  # must not touch what is the parent's

    assert in_child(use_it) == ""
    assert await db.insert_job(make_job("parent"))
    assert await db.get_queue_length() == 2
    assert await db.verify_schema() == []


async def test_a_transaction_of_the_parent_is_refused_in_the_child(db: JobDb) -> None:
    async with db.transaction() as tx:
        await tx.insert_job(make_job("parent"))

        async def refused() -> None:
            async with asyncio.timeout(5):
                with pytest.raises(HandleForked):
                    await tx.get_queue_length()

        def use_it() -> None:
            asyncio._set_running_loop(None)
            asyncio.run(refused())

        assert in_child(use_it) == ""
        await tx.insert_job(make_job("parent"))
    assert await db.get_queue_length() == 2


async def test_a_forked_child_opens_a_handle_of_its_own(db: JobDb, db_url: str) -> None:
    await db.insert_job(make_job("parent"))

    async def write() -> None:
        async with JobDb.open(db_url) as own:
            await own.insert_job(make_job("child"))

    def use_it() -> None:
        asyncio._set_running_loop(None)
        asyncio.run(write())

    assert in_child(use_it) == ""
    assert await db.get_queue_length() == 2
    sys.stdout.flush()
