"""A worker that is paused while its jobs are taken, and then writes all the same.

Run as `python -m tests.faults.zombie URL SEED LEASE HEARTBEAT`; each line on its standard input is
a command, each line on its standard output an answer, in JSON.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from pandora_db import Job, JobDb, LeaseLost, LogLine, Stage
from tests.faults.leaks import NAME
from tests.faults.nursery import say

if TYPE_CHECKING:
    from pandora_db import Claim, Store

NEXT = {
    Stage.DOWNLOADING: Stage.DOWNLOADED,
    Stage.ENCODING: Stage.ENCODED,
    Stage.UPLOADING: Stage.UPLOADED,
}
WRITES: dict[str, Callable[[Store, Claim], Awaitable[Any]]] = {
    "update_stage": lambda db, claim: db.update_stage(claim, NEXT[claim.stage]),
    "finish_job": lambda db, claim: db.finish_job(claim, NEXT[claim.stage], output={"late": 1}),
    "finish_job, ended": lambda db, claim: db.finish_job(claim, Stage.FAILED),
    "update_job": lambda db, claim: db.update_job(claim, progress=0.25),
    "update_job, an event": lambda db, claim: db.update_job(claim, priority=7, error="late"),
    "fail_job": lambda db, claim: db.fail_job(claim, "late"),
    "fail_job for good": lambda db, claim: db.fail_job(claim, "late", final=True),
    "save_checkpoint": lambda db, claim: db.save_checkpoint(claim, {"late": claim.token}),
    "save_checkpoint, unchanged": lambda db, claim: db.save_checkpoint(claim, {"of": claim.token}),
    "append_logs": lambda db, claim: db.append_logs(claim, [LogLine("late")]),
    "append_logs, repeated": lambda db, claim: db.append_logs(
        claim, [LogLine("late")], operation_id=uuid4()
    ),
    "insert_child": lambda db, claim: db.insert_child(claim, Job(author="late"), key="late"),
    "snooze_job": lambda db, claim: db.snooze_job(claim, 5.0),
    "release_job": lambda db, claim: db.release_job(claim),
}


class LateWrites:
    """Makes every kind of write under claims that are not ours any more, and counts the answers."""

    def __init__(self, db: JobDb, chance: random.Random) -> None:
        self.tally: Counter[str] = Counter()
        self._db = db
        self._chance = chance

    async def make(self, claims: list[Claim]) -> None:
        """Every write of each claim: most at once, some one after another or in a transaction."""
        await asyncio.gather(*(self._of(claim) for claim in claims))

    async def _of(self, claim: Claim) -> None:
        names = list(WRITES)
        self._chance.shuffle(names)
        way = self._chance.choice(("at once", "at once", "in turn", "in a transaction"))
        if way == "at once":
            await asyncio.gather(*(self._judge(name, claim, self._plain) for name in names))
            return
        call = self._plain if way == "in turn" else self._in_transaction
        for name in names:
            await self._judge(name, claim, call)

    async def _plain(self, name: str, claim: Claim) -> None:
        await WRITES[name](self._db, claim)

    async def _in_transaction(self, name: str, claim: Claim) -> None:
        async with self._db.transaction() as tx:
            await WRITES[name](tx, claim)

    async def _judge(
        self, name: str, claim: Claim, call: Callable[[str, Claim], Awaitable[None]]
    ) -> None:
        told = claim.lost
        try:
            await call(name, claim)
        except LeaseLost as error:
            outcome = "refused" if error.job_id == claim.job_id else "refused for another job"
        except Exception as error:  # noqa: BLE001 - counted, and told by its type
            outcome = f"{name}: {type(error).__name__}: {error}"[:200]
        else:
            outcome = f"accepted: {name}"
        self.tally[outcome] += 1
        self.tally["before it was told" if not told else "after it was told"] += 1


class Zombie:
    """Obeys the commands."""

    def __init__(self, db: JobDb, seed: int) -> None:
        self._db = db
        self._chance = random.Random(seed)
        self._claims: list[Claim] = []
        self._handlers: list[asyncio.Task[None]] = []
        self._cancelled: list[float] = []

    async def claim(self, waiting: int, into: int, count: int, handlers: int) -> None:
        """Claim `count` jobs; the first `handlers` of them get a handler that only waits."""
        claims: list[Claim] = []
        while len(claims) < count:
            missing = count - len(claims)
            claims += await self._db.claim_jobs(Stage(waiting), into=Stage(into), limit=missing)
        for claim in claims:
            await self._db.save_checkpoint(claim, {"of": claim.token})
        sitting, self._claims = claims[:handlers], claims[handlers:]
        self._cancelled.clear()
        self._handlers = [asyncio.ensure_future(self._sit(claim)) for claim in sitting]
        await asyncio.sleep(0)
        say("claimed")

    async def _sit(self, claim: Claim) -> None:
        with suppress(LeaseLost):
            async with claim:
                try:
                    await asyncio.sleep(3600)
                except asyncio.CancelledError:
                    self._cancelled.append(time.monotonic())
                    raise

    async def write(self) -> None:
        """Make the late writes, and wait until every handler has been cancelled."""
        writes = LateWrites(self._db, self._chance)
        await writes.make(self._claims)
        done, sitting = set(self._handlers), set()
        if self._handlers:
            done, sitting = await asyncio.wait(self._handlers, timeout=10.0)
        for task in done:
            task.result()
        for task in sitting:
            task.cancel()
        self._claims.clear()
        say("wrote", tally=writes.tally, cancelled=self._cancelled, sitting=len(sitting))


async def main(url: str, seed: str, lease: str, heartbeat: str) -> None:
    loop = asyncio.get_running_loop()
    settings = {"lease": float(lease), "heartbeat": float(heartbeat), "sweep": None}
    async with JobDb.open(url, application_name=NAME, pool_max=4, **settings) as db:
        zombie = Zombie(db, int(seed))
        say("ready")
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            word, *arguments = json.loads(line)
            await (zombie.claim if word == "claim" else zombie.write)(*arguments)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
