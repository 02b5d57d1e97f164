"""The checker of a storm: what its journals promise against what its database holds.

`python -m tests.faults.check URL FOLDER [--json FILE]`, where FOLDER holds the journals. It prints
its findings by invariant (I1 to I11, see `findings`), and ends with 1 when one does not hold or was
not looked at.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

from pandora_db import CheckpointCorrupt, JobDb
from tests.faults.check_claims import Claims
from tests.faults.check_engine import check_calls, check_files, check_leaks, check_leases
from tests.faults.check_rows import Rows
from tests.faults.check_saves import Saves, Stored
from tests.faults.chronicle import Chronicle
from tests.faults.findings import Findings
from tests.faults.journal import digest
from tests.faults.leaks import NAME, Watch
from tests.faults.oracle import read_histories


class Row(NamedTuple):
    """What matters of a job."""

    job_id: int
    ready: int
    archived: bool
    event_seq: int
    lease_token: int | None


async def check(url: str, folder: Path) -> Findings:
    """Compare everything; the storm is over, and nobody else is at the database."""
    chronicle, found = Chronicle(folder), Findings()
    async with Watch(url) as watch:
        rows = await watch.rows("SELECT job_id, ready, archived, event_seq, lease_token FROM jobs")
        jobs = {row[0]: Row(*row) for row in rows}
        histories = await read_histories(watch)
        Rows(chronicle, jobs, histories, found).check()
        claims = Claims(chronicle, histories, found)
        claims.check()
        for row in jobs.values():
            found.expect("I6", "a lease is left", row.lease_token is None, row)
        stored = await _read_stored(watch)
        Saves(chronicle, found).check(stored, histories, claims.ended())
        check_leases(chronicle, found)
        check_calls(chronicle, found)
        await check_files(watch, found)
        await check_leaks(chronicle, watch, found)
    _count(chronicle, jobs, found)
    return found


async def _read_stored(watch: Watch) -> Stored:
    """Every checkpoint that is left, as the library reads it: its digest, or what is wrong."""
    stored: Stored = {}
    places = await watch.rows("SELECT DISTINCT job_id, stage FROM job_checkpoints")
    async with JobDb.open(watch.url, sweep=None, application_name=NAME) as db:
        for job_id, stage in places:
            try:
                state = await db.load_checkpoint(job_id, stage=stage)
            except CheckpointCorrupt as error:
                stored[job_id, stage] = None, str(error)
            else:
                stored[job_id, stage] = digest(state), None
    damaged = await watch.rows("SELECT DISTINCT job_id, stage FROM job_checkpoints WHERE damaged")
    for job_id, stage in damaged:
        stored[job_id, stage] = None, "a copy of it is marked as damaged"
    return stored


def _count(chronicle: Chronicle, jobs: dict[int, Row], found: Findings) -> None:
    figures = found.figures
    figures["jobs"] = len(jobs)
    for name, life in chronicle.lives.items():
        figures["processes"] += name != "storm client"
        figures["processes killed"] += life.killed
        figures["processes told to end"] += life.ending is not None
        figures["processes paused"] += len(life.pauses)
        figures["processes paused with the file locked"] += len(life.held)
        figures["connections cut"] += len(life.cuts)
    for faults in chronicle.struck.values():
        for what in faults:
            figures[f"handlers: {what}"] += 1
    figures["calls made under a request"] += sum(
        1 for _ in chronicle.of("cancel_job", "pause_job", "resume_job")
    )


def main() -> int:
    """The program."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("url")
    options.add_argument("folder", type=Path)
    options.add_argument("--json", type=Path)
    chosen = options.parse_args()
    found = asyncio.run(check(chosen.url, chosen.folder))
    report: dict[str, Any] = found.report()
    text = json.dumps(report, indent=2, default=str) + "\n"
    sys.stdout.write(text)
    if chosen.json is not None:
        chosen.json.write_text(text)
    return 1 if found.broken else 0


if __name__ == "__main__":
    sys.exit(main())
