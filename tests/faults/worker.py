"""A worker that is killed: it claims jobs, checkpoints, hands them on, and says what it does.

Its `main` runs in a child of the nursery. What it says before a call is an intent, afterwards an
acknowledgement.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import signal
from typing import TYPE_CHECKING, Any

from pandora_db import JobDb, LeaseLost, Stage
from tests.faults.leaks import NAME
from tests.faults.nursery import say

if TYPE_CHECKING:
    from pandora_db import Claim

LEASE = {"lease": 2.0, "heartbeat": 0.5, "sweep": 0.5}
TASKS = 3
POISON = "poison"
NEXT = {
    Stage.QUEUED: (Stage.DOWNLOADING, Stage.DOWNLOADED),
    Stage.DOWNLOADED: (Stage.ENCODING, Stage.ENCODED),
    Stage.ENCODED: (Stage.UPLOADING, Stage.UPLOADED),
}


def digest(state: dict[str, Any]) -> str:
    """What tells one state from another, in the journal."""
    text = json.dumps(state, sort_keys=True, default=bytes.hex)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


class Worker:
    """Some tasks on one handle."""

    def __init__(self, db: JobDb, name: str, chance: random.Random) -> None:
        self._db = db
        self._name = name
        self._chance = chance

    async def work(self) -> None:
        """Take what waits, at any stage, until killed."""
        while True:
            stages = list(NEXT)
            self._chance.shuffle(stages)
            found = False
            for stage in stages:
                claims = await self._db.claim_jobs(stage, into=NEXT[stage][0], limit=2)
                for claim in claims:
                    self._say("claim", claim, attempt=claim.attempt)
                await asyncio.gather(*(self._run(claim, NEXT[stage][1]) for claim in claims))
                found = found or bool(claims)
            if not found:
                await asyncio.sleep(self._chance.uniform(0.02, 0.1))

    async def _run(self, claim: Claim, then: Stage) -> None:
        try:
            async with claim:
                await self._steps(claim)
                await self._end(claim, then)
        except LeaseLost as error:
            self._say("lost", claim, reason=error.reason)

    async def _steps(self, claim: Claim) -> None:
        chance = self._chance
        state: Any = await self._db.load_checkpoint(claim)
        self._say("loaded", claim, sha=state and digest(state))
        done = state["done"] if state else 0
        for step in range(done + 1, 4):
            await asyncio.sleep(chance.uniform(0.01, 0.15))
            if claim.job.author == POISON and claim.stage == claim.job.message_id and step == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            size = chance.choice((100, 1000, 1000, 20_000, 300_000))
            state = {"done": step, "salt": chance.random(), "blob": chance.randbytes(size)}
            self._say("saving", claim, sha=digest(state))
            await self._db.save_checkpoint(claim, state)
            self._say("saved", claim)
            if chance.random() < 0.3:
                await self._db.update_job(claim, progress=step / 3)

    async def _end(self, claim: Claim, then: Stage) -> None:
        # A poison job has few attempts; none may be used up by anything but a kill.
        end = 1.0 if claim.job.author == POISON else self._chance.random()
        if end < 0.03:
            self._say("ending", claim, how="release")
            await self._db.release_job(claim)
        elif end < 0.06:
            self._say("ending", claim, how="snooze")
            await self._db.snooze_job(claim, 0.2)
        elif end < 0.09:
            self._say("ending", claim, how="fail")
            await self._db.fail_job(claim, "it did not work", retry_in=0.1)
        else:
            self._say("ending", claim, how="finish")
            await self._db.finish_job(claim, then, output={"by": self._name})
        self._say("ended", claim, into=int(then) if end >= 0.09 else None)

    def _say(self, kind: str, claim: Claim, **facts: object) -> None:
        say(
            kind, worker=self._name, job=claim.job_id, token=claim.token, stage=int(claim.stage),
            **facts,
        )  # fmt: skip


async def main(name: str, url: str, seed: int) -> None:
    chance = random.Random(f"{seed} {name}")
    async with JobDb.open(url, application_name=NAME, pool_max=3, **LEASE) as db:
        say("begin", worker=name, owner=db.owner)
        worker = Worker(db, name, chance)
        await asyncio.gather(*(worker.work() for _ in range(TASKS)))
