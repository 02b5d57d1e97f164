"""What SQLite tells of itself."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from pandora_db.models.health import Health, PoolUse

_FULL = 2
_SYNCHRONOUS = {0: "off", 1: "normal", 2: "full", 3: "extra"}
_WAL_RESET_FIXED = ((3, 44, 6), (3, 45, 0)), ((3, 50, 7), (3, 51, 0)), ((3, 51, 3), (4, 0, 0))


def wal_reset_race(version: tuple[int, ...]) -> bool:
    """Whether this SQLite can corrupt a WAL that two connections write or checkpoint at once."""
    return not any(first <= version < last for first, last in _WAL_RESET_FIXED)


def read_health(
    connection: sqlite3.Connection,
    path: Path | None,
    pool: PoolUse,
    modes: tuple[str, int],
    *,
    deep: bool,
) -> Health:
    """Read the facts in the connection's thread; `modes` are the writer's journal and sync mode."""
    import aiosqlite  # noqa: PLC0415 - imported with the first connection

    journal, synchronous = modes
    durable = path is not None and journal == "wal" and synchronous >= _FULL
    warnings: list[str] = []
    if path is None:
        durability = "in memory: everything is gone when the handle is closed"
    elif durable:
        durability = "every acknowledged write survives a power cut"
    else:
        durability = "the last acknowledged writes may be lost in a power cut"
        warnings.append(f"synchronous is {_SYNCHRONOUS[synchronous]}: {durability}")
    if path is not None and wal_reset_race(sqlite3.sqlite_version_info):
        warnings.append(
            f"SQLite {sqlite3.sqlite_version} can damage its WAL when several processes write or "
            "checkpoint the file at the same instant (fixed in 3.51.3, 3.50.7 and 3.44.6): "
            "keep to one process per file, or upgrade"
        )
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (page_size,) = connection.execute("PRAGMA page_size").fetchone()
    return Health(
        dialect="sqlite",
        server_version=sqlite3.sqlite_version,
        driver_version=f"aiosqlite {aiosqlite.__version__}",
        schema_version=None,
        known_schema_version=0,
        durable=durable,
        durability=durability,
        journal_mode=journal,
        synchronous=_SYNCHRONOUS.get(synchronous),
        size_bytes=pages * page_size,
        wal_bytes=_size(Path(f"{path}-wal")) if path else None,
        pool=pool,
        warnings=warnings,
        integrity=_check(connection) if deep else None,
    )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _check(connection: sqlite3.Connection) -> list[str]:
    found = [line for (line,) in connection.execute("PRAGMA integrity_check(20)")]
    orphans = connection.execute("PRAGMA foreign_key_check").fetchall()
    return [line for line in found if line != "ok"] + [
        f"dangling reference: {row}" for row in orphans
    ]
