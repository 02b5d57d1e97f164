"""Who makes a storm: the clients, and the faults from outside."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import time
from contextlib import closing, suppress
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from pandora_db import Hold, Job, PandoraDbError
from tests.faults.calls import make_job
from tests.faults.stage_worker import DOOMED, LEASE, STAGES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.faults.journal import Journal, JournalledDb
    from tests.faults.leaks import Watch
    from tests.faults.nursery import Nursery


class Clients:
    """They insert so many jobs a second, cancel some, and pause and resume others."""

    def __init__(self, db: JournalledDb, chance: random.Random, jobs: int, rate: float) -> None:
        self.inserted: list[int] = []
        self._db = db
        self._chance = chance
        self._left = jobs
        self._rate = rate
        self._resuming: set[asyncio.Task[None]] = set()

    async def insert(self) -> None:
        """Insert all jobs: one alone, or some at once."""
        while self._left:
            number = min(self._chance.choice((1, 1, 1, 5, 20)), self._left)
            self._left -= number
            await self._insert(number)
            await asyncio.sleep(number / self._rate * self._chance.uniform(0.5, 1.5))

    async def _insert(self, number: int) -> None:
        jobs = [self._job() for _ in range(number)]
        operation = uuid4()

        async def call() -> list[int]:
            if number == 1:
                return [await self._db.insert_job(jobs[0], operation_id=operation)]
            return await self._db.insert_jobs(jobs, operation_id=operation)

        while True:  # until it is known: the same call, by its id
            try:
                self.inserted += await self._hasty(call)
            except (TimeoutError, PandoraDbError):
                continue
            return

    def _job(self) -> Job:
        if self._chance.random() < 0.02:
            stage = self._chance.choice(list(STAGES))
            return make_job(DOOMED, message_id=int(stage))
        return make_job("storm")

    async def meddle(self) -> None:
        """Cancel and pause jobs, mostly young ones, until cancelled."""
        while True:
            await asyncio.sleep(self._chance.uniform(0.0, 0.2))
            if not self.inserted:
                continue
            job_id = self._chance.choice(self.inserted[-200:])
            if self._chance.random() < 0.15:
                await self._try(partial(self._db.cancel_job, job_id))
            else:
                await self._try(partial(self._db.pause_job, job_id))
                task = asyncio.ensure_future(self._resume(job_id))
                self._resuming.add(task)
                task.add_done_callback(self._resuming.discard)

    async def _resume(self, job_id: int) -> None:
        await asyncio.sleep(self._chance.uniform(0.1, 2.0))
        await self._try(partial(self._db.resume_job, job_id))

    async def finish(self, patience: float) -> list[int]:
        """Resume what is paused until every job has ended; those that have not in time."""
        if self._resuming:
            await asyncio.wait(self._resuming)
        deadline = time.monotonic() + patience
        while True:
            with suppress(PandoraDbError):
                active = await self._db.get_active_jobs()
                if not active or time.monotonic() > deadline:
                    return [job.job_id for job in active]
                for job in active:
                    if job.hold == Hold.PAUSE:
                        await self._try(partial(self._db.resume_job, job.job_id))
            await asyncio.sleep(0.2)

    async def _try(self, call: Callable[[], Awaitable[Any]]) -> None:
        """Make a call that may come too late, and may not get through."""
        with suppress(TimeoutError, PandoraDbError):
            await self._hasty(call)

    async def _hasty(self, call: Callable[[], Awaitable[Any]]) -> Any:
        """One in so many callers has no patience: its call is cancelled on its way."""
        if self._chance.random() > 0.05:
            return await call()
        async with asyncio.timeout(self._chance.uniform(0.0, 0.01)):
            return await call()


class Weather:
    """Kills, pauses and ends workers at random, and cuts connections on PostgreSQL."""

    def __init__(self, journal: Journal, watch: Watch, chance: random.Random) -> None:
        self.alive: dict[str, bool] = {}  # by name: it has begun
        self.stopped: set[str] = set()
        self.ending: set[str] = set()
        self._journal = journal
        self._watch = watch
        self._chance = chance
        self._pauses: set[asyncio.Task[None]] = set()

    async def blow(self, nursery: Nursery, shortest: float, longest: float) -> None:
        """One fault after the other, until cancelled; one process at least is left at work."""
        deck: list[str] = []
        while True:
            await asyncio.sleep(self._chance.uniform(shortest, longest))
            if not deck:
                deck = ["kill", "kill", "kill", "stop", "stop", "end"]
                if self._watch.path is None:
                    deck += ["terminate"] * 6
                self._chance.shuffle(deck)
            if deck[-1] == "terminate":
                deck.pop()
                await self._terminate()
                continue
            begun = [
                name for name, begun in self.alive.items()
                if begun and name not in self.stopped | self.ending
            ]  # fmt: skip
            if len(begun) < 2:
                continue
            name, kind = self._chance.choice(begun), deck.pop()
            self._journal.write("fault", what=kind, worker=name)
            nursery.signal(kind, name)
            if kind == "stop":
                self.stopped.add(name)
                self._pauses.add(task := asyncio.ensure_future(self._pause(nursery, name)))
                task.add_done_callback(self._pauses.discard)
            elif kind == "end":
                self.ending.add(name)
            else:
                self.alive[name] = False

    async def calm(self) -> None:
        """Let those that are paused go on."""
        while self._pauses:
            await asyncio.wait(self._pauses)

    async def _pause(self, nursery: Nursery, name: str) -> None:
        deadline = time.monotonic() + self._chance.uniform(1.2, 1.8) * LEASE
        held = True
        while time.monotonic() < deadline:
            await asyncio.sleep(0.1)
            held = held and self._lock_is_held()
        self.stopped.discard(name)
        self._journal.write("fault", what="resume", worker=name, held=held)
        nursery.signal("resume", name)

    def _lock_is_held(self) -> bool:
        """Whether somebody has SQLite's write lock; held all the time, it is who was paused."""
        if self._watch.path is None:
            return False
        with closing(sqlite3.connect(self._watch.path, isolation_level=None, timeout=0)) as other:
            try:
                other.execute("BEGIN IMMEDIATE")
                other.execute("ROLLBACK")
            except sqlite3.OperationalError:
                return True
        return False

    async def _terminate(self) -> None:
        rows = await self._watch.rows(
            "SELECT pid, application_name FROM pg_stat_activity "
            "WHERE datname = current_database() AND application_name LIKE %s",
            "storm %",
        )
        if rows:
            pid, name = self._chance.choice(rows)
            self._journal.write("fault", what="terminate", worker=name)
            await self._watch.rows("SELECT pg_terminate_backend(%s)", pid)
