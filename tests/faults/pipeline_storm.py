"""The whole encode pipeline in a storm: workers are killed, paused, ended and cut off at random.

`python -m tests.faults.pipeline_storm --long --json FILE`. What was promised meanwhile is in the
journals; `tests.faults.check` compares it with what the database holds, as a program of its own.
"""

from __future__ import annotations

import asyncio
import json
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.faults.census import Census
from tests.faults.command import Bench, main
from tests.faults.journal import Journal, JournalledDb, noting
from tests.faults.leaks import Watch
from tests.faults.nursery import ROOT, Nursery
from tests.faults.stage_worker import LEASE, POOL, SETTINGS, SWEEP, TIMEOUT
from tests.faults.storm_parts import Clients, Weather
from tests.support.databases import migrate
from tests.support.installed import Installed, find_binaries, installed_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Iterator

MODULE = "tests.faults.stage_worker"
CALM = 60.0  # seconds for the jobs to end once no fault happens any more
TERMS = {
    "lease": LEASE, "sweep": SWEEP, "timeout": TIMEOUT, "pool": POOL,
    "deadline": SETTINGS.acquire_timeout + SETTINGS.statement_timeout + SETTINGS.outcome_timeout,
}  # fmt: skip


class Storm:
    """Some worker processes on one database, supplied with jobs, and what happens to them."""

    def __init__(self, url: str, seed: int, folder: Path, *, workers: int) -> None:
        self.failed: list[dict[str, Any]] = []  # processes that ended by themselves
        self._url = url
        self._seed = seed
        self._folder = folder
        self._workers = workers
        self._number = 0
        self._journal = JournalledDb.journal = Journal(folder / "storm client.jsonl")
        self._chance = random.Random(seed)

    async def rage(self, jobs: int, rate: float, pauses: tuple[float, float]) -> None:
        """Bring `jobs` through, `rate` a second, with so many seconds between faults."""
        self._journal.write("terms", **TERMS)
        async with AsyncExitStack() as stack:
            watch = await stack.enter_async_context(Watch(self._url))
            stack.enter_context(noting())
            db = await stack.enter_async_context(
                JournalledDb.open(self._url, settings=SETTINGS, application_name="storm client")
            )
            self._journal.write("begin", worker="storm client", owner=db.owner)
            clients = Clients(db, random.Random(f"{self._seed} clients"), jobs, rate)
            self._weather = Weather(self._journal, watch, self._chance)
            census = Census(self._journal, watch)
            async with Nursery(MODULE, self._hear) as nursery, _during(
                self._replace(nursery), census.go_round(3.0)
            ):  # fmt: skip
                async with _during(self._weather.blow(nursery, *pauses), clients.meddle()):
                    await clients.insert()
                await self._weather.calm()
                left = await clients.finish(CALM)
                self._journal.write("calm", left=left)
                await self._end(nursery)
            await census.count()
            await db.close()
            await watch.nothing_open(0)
        self._journal.close()

    def _hear(self, line: dict[str, Any]) -> None:
        name = line["worker"]
        alive = self._weather.alive
        if line["kind"] == "begin":
            if name in alive:
                alive[name] = True
            return
        self._journal.write(line["kind"], worker=name, when=line["at"], status=line.get("status"))
        alive.pop(name, None)
        self._weather.stopped.discard(name)
        self._weather.ending.discard(name)
        if line.get("status"):
            self.failed.append(line)

    async def _replace(self, nursery: Nursery) -> None:
        """Start another process for each that is gone."""
        alive = self._weather.alive
        while True:
            while len(alive) < self._workers:
                self._number += 1
                name = f"storm w{self._number}"
                alive[name] = False
                nursery.start(name, self._url, self._seed, str(self._folder))
            await asyncio.sleep(0.05)

    async def _end(self, nursery: Nursery) -> None:
        self._workers = 0
        alive = self._weather.alive
        async with asyncio.timeout(30):
            while alive:
                for name in [name for name, begun in alive.items() if begun]:
                    if name not in self._weather.ending:
                        self._weather.ending.add(name)
                        self._journal.write("fault", what="end", worker=name)
                        nursery.signal("end", name)
                await asyncio.sleep(0.05)


@asynccontextmanager
async def _during(*works: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """What goes on for the length of a block; when it fails, so does the block."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(work) for work in works]
        yield
        for task in tasks:
            task.cancel()


def check(url: str, folder: Path, *options: str) -> dict[str, Any]:
    """Run the checker, a program of its own, on what a storm left; its report."""
    command = [sys.executable, "-m", "tests.faults.check", url, str(folder), *options]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    if not done.stdout:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout)  # type: ignore[no-any-return]


async def run_storm(
    url: str,
    seed: int,
    folder: Path,
    *,
    jobs: int,
    workers: int,
    rate: float,
    pauses: tuple[float, float],
) -> dict[str, Any]:
    """A storm over the migrated database at `url`, and the checker's report of it."""
    storm = Storm(url, seed, folder, workers=workers)
    began = time.monotonic()
    await storm.rage(jobs, rate, pauses)
    took = time.monotonic() - began
    report = await asyncio.to_thread(check, url, folder)
    return {"seconds": round(took, 1), "ended by themselves": storm.failed, **report}


@contextmanager
def _servers(bench: Bench) -> Iterator[tuple[str, Installed | None]]:
    """A server of our own where one is installed: its files can be looked at, once it is down."""
    if (binaries := find_binaries()) is None:
        yield bench.postgres(), None
        return
    with installed_server(binaries) as server:
        migrate(server.dsn)
        yield server.dsn, server


async def _report(bench: Bench) -> dict[str, Any]:
    options: dict[str, Any] = {"jobs": 80, "workers": 4, "rate": 10.0, "pauses": (0.2, 0.8)}
    if bench.long:
        options |= {"jobs": 2000, "rate": 8.0, "pauses": (0.2, 1.5)}
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name, _servers(bench) as (dsn, server):
        for dialect, url in (("sqlite", bench.sqlite()), ("postgres", dsn)):
            folder = Path(name, dialect)
            folder.mkdir()
            found[dialect] = await run_storm(url, bench.seed, folder, **options)
            if dialect == "sqlite":
                found[dialect]["engine"] = sqlite3.sqlite_version
            elif server is not None:
                found[dialect]["engine"] = server.version
                found[dialect]["pg_checksums"] = server.check_files()
    return {**TERMS, **options, **found}


if __name__ == "__main__":
    main(_report)
