"""T4: many processes recover at the same instant; the server restarts meanwhile."""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import psycopg

from pandora_db import ConnectionFailed, EventKind, JobDb, LeaseLost, OutcomeUnknown, Stage
from tests.faults.calls import make_job
from tests.faults.leaks import NAME, Watch
from tests.faults.nursery import Nursery
from tests.faults.oracle import Verdict, illegal, read_histories
from tests.faults.outages import restarter
from tests.support import provider
from tests.support.databases import migrate
from tests.support.waiting import wait_until

PAST = "2000-01-01 00:00:00.000"
PROCESSES = 8
DEAD, LIVE = 300, 20
RESTART = 0.5
AFTERWARDS = 0.5  # so long the fault waits once the server is back
AWAY = (ConnectionFailed, OutcomeUnknown)
Fault = Callable[[], Awaitable[None]]


class Crowd:
    """One database, where the jobs of a dead worker and those of a live one are side by side."""

    def __init__(self, url: str, chance: random.Random) -> None:
        self.verdict = Verdict()
        self._url = url
        self._chance = chance
        self._said: list[dict[str, Any]] = []
        self._cut = False

    async def round(self, fault: Fault, *, kill: bool) -> None:
        """All processes recover at once while `fault` runs; check, and recover once more."""
        settings = {
            "application_name": NAME,
            "heartbeat": 300.0,
            "sweep": None,
            "lease": 600.0,
            "outcome_timeout": 20.0,
        }
        async with JobDb.open(self._url, **settings) as live:
            dead_ids = await live.insert_jobs([make_job("dead")] * DEAD)
            live_ids = await live.insert_jobs([make_job("live")] * LIVE)
            taken = await live.claim_jobs(
                Stage.QUEUED, into=Stage.DOWNLOADING, limit=DEAD, author="dead"
            )
            assert len(taken) == DEAD
            claims = [await live.claim_job(j, into=Stage.DOWNLOADING) for j in live_ids]
            async with Watch(self._url) as watch:
                marks = ", ".join(map(str, dead_ids))
                await watch.rows(
                    f"UPDATE jobs SET lease_until = '{PAST}', lease_owner = 'dead' "
                    f"WHERE job_id IN ({marks})"
                )
            fresh = await self._let_loose(live, fault, kill=kill)
            for claim in claims:
                assert claim is not None
                try:
                    await live.finish_job(claim, Stage.UPLOADED)
                except LeaseLost:
                    self.verdict.complain("wrongly adopted", claim)
            await self._check(live, dead_ids, live_ids, fresh)
        self.verdict.tally["rounds"] += 1

    async def _let_loose(self, live: JobDb, fault: Fault, *, kill: bool) -> list[int]:
        self._said.clear()
        self._cut = fault is not _nothing
        with tempfile.TemporaryDirectory() as folder:
            gate = Path(folder, "gate")
            async with Nursery("tests.faults.recoverer", self._said.append) as nursery:
                for number in range(PROCESSES):
                    nursery.start(f"r{number}", self._url, str(gate))
                await wait_until(lambda: self._count("ready") == PROCESSES, timeout=30.0)
                inserting = asyncio.ensure_future(self._insert(live))
                begin = time.monotonic() + 0.05
                late = RESTART + self._chance.uniform(-0.05, 0.1) if self._cut else 0.0
                written = gate.with_name("written")
                written.write_text(str(begin + late))
                written.rename(gate)
                await asyncio.sleep(begin - time.monotonic())
                if kill:
                    await asyncio.sleep(self._chance.uniform(0, 0.008))
                    nursery.signal("kill", "r0")
                await fault()
                back = time.monotonic() - AFTERWARDS
                await wait_until(
                    lambda: self._count("gone") + self._count("killed") == PROCESSES, timeout=30.0
                )
                inserting.cancel()
                fresh = await inserting
        self._note(begin + RESTART, back)
        return fresh

    def _note(self, away: float, back: float) -> None:
        """Count what happened, and how much of it at once: no race was run by processes in turn."""
        tally = self.verdict.tally
        tally["tries cut off"] += self._count("again")
        tally["killed meanwhile"] += self._count("killed")
        calls = [(one["began"], one["ended"]) for one in self._said if one["kind"] == "recovered"]
        tally["calls"] += len(calls)
        for began, ended in calls:
            tally["calls beside another"] += sum(b < ended and began < e for b, e in calls) > 1
            tally["calls during the restart"] += self._cut and began < back and away < ended
        for line in self._said:
            if line["kind"] == "gone" and line["status"]:
                self.verdict.complain("process failed", line)

    def _count(self, kind: str) -> int:
        return sum(line["kind"] == kind for line in self._said)

    async def _insert(self, live: JobDb) -> list[int]:
        fresh: list[int] = []
        try:
            while True:
                try:
                    fresh.append(await live.insert_job(make_job("fresh")))
                except AWAY:
                    self.verdict.tally["inserts cut off"] += 1
                await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            return fresh

    async def _check(self, live: JobDb, dead: list[int], ours: list[int], fresh: list[int]) -> None:
        reported = Counter(
            job_id for line in self._said if line["kind"] == "recovered" for job_id in line["jobs"]
        )
        for job_id, times in reported.items():
            if times > 1 or job_id not in dead:
                self.verdict.complain("reported wrongly", (job_id, times))
        # An answer that was cut off is not reported by anybody.
        if not self._cut and not self._count("killed") and len(reported) != len(dead):
            self.verdict.complain("not reported", set(dead) - reported.keys())
        async with Watch(self._url) as watch:
            await self._check_rows(watch, dead, ours, fresh)
            (before,) = await watch.rows("SELECT count(*), max(at) FROM job_events")
            second = await live.recover()
            if second.requeued or second.failed or second.cancelled:
                self.verdict.complain("a second run changes something", second)
            if await watch.rows("SELECT count(*), max(at) FROM job_events") != [before]:
                self.verdict.complain("a second run changes something", second)
        for job_id in (*dead, *fresh):
            await live.archive_job(job_id)

    async def _check_rows(
        self, watch: Watch, dead: list[int], ours: list[int], fresh: list[int]
    ) -> None:
        histories = await read_histories(watch, (*dead, *ours, *fresh))
        for job_id in dead:
            recovered = sum(e.kind is EventKind.RECOVERED for e in histories[job_id])
            if recovered != 1 or histories[job_id][-1].stage != Stage.QUEUED:
                self.verdict.complain("stranded" if not recovered else "recovered twice", job_id)
        for job_id in ours:
            kinds = [event.kind.name for event in histories[job_id]]
            if kinds != ["INSERTED", "CLAIMED", "FINISHED"]:
                self.verdict.complain("wrongly adopted", (job_id, kinds))
        for job_id in fresh:
            if len(histories.get(job_id, ())) != 1:
                self.verdict.complain("fresh job touched", (job_id, histories.get(job_id)))
        for job_id, history in histories.items():
            # The dead claims were given another owner behind the library's back.
            kinds = [event._replace(owner="") if event.owner else event for event in history]
            if fault := illegal(kinds):
                self.verdict.complain("history illegal", f"job {job_id}: {fault}")
        self.verdict.tally["recovered"] += len(dead)
        self.verdict.tally["live"] += len(ours)
        self.verdict.tally["fresh"] += len(fresh)


async def _nothing() -> None:
    pass


class _Punctual(random.Random):
    """Lets the restart begin when the processes do, not at some time."""

    def uniform(self, *_: float) -> float:
        return RESTART


async def recover_in_crowds(url: str, seed: int, rounds: int) -> Verdict:
    """Eight processes recover at once; in every second round one of them is killed."""
    crowd = Crowd(url, random.Random(seed))
    for number in range(rounds):
        await crowd.round(_nothing, kill=number % 2 == 1)
    return crowd.verdict


async def recover_while_restarting(seed: int, rounds: int) -> Verdict:
    """The same on a private server that is stopped, or crashes, about when they begin."""
    chance = random.Random(seed)
    with provider.wheel_server() as dsn:
        await asyncio.to_thread(migrate, dsn)
        with psycopg.connect(dsn) as connection:
            (data,) = connection.execute("SHOW data_directory").fetchone() or ("",)
        restart = restarter(Path(data))
        crowd = Crowd(dsn, chance)

        async def fault() -> None:
            await restart(_Punctual(chance.random()))

        for _ in range(rounds):
            await crowd.round(fault, kill=False)
            crowd.verdict.tally["restarts"] += 1
    return crowd.verdict
