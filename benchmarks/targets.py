"""What is measured, and what it has to reach."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

_PLAIN = 10  # from here on no digits behind the point
Unit = Literal["x", "ms", "MB", "KB", "%"]


@dataclass(frozen=True, slots=True)
class Target:
    """One line of the table.

    Attributes:
        key: names the line in the JSON.
        row: number of the row that the line belongs to; `--rows` chooses by it.
        work: what is done.
        against: what the result is a ratio to; empty for an absolute figure.
        floor: the least that will do.
        goal: what we are after.
        reached: what a prototype reached; empty where there was none.
        at_most: the result is to stay below, not above.
    """

    key: str
    row: int
    work: str
    against: str
    floor: float
    goal: float
    reached: str
    unit: Unit = "x"
    at_most: bool = False

    def verdict(self, value: float) -> str:
        """How `value` stands to floor and goal."""
        sign = -1 if self.at_most else 1
        if sign * value >= sign * self.goal:
            return "goal"
        return "floor" if sign * value >= sign * self.floor else "BELOW"

    def show(self, value: float) -> str:
        """`value` with its unit."""
        if self.unit != "x":
            return f"{value:.0f} {self.unit}" if value >= _PLAIN else f"{value:.2g} {self.unit}"
        return f"{value:.3g}x"


_at_most = partial(Target, at_most=True)

_LOCKED = "aiosqlite, a lock around execute + commit"
_POOL = "asyncpg's default pool, a statement per call"
_HELD = "the same SQL on a held asyncpg connection"
_HELD_SQLITE = "the same SQL by aiosqlite behind a lock"
_COPY = "COPY of the same rows and lists, no events"
_MANY = "executemany of the same rows into `jobs`, no events"
_FETCH = "aiosqlite, execute + fetchone"
_OWN_FETCH = "the driver's own fetch"
_SELF = "itself with 1,000 archived jobs"
_PGQUEUER = "pgqueuer in batches of 100, its best set-up"
_QUEUES = "best of Huey, litequeue and persist-queue"

TARGETS = (
    Target("1-insert", 1, "insert_job, 50 callers, SQLite", _LOCKED, 8, 20, "11x"),
    Target("1-update", 1, "update_stage, 50 callers, SQLite", _LOCKED, 5, 12, "6x"),
    Target("2-insert-50", 2, "insert_job, 50 callers, PostgreSQL", _POOL, 3, 8, "5.4x"),
    Target("2-update-50", 2, "update_stage, 50 callers, PostgreSQL", _POOL, 3, 8, "4.1x"),
    Target("2-insert-1000", 2, "insert_job, 1,000 callers, PostgreSQL", _POOL, 5, 12, "8.4x"),
    Target("2-update-1000", 2, "update_stage, 1,000 callers, PostgreSQL", _POOL, 5, 12, "6.1x"),
    Target("3-insert-postgres", 3, "insert_job, one caller, PostgreSQL", _HELD, 0.8, 0.95, "0.87x"),
    Target(
        "3-update-postgres", 3, "update_stage, one caller, PostgreSQL", _HELD, 0.8, 0.95, "0.85x"
    ),
    Target("3-read-postgres", 3, "get_job, one caller, PostgreSQL", _HELD, 0.8, 0.9, ""),
    Target(
        "3-insert-uvloop", 3, "insert_job, one caller, PostgreSQL, uvloop", _HELD, 0.8, 1, "0.96x"
    ),
    Target(
        "3-update-uvloop", 3, "update_stage, one caller, PostgreSQL, uvloop", _HELD, 0.8, 1, "0.99x"
    ),
    Target("3-read-uvloop", 3, "get_job, one caller, PostgreSQL, uvloop", _HELD, 0.8, 0.9, ""),
    Target("3-insert-sqlite", 3, "insert_job, one caller, SQLite", _HELD_SQLITE, 1.15, 2, "1.4x"),
    Target("3-update-sqlite", 3, "update_stage, one caller, SQLite", _HELD_SQLITE, 1.15, 2, "1.4x"),
    Target("4-postgres", 4, "insert_jobs of 10,000, PostgreSQL", _COPY, 0.45, 0.8, "0.66x"),
    Target("4-sqlite", 4, "insert_jobs of 10,000, SQLite", _MANY, 0.45, 0.8, "0.61x"),
    Target("5-get", 5, "get_job, 50 callers, SQLite", _FETCH, 4, 8, "8.5x"),
    _at_most(
        "5-list-sqlite", 5, "time of a list of 10,000 rows, SQLite", _OWN_FETCH, 1.6, 1.25, ""
    ),
    _at_most(
        "5-list-postgres", 5, "time of a list of 10,000 rows, PostgreSQL", _OWN_FETCH, 1.6, 1.25, ""
    ),
    _at_most("6-sqlite", 6, "slowest growth of a hot call, SQLite", _SELF, 2, 1.2, "flat"),
    _at_most(
        "6-sqlite-kept", 6, "the same, prepared on an empty table, SQLite", _SELF, 2, 1.2, "flat"
    ),
    _at_most("6-postgres", 6, "slowest growth of a hot call, PostgreSQL", _SELF, 2, 1.2, "flat"),
    _at_most(
        "6-postgres-kept",
        6,
        "the same, prepared on an empty table, PostgreSQL",
        _SELF,
        2,
        1.2,
        "flat",
    ),
    _at_most(
        "7-postgres",
        7,
        "pick-up of a job by a waiting worker, median, PostgreSQL",
        "pgqueuer, a job at a time",
        1,
        0.4,
        "0.47x",
    ),
    _at_most(
        "7-sqlite-inside",
        7,
        "pick-up on SQLite, from the same handle",
        "",
        3,
        1,
        "0.94 ms",
        unit="ms",
    ),
    _at_most(
        "7-sqlite-beside",
        7,
        "pick-up on SQLite, from another handle of the process",
        "",
        3,
        1,
        "",
        unit="ms",
    ),
    _at_most(
        "7-sqlite-process", 7, "pick-up on SQLite, from another process", "", 20, 5, "", unit="ms"
    ),
    _at_most(
        "7-sqlite-idle", 7, "workers and a watcher that wait, of one core", "", 1, 0.5, "", unit="%"
    ),
    Target("8-postgres-50", 8, "no-op jobs, 50 tasks, PostgreSQL", _PGQUEUER, 1.2, 3, "2.1x"),
    Target("8-postgres-100", 8, "no-op jobs, 100 tasks, PostgreSQL", _PGQUEUER, 1.2, 3, "2.4x"),
    Target("8-sqlite-50", 8, "no-op jobs, 50 tasks, SQLite", _QUEUES, 5, 12, "10x"),
    Target("8-sqlite-100", 8, "no-op jobs, 100 tasks, SQLite", _QUEUES, 5, 12, "11.5x"),
    Target(
        "8-postgres-50-run",
        8,
        "the same by the runtime, 50 at once, PostgreSQL",
        _PGQUEUER,
        1.2,
        3,
        "",
    ),
    Target(
        "8-postgres-100-run",
        8,
        "the same by the runtime, 100 at once, PostgreSQL",
        _PGQUEUER,
        1.2,
        3,
        "",
    ),
    Target("8-sqlite-50-run", 8, "the same by the runtime, 50 at once, SQLite", _QUEUES, 5, 12, ""),
    Target(
        "8-sqlite-100-run", 8, "the same by the runtime, 100 at once, SQLite", _QUEUES, 5, 12, ""
    ),
    Target(
        "9-snapshot",
        9,
        "no-op jobs, an old snapshot held for 60 s, PostgreSQL",
        "itself without the snapshot",
        0.5,
        0.9,
        "0.85x",
    ),
    _at_most("10-size", 10, "size of checkpoints, mean of ten kinds", "compact JSON", 0.6, 0.3, ""),
    Target("10-time", 10, "packing and unpacking them, mean", "json.dumps, json.loads", 1, 3, ""),
    _at_most("10-change", 10, "written for 1 KB changed in 10 MB", "", 512, 256, "", unit="KB"),
    _at_most("10-block", 10, "longest block of the event loop by 10 MB", "", 20, 5, "", unit="ms"),
    _at_most("11-import", 11, "import pandora_db", "", 250, 180, "", unit="ms"),
    _at_most("11-memory", 11, "memory of an idle JobDb on SQLite", "", 60, 40, "", unit="MB"),
)
BY_KEY = {target.key: target for target in TARGETS}
ROWS = tuple(dict.fromkeys(target.row for target in TARGETS))
