"""T8 and T6: backends are ended at random, and the server restarts, while jobs are written.

`python -m tests.faults.outages --long --json FILE`
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

from pandora_db import ConnectionFailed, JobDb, OutcomeUnknown, Stage, TransactionAborted
from tests.faults.calls import make_job
from tests.faults.command import Bench, main
from tests.faults.leaks import NAME, Watch, connect_directly
from tests.support import provider
from tests.support.databases import migrate

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

TASKS = 12
NOT_DONE = (ConnectionFailed, TransactionAborted)


class Load:
    """Tasks that write, and remember what they were told of each write."""

    def __init__(self, db: JobDb, chance: random.Random) -> None:
        self.db = db
        self.tally: Counter[str] = Counter()
        self.stored: set[str] = set()
        self.refused: set[str] = set()
        self.staged: dict[int, int] = {}
        self.slowest = 0.0
        self._chance = chance
        self._number = 0
        self._running = True

    def stop(self) -> None:
        self._running = False

    async def work(self) -> None:
        """Write until stopped."""
        while self._running:
            self._number += 1
            name = f"n{self._number}"
            start = time.monotonic()
            await self._write(name)
            self.slowest = max(self.slowest, time.monotonic() - start)

    async def _write(self, name: str) -> None:
        kind = self._chance.choice((self._insert, self._insert, self._bulk, self._transaction))
        job_id = await self._try(name, lambda **again: kind(name, **again), kind.__name__)
        if job_id is None:
            return
        for stage in (Stage.DOWNLOADED, Stage.ENCODED):
            done = await self._try(
                f"{name}/{stage}",
                lambda stage=stage, **again: self._stage(job_id, stage, **again),
                "update_stage",
            )
            if done is not None:
                self.staged[job_id] = stage.value
        await self._try(f"{name}/e", lambda **again: self._update(job_id, **again), "update_job")

    async def _try(self, name: str, call: Callable[..., Awaitable[int]], kind: str) -> int | None:
        try:
            done = await call()
        except NOT_DONE as error:
            self.tally[f"{kind.strip('_')}: {type(error).__name__}"] += 1
            self.refused.add(name)
            return None
        except OutcomeUnknown as error:
            self.tally[f"{kind.strip('_')}: OutcomeUnknown"] += 1
            if error.operation_id is None:
                return None
            done = None
            while done is None:
                with suppress(*NOT_DONE, OutcomeUnknown):
                    done = await call(operation_id=error.operation_id)
        self.tally["done"] += 1
        self.stored.add(name)
        return done

    async def _insert(self, name: str, **again: Any) -> int:
        return await self.db.insert_job(make_job("load", external_id=name), **again)

    async def _bulk(self, name: str, **again: Any) -> int:
        jobs = [make_job("load", external_id=name), make_job("load", external_id=f"{name}+")]
        return (await self.db.insert_jobs(jobs, **again))[0]

    async def _transaction(self, name: str, **again: Any) -> int:
        async with self.db.transaction() as tx:
            job_id = await tx.insert_job(make_job("load", external_id=name), **again)
            await tx.update_job(job_id, priority=1)
        return job_id

    async def _stage(self, job_id: int, stage: Stage, **again: Any) -> int:
        await self.db.update_stage(job_id, stage, **again)
        return job_id

    async def _update(self, job_id: int, **again: Any) -> int:
        await self.db.update_job(job_id, error="e", **again)
        return job_id


async def check(load: Load, watch: Watch) -> Counter[str]:
    """Compare what the callers were told with what is stored."""
    wrong: Counter[str] = Counter()
    rows = await watch.rows("SELECT external_id, job_id, ready FROM jobs")
    names = {name for name, *_ in rows}
    stages = {job_id: ready for _, job_id, ready in rows}
    wrong["lost"] = len({name for name in load.stored if "/" not in name} - names)
    wrong["refused but stored"] = len({name for name in load.refused if "/" not in name} & names)
    wrong["stage lost"] = sum(stages[job_id] < stage for job_id, stage in load.staged.items())
    twice = await watch.rows(
        "SELECT operation_id FROM job_events WHERE operation_id IS NOT NULL "
        "GROUP BY operation_id, kind HAVING count(*) > 1"
    )
    wrong["done twice"] = len(twice)
    gaps = await watch.rows(
        "SELECT job.job_id FROM jobs job LEFT JOIN job_events event ON event.job_id = job.job_id "
        "GROUP BY job.job_id, job.event_seq HAVING count(event.seq) <> max(job.event_seq)"
    )
    wrong["histories with gaps"] = len(gaps)
    return +wrong


async def endure(
    dsn: str, seed: int, fault: Callable[[random.Random], Awaitable[None]], faults: int
) -> tuple[Counter[str], Counter[str], float]:
    """Write under `faults` faults; the tally, what is wrong, and the longest call in seconds."""
    chance = random.Random(seed)
    async with JobDb.open(
        dsn, application_name=NAME, pool_max=5, connect_timeout=2.0, outcome_timeout=20.0
    ) as db:
        load = Load(db, chance)
        tasks = [asyncio.ensure_future(load.work()) for _ in range(TASKS)]
        try:
            for _ in range(faults):
                await fault(chance)
            load.stop()
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
        async with Watch(dsn) as watch:
            await watch.nothing_open(5)
            wrong = await check(load, watch)
        assert await db.insert_job(make_job("after")) > 0
    return load.tally, wrong, load.slowest


def backend_killer(dsn: str) -> Callable[[random.Random], Awaitable[None]]:
    """A fault: one of the library's backends is ended."""

    async def fault(chance: random.Random) -> None:
        await asyncio.sleep(chance.uniform(0.02, 0.1))
        other = await connect_directly(dsn)
        await other.execute(
            "SELECT pg_terminate_backend(pid) FROM (SELECT pid FROM pg_stat_activity "
            "WHERE application_name = $1 AND datname = current_database() "
            "ORDER BY random() LIMIT 1) AS one",
            NAME,
        )
        await other.close()

    return fault


def restarter(data: Path) -> Callable[[random.Random], Awaitable[None]]:
    """A fault: the private server in `data` is stopped (fast or as in a crash) and started."""
    server = provider._import_wheel().get_server(data, cleanup_mode=None)

    def restart(how: signal.Signals) -> None:
        pid = int((data / "postmaster.pid").read_text().splitlines()[0])
        os.kill(pid, how)
        deadline = time.monotonic() + 20
        while (data / "postmaster.pid").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        for last in (False, False, True):
            try:
                server.start()
            except (subprocess.SubprocessError, AssertionError):
                if last:
                    raise
                time.sleep(1)
            else:
                return

    async def fault(chance: random.Random) -> None:
        await asyncio.sleep(chance.uniform(0.3, 1.0))
        await asyncio.to_thread(restart, chance.choice((signal.SIGINT, signal.SIGQUIT)))
        await asyncio.sleep(0.5)

    return fault


async def _report(bench: Bench) -> dict[str, Any]:
    dsn = bench.postgres()
    ended = await endure(dsn, bench.seed, backend_killer(dsn), 1000 if bench.long else 40)
    report = {"backends ended": _as_report(ended)}
    with provider.wheel_server() as own:
        await asyncio.to_thread(migrate, own)
        with psycopg.connect(own) as connection:
            (data,) = connection.execute("SHOW data_directory").fetchone() or ("",)
        restarted = await endure(own, bench.seed, restarter(Path(data)), 25 if bench.long else 3)
        report["server restarted"] = _as_report(restarted)
    return report


def _as_report(found: tuple[Counter[str], Counter[str], float]) -> dict[str, Any]:
    tally, wrong, slowest = found
    return {"calls": tally, "wrong": wrong, "slowest call in seconds": round(slowest, 2)}


if __name__ == "__main__":
    main(_report)
