"""Several processes work on one pipeline while they are killed, and jobs paused and cancelled."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from collections import Counter
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from pandora_db import EventKind, InvalidTransition, Job, JobDb, JobStatus, Stage
from pandora_db.runtime import JobManager
from tests.support import family_program
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[2]
WORKING = (Stage.DOWNLOADING, Stage.ENCODING, Stage.UPLOADING)


class Program:
    """One process at work."""

    def __init__(self, url: str, stack: ExitStack, name: str = "pipeline_program") -> None:
        self.process = stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-m", f"tests.support.{name}", url],
                cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            )
        )  # fmt: skip
        stack.callback(self.process.kill)

    def wait_for_work(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "at work\n"

    def end(self) -> int:
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.process.wait(20)


@pytest.mark.slow
async def test_nothing_is_lost_or_done_twice(db: JobDb, db_url: str) -> None:
    chance = random.Random(5)
    ids = await db.insert_jobs(Job(author="mika") for _ in range(60))
    cancelled: set[int] = set()
    with ExitStack() as stack:
        programs = [Program(db_url, stack) for _ in range(2)]
        for program in programs:
            program.wait_for_work()
        for turn in range(6):
            await asyncio.sleep(0.15)
            with suppress(InvalidTransition):
                await db.pause_job(chance.choice(ids))
            with suppress(InvalidTransition):
                await db.cancel_job(victim := chance.choice(ids))
                cancelled.add(victim)
            if turn in (1, 3):
                programs[0].process.kill()
                programs[0] = Program(db_url, stack)
        await asyncio.sleep(0.5)

        async def resumed() -> bool:
            rows = await db.get_jobs_by_ids(ids)
            for row in rows:
                if row.hold == 1:
                    with suppress(InvalidTransition):
                        await db.resume_job(row.job_id)
            return all(row.archived for row in rows)

        await wait_until(resumed, timeout=60, interval=0.2)
        assert [program.end() for program in programs] == [0, 0]

    for row in await db.get_jobs_by_ids(ids):
        wanted = {JobStatus.COMPLETED}
        if row.job_id in cancelled:
            wanted.add(JobStatus.CANCELLED)
        assert row.status in wanted, row
        events = await db.history(row.job_id)
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        finished = Counter(event.stage for event in events if event.kind is EventKind.FINISHED)
        assert set(finished.values()) <= {1}
        if row.status is JobStatus.COMPLETED:
            assert sorted(finished) == [Stage.DOWNLOADED, Stage.ENCODED, Stage.UPLOADED]
            assert row.progress == 1.0


@pytest.mark.slow
async def test_children_are_begun_once_though_their_parents_are_killed(
    db: JobDb, db_url: str
) -> None:
    """Two processes with one hand each; one is killed again and again."""
    jobs = JobManager(db, family_program.registry)
    handles = [
        await jobs.dispatch(family_program.Tree(number=number, height=2)) for number in (1, 2, 3)
    ]
    name = "family_program"
    with ExitStack() as stack:
        programs = [Program(db_url, stack, name) for _ in range(2)]
        for program in programs:
            program.wait_for_work()
        for turn in range(6):
            await asyncio.sleep(0.25)
            programs[turn % 2].process.kill()
            programs[turn % 2] = Program(db_url, stack, name)
        async with asyncio.timeout(60):
            assert [await handle.result() for handle in handles] == [9, 9, 9]
        assert [program.end() for program in programs] == [0, 0]

    rows = await db.get_jobs(limit=100)
    assert Counter(row.name for row in rows) == {"tree": 9, "leaf": 27}
    assert {row.status for row in rows} == {JobStatus.COMPLETED}
    recovered = [
        event
        for row in rows
        for event in await db.history(row.job_id)
        if event.kind is EventKind.RECOVERED
    ]
    assert recovered, "nobody was killed at work"
    assert {line.message for row in rows for line in await db.logs(row.job_id)} == {
        f"leaf {number * 10**deep * 10 + leaf}"
        for number in (1, 2, 3)
        for deep in range(3)
        for leaf in range(3)
    }
