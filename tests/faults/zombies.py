"""T2: a worker is paused until its jobs are another's; everything that it writes late is refused.

`python -m tests.faults.zombies --long --json FILE`
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pandora_db import JobDb, Stage
from tests.faults.calls import make_job
from tests.faults.command import Bench, main
from tests.faults.leaks import NAME, Watch
from tests.faults.oracle import Verdict, illegal, percentiles, read_histories
from tests.faults.zombie import NEXT, WRITES, LateWrites

if TYPE_CHECKING:
    from collections.abc import Sequence


ROOT = Path(__file__).parents[2]
PAST = "2000-01-01 00:00:00.000"
BEFORE = {Stage.DOWNLOADING: Stage.QUEUED, Stage.ENCODING: Stage.DOWNLOADED,
          Stage.UPLOADING: Stage.ENCODED}  # fmt: skip
# How the zombie meets its end: "untold" ones cannot know (their next heartbeat is far away), "told"
# ones are told by a heartbeat at some time after they woke.
UNTOLD = (3600.0, 1200.0)
TOLD = (1.0, 0.25)
LAST = b"\n"


class Paused:
    """One zombie process, from outside."""

    def __init__(self, url: str, seed: int, lease: float, heartbeat: float) -> None:
        self._arguments = [url, str(seed), str(lease), str(heartbeat)]
        self._path = url.removeprefix("sqlite:///") if url.startswith("sqlite:") else None

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.faults.zombie", *self._arguments,
            cwd=ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        await self.heard("ready")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGCONT)
            self._process.stdin.close()  # type: ignore[union-attr]
        assert await self._process.wait() == 0

    async def heard(self, kind: str) -> dict[str, Any]:
        """The next line, which is of that kind."""
        line = await self._process.stdout.readline()  # type: ignore[union-attr]
        said: dict[str, Any] = json.loads(line)
        assert said["kind"] == kind, said
        return said

    def command(self, *words: object) -> None:
        self._process.stdin.write(json.dumps(words).encode() + LAST)  # type: ignore[union-attr]

    async def pause(self) -> None:
        """Stop the process, but not while it holds the write lock of a SQLite file."""
        while True:
            self._process.send_signal(signal.SIGSTOP)
            while not self._stopped():
                await asyncio.sleep(0.001)
            if not self._holds_lock():
                return
            self._process.send_signal(signal.SIGCONT)
            await asyncio.sleep(0.02)

    def _stopped(self) -> bool:
        state = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state == "T"

    def _holds_lock(self) -> bool:
        if self._path is None:
            return False
        with closing(sqlite3.connect(self._path, isolation_level=None, timeout=0)) as other:
            try:
                other.execute("BEGIN IMMEDIATE")
                other.execute("ROLLBACK")
            except sqlite3.OperationalError:
                return True
        return False

    def resume(self) -> float:
        at = time.monotonic()
        self._process.send_signal(signal.SIGCONT)
        return at


class Taker:
    """The process that lives on: it recovers the jobs, and goes on with some of them."""

    def __init__(self, db: JobDb, watch: Watch, chance: random.Random) -> None:
        self.verdict = Verdict()
        self.delays: list[float] = []
        self._db = db
        self._watch = watch
        self._chance = chance

    async def round(self, zombie: Paused, count: int, handlers: int, lease: float) -> None:
        """One pause: `count` jobs are claimed, taken away, and written late."""
        working = self._chance.choice(list(NEXT))
        jobs = await self._prepare(working, count)
        zombie.command("claim", int(BEFORE[working]), int(working), count, handlers)
        await zombie.heard("claimed")
        await zombie.pause()
        await self._take(jobs, working, wait=lease < 10)
        before = await self._state(jobs)
        zombie.command("write")
        awake = zombie.resume()
        said = await zombie.heard("wrote")
        self._count(said["tally"], (count - handlers) * len(WRITES))
        if said["sitting"]:
            self.verdict.complain("handlers not cancelled", said["sitting"])
        self.delays += [at - awake for at in said["cancelled"]]
        if await self._state(jobs) != before:
            self.verdict.complain("a late write left something", working.name)
        self.verdict.tally["pauses"] += 1
        await self._clear(jobs)

    async def same_process(self, count: int) -> None:
        """A job comes back to the very handle that lost it; the old claim stays worthless."""
        working = self._chance.choice(list(NEXT))
        jobs = await self._prepare(working, count)
        old = [await self._db.claim_job(job_id, into=working) for job_id in jobs]
        await self._take(jobs, working, wait=False)
        for job_id in jobs:
            await self._db.claim_job(job_id, into=working)
        before = await self._state(jobs)
        writes = LateWrites(self._db, self._chance)
        await writes.make([claim for claim in old if claim is not None])
        self._count(writes.tally, count * len(WRITES))
        if await self._state(jobs) != before:
            self.verdict.complain("a late write left something", working.name)
        await self._clear(jobs)

    async def _prepare(self, working: Stage, count: int) -> list[int]:
        jobs = await self._db.insert_jobs([make_job("zombie", max_attempts=100)] * count)
        if BEFORE[working] is not Stage.QUEUED:
            for job_id in jobs:
                await self._db.update_stage(job_id, BEFORE[working])
        return jobs

    async def _take(self, jobs: Sequence[int], working: Stage, *, wait: bool) -> None:
        if not wait:
            await self._expire(jobs)
        missing = set(jobs)
        deadline = time.monotonic() + 10.0
        while missing and time.monotonic() < deadline:
            missing -= set((await self._db.recover()).requeued)
            await asyncio.sleep(0.05 if missing else 0)
        assert not missing, f"not recovered: {missing}"
        for job_id in jobs:
            fate = self._chance.choice(("waits", "worked on", "saved", "handed on"))
            if fate == "waits":
                continue
            claim = await self._db.claim_job(job_id, into=working)
            assert claim is not None
            if fate == "saved":
                await self._db.save_checkpoint(claim, {"of": claim.token})
            if fate == "handed on":
                await self._db.finish_job(claim, NEXT[working])

    async def _expire(self, jobs: Sequence[int]) -> None:
        marks = ", ".join(map(str, jobs))
        await self._watch.rows(f"UPDATE jobs SET lease_until = '{PAST}' WHERE job_id IN ({marks})")

    async def _state(self, jobs: Sequence[int]) -> object:
        marks = ", ".join(map(str, jobs))
        read = self._watch.rows
        return (
            await read(
                "SELECT job_id, ready, archived, hold, error, priority, attempt, progress, output, "
                "event_seq, lease_token, lease_owner, not_before FROM jobs "
                f"WHERE job_id IN ({marks}) ORDER BY job_id"
            ),
            await read(
                f"SELECT job_id, seq, kind, stage, owner, detail FROM job_events "
                f"WHERE job_id IN ({marks}) ORDER BY job_id, seq"
            ),
            sorted(
                (tuple(row) for row in await read(
                    f"SELECT * FROM job_checkpoints WHERE job_id IN ({marks})"
                )), key=repr,
            ),
            await read("SELECT count(*) FROM jobs WHERE author = 'late'"),
            await read(f"SELECT count(*) FROM job_children WHERE parent_id IN ({marks})"),
            await read(f"SELECT count(*) FROM job_logs WHERE job_id IN ({marks})"),
        )  # fmt: skip

    async def _clear(self, jobs: Sequence[int]) -> None:
        histories = await read_histories(self._watch, jobs)
        for job_id in jobs:
            if fault := illegal(histories[job_id]):
                self.verdict.complain("history illegal", f"job {job_id}: {fault}")
            await self._db.delete_job(job_id)

    def _count(self, tally: dict[str, int], expected: int) -> None:
        verdict = self.verdict
        verdict.tally["late writes"] += expected
        for outcome, count in tally.items():
            if outcome in ("refused", "before it was told", "after it was told"):
                verdict.tally[outcome] += count
            else:
                verdict.complain(outcome, count)
        if tally.get("refused", 0) != expected:
            verdict.complain("late writes not refused", expected - tally.get("refused", 0))


async def wake_zombies(
    url: str, seed: int, *, rounds: int, jobs: int
) -> tuple[Verdict, list[float]]:
    """Pause and wake `rounds` times each way; the second value: seconds to a handler's cancel."""
    chance = random.Random(seed)
    async with Watch(url) as watch:
        async with JobDb.open(
            url, application_name=NAME, sweep=None, lease=600.0, heartbeat=300.0
        ) as db:
            taker = Taker(db, watch, chance)
            for lease, heartbeat in (UNTOLD, TOLD):
                async with Paused(url, seed, lease, heartbeat) as zombie:
                    for _ in range(rounds):
                        handlers = 5 if lease == TOLD[0] else 0
                        await taker.round(zombie, jobs + handlers, handlers, lease)
            for _ in range(rounds):
                await taker.same_process(jobs)
        await watch.nothing_open()
    return taker.verdict, taker.delays


async def _report(bench: Bench) -> dict[str, Any]:
    rounds, jobs = (7, 50) if bench.long else (2, 10)
    report: dict[str, Any] = {}
    for dialect, url in (("sqlite", bench.sqlite()), ("postgres", bench.postgres())):
        verdict, delays = await wake_zombies(url, bench.seed, rounds=rounds, jobs=jobs)
        report[dialect] = {
            "tally": verdict.tally,
            "wrong": verdict.wrong,
            "notes": verdict.notes,
            "waking to a handler's cancel in seconds": percentiles(delays),
        }
    return report


if __name__ == "__main__":
    main(_report)
