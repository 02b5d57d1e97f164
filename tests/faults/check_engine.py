"""I9 to I11: what the engine finds in its files, how calls came out, and what was left behind."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import subprocess
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pandora_db import errors
from tests.faults.leaks import LATE
from tests.faults.oracle import percentiles
from tests.support.installed import find_binaries

if TYPE_CHECKING:
    from tests.faults.chronicle import Call, Chronicle
    from tests.faults.findings import Findings
    from tests.faults.leaks import Watch

# What a caller may have to expect of each call, in a storm; a cancellation is the caller's own.
_ANY = {
    "ConnectionFailed", "LockTimeout", "OutcomeUnknown", "PoolTimeout", "StatementTimeout",
    "TransactionAborted", "HandleClosed", "CancelledError",
}  # fmt: skip
_UNDER_CLAIM = _ANY | {"LeaseLost"}
_MOVES = _ANY | {"InvalidTransition"}
DOCUMENTED = {
    "insert_job": _ANY, "insert_jobs": _ANY, "claim_jobs": _ANY, "recover": _ANY,
    "load_checkpoint": _ANY, "save_checkpoint": _UNDER_CLAIM, "update_job": _UNDER_CLAIM,
    "finish_job": _UNDER_CLAIM, "fail_job": _UNDER_CLAIM, "snooze_job": _UNDER_CLAIM,
    "release_job": _UNDER_CLAIM, "cancel_job": _MOVES, "pause_job": _MOVES, "resume_job": _MOVES,
}  # fmt: skip
_OF_JOBS = "SELECT job_id, author, author_id, guild_id, requested_at FROM jobs"
_LISTED = "SELECT job_id, by_author, by_author_id, by_guild_id, by_request FROM job_lists"
_ASTRAY = f"({_OF_JOBS} EXCEPT {_LISTED}) UNION ALL ({_LISTED} EXCEPT {_OF_JOBS})"
IDLE = 2.0  # seconds for which an open transaction may do nothing
SPARE = 2  # connections beside the pool: that of the heartbeat, and the listener's
WAL = 64 * 2**20
assert all(hasattr(errors, name) for name in _MOVES | _UNDER_CLAIM if name != "CancelledError")


async def check_files(watch: Watch, found: Findings) -> None:
    """I9."""
    if watch.path is not None:
        with closing(sqlite3.connect(watch.path)) as raw:
            for pragma, sound in (("integrity_check", [("ok",)]), ("foreign_key_check", [])):
                told = raw.execute(f"PRAGMA {pragma}").fetchall()
                found.expect("I9", pragma, told == sound, told[:5])
        return
    failures = await watch.rows(
        "SELECT coalesce(checksum_failures, 0) FROM pg_stat_database "
        "WHERE datname = current_database()"
    )
    found.expect("I9", "checksum failures", failures == [(0,)], failures)
    astray = await watch.rows(_ASTRAY)
    found.expect("I9", "a job that is not listed as it is", not astray, astray[:5])
    await _amcheck(watch, found)


async def _amcheck(watch: Watch, found: Findings) -> None:
    """Every index against every row, where the server has the extension."""
    there = await watch.rows("SELECT name FROM pg_available_extensions WHERE name = 'amcheck'")
    binaries = find_binaries()
    program = shutil.which("pg_amcheck") or (binaries and str(Path(binaries, "pg_amcheck")))
    if not there or program is None:
        found.measured["pg_amcheck"] = "not available"
        return
    target = conninfo_to_dict(watch.url)
    command = [
        program, "--heapallindexed", "--install-missing", "--no-password",
        f"--maintenance-db={make_conninfo(watch.url)}",
        f"--database={target['dbname']}",
    ]  # fmt: skip
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    told = done.stdout + done.stderr
    found.expect("I9", "pg_amcheck --heapallindexed", done.returncode == 0, told[:500])
    found.measured["pg_amcheck"] = "--heapallindexed: clean" if done.returncode == 0 else told[:500]


def check_calls(chronicle: Chronicle, found: Findings) -> None:
    """I10."""
    took: dict[str, list[float]] = {}
    errors_of: Counter[str] = Counter()
    for call in chronicle.calls:
        if call.ended is None:
            found.figures["calls without an outcome"] += 1
            continue
        found.figures["calls"] += 1
        if call.error is not None:
            errors_of[f"{call.op}: {call.error}"] += 1
        fine = call.error is None or call.error in DOCUMENTED[call.op]
        found.expect("I10", "an exception that is not documented", fine, call)
        awake = _awake(chronicle, call)
        took.setdefault(call.op, []).append(awake)
        in_time = awake <= chronicle.terms["deadline"] + 1.0
        found.expect("I10", "a call outlived its deadline", in_time, (round(awake, 2), str(call)))
    for name, life in chronicle.lives.items():
        found.expect("I10", "a process ended by an error", not life.failed, name)
    found.measured["errors"] = dict(sorted(errors_of.items()))
    found.measured["seconds of calls"] = {op: percentiles(took[op]) for op in sorted(took)}


def _awake(chronicle: Chronicle, call: Call) -> float:
    """What the call took, without the time for which its process stood still."""
    assert call.ended is not None
    pauses = chronicle.lives[call.process].pauses
    still = (max(0.0, min(call.ended, to) - max(call.began, at)) for at, to in pauses)
    return call.took - sum(still)


async def check_leaks(chronicle: Chronicle, watch: Watch, found: Findings) -> None:
    """I11."""
    expect = found.expect
    for bye in chronicle.byes:
        grown = [now - before for before, now in zip(bye["before"], bye["after"], strict=True)]
        detail = (bye["worker"], "threads, tasks, files:", bye["before"], bye["after"])
        expect("I11", "a closed handle leaves something", max(grown) <= 0, detail)
    told = {bye["worker"] for bye in chronicle.byes}
    for name, life in chronicle.lives.items():
        silent = life.died is not None and not life.killed and name not in told
        expect("I11", "a process does not say what it leaves", not silent, name)
    most: Counter[str] = Counter()
    bound = await _wal_bound(watch)
    for look in chronicle.looks:
        most["bytes of WAL"] = max(most["bytes of WAL"], look["wal"])
        expect("I11", "the WAL grows", look["wal"] <= bound, (look["wal"], bound))
        for name, count, idle in look.get("sessions", ()):
            most["sessions of a process"] = max(most["sessions of a process"], count)
            expect("I11", "connections", count <= chronicle.terms["pool"] + SPARE, look)
            fine = idle is None or idle < IDLE or _stands_still(chronicle, name, look["at"])
            expect("I11", "idle in transaction", fine, (name, idle, look["at"]))
    found.measured["at most"] = dict(most)
    try:
        await watch.nothing_open()
        open_ = await _sessions_left(watch)
    except AssertionError as error:
        open_ = str(error)
    expect("I11", "something is left open", not open_, open_)


def _stands_still(chronicle: Chronicle, name: str, at: float) -> bool:
    """Whether the process is paused at a moment, was just now, or is dead."""
    life = chronicle.lives[name]
    paused = any(since <= at <= until + 1.0 for since, until in life.pauses)
    return paused or (life.died is not None and life.died <= at)


async def _wal_bound(watch: Watch) -> int:
    """Bytes that the write-ahead log may take; PostgreSQL's own limit is a soft one."""
    if watch.path is not None:
        return WAL
    ((most,),) = await watch.rows("SELECT pg_size_bytes(current_setting('max_wal_size'))")
    return int(most * 1.5)


async def _sessions_left(watch: Watch) -> str:
    if watch.path is not None:
        return ""
    deadline = asyncio.get_running_loop().time() + LATE
    while rows := await watch.rows(
        "SELECT application_name, state, query FROM pg_stat_activity "
        "WHERE datname = current_database() AND application_name LIKE 'storm %'"
    ):
        if asyncio.get_running_loop().time() > deadline:
            return f"{len(rows)} sessions are left: {rows[:3]}"
        await asyncio.sleep(0.05)
    return ""


def check_leases(chronicle: Chronicle, found: Findings) -> None:
    """Of I5: a job has one lease, whole, and only where it is worked on."""
    for census in chronicle.censuses:
        found.expect("I5", "half a lease", not census["half_leases"], census["at"])
