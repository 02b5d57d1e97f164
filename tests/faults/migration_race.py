"""T17: many processes bring one schema up at once, and one of them is killed half-way.

`python -m tests.faults.migration_race --long --json FILE`; run with a URL it is one such process.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

from pandora_db import JobDb
from pandora_db.models.stage import STAGES
from tests.faults.command import Bench, main
from tests.faults.leaks import Watch

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]

LIBPNDB = """
CREATE TABLE jobs (
    job_id BIGINT PRIMARY KEY, author TEXT, requested_at BIGINT, job_type SMALLINT,
    preset SMALLINT, preset_concat SMALLINT, link TEXT, directory TEXT, ready SMALLINT,
    message_id BIGINT, channel_id BIGINT, created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
    completed_at TIMESTAMP, archived BOOLEAN DEFAULT FALSE
);
CREATE INDEX idx_jobs_ready ON jobs (ready);
CREATE INDEX idx_jobs_author ON jobs (author);
CREATE INDEX idx_jobs_archived ON jobs (archived);
INSERT INTO jobs (job_id, author, requested_at, job_type, preset, link, ready, archived)
SELECT n, 'old', 1700000000 + n, 1, 1, 'http://host/' || n, n % 8, n % 3 = 0
FROM generate_series(1, 500) AS n;
"""


async def race(url: str, processes: int, *, kill: float | None, rows: int = 0) -> Counter[str]:
    """Let `processes` open `url` and call `init_schema()` at once; check what became of it.

    `kill`: one of them is killed after so many seconds.
    """
    launcher = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.faults.migration_race", url, str(processes), str(kill or 0),
        cwd=ROOT, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    said, _ = await launcher.communicate()
    assert launcher.returncode == 0
    tally: Counter[str] = Counter(json.loads(said), rounds=1)
    async with JobDb.open(url) as db, Watch(url) as watch:
        ledger = await watch.rows("SELECT version FROM pandora_migrations")
        stages = await watch.rows("SELECT count(*) FROM stages")
        (jobs,) = await watch.rows("SELECT count(*) FROM jobs")
        assert ledger == [(1,)], ledger
        assert stages == [(len(STAGES),)], stages
        assert jobs == (rows,), jobs
        assert await db.verify_schema() == []
    return tally


async def rounds(
    seed: int, count: int, processes: int, fresh: Callable[[], str], rows: int = 0
) -> Counter[str]:
    """Run `count` races, each on a database that `fresh` makes; every second one with a kill."""
    chance = random.Random(seed)
    total: Counter[str] = Counter()
    for number in range(count):
        kill = chance.uniform(0.001, 0.3) if number % 2 else None
        total += await race(fresh(), processes, kill=kill, rows=rows)
    return total


async def _one(url: str) -> None:
    async with JobDb.open(url, pool_max=1) as db:
        await db.init_schema()
        assert await db.get_queue_length() >= 0


def _launch(url: str, processes: int, kill: float) -> None:
    """Fork the processes, before anything of asyncio runs, and let them go at once."""
    gate, opener = os.pipe()
    children: list[int] = []
    for _ in range(processes):
        child = os.fork()
        if child:
            children.append(child)
            continue
        os.close(opener)
        os.read(gate, 1)
        try:
            asyncio.run(_one(url))
        except BaseException:  # noqa: BLE001 - the status tells
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    os.close(opener)
    if kill:
        time.sleep(kill)
        os.kill(children[0], signal.SIGKILL)
    ends = [os.waitpid(child, 0)[1] for child in children]
    killed = sum(os.WIFSIGNALED(end) for end in ends)
    failures = sum(os.WIFEXITED(end) and os.WEXITSTATUS(end) != 0 for end in ends)
    json.dump({"processes": processes, "killed": killed, "failures": failures}, sys.stdout)


async def _report(bench: Bench) -> dict[str, Any]:
    count = 20 if bench.long else 2

    def adopted() -> str:
        dsn = bench.postgres(migrated=False)
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(LIBPNDB.encode())
        return dsn

    return {
        "sqlite": await rounds(bench.seed, count, 32, lambda: bench.sqlite(migrated=False)),
        "postgres": await rounds(bench.seed, count, 32, lambda: bench.postgres(migrated=False)),
        "libpndb": await rounds(bench.seed, count, 32, adopted, rows=500),
    }


if __name__ == "__main__":
    if sys.argv[1:2] and not sys.argv[1].startswith("--"):
        _launch(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
    else:
        main(_report)
