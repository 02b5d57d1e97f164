"""A process of the storm: the three stage workers of the encode pipeline, and their misfortunes.

Its `main` runs in a child of the nursery. What its handlers do to themselves is a line of the
journal before they do it.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from pandora_db import Settings, Stage
from pandora_db.runtime import Fail, JobContext, Pipeline, Snooze
from tests.faults.journal import Journal, JournalledDb, noting
from tests.faults.nursery import say

STAGES = {
    Stage.DOWNLOADING: (Stage.QUEUED, Stage.DOWNLOADED),
    Stage.ENCODING: (Stage.DOWNLOADED, Stage.ENCODED),
    Stage.UPLOADING: (Stage.ENCODED, Stage.UPLOADED),
}
LEASE = 3.0
SWEEP = 0.5
POOL = 4
SETTINGS = Settings(
    lease=LEASE, heartbeat=0.5, sweep=SWEEP, pool_max=POOL, max_attempts=1000,
    acquire_timeout=5.0, statement_timeout=5.0, lock_timeout=4.0, outcome_timeout=5.0,
    connect_timeout=5.0, close_timeout=5.0,
)  # fmt: skip
HANDS = 3
STEPS = 4
DOOMED = "doomed"  # the author of a job that fails for good at the stage message_id
TIMEOUT = 6.0
SLOW = 1.4 * LEASE  # seconds that some steps take: their lease has to be renewed
FATES = {
    "raised": 0.03, "answered Fail": 0.02, "snoozed": 0.03, "hung": 0.005, "went on": 0.01,
}  # fmt: skip
SETTLED = 5.0  # seconds after which what a handle leaves behind is a leak


class StageWorkers:
    """The handlers of one process."""

    def __init__(self, journal: Journal, chance: random.Random) -> None:
        self._journal = journal
        self._chance = chance
        self._tasks: dict[asyncio.Task[Any], JobContext] = {}

    def pipeline(self) -> Pipeline:
        """All three stages, each with hands of its own."""
        pipeline = Pipeline()
        for working, (waiting, after) in STAGES.items():
            pipeline.stage(
                waiting, working, after, concurrency=HANDS, timeout=TIMEOUT, retry_in=0.1,
                progress_every=0.2,
            )(self._handle)  # fmt: skip
        return pipeline

    async def strike(self) -> None:
        """Cancel the task of a handler now and then, which nobody had asked for."""
        while True:
            await asyncio.sleep(self._chance.uniform(0.5, 2.0))
            if self._tasks:
                task, ctx = self._chance.choice(list(self._tasks.items()))
                self._fault("task cancelled", ctx)
                task.cancel()

    async def _handle(self, ctx: JobContext) -> object:
        task = asyncio.current_task()
        assert task is not None
        self._tasks[task] = ctx
        self._note("handler", ctx)
        try:
            return await self._work(ctx)
        finally:
            del self._tasks[task]

    async def _work(self, ctx: JobContext) -> object:
        chance = self._chance
        (fate,) = chance.choices((None, *FATES), (1 - sum(FATES.values()), *FATES.values()))
        turn = chance.randint(1, STEPS)
        state = await ctx.load_checkpoint() or {"done": 0}
        while state["done"] < STEPS:
            await ctx.check_interrupt()
            await self._step(0.15)
            if chance.random() < 0.005:
                await asyncio.sleep(SLOW)
            size = chance.choice((100, 100, 1000, 1000, 20_000))
            if chance.random() < 0.02:  # too large for one segment
                size = 400_000
            done = state["done"] + 1
            state = {"done": done, "salt": chance.random(), "blob": chance.randbytes(size)}
            ctx.progress(done / STEPS)
            await ctx.checkpoint(state, force=chance.random() < 0.8)
            if done == turn and fate is not None:
                return await self._meet(fate, ctx)
        if ctx.job.author == DOOMED and ctx.job.message_id == ctx.claim.stage:
            self._fault("doomed", ctx)
            return Fail("nobody can do this", final=True)
        return {"stage": int(ctx.claim.stage), "steps": state["done"]}

    async def _meet(self, fate: str, ctx: JobContext) -> object:
        self._fault(fate, ctx)
        if fate == "raised":
            raise OSError("the connection was reset")
        if fate == "answered Fail":
            return Fail("it did not work", retry_in=0.05)
        if fate == "snoozed":
            return Snooze(0.2)
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)
        if fate == "hung":
            raise asyncio.CancelledError
        # It was cancelled and does not care; once it is given up, nothing that it writes counts.
        for turn in range(20):
            await self._step(0.2)
            await ctx.checkpoint({"done": 0, "stubborn": turn}, force=True)
        return None

    async def _step(self, longest: float) -> None:
        await asyncio.sleep(self._chance.uniform(0.0, longest))

    def _fault(self, what: str, ctx: JobContext) -> None:
        self._note("fault", ctx, what=what)

    def _note(self, kind: str, ctx: JobContext, **facts: object) -> None:
        claim = ctx.claim
        self._journal.write(
            kind, job=claim.job_id, token=claim.token, stage=int(claim.stage), **facts
        )


async def main(name: str, url: str, seed: int, folder: str) -> None:
    """Work until SIGTERM; then say what is left behind."""
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    journal = JournalledDb.journal = Journal(Path(folder, f"{name}.jsonl"))
    workers = StageWorkers(journal, random.Random(f"{seed} {name}"))
    before = _usage()
    with noting():
        async with JournalledDb.open(url, settings=SETTINGS, application_name=name) as db:
            journal.write("begin", worker=name, owner=db.owner)
            say("begin", worker=name)
            async with workers.pipeline().running(
                db, poll=0.5, grace=0.5, cancel_grace=0.5, shutdown_timeout=4.0
            ):
                striking = asyncio.ensure_future(workers.strike())
                await stopped.wait()
                striking.cancel()
    journal.write("bye", worker=name, before=before, after=await _settled(before))


async def _settled(before: list[int]) -> list[int]:
    """What is used, as soon as it is no more than before; a handler that was given up may end."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + SETTLED
    while any(map(int.__gt__, now := _usage(), before)) and loop.time() < deadline:
        await asyncio.sleep(0.05)
    return now


def _usage() -> list[int]:
    # The loop's own executor keeps its threads until the loop is closed.
    threads = sum(not thread.name.startswith("asyncio_") for thread in threading.enumerate())
    return [threads, len(asyncio.all_tasks()), len(os.listdir("/proc/self/fd"))]  # noqa: PTH208
