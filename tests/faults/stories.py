"""A short storm without any weather, and every way to spoil what it leaves."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

from pandora_db import Job, Stage
from tests.faults.census import Census
from tests.faults.journal import Journal, JournalledDb, noting
from tests.faults.leaks import Watch
from tests.faults.pipeline_storm import TERMS
from tests.faults.stage_worker import STAGES

NAME = "storm w1"
FAR = 60.0


async def tell(url: str, folder: Path) -> None:
    """One process: one job is done, one fails, one is cancelled."""
    journal = JournalledDb.journal = Journal(folder / f"{NAME}.jsonl")
    journal.write("terms", **TERMS)
    async with Watch(url) as watch:
        census = Census(journal, watch)
        with noting():
            async with JournalledDb.open(url, sweep=None, application_name=NAME) as db:
                journal.write("begin", worker=NAME, owner=db.owner)
                await _work(db, journal)
                await census.count()
        await census.look()
    journal.write("calm", left=[])
    journal.write("bye", worker=NAME, before=[1, 1, 9], after=[1, 1, 9])
    journal.close()


async def _work(db: JournalledDb, journal: Journal) -> None:
    jobs = [Job(author="done"), Job(author="failed"), Job(author="cancelled")]
    _, failed, cancelled = await db.insert_jobs(jobs, operation_id=uuid4())
    await db.pause_job(cancelled)
    await db.resume_job(cancelled)
    await db.cancel_job(cancelled)
    first, second = await db.claim_jobs(Stage.QUEUED, into=Stage.DOWNLOADING, limit=2)
    for claim in (first, second):
        facts = {"job": claim.job_id, "token": claim.token, "stage": int(claim.stage)}
        journal.write("handler", **facts)
        await db.save_checkpoint(claim, {"done": 1})
        await db.save_checkpoint(claim, {"done": 2})
        journal.write("fault", **facts, what="raised")
        await db.fail_job(claim, "it broke", retry_in=0.0, final=claim.job_id == failed)
    for working, (waiting, after) in STAGES.items():
        (claim,) = await db.claim_jobs(waiting, into=working)
        await db.load_checkpoint(claim)
        await db.save_checkpoint(claim, {"done": 3})
        await db.finish_job(claim, after)


class Story:
    """The journal and the database, to be spoiled."""

    def __init__(self, path: Path, folder: Path) -> None:
        self.path = path
        self.journal = folder / f"{NAME}.jsonl"

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.journal.read_text().splitlines()]

    def run(self, *statements: str) -> None:
        """SQL behind the back of the triggers, which would refuse it."""
        with closing(sqlite3.connect(self.path, isolation_level=None)) as raw:
            for (name,) in raw.execute(
                "SELECT name FROM sqlite_master WHERE type = 'trigger'"
            ).fetchall():
                raw.execute(f"DROP TRIGGER {name}")
            for statement in statements:
                raw.execute(statement)

    def edit(self, chosen: Callable[[dict[str, Any]], object], **facts: object) -> None:
        """Change the last line that is chosen; without facts, take it away."""
        lines = self.lines()
        last = max(number for number, line in enumerate(lines) if chosen(line))
        if facts:
            lines[last] |= facts
        else:
            del lines[last]
        self.journal.write_text("".join(json.dumps(line) + "\n" for line in lines))

    def add(self, kind: str, **facts: object) -> None:
        with self.journal.open("a") as file:
            file.write(json.dumps({"kind": kind, "at": FAR + time.time(), **facts}) + "\n")

    def intent(self, op: str, **facts: object) -> dict[str, Any]:
        """The last intent of that kind; `facts` change it."""

        def chosen(line: dict[str, Any]) -> bool:
            return (line["kind"], line.get("op")) == ("intent", op)

        if facts:
            self.edit(chosen, **facts)
        return next(line for line in reversed(self.lines()) if chosen(line))

    def outcome(self, op: str, **facts: object) -> None:
        """Change the outcome of the last call of that kind."""
        number = self.intent(op)["call"]
        self.edit(lambda line: line["kind"] == "ack" and line.get("call") == number, **facts)


def _late_save(story: Story) -> None:
    """A worker whose job was taken again saves, and is told that it did."""
    facts = {"call": 999, "op": "save_checkpoint", "job": 1, "token": 0, "stage": 1, "sha": "ff"}
    story.add("intent", **facts)
    story.add("ack", call=999, took=0.1)


def _two_jobs_one_lease(story: Story) -> None:
    story.edit(lambda line: line["kind"] == "census", half_leases=1)


def _stuck(story: Story) -> None:
    """The process dies while it works on job 1, and a minute goes by."""
    claimed = story.intent("claim_jobs")["at"]
    story.run(
        "UPDATE job_events SET at = strftime('%Y-%m-%d %H:%M:%f', at, '+60 seconds') "
        "WHERE job_id = 1 AND kind = 13 AND stage = 6"
    )
    story.add("killed", worker=NAME, when=claimed + 0.5, status=None)


def _lease_broken(story: Story) -> None:
    """Somebody takes the job back a moment after it was claimed."""
    story.run("UPDATE job_events SET kind = 21 WHERE job_id = 1 AND kind = 14")


def _executed_twice(story: Story) -> None:
    line = next(line for line in story.lines() if line["kind"] == "handler")
    story.add("handler", job=line["job"], token=line["token"], stage=line["stage"])


def _damage(story: Story) -> None:
    with closing(sqlite3.connect(story.path, isolation_level=None)) as raw:
        raw.execute("PRAGMA ignore_check_constraints = ON")
        raw.execute("DROP TRIGGER jobs_record_update")
        raw.execute("UPDATE jobs SET hold = 7 WHERE job_id = 1")


def lose_a_job(story: Story) -> None:
    story.run("DELETE FROM jobs WHERE job_id = 1", "DELETE FROM job_events WHERE job_id = 1")


def _flipped(story: Story) -> None:
    story.run(
        "UPDATE job_checkpoints SET data = CAST(replace(hex(data), '0', '1') AS BLOB) "
        "WHERE job_id = 2"
    )


SPOILED: dict[str, Callable[[Story], object]] = {
    "I1: an acknowledged insert is lost": lose_a_job,
    "I1: an acknowledged claim is lost": lambda story: story.run(
        "UPDATE job_events SET kind = 9 WHERE job_id = 1 AND kind = 12"
    ),
    "I1: an acknowledged end is lost": lambda story: story.run(
        "DELETE FROM job_events WHERE job_id = 1 AND kind = 13 AND stage = 6"
    ),
    "I1: an acknowledged request is lost": lambda story: story.run(
        "DELETE FROM job_events WHERE job_id = 3 AND kind = 6"
    ),
    "I2: an event without an intent": lambda story: story.edit(lambda line: line["kind"] == "id"),
    "I2: an event that its call does not leave": lambda story: story.intent("cancel_job", job=1),
    "I2: an operation was done twice": lambda story: story.run(
        "INSERT INTO job_events (job_id, seq, at, kind, stage, attempt, operation_id) "
        "SELECT job_id, 99, at, kind, stage, attempt, operation_id FROM job_events "
        "WHERE job_id = 3 AND kind = 6"
    ),
    "I2: a refused call left something": lambda story: story.outcome(
        "finish_job", kind="error", error="LeaseLost"
    ),
    "I3: a row disappeared": lose_a_job,
    "I3: a gap": lambda story: story.run("DELETE FROM job_events WHERE job_id = 1 AND seq = 2"),
    "I3: the past of a job was changed": lambda story: story.run(
        "UPDATE job_events SET attempt = 5 WHERE job_id = 1 AND seq = 2"
    ),
    "I3: row and history differ": lambda story: story.run(
        "UPDATE jobs SET event_seq = event_seq + 1 WHERE job_id = 1"
    ),
    "I4: no path of the stage graph": lambda story: story.run(
        "UPDATE job_events SET stage = 5 WHERE job_id = 1 AND kind = 12 AND stage = 3"
    ),
    "I4: row and history differ": lambda story: story.run(
        "UPDATE jobs SET ready = 4 WHERE job_id = 1"
    ),
    "I4: archived or not": lambda story: story.run("UPDATE jobs SET archived = 0"),
    "I4: a stage was left out or done twice": lambda story: story.run(
        "UPDATE job_events SET stage = 4 WHERE job_id = 1 AND kind = 13 AND stage = 2"
    ),
    "I5: tokens do not rise": lambda story: story.outcome("claim_jobs", claims=[[1, 0]]),
    "I5: a zombie's end was accepted": lambda story: story.intent("finish_job", token=0),
    "I5: a zombie's write was accepted": _late_save,
    "I5: a lease was broken": _lease_broken,
    "I5: half a lease": _two_jobs_one_lease,
    "I6: stuck": _stuck,
    "I6: jobs are left": lambda story: story.edit(lambda line: line["kind"] == "calm", left=[1]),
    "I6: a lease is left": lambda story: story.run("UPDATE jobs SET lease_token = 9"),
    "I7: executed again without a fault": lambda story: story.edit(
        lambda line: line["kind"] == "fault" and line["job"] == 1
    ),
    "I7: a claim was executed twice": _executed_twice,
    "I7: executed without a claim": lambda story: story.add("handler", job=1, token=0, stage=1),
    "I8: nobody wrote it": lambda story: story.edit(
        lambda line: line["kind"] == "ack" and line.get("sha"), sha="ff"
    ),
    "I8: older than acknowledged": lambda story: story.edit(
        lambda line: line["kind"] == "ack" and line.get("sha"),
        sha=next(
            line["sha"]
            for line in story.lines()
            if line.get("op") == "save_checkpoint" and line["job"] == 1
        ),
    ),
    "I8: an acknowledged one is gone": lambda story: story.run("DELETE FROM job_checkpoints"),
    "I8: a stored checkpoint cannot be read": _flipped,
    "I9: integrity_check": _damage,
    "I10: an exception that is not documented": lambda story: story.outcome(
        "load_checkpoint", kind="error", error="KeyError"
    ),
    "I10: a call outlived its deadline": lambda story: story.outcome("finish_job", took=17.0),
    "I10: a process ended by an error": lambda story: story.add(
        "gone", worker=NAME, when=time.time(), status=1
    ),
    "I11: a closed handle leaves something": lambda story: story.edit(
        lambda line: line["kind"] == "bye", after=[1, 2, 9]
    ),
    "I11: a process does not say what it leaves": lambda story: story.add(
        "gone", worker="storm w2", when=time.time(), status=0
    ),
    "I11: the WAL grows": lambda story: story.add("look", wal=2**30),
    "I11: connections": lambda story: story.add("look", wal=0, sessions=[[NAME, 9, None]]),
    "I11: idle in transaction": lambda story: story.add("look", wal=0, sessions=[[NAME, 1, 2.5]]),
}
