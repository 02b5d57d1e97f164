"""Hearing of commits: by handles of the process, by writes to the file, by asking SQLite."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pandora_db import JobDb
from pandora_db.drivers.sqlite import bell
from pandora_db.drivers.sqlite.inotify import Writes
from pandora_db.testing import make_job
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from pandora_db import Watch

NEVER = 10_000.0
_INSERT = """
import asyncio, sys
from pandora_db import JobDb
from pandora_db.testing import make_job

async def insert():
    async with JobDb.open(sys.argv[1], sweep=None) as db:
        for _ in range(int(sys.argv[2])):
            await db.insert_job(make_job())

asyncio.run(insert())
"""


@pytest.fixture
async def path(sqlite_path: Path) -> Path:
    async with JobDb.open(sqlite_path, sweep=None) as db:
        await db.init_schema()
    return sqlite_path


async def take(watch: Watch, count: int) -> list[int]:
    async with asyncio.timeout(10):
        return [(await anext(watch)).job_id for _ in range(count)]


async def insert_elsewhere(path: Path, count: int) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _INSERT, str(path), str(count), stderr=subprocess.PIPE
    )
    assert await process.wait() == 0


async def test_handles_of_one_process_ring_each_other(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bell.SqliteBell, "_wait", lambda *_: None)
    monkeypatch.setattr(Writes, "to", lambda *_: None)
    monkeypatch.setattr(bell.SqliteBell, "_look_at_file", lambda *_: None)
    in_thread: list[int] = []

    async def insert() -> int:
        async with JobDb.open(path, sweep=None) as db:
            return await db.insert_job(make_job())

    async with JobDb.open(path, sweep=None) as db, db.watch() as watch:
        by_another = await insert()
        assert await take(watch, 1) == [by_another]

        thread = threading.Thread(target=lambda: in_thread.append(asyncio.run(insert())))
        thread.start()
        await asyncio.to_thread(thread.join)
        assert await take(watch, 1) == in_thread


async def test_nobody_is_rung_after_the_end(path: Path) -> None:
    from pandora_db.drivers.sqlite import neighbours

    async with JobDb.open(path, sweep=None) as db:
        async with db.watch():
            assert len(neighbours._ears) == 1
        reader = db._lookout._task
        assert reader is not None
        await asyncio.wait([reader])
        assert neighbours._ears == {}


@pytest.mark.parametrize("told", ["by the system", "by the file", "by SQLite"])
async def test_other_processes_are_heard(
    path: Path, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if told == "by the system":
        if sys.platform != "linux":
            pytest.skip("this system does not tell of writes")
        monkeypatch.setattr(bell, "_GLANCE", NEVER)
    else:
        monkeypatch.setattr(Writes, "to", lambda *_: None)
    if told == "by SQLite":
        monkeypatch.setattr(bell, "_GLANCE", NEVER)
    async with JobDb.open(path, sweep=None) as db, db.watch() as watch:
        await asyncio.sleep(2 * bell._SURE)
        if told != "by SQLite":
            # From here on only a write makes it ask.
            monkeypatch.setattr(bell, "_SURE", NEVER)
            await asyncio.sleep(0.3)
        await insert_elsewhere(path, 5)

        assert len(await take(watch, 5)) == 5


async def test_a_commit_behind_a_turn_of_our_own_writer_is_heard(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with JobDb.open(path, sweep=None) as db, db.watch() as watch:
        monkeypatch.setattr(bell, "_SURE", NEVER)
        monkeypatch.setattr(bell, "_GROWTH", NEVER)  # no question but those that a write causes
        await asyncio.sleep(0.6)
        await db.health()  # a turn that commits nothing
        with closing(sqlite3.connect(path)) as raw, raw:
            raw.execute("INSERT INTO jobs (author, ready) VALUES ('theirs', 1)")
        assert len(await take(watch, 1)) == 1


async def test_a_second_commit_that_no_write_tells_of_is_heard_after_the_first(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its writes may be told together with those of the first, before it counts."""
    async with JobDb.open(path, sweep=None) as db, db.watch() as watch:
        monkeypatch.setattr(bell, "_SURE", NEVER)
        await asyncio.sleep(1.0)
        monkeypatch.setattr(Writes, "listen", lambda *_: True)  # to the first alone
        with closing(sqlite3.connect(path)) as raw:
            for number in range(2):
                with raw:
                    raw.execute("INSERT INTO jobs (author, ready) VALUES ('theirs', 1)")
                assert len(await take(watch, 1)) == 1, number


async def test_another_process_is_heard_while_this_one_writes(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bell, "_SURE", NEVER)
    theirs: set[int] = set()
    async with JobDb.open(path, sweep=None) as db, JobDb.open(path, sweep=None) as watcher:
        found: set[int] = set()
        mine: set[int] = set()

        async def listen() -> None:
            async for event in watcher.watch():
                found.add(event.job_id)

        async def write() -> None:
            while True:
                mine.add(await db.insert_job(make_job()))
                await asyncio.sleep(0.005)

        tasks = [asyncio.ensure_future(listen()), asyncio.ensure_future(write())]
        await wait_until(lambda: bool(mine & found))
        await insert_elsewhere(path, 20)
        tasks[1].cancel()
        await asyncio.wait(tasks[1:])
        theirs = {row.job_id for row in await db.get_active_jobs()} - mine
        await wait_until(lambda: theirs <= found)
        tasks[0].cancel()

    assert len(theirs) >= 20


async def test_no_commit_of_another_process_hides_behind_another(path: Path) -> None:
    async with JobDb.open(path, sweep=None) as db, db.watch() as watch:
        await asyncio.gather(*(insert_elsewhere(path, 50) for _ in range(2)))

        assert len(set(await take(watch, 100))) == 100
