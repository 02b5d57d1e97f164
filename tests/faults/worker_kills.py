"""T1 and T5: workers are killed in the middle of their jobs; no job is lost, doubled or stuck.

`python -m tests.faults.worker_kills --long --json FILE`
"""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections import Counter
from typing import Any

from pandora_db import Job, JobDb, Stage
from tests.faults.calls import make_job
from tests.faults.command import Bench, main
from tests.faults.leaks import NAME, Watch
from tests.faults.nursery import Nursery
from tests.faults.oracle import Oracle, Verdict
from tests.faults.worker import LEASE, POISON, TASKS

ATTEMPTS = 3
KILLED = -signal.SIGKILL
BOUND = LEASE["lease"] + LEASE["sweep"] + 1.0
# A killed worker's job counts an attempt; an ordinary job must not run out of them.
PLENTY = 100
EVERY = 50  # one job in so many is poison


class Supervisor:
    """Keeps some workers alive and supplied with jobs, and kills one of them now and then."""

    def __init__(self, db: JobDb, url: str, seed: int, workers: int) -> None:
        self.journal: list[dict[str, Any]] = []
        self.inserted: set[int] = set()
        self.poison: dict[int, int] = {}
        self.deaths: Counter[str] = Counter()
        self.failed = False  # a worker ended by an error, which it has printed
        self._db = db
        self._url = url
        self._seed = seed
        self._workers = workers
        self._chance = random.Random(seed)
        self._alive: dict[str, bool] = {}  # by name: it has begun
        self._number = 0
        self._made = 0

    def hear(self, line: dict[str, Any]) -> None:
        self.journal.append(line)
        if line["kind"] == "begin":
            self._alive[line["worker"]] = True
        elif line["kind"] in ("killed", "gone"):
            self.deaths[line["kind"]] += 1
            self._alive.pop(line["worker"], None)
            self.failed = self.failed or line.get("status", KILLED) != KILLED

    async def run(self, kills: int, longest: float) -> None:
        """Kill `kills` workers, then let the rest bring every job to its end."""
        async with Nursery("tests.faults.worker", self.hear) as nursery:
            supply = asyncio.ensure_future(self._supply())
            # Recoveries have to meet living workers, too.
            least = time.monotonic() + LEASE["lease"] + 2.0
            while self.deaths["killed"] < kills or time.monotonic() < least:
                self._replace(nursery)
                await asyncio.sleep(self._chance.uniform(0.05, longest))
                assert not self.failed
                assert not supply.done()
                if begun := [name for name, begun in self._alive.items() if begun]:
                    nursery.signal("kill", self._chance.choice(begun))
            supply.cancel()
            deadline = time.monotonic() + 60.0
            while await self._db.get_queue_length() and time.monotonic() < deadline:
                self._replace(nursery)
                await asyncio.sleep(0.1)
                assert not self.failed
            deaths = self.deaths.copy()  # what follows is the end of the nursery
        self.deaths = deaths

    def _replace(self, nursery: Nursery) -> None:
        while len(self._alive) < self._workers:
            self._number += 1
            name = f"w{self._number}"
            self._alive[name] = False
            nursery.start(name, self._url, self._seed)

    async def _supply(self) -> None:
        most = self._workers * TASKS + 4
        while True:
            missing = most - await self._db.get_queue_length()
            jobs = [self._make_job() for _ in range(missing)]
            ids = await self._db.insert_jobs(jobs) if jobs else []
            self.inserted.update(ids)
            for job_id, job in zip(ids, jobs, strict=True):
                if job.author == POISON:
                    self.poison[job_id] = ATTEMPTS
            await asyncio.sleep(0.1)

    def _make_job(self) -> Job:
        self._made += 1
        if self._made % EVERY == 1:
            stage = self._chance.choice((Stage.DOWNLOADING, Stage.ENCODING, Stage.UPLOADING))
            return make_job(POISON, max_attempts=ATTEMPTS, message_id=int(stage))
        return make_job("worker", max_attempts=PLENTY)


async def kill_workers(
    url: str, seed: int, kills: int, *, workers: int = 8, longest: float = 0.5
) -> Verdict:
    """Kill `kills` workers on the migrated database at `url`, and judge what became of it."""
    async with Watch(url) as watch:
        async with JobDb.open(url, application_name=NAME, sweep=None) as db:
            supervisor = Supervisor(db, url, seed, workers)
            await supervisor.run(kills, longest)
            assert await db.verify_schema() == []
        await watch.nothing_open()
        oracle = Oracle(supervisor.journal, poison=supervisor.poison, bound=BOUND)
        verdict = await oracle.judge(watch, supervisor.inserted)
    verdict.tally["kills"] = supervisor.deaths["killed"]
    verdict.tally["ended by poison"] = supervisor.deaths["gone"]
    return verdict


async def _report(bench: Bench) -> dict[str, Any]:
    kills = 1020 if bench.long else 20
    found = {}
    for dialect, url in (("sqlite", bench.sqlite()), ("postgres", bench.postgres())):
        found[dialect] = (await kill_workers(url, bench.seed, kills)).report()
    return {"bound in seconds": BOUND, **LEASE, **found}


if __name__ == "__main__":
    main(_report)
