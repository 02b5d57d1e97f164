"""What the model is made of: its jobs, and the two databases that it is held against."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psycopg

from pandora_db import EventKind, Hold, JobDb, Stage, StageKind
from pandora_db.models.stage import STAGES
from tests.faults.leaks import NAME

if TYPE_CHECKING:
    from pandora_db import Claim

FAR = 3600.0
# Long enough that only the machine lets a lease run out.
SETTINGS = {
    "application_name": NAME, "sweep": None, "lease": 36_000.0, "heartbeat": 9_000.0, "pool_max": 2,
}  # fmt: skip
K = EventKind


@dataclass
class ModelJob:
    """What a job is to be."""

    job_id: int
    priority: int
    most: int
    stage: Stage = Stage.QUEUED
    archived: bool = False
    hold: Hold = Hold.NONE
    attempt: int = 0
    delayed: bool = False
    token: int | None = None
    lapsed: bool = False
    progress: float | None = None
    saved: dict[Stage, Any] = field(default_factory=dict)
    events: list[EventKind] = field(default_factory=lambda: [K.INSERTED])

    @property
    def claimable(self) -> bool:
        waiting = self.stage.kind is StageKind.WAITING
        # One that is to be cancelled goes to a worker, who ends it: nobody else would.
        paused = self.hold is Hold.PAUSE
        return waiting and not self.archived and not paused and not self.delayed

    def record(self, kind: EventKind, stage: Stage | None = None) -> None:
        """Note an event; a move to another stage ends whatever claim there was."""
        self.events.append(kind)
        if stage is not None:
            self.stage = stage
            self.token = None
            self.lapsed = False

    def after(self, stage: Stage) -> Stage:
        """Where a claim leads that ends at `stage`: a job to be cancelled waits no more."""
        wanted = self.hold is Hold.CANCEL and not stage.terminal
        return Stage.CANCELLED if wanted else stage

    def end(self, kind: EventKind, stage: Stage) -> None:
        """Leave the working stage: for a waiting one, or into the archive."""
        worked = self.stage
        if self.after(stage) is not stage:
            kind, stage = K.CANCELLED, Stage.CANCELLED
        self.record(kind, stage)
        if stage.terminal:
            self.archived = True
            self.hold = Hold.NONE
        if stage in (Stage.CANCELLED, Stage.UPLOADED):
            self.saved.clear()
        elif kind is K.FINISHED:
            self.saved.pop(worked, None)

    def expected(self) -> tuple[object, ...]:
        """What is compared with the row and the history."""
        return (
            int(self.stage), self.archived, int(self.hold), self.attempt, self.delayed,
            self.token is not None, self.progress, len(self.events), [int(k) for k in self.events],
        )  # fmt: skip


@dataclass
class Held:
    """A claim of the model, and the claim of each dialect."""

    job: ModelJob
    token: int
    attempt: int
    stage: Stage
    claims: list[Claim]
    closed: bool = False
    """Whether the handle that made it was closed: it may still end, and is renewed no more."""

    @property
    def valid(self) -> bool:
        return self.job.token == self.token


class Side:
    """One dialect: its handle, and a look behind it."""

    def __init__(self, url: str, run: Callable[[Awaitable[Any]], Any]) -> None:
        self.url = url
        self._run = run
        # Kept open: a connection for each look would take longer than what is looked at.
        self._lite = self._server = None
        if url.startswith("sqlite:"):
            path = url.removeprefix("sqlite:///")
            self._lite = sqlite3.connect(path, isolation_level=None, timeout=5.0)
        else:
            self._server = psycopg.connect(url, autocommit=True)
        self.db: JobDb = run(JobDb.connect(url, **SETTINGS))

    def raw(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Rows of one statement of ours, whose parameters are written `%s`."""
        if self._lite is not None:
            return self._lite.execute(statement.replace("%s", "?"), values).fetchall()
        assert self._server is not None
        cursor = self._server.execute(statement.encode(), values)
        return cursor.fetchall() if cursor.description else []

    def close(self) -> None:
        self._run(self.db.close())
        for connection in (self._lite, self._server):
            if connection is not None:
                connection.close()

    def restart(self) -> None:
        self._run(self.db.close())
        self.db = self._run(JobDb.connect(self.url, **SETTINGS))

    def found(self, job_id: int) -> tuple[object, ...]:
        """The counterpart of `ModelJob.expected`."""
        ((ready, archived, hold, attempt, not_before, token, progress, seq),) = self.raw(
            "SELECT ready, archived, hold, attempt, not_before, lease_token, progress, event_seq "
            "FROM jobs WHERE job_id = %s", job_id,
        )  # fmt: skip
        waiting = STAGES[ready].kind is StageKind.WAITING
        delayed = waiting and not_before is not None and not_before > time.time() + FAR / 2
        events = self.raw("SELECT kind FROM job_events WHERE job_id = %s ORDER BY seq", job_id)
        return (
            ready, bool(archived), hold, attempt, delayed, token is not None, progress, seq,
            [kind for (kind,) in events],
        )  # fmt: skip


class World:
    """The event loop and both handles, kept for all runs of the machine."""

    def __init__(self, urls: dict[str, str]) -> None:
        self.loop = asyncio.new_event_loop()
        self.sides = {name: Side(url, self.run) for name, url in urls.items()}
        self.numbers = itertools.count(1)
        self.tally: Counter[str] = Counter()

    def run(self, call: Awaitable[Any]) -> Any:
        return self.loop.run_until_complete(call)

    def close(self) -> None:
        for side in self.sides.values():
            side.close()
        self.loop.close()
