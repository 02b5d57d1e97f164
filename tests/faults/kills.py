"""A writing process is killed: every write that it acknowledged is there.

`python -m tests.faults.kills --long --json FILE`
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import sqlite3
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

from pandora_db import JobDb, Stage
from tests.faults.command import Bench, main
from tests.faults.leaks import Watch

WRONG = (
    "lost",
    "without intent",
    "half a transaction",
    "half a bulk",
    "histories with gaps",
    "damaged",
)
ZERO = dict.fromkeys(WRONG, 0)
ROOT = Path(__file__).parents[2]


async def _kill_one(url: str, seed: str, after: float, least: int) -> list[dict[str, object]]:
    """Kill a writer so many seconds after it has said so many lines."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.faults.writer", url, seed,
        cwd=ROOT, stdout=asyncio.subprocess.PIPE, limit=2**24,
    )  # fmt: skip
    assert process.stdout is not None
    lines = [await process.stdout.readline() for _ in range(least)]
    asyncio.get_running_loop().call_later(after, process.send_signal, signal.SIGKILL)
    lines += (await process.stdout.read()).splitlines(keepends=True)
    assert await process.wait() == -signal.SIGKILL
    return [json.loads(line) for line in lines if line.endswith(b"\n")]


async def _check(watch: Watch, said: list[dict[str, object]], seed: str) -> Counter[str]:
    rows = await watch.rows(
        "SELECT job_id, ready, archived, output_file, external_id FROM jobs WHERE author LIKE %s",
        f"{seed} %",
    )
    jobs = {row[0]: row for row in rows}
    tally: Counter[str] = Counter()
    for line in said:
        kind = str(line["kind"])
        if kind == "intent":
            continue
        tally["acknowledged"] += 1
        job = jobs.get(line["job_id"])
        done = {
            "insert": lambda: True,
            "stage": lambda: job[1] >= line["stage"],  # noqa: B023 - called in this turn
            "transaction": lambda: job[1] >= Stage.ENCODED and job[3],  # noqa: B023
            "archive": lambda: bool(job[2]),  # noqa: B023
        }[kind]
        if job is None or not done():
            tally["lost"] += 1
    intents = {str(line["link"]) for line in said if line["kind"] == "intent"}
    for _, ready, _, output, link in rows:
        tally["without intent"] += not {link, link.rsplit("/", 1)[0]} & intents
        tally["half a transaction"] += output is not None and ready < Stage.ENCODED
    bulks = Counter(link.rsplit("/", 1)[0] for *_, link in rows if link.count("/") == 2)
    tally["half a bulk"] = sum(count != 5 for count in bulks.values())
    gaps = await watch.rows(
        "SELECT job.job_id FROM jobs job LEFT JOIN job_events event ON event.job_id = job.job_id "
        "GROUP BY job.job_id, job.event_seq HAVING count(event.seq) <> max(job.event_seq) "
        "OR max(event.seq) <> max(job.event_seq) OR min(event.seq) <> 1"
    )
    tally["histories with gaps"] = len(gaps)
    if watch.path is not None:
        with closing(sqlite3.connect(watch.path)) as raw:
            tally["damaged"] = raw.execute("PRAGMA integrity_check").fetchall() != [("ok",)]
    return tally


async def kill_writers(url: str, seed: int, kills: int, longest: float = 0.8) -> Counter[str]:
    """Kill `kills` writers, one after another, on the migrated database at `url`."""
    chance = random.Random(seed)
    total: Counter[str] = Counter()
    for number in range(kills):
        name = f"{seed}-{number}"
        least = 1 if number % 2 else 100  # as it begins, and amid its work
        said = await _kill_one(url, name, chance.uniform(0.05, longest), least)
        async with Watch(url) as watch:
            await watch.nothing_open()
            total += await _check(watch, said, name)
        async with JobDb.open(url) as db:  # the next one finds all in order
            assert await db.verify_schema() == []
            await db.get_next_job_id()
        total["kills"] += 1
    return total


async def _report(bench: Bench) -> dict[str, Any]:
    kills = 100 if bench.long else 10
    return {
        "sqlite": ZERO | await kill_writers(bench.sqlite(), bench.seed, kills),
        "postgres": ZERO | await kill_writers(bench.postgres(), bench.seed, kills),
    }


if __name__ == "__main__":
    main(_report)
