"""A watcher while its connections are killed, the server restarts, and writers are killed.

`python -m tests.faults.watching --long --json FILE`
"""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import time
from collections import Counter, defaultdict
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

from pandora_db import JobDb, PandoraDbError, Stage
from tests.faults.command import Bench, main
from tests.faults.outages import restarter
from tests.support.databases import migrate
from tests.support.provider import wheel_server
from tests.support.raw import Raw

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pandora_db import Watch

WATCHER = "watched"


class Notes:
    """What one watcher was told."""

    def __init__(self) -> None:
        self.seen: dict[int, list[int]] = defaultdict(list)

    async def keep(self, watch: Watch) -> None:
        """Listen until cancelled."""
        async for event in watch:
            self.seen[event.job_id].append(event.seq)

    def missing(self, stored: list[tuple[Any, ...]]) -> Counter[str]:
        """What was missed, came twice, or came in the wrong order."""
        wrong: Counter[str] = Counter()
        for job_id, count in stored:
            told = self.seen.get(job_id, [])
            if told != list(range(1, count + 1)):
                wrong["missed" if set(range(1, count + 1)) - set(told) else "order"] += 1
        return wrong


async def _write(db: JobDb, chance: random.Random) -> None:
    from tests.faults.calls import make_job

    while True:
        with suppress(PandoraDbError):
            job_id = await db.insert_job(make_job("load"))
            for stage in (Stage.DOWNLOADED, Stage.ENCODED, Stage.UPLOADED):
                if chance.random() < 0.1:
                    async with db.transaction() as tx:
                        await tx.update_stage(job_id, stage)
                        await asyncio.sleep(0.01)
                else:
                    await db.update_stage(job_id, stage)
        await asyncio.sleep(0.002)


async def _settled(raw: Raw) -> list[tuple[Any, ...]]:
    """(job, number of events), once the calls that were cut off on their way have ended too."""
    stored: list[tuple[Any, ...]] = []
    while True:
        before = stored
        stored = await asyncio.to_thread(
            raw, "SELECT job_id, count(*) FROM job_events GROUP BY job_id ORDER BY job_id"
        )
        if stored == before:
            return stored
        await asyncio.sleep(0.5)


async def endure(
    url: str, seed: int, seconds: float, trouble: Callable[[], Awaitable[None]]
) -> dict[str, Any]:
    """Watch and write through `trouble`; what was missed by any of three watchers."""
    chance = random.Random(seed)
    raw = Raw(url)
    async with (
        JobDb.open(url, application_name=WATCHER, sweep=None, wait_for_server=10.0) as db,
        JobDb.open(url, sweep=None, wait_for_server=10.0) as other,
    ):
        notes = [Notes(), Notes()]
        first = db.watch()
        async with first:
            start = first.cursor
            tasks = [asyncio.create_task(notes[0].keep(first))]
            tasks += [asyncio.create_task(_write(one, chance)) for one in (db, other) * 2]
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                await trouble()
            for task in tasks[1:]:
                task.cancel()
            await asyncio.wait(tasks[1:])
            late = db.watch(after=start)
            tasks.append(asyncio.create_task(notes[1].keep(late)))
            stored = await _settled(raw)
            total = sum(count for _, count in stored)
            with suppress(TimeoutError):
                async with asyncio.timeout(20):
                    while any(sum(map(len, one.seen.values())) < total for one in notes):
                        await asyncio.sleep(0.05)
            for task in (tasks[0], tasks[-1]):
                task.cancel()
            await asyncio.wait(tasks)
    return {
        "jobs": len(stored),
        "events": total,
        "wrong": [dict(one.missing(stored)) for one in notes],
    }


def killer(dsn: str, tally: Counter[str]) -> Callable[[], Awaitable[None]]:
    """Every 100 ms, end all connections of the watching handle."""

    async def trouble() -> None:
        await asyncio.sleep(0.1)

        def kill() -> int:
            with psycopg.connect(dsn, autocommit=True) as connection:
                killed = connection.execute(
                    "SELECT pg_terminate_backend(pid), query ~ '^LISTEN' FROM pg_stat_activity "
                    "WHERE application_name = %s AND datname = current_database()",
                    [WATCHER],
                ).fetchall()
            tally["listeners"] += sum(listened for _, listened in killed)
            return len(killed)

        tally["killed"] += await asyncio.to_thread(kill)

    return trouble


async def killed(dsn: str, seed: int, seconds: float) -> dict[str, Any]:
    """Connections are killed every 100 ms."""
    tally: Counter[str] = Counter()
    found = await endure(dsn, seed, seconds, killer(dsn, tally))
    return found | dict(tally)


_WRITER = """
import asyncio, sys
from pandora_db import JobDb, Stage
from pandora_db.testing import make_job

async def write():
    async with JobDb.open(sys.argv[1], sweep=None) as db:
        print("ready", flush=True)
        while True:
            job_id = await db.insert_job(make_job())
            await db.update_stage(job_id, Stage.ENCODING)

asyncio.run(write())
"""


async def writers_killed(url: str, seed: int, seconds: float) -> dict[str, Any]:
    """Other processes write to the file, and are killed at it one after the other."""
    chance = random.Random(seed)
    tally: Counter[str] = Counter()

    async def trouble() -> None:
        writer = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _WRITER, url, stdout=subprocess.PIPE
        )
        assert writer.stdout is not None
        assert await writer.stdout.readline() == b"ready\n"
        await asyncio.sleep(chance.uniform(0.02, 0.4))
        writer.kill()
        await writer.wait()
        tally["writers killed"] += 1

    return await endure(url, seed, seconds, trouble) | dict(tally)


async def restarted(seed: int, seconds: float) -> dict[str, Any]:
    """A server of one's own restarts, now gently, now not."""
    with wheel_server() as dsn:
        await asyncio.to_thread(migrate, dsn)
        with psycopg.connect(dsn) as connection:
            row = connection.execute("SHOW data_directory").fetchone()
        assert row is not None
        restart = restarter(Path(row[0]))
        chance = random.Random(seed)
        return await endure(dsn, seed, seconds, lambda: _restart(restart, chance))


async def _restart(restart: Callable[..., Any], chance: random.Random) -> None:
    await asyncio.sleep(0.5)
    await restart(chance)


async def _report(bench: Bench) -> dict[str, Any]:
    seconds = 60.0 if bench.long else 3.0
    return {
        "killed every 100 ms": await killed(bench.postgres(), bench.seed, seconds),
        "restarted": await restarted(bench.seed, seconds),
        "writers killed, SQLite": await writers_killed(bench.sqlite(), bench.seed, seconds),
    }


if __name__ == "__main__":
    main(_report)
